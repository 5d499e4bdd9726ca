"""Radial-tangential (Brown-Conrady) lens distortion in OpenCV's parametrisation."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from posejax.geometry.numerics import as_float


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
        one-to-one. Beyond, where its Jacobian is singular, the result has no meaning.

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
