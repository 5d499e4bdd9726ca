"""Arithmetic shared by all geometry: full-precision products and norms that are safe at zero.

Recent accelerators multiply float32 matrices in TF32 (10-bit mantissa) unless asked not to: a pose
product would lose millimetres per kilometre. Every matrix product of the geometry goes through
`matmul` or `einsum` below. Half-precision and integer inputs are computed in float32.
"""

import math

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike


def as_float(x: ArrayLike | tuple[float, ...]) -> Array:
    """`x` as float32, or as it is if it is already float32 or float64."""
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def matmul(a: ArrayLike, b: ArrayLike) -> Array:
    """a @ b in full precision."""
    return jnp.matmul(as_float(a), as_float(b), precision=lax.Precision.HIGHEST)


def einsum(subscripts: str, *operands: ArrayLike) -> Array:
    """`jnp.einsum` in full precision."""
    return jnp.einsum(subscripts, *(as_float(x) for x in operands), precision=lax.Precision.HIGHEST)


def _scaled(x: Array) -> tuple[Array, Array, Array]:
    """x divided by its largest component on the last axis, that component, and whether it is zero.

    The scale is a constant of the differentiation: |x| = s |x / s| for every constant s. Without
    it, components below 1e-19 would vanish when squared in float32.
    """
    peak = lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True, initial=0))
    zero = peak < jnp.finfo(x.dtype).tiny
    return jnp.where(zero, 1, x) / jnp.where(zero, 1, peak), peak, zero


def safe_norm(x: ArrayLike, *, keepdims: bool = False) -> Array:
    """Euclidean norm over the last axis, [..., n] -> [...]; its gradient at zero is zero."""
    x = as_float(x)
    scaled, peak, zero = _scaled(x)
    norm = jnp.where(zero, 0, peak * jnp.sqrt(jnp.sum(scaled**2, axis=-1, keepdims=True)))
    return norm if keepdims else norm[..., 0]


def normalize(x: ArrayLike, fallback: ArrayLike | None = None) -> Array:
    """x / |x| over the last axis; where x is zero, `fallback` (default zero) with zero gradient."""
    x = as_float(x)
    scaled, _, zero = _scaled(x)
    unit = scaled / jnp.sqrt(jnp.sum(scaled**2, axis=-1, keepdims=True))
    other = jnp.zeros_like(x) if fallback is None else jnp.broadcast_to(fallback, x.shape)
    return jnp.where(zero, other.astype(x.dtype), unit)


def cross(a: Array, b: Array) -> Array:
    """Cross product over the last axis, [..., 3] x [..., 3] -> [..., 3]."""
    ax, ay, az = a[..., 0], a[..., 1], a[..., 2]
    bx, by, bz = b[..., 0], b[..., 1], b[..., 2]
    return jnp.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


def skew(v: ArrayLike) -> Array:
    """Matrix of the cross product, [..., 3] -> [..., 3, 3]: skew(a) @ b = a x b."""
    v = as_float(v)
    x, y, z = v[..., 0], v[..., 1], v[..., 2]
    zero = jnp.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return jnp.stack(rows, axis=-1).reshape(*v.shape[:-1], 3, 3)


def stumpff(square: Array, n: int) -> Array:
    """c_n(a^2) = sum_k (-a^2)^k / (2k + n)!, smooth in a^2 >= 0, for n = 0, ..., 4.

    c_0 = cos(a), c_1 = sin(a) / a, c_2 = (1 - cos(a)) / a^2 and c_(n+2) = (1 / n! - c_n) / a^2: the
    factors of all exponential maps. The series is used below a^2 = 1, where the closed forms divide
    by zero or cancel; nine terms leave 1 / 19! = 1e-17. Both branches get arguments they can bear
    (an unused NaN would still poison the gradient).
    """
    small = square < 1
    near, far = jnp.where(small, square, 0), jnp.where(small, 1, square)
    series = jnp.zeros_like(square)
    for k in reversed(range(9)):
        series = 1 / math.factorial(2 * k + n) - near * series
    a = jnp.sqrt(far)
    closed = (
        lambda: jnp.cos(a),
        lambda: jnp.sin(a) / a,
        lambda: (1 - jnp.cos(a)) / far,
        lambda: (a - jnp.sin(a)) / (a * far),
        lambda: (far / 2 - 1 + jnp.cos(a)) / far**2,
    )
    return jnp.where(small, series, closed[n]())
