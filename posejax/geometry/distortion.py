"""Radial-tangential (Brown-Conrady) lens distortion in OpenCV's parametrisation."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from posejax.geometry.numerics import as_float, safe_norm


def distort(ray: ArrayLike, coefficients: ArrayLike) -> Array:
    """Where the lens moves an ideal image point.

    Args:
      ray: [..., 2] = (X / Z, Y / Z) in the camera frame (`pixel_rays`), not pixels.
      coefficients: [5] = (k1, k2, p1, p2, k3), OpenCV's order.

    Returns:
      [..., 2]: distorted (X / Z, Y / Z).

    Brown, Decentering distortion of lenses, Photogrammetric Engineering, 1966.
    """
    return _distort(as_float(ray), _check(coefficients))[0]


def undistort(ray: ArrayLike, coefficients: ArrayLike, *, iterations: int = 8) -> Array:
    """Inverse of `distort` by Newton's method from the distorted point.

    Args:
      ray: [..., 2] distorted (X / Z, Y / Z).
      coefficients: [5] = (k1, k2, p1, p2, k3).
      iterations: fixed number of Newton steps; 8 reach float32 rounding wherever the lens model is
        one-to-one. Beyond, where its Jacobian is singular, the result has no meaning
        (`undistort_with_validity` says where).

    Returns:
      [..., 2] ideal (X / Z, Y / Z). Differentiable through the iterations.
    """
    target, c = as_float(ray), _check(coefficients)
    guess = target
    for _ in range(iterations):
        value, (a, b, d) = _distort(guess, c)
        dx, dy = target[..., 0] - value[..., 0], target[..., 1] - value[..., 1]
        det = a * d - b * b
        det = jnp.where(jnp.abs(det) < 1e-6, 1e-6, det)
        guess = guess + jnp.stack([(d * dx - b * dy) / det, (a * dy - b * dx) / det], axis=-1)
    return guess


def undistort_with_validity(
    ray: ArrayLike, coefficients: ArrayLike, *, iterations: int = 8
) -> tuple[Array, Array]:
    """`undistort`, same arguments, with where its result has a meaning.

    Returns:
      ideal [..., 2], and valid [...] bool: the lens takes the ideal point to `ray` (to 1e-4 of its
      size), and the radial distortion grows with the radius up to there.
    """
    target, c = as_float(ray), _check(coefficients)
    ideal = undistort(target, c, iterations=iterations)
    off = safe_norm(distort(ideal, c) - target)
    k1, k2, _, _, k3 = c
    s = (ideal**2).sum(-1)

    def slope(s):  # d/dr (r + k1 r^3 + k2 r^5 + k3 r^7) with s = r^2
        return 1 + s * (3 * k1 + s * (5 * k2 + s * 7 * k3))

    # The least slope on [0, s] is at s or where d slope / ds = 3 k1 + 10 k2 s + 21 k3 s^2 = 0;
    # q / (21 k3) and 3 k1 / q are its roots without cancellation.
    root = jnp.sqrt(jnp.maximum(25 * k2**2 - 63 * k1 * k3, 0.0))
    q = -(5 * k2 + jnp.where(k2 < 0, -root, root))
    turns = [n / jnp.where(d == 0, 1, d) * (d != 0) for n, d in ((q, 21 * k3), (3 * k1, q))]
    least = [slope(jnp.clip(t, 0, s)) for t in turns]
    grows = (slope(s) > 0) & (least[0] > 0) & (least[1] > 0)
    return ideal, grows & (off <= 1e-4 * (1 + safe_norm(target)))


def _check(coefficients: ArrayLike) -> Array:
    c = as_float(coefficients)
    if c.shape != (5,):
        raise ValueError(f"coefficients are [5] = (k1, k2, p1, p2, k3), got {c.shape}")
    return c


def _distort(ray: Array, c: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    """Distorted point and its Jacobian, the symmetric matrix [[a, b], [b, d]]."""
    k1, k2, p1, p2, k3 = c
    x, y = ray[..., 0], ray[..., 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    slope = 2 * (k1 + r2 * (2 * k2 + 3 * k3 * r2))  # d radial / dx = slope x
    out = jnp.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        axis=-1,
    )
    a = radial + slope * x * x + 2 * p1 * y + 6 * p2 * x
    b = slope * x * y + 2 * p1 * x + 2 * p2 * y
    d = radial + slope * y * y + 6 * p1 * y + 2 * p2 * x
    return out, (a, b, d)
