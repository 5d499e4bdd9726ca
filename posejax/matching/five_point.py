"""Essential matrices of five point pairs, and of three where gravity is known."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from posejax.geometry import as_float, einsum, matmul, skew
from posejax.matching.solvers import epipolar_rows, homogeneous, null_space, real_roots, unit

# Cubic terms of (x, y, z, w) in the order of Nister's elimination: ten to solve for, and the rest.
_TERMS = [
    *("xxx", "yyy", "xxy", "xyy", "xxz", "xxw", "yyz", "yyw", "xyz", "xyw"),
    *("xww", "xzw", "xzz", "yww", "yzw", "yzz", "www", "zww", "zzw", "zzz"),
]


def _folding() -> np.ndarray:
    """[64, 20]: which product of three coordinates is which term."""
    fold = np.zeros((64, 20))
    for n, letters in enumerate(itertools.product("xyzw", repeat=3)):
        # In the alphabet w comes first; in the terms it comes last.
        fold[n, _TERMS.index("".join(sorted(letters, key="xyzw".index)))] = 1
    return fold


_FOLD = _folding()


@functools.partial(jax.jit, static_argnames="slots")
def five_point(rays_a: ArrayLike, rays_b: ArrayLike, *, slots: int = 10) -> tuple[Array, Array]:
    """Essential matrices through five pairs of rays.

    Args:
      rays_a: [5, 2], (x, y) of rays (x, y, 1): pixels through the inverse intrinsics.
      rays_b: [5, 2].
      slots: number of solutions to return at most (there are up to ten, four on average).

    Returns:
      models [slots, 3, 3] of unit norm and exist [slots].

    Nister, An Efficient Solution to the Five-Point Relative Pose Problem, TPAMI 2004: the null
    space of the five equations, ten cubic constraints on its coordinates, elimination to a
    polynomial of degree ten. In float32 its roots are good to a few digits; two Gauss-Newton steps
    on the constraints give back the rest.
    """
    a, b = homogeneous(as_float(rays_a)), homogeneous(as_float(rays_b))
    basis = null_space(epipolar_rows(a, b)).reshape(4, 3, 3)
    cubics = _constraints(basis)
    reduced = jnp.linalg.solve(cubics[:, :10], cubics[:, 10:])
    rows = _eliminate(reduced)
    roots, exist = real_roots(_determinant(rows), slots)
    v = jax.vmap(lambda root: _polish(cubics, _coordinates(rows, root)))(roots)
    models, good = unit(einsum("sk,kij->sij", v, basis))
    return models, exist & good


def _constraints(basis: Array) -> Array:
    """2 E E^T E - trace(E E^T) E = 0 and det(E) = 0 in cubic terms: [4, 3, 3] -> [10, 20]."""
    squares = einsum("iab,jcb->ijac", basis, basis)
    cubes = 2 * einsum("ijac,kcd->adijk", squares, basis)
    cubes -= einsum("ij,kad->adijk", jnp.trace(squares, axis1=2, axis2=3), basis)
    r0, r1, r2 = basis[:, 0], basis[:, 1], basis[:, 2]
    across = jnp.cross(r1[:, None], r2[None])
    determinant = einsum("ia,jka->ijk", r0, across)
    tensor = jnp.concatenate([cubes.reshape(9, 64), determinant.reshape(1, 64)])
    return matmul(tensor, jnp.asarray(_FOLD, basis.dtype))


def _eliminate(reduced: Array) -> Array:
    """Three equations p_x(z) x + p_y(z) y + p_1(z) = 0: coefficients [3, 3, 5] of z^0 ... z^4.

    Rows 4 to 9 of the eliminated constraints begin with xxz, xx, yyz, yy, xyz, xy: an odd one minus
    z times the next leaves nothing quadratic.
    """
    # Columns of `reduced`: x, xz, xzz, y, yz, yzz, 1, z, zz, zzz.
    e, f = reduced[4:10:2], reduced[5:10:2]
    low = jnp.pad(e[:, :6].reshape(3, 2, 3), ((0, 0), (0, 0), (0, 2)))
    high = jnp.pad(f[:, :6].reshape(3, 2, 3), ((0, 0), (0, 0), (1, 1)))
    constant = jnp.pad(e[:, 6:], ((0, 0), (0, 1))) - jnp.pad(f[:, 6:], ((0, 0), (1, 0)))
    return jnp.concatenate([low - high, constant[:, None]], axis=1)


def _determinant(rows: Array) -> Array:
    """Coefficients [11] of the determinant of the three equations."""

    def product(p, q):
        # Shifted and added: as a convolution, each of the thousands of samples would be a call.
        n = p.shape[1]
        shifted = [jnp.pad(p[:, i, None] * q, ((0, 0), (i, n - 1 - i))) for i in range(n)]
        return functools.reduce(jnp.add, shifted)

    a, b, c = rows
    (b_next, c_next), (b_last, c_last) = ([jnp.roll(x, -k, axis=0) for x in (b, c)] for k in (1, 2))
    minor = product(b_next, c_last) - product(b_last, c_next)
    return jnp.sum(product(a, minor), axis=0)[:11]


def _coordinates(rows: Array, root: Array) -> Array:
    """(x, y, z, 1) up to scale [4] from (sin, cos) of z: the null vector of the equations."""
    sin, cos = root[0], root[1]
    k = np.arange(5)
    powers = jnp.stack([sin**i * cos ** (4 - i) for i in k])
    matrix = matmul(rows, powers)  # z^4 times a power of cos: the scale of a row does not matter
    normals = jnp.cross(matrix, jnp.roll(matrix, -1, axis=0))
    best = normals[jnp.argmax(jnp.sum(normals**2, axis=1))]
    # (x, y, 1) is proportional to best: (x, y, z, 1) ~ (best_x cos, best_y cos, best_1 sin, ...).
    return jnp.stack([best[0] * cos, best[1] * cos, best[2] * sin, best[2] * cos])


def _terms(v: Array) -> Array:
    index = np.array([["xyzw".index(c) for c in term] for term in _TERMS])
    return v[index[:, 0]] * v[index[:, 1]] * v[index[:, 2]]


def _polish(cubics: Array, v: Array) -> Array:
    """Two Gauss-Newton steps of the ten constraints on the unit sphere of coordinates."""
    v = _normalized(v)
    for _ in range(2):
        slope = matmul(cubics, jax.jacfwd(_terms)(v))
        # The sphere's normal makes the matrix regular; a little damping the degenerate samples.
        system = matmul(slope.T, slope) + v[:, None] * v[None] + 1e-9 * jnp.eye(4, dtype=v.dtype)
        v = _normalized(v - _solve4(system, matmul(slope.T, matmul(cubics, _terms(v)))))
    return v


def _normalized(v: Array) -> Array:
    square = jnp.sum(v**2)
    usable = jnp.isfinite(square) & (square > 1e-30)
    return jnp.where(usable, v, 0.5) / jnp.sqrt(jnp.where(usable, square, 1))


def _solve4(matrix: Array, right: Array) -> Array:
    """Symmetric positive definite 4x4 system by Cholesky, written out: no call for each matrix."""
    n = 4
    low = [[jnp.zeros((), matrix.dtype)] * n for _ in range(n)]
    for i in range(n):
        for j in range(i + 1):
            rest = matrix[i, j] - sum((low[i][k] * low[j][k] for k in range(j)), 0.0)
            low[i][j] = jnp.sqrt(jnp.maximum(rest, 1e-20)) if i == j else rest / low[j][j]
    y: list = []
    for i in range(n):
        y.append((right[i] - sum((low[i][k] * y[k] for k in range(i)), 0.0)) / low[i][i])
    x: list = [jnp.zeros((), matrix.dtype)] * n
    for i in reversed(range(n)):
        x[i] = (y[i] - sum((low[k][i] * x[k] for k in range(i + 1, n)), 0.0)) / low[i][i]
    return jnp.stack(x)


@functools.partial(jax.jit, static_argnames="slots")
def upright_three_point(
    rays_a: ArrayLike, rays_b: ArrayLike, *, slots: int = 4
) -> tuple[Array, Array]:
    """Essential matrices of cameras that differ by a turn about the y axis and a translation.

    Args:
      rays_a: [3, 3] rays of any length in a frame whose y axis is gravity's.
      rays_b: [3, 3].
      slots: number of solutions to return at most (there are up to four).

    Returns:
      models [slots, 3, 3] and exist [slots].

    The pairs' normals R(q) a x b are quadratic in q = tan(angle / 2) and lie in the plane across
    the translation: their determinant, of degree six with two roots that are never real, vanishes
    (Fraundorfer, Tanskanen and Pollefeys, ECCV 2010).
    """
    a, b = as_float(rays_a), as_float(rays_b)
    # The polynomial from its values at seven points of the circle of half angles.
    half = np.arange(7) * math.pi / 7 + 0.2
    sin, cos = np.sin(half), np.cos(half)
    values = jax.vmap(lambda s, c: jnp.linalg.det(_normals(a, b, s, c)))(
        jnp.asarray(sin, a.dtype), jnp.asarray(cos, a.dtype)
    )
    k = np.arange(7)
    terms = sin[:, None] ** k * cos[:, None] ** (6 - k)
    roots, exist = real_roots(matmul(jnp.asarray(np.linalg.inv(terms), a.dtype), values), slots)

    def model(root):
        normals = _normals(a, b, root[0], root[1])
        across = jnp.cross(normals, jnp.roll(normals, -1, axis=0))
        translation = across[jnp.argmax(jnp.sum(across**2, axis=1))]
        return matmul(skew(translation), _turn(root[0], root[1]))

    models, good = unit(jax.vmap(model)(roots))
    return models, exist & good


def _turn(sin: Array, cos: Array) -> Array:
    """Rotation about y by twice the angle of (sin, cos)."""
    c, s = cos * cos - sin * sin, 2 * sin * cos
    zero, one = jnp.zeros_like(c), jnp.ones_like(c)
    return jnp.stack([c, zero, s, zero, one, zero, -s, zero, c]).reshape(3, 3)


def _normals(a: Array, b: Array, sin: Array, cos: Array) -> Array:
    return jnp.cross(matmul(a, _turn(sin, cos).T), b)
