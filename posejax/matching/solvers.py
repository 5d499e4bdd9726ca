"""Models from few point pairs: homography, fundamental matrix; the tools that all solvers share.

Matrices come with unit Frobenius norm. Every solver returns a fixed number of models and which of
them exist; degenerate samples give none, or finite nonsense that a score will turn down.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.geometry import as_float, einsum, matmul


def homogeneous(xy: Array) -> Array:
    return jnp.concatenate([xy, jnp.ones_like(xy[..., :1])], axis=-1)


def null_space(rows: Array) -> Array:
    """Orthonormal vectors [d - n, d] across n < d rows [n, d], of any rank."""
    q, _ = jnp.linalg.qr(rows.T, mode="complete")
    return q[:, rows.shape[0] :].T


def least_direction(rows: Array) -> Array:
    """The unit vector x [d] that makes |rows x| least, rows [n, d] of any number.

    Its derivative is that of the minimum, by one Newton step as in `refine.implicit_step`. It asks
    for a gap below the other singular values only: these may be equal, as an essential matrix's
    are, where the derivative of a whole decomposition does not exist.
    """
    n, d = rows.shape
    _, s, v = jnp.linalg.svd(lax.stop_gradient(rows), full_matrices=n < d)
    square = jnp.pad(s, (0, d - len(s))) ** 2
    others, least = v[:-1], v[-1]
    gap = square[:-1] - square[-1]
    some = gap > jnp.finfo(gap.dtype).eps * square[0]
    inverse = jnp.where(some, 1 / jnp.where(some, gap, 1), 0)
    slope = matmul(rows.T, matmul(rows, least))
    step = matmul(inverse * matmul(others, slope), others)
    return least - (step - lax.stop_gradient(step))


def epipolar_rows(a: Array, b: Array) -> Array:
    """Equations b^T E a = 0 on the rows of E: homogeneous [n, 3] each -> [n, 9]."""
    return (b[:, :, None] * a[:, None, :]).reshape(-1, 9)


def unit(matrices: Array) -> tuple[Array, Array]:
    """Matrices [..., 3, 3] of unit norm, and which were finite and not zero."""
    norm = jnp.sqrt(jnp.sum(matrices**2, axis=(-2, -1), keepdims=True))
    good = jnp.isfinite(norm) & (norm > 1e-12)
    clean = jnp.where(good, matrices, jnp.eye(3, dtype=matrices.dtype))
    return clean / jnp.where(good, norm, math.sqrt(3)), good[..., 0, 0]


@functools.cache
def _grid(degree: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Angles over half a turn, and the terms sin^k cos^(degree - k) there."""
    angle = -math.pi / 2 + math.pi * np.arange(count + 1) / count
    k = np.arange(degree + 1)
    return angle, np.sin(angle)[:, None] ** k * np.cos(angle)[:, None] ** (degree - k)


def _turned(start: Array, offset: Array) -> tuple[Array, Array]:
    """(sin, cos) of an angle, given those [2, ...] of one at most 0.2 below it: no calls of either.

    The series end at the seventh power: 3e-9 of 0.2.
    """
    square = offset**2
    sin = offset * (1 - square / 6 * (1 - square / 20))
    cos = 1 - square / 2 * (1 - square / 12 * (1 - square / 30))
    return start[0] * cos + start[1] * sin, start[1] * cos - start[0] * sin


def real_roots(coefficients: Array, slots: int, *, grid: int = 64) -> tuple[Array, Array]:
    """Real roots of a polynomial by changes of sign.

    Args:
      coefficients: [d + 1] of z^0, ..., z^d.
      slots: number of roots to return at most, at most d.
      grid: intervals, at least 16. Each is split where the polynomial is flat, so that a pair of
        close roots is found, too; three within pi / grid in angle may be taken for one.

    Returns:
      (sin, cos) [slots, 2] of the angle whose tangent is the root, and exists [slots].

    In the angle, the real line is a circle: roots near infinity are like all others. Nothing here
    needs complex eigenvalues, which accelerators do not have.

    Raises:
      ValueError: fewer intervals, over which the series of `_turned` would not reach.
    """
    if grid < 16:
        raise ValueError(f"grid is at least 16, got {grid}")
    degree = coefficients.shape[0] - 1
    peak = jnp.max(jnp.abs(coefficients))
    usable = jnp.isfinite(peak) & (peak > 0)
    c = jnp.where(usable, coefficients, 0) / jnp.where(usable, peak, 1)
    angle, terms = _grid(degree, grid)
    terms, width = jnp.asarray(terms, c.dtype), math.pi / grid
    starts = jnp.asarray(np.stack([np.sin(angle[:-1]), np.cos(angle[:-1])]), c.dtype)
    # The derivative by the angle is a polynomial of the same degree.
    k = jnp.arange(1, degree + 1, dtype=c.dtype)
    slopes = jnp.append(k * c[1:], 0) - jnp.append(jnp.zeros(1, c.dtype), k[::-1] * c[:-1])

    def value(start, offset, c=c):
        sin, cos = _turned(start, offset)
        total, power = jnp.zeros_like(offset) + c[degree], jnp.ones_like(offset)
        for k in reversed(range(degree)):
            power = power * cos
            total = total * sin + c[k] * power
        return total

    def secant(_, state):
        """One step of regula falsi towards the extremum within each interval."""
        left, right, at_left, at_right = state
        flat = (at_left < 0) != (at_right < 0)
        fraction = jnp.where(flat, at_left / jnp.where(flat, at_left - at_right, 1), 0.5)
        point = left + fraction * (right - left)
        new = value(starts, point, slopes)
        before = (new < 0) == (at_left < 0)
        # Halving the value at the end that stays is the Illinois rule.
        return (
            jnp.where(before, point, left),
            jnp.where(before, right, point),
            jnp.where(before, new, at_left / 2),
            jnp.where(before, at_right / 2, new),
        )

    slope = matmul(terms, slopes)
    none = jnp.zeros(grid, c.dtype)
    state = none, none + width, slope[:-1], slope[1:]
    left, right, at_left, at_right = lax.fori_loop(0, 2, secant, state)
    flat = (slope[:-1] < 0) != (slope[1:] < 0)
    nearer = jnp.where(jnp.abs(at_left) < jnp.abs(at_right), left, right)
    middle = jnp.where(flat, nearer, width / 2)
    at_ends = matmul(terms, c)
    offset = jnp.stack([none, middle], axis=1).reshape(-1)
    values = jnp.stack([at_ends[:-1], value(starts, middle)], axis=1).reshape(-1)
    negative = jnp.append(values, at_ends[-1]) < 0
    step = jnp.stack([middle, width - middle], axis=1).reshape(-1)

    changes = negative[:-1] != negative[1:]
    # A product with a triangle: a cumulative sum of each of thousands of rows is slow on CPUs.
    before = np.triu(np.ones((2 * grid, 2 * grid), np.float32))
    rank = matmul(changes.astype(c.dtype), jnp.asarray(before, c.dtype))
    index = jnp.arange(2 * grid)
    found = changes[None] & (rank[None] == jnp.arange(1, slots + 1)[:, None])
    first = jnp.min(jnp.where(found, index[None], 2 * grid - 1), axis=1)
    low, step, negative, start = offset[first], step[first], negative[first], starts[:, first // 2]

    def halve(_, state):
        low, step = state
        step = step / 2
        middle = low + step
        return jnp.where((value(start, middle) < 0) == negative, middle, low), step

    low, step = lax.fori_loop(0, 8, halve, (low, step))
    at_low, at_high = value(start, low), value(start, low + step)
    slope = at_high - at_low
    fraction = jnp.where(slope == 0, 0.5, -at_low / jnp.where(slope == 0, 1, slope))
    root = _turned(start, low + step * jnp.clip(fraction, 0, 1))
    exists = usable & (jnp.arange(slots) < rank[-1])
    return jnp.stack(root, axis=-1), exists


def conditioning(xy_a: Array, xy_b: Array, weights: Array) -> tuple[Array, Array]:
    """Similarities [3, 3] that centre each image's points, with one scale for both.

    One scale, so that distances in both images stay comparable: Hartley's normalisation otherwise.
    """
    total = jnp.maximum(jnp.sum(weights), 1e-12)
    means = [weights @ xy / total for xy in (xy_a, xy_b)]
    spread = sum(
        weights @ jnp.sum((xy - m[None]) ** 2, -1)
        for xy, m in zip((xy_a, xy_b), means, strict=True)
    )
    scale = 1 / jnp.sqrt(jnp.maximum(spread / (4 * total), 1e-12))
    zero, one = jnp.zeros_like(scale), jnp.ones_like(scale)

    def similarity(mean):
        x, y = -scale * mean[0], -scale * mean[1]
        return jnp.stack([scale, zero, x, zero, scale, y, zero, zero, one]).reshape(3, 3)

    return similarity(means[0]), similarity(means[1])


def apply_similarity(similarity: Array, xy: Array) -> Array:
    return xy * similarity[0, 0] + similarity[:2, 2].reshape((1,) * (xy.ndim - 1) + (2,))


@jax.jit
def four_point(xy_a: ArrayLike, xy_b: ArrayLike) -> tuple[Array, Array]:
    """Homography of four point pairs.

    Args:
      xy_a: [4, 2], of order one (see `conditioning`).
      xy_b: [4, 2].

    Returns:
      models [1, 3, 3], (x_b, 1) ~ H (x_a, 1), and exist [1] (false where three points of a sample
      lie on a line in one image and not in the other's order, or all on one).
    """
    a, b = as_float(xy_a), as_float(xy_b)
    model, good = unit(null_space(_homography_rows(a, b))[-1].reshape(1, 3, 3))
    # The same side of the plane, seen from the same side: all triangles keep their orientation.
    triples = np.array([[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]])
    areas = [jnp.linalg.det(homogeneous(x)[triples]) for x in (a, b)]
    return model, good & jnp.all(areas[0] * areas[1] > 1e-10)[None]


def _homography_rows(a: Array, b: Array) -> Array:
    """Equations b x (H a) = 0, two for each pair: [n, 2] each -> [2n, 9]."""
    h = homogeneous(a)
    zero = jnp.zeros_like(h)
    first = jnp.concatenate([zero, -h, b[:, 1:] * h], axis=1)
    second = jnp.concatenate([h, zero, -b[:, :1] * h], axis=1)
    return jnp.concatenate([first, second])


@jax.jit
def seven_point(xy_a: ArrayLike, xy_b: ArrayLike) -> tuple[Array, Array]:
    """Fundamental matrices of seven point pairs: the real roots of det(s F1 + c F2) = 0.

    Args:
      xy_a: [7, 2], of order one (see `conditioning`).
      xy_b: [7, 2].

    Returns:
      models [3, 3, 3], (x_b, 1)^T F (x_a, 1) = 0, and exist [3].
    """
    a, b = homogeneous(as_float(xy_a)), homogeneous(as_float(xy_b))
    f1, f2 = null_space(epipolar_rows(a, b)).reshape(2, 3, 3)
    # The cubic from its values at four points of the circle.
    angle = np.arange(4) * math.pi / 4 + 0.3
    values = jnp.linalg.det(
        jnp.asarray(np.sin(angle), f1.dtype)[:, None, None] * f1[None]
        + jnp.asarray(np.cos(angle), f1.dtype)[:, None, None] * f2[None]
    )
    k = np.arange(4)
    terms = np.sin(angle)[:, None] ** k * np.cos(angle)[:, None] ** (3 - k)
    cubic = matmul(jnp.asarray(np.linalg.inv(terms), f1.dtype), values)
    roots, exist = real_roots(cubic, 3, grid=48)
    models, good = unit(einsum("sk,kij->sij", roots, jnp.stack([f1, f2])))
    return models, exist & good


@jax.jit
def eight_point(xy_a: ArrayLike, xy_b: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Fundamental matrix of eight or more point pairs, by weighted linear least squares.

    Args:
      xy_a: [n, 2].
      xy_b: [n, 2].
      weights: [n] of the squared residuals; zero leaves a pair out.

    Returns:
      [3, 3] of rank 2 and unit norm. On rays (x, y, 1) it approximates the essential matrix, whose
      two singular values it does not make equal.

    Hartley, In Defense of the Eight-Point Algorithm, TPAMI 1997. By a singular value decomposition
    of the equations themselves: their normal equations would lose half the digits of float32.
    """
    a, b = as_float(xy_a), as_float(xy_b)
    w = jnp.ones(a.shape[:1], a.dtype) if weights is None else as_float(weights)
    to_a, to_b = conditioning(a, b, w)
    rows = epipolar_rows(
        homogeneous(apply_similarity(to_a, a)), homogeneous(apply_similarity(to_b, b))
    )
    root = jnp.sqrt(jnp.where(w > 0, w, 1)) * (w > 0)
    model = rank_two(least_direction(root[:, None] * rows).reshape(3, 3))
    return unit(matmul(matmul(to_b.T, model), to_a))[0]


def rank_two(matrix: Array) -> Array:
    """The nearest [3, 3] matrix whose smallest singular value is zero."""
    v = least_direction(matrix)
    return matrix - matmul(matrix, v)[:, None] * v[None]
