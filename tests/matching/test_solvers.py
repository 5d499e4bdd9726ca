"""Minimal solvers: they find the truth among their solutions, and only solutions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.matching import eight_point, five_point, four_point, seven_point, upright_three_point
from posejax.matching.solvers import real_roots
from tests.matching.scenes import distance_up_to_sign, essential, make_pair, rays

COUNT = 64
batched = functools.cache(lambda solver: jax.jit(jax.vmap(solver)))  # one program for all tests


def solve(solver, size, of, truth, **scene):
    """Distances from the truth in COUNT scenes, and the models of all of them."""
    rng = np.random.default_rng(1)
    pairs = [make_pair(rng, size, **scene) for _ in range(COUNT)]
    a, b = (np.stack([of(p[i].astype(np.float64)) for p in pairs]) for i in range(2))
    models, exist = batched(solver)(a.astype(np.float32), b.astype(np.float32))
    errors = [
        distance_up_to_sign(m, e, truth(p)) for m, e, p in zip(models, exist, pairs, strict=True)
    ]
    return np.array(errors), np.asarray(models, np.float64), np.asarray(exist), (a, b)


def upright_rays(xy):
    return np.c_[rays(xy), np.ones(len(xy))]


def test_five_points():
    errors, models, exist, (a, b) = solve(five_point, 5, rays, lambda p: essential(p.b_from_a))
    assert np.quantile(errors, 0.85) < 5e-3  # float32 loses nearly double roots
    assert np.median(errors) < 1e-4
    ends = [np.concatenate([x, np.ones((COUNT, 5, 1))], axis=-1) for x in (a, b)]
    residual = np.einsum("nki,nsij,nkj->nsk", ends[1], models, ends[0])
    assert np.abs(residual[exist]).max() < 1e-5
    # Two equal singular values and a zero: every solution is an essential matrix.
    s = np.linalg.svd(models[exist])[1]
    assert np.quantile(s[:, 0] - s[:, 1], 0.95) < 1e-3
    assert np.quantile(s[:, 2], 0.95) < 1e-3


@pytest.mark.slow
def test_upright_three_points():
    solver = upright_three_point
    scene = {"upright": True}
    errors, *_ = solve(solver, 3, upright_rays, lambda p: essential(p.b_from_a), **scene)
    assert np.quantile(errors, 0.85) < 5e-3 and np.median(errors) < 1e-4


def test_seven_points():
    errors, models, exist, _ = solve(seven_point, 7, rays, lambda p: essential(p.b_from_a))
    assert np.quantile(errors, 0.9) < 5e-3 and np.median(errors) < 1e-4
    assert np.abs(np.linalg.det(models[exist])).max() < 1e-5


def test_four_points_of_a_plane():
    def truth(p):
        # Points at depth 6 along z: n = (0, 0, 1), d = 6.
        normal = np.array([[0, 0, 1.0]])
        return p.b_from_a[:3, :3] + p.b_from_a[:3, 3:] @ normal / 6

    errors, _, exist, _ = solve(four_point, 4, rays, truth, plane=True)
    # Thin triangles in float32 are the tail.
    assert exist.mean() > 0.9
    assert np.quantile(errors[exist[:, 0]], 0.9) < 5e-3 and np.median(errors) < 1e-4


def reference_eight_point(a, b, w, *, one_scale=False):
    means = [w @ x / w.sum() for x in (a, b)]
    spreads = [w @ ((x - m) ** 2).sum(1) / w.sum() for x, m in zip((a, b), means, strict=True)]
    if one_scale:
        spreads = [sum(spreads) / 2] * 2
    to_a, to_b = (
        np.array([[s, 0, -s * m[0]], [0, s, -s * m[1]], [0, 0, 1]])
        for m, s in zip(means, np.sqrt(2 / np.array(spreads)), strict=True)
    )
    a, b = (np.c_[x, np.ones(len(x))] @ t.T for x, t in ((a, to_a), (b, to_b)))
    rows = np.sqrt(w)[:, None] * np.einsum("ni,nj->nij", b, a).reshape(-1, 9)
    f = np.linalg.svd(rows)[2][-1].reshape(3, 3)
    u, s, v = np.linalg.svd(f)
    f = to_b.T @ (u * [s[0], s[1], 0]) @ v @ to_a
    return f / np.linalg.norm(f)


def test_eight_points_equal_the_reference(rng):
    pair = make_pair(rng, 30, noise=0.5)
    weights = rng.uniform(0.2, 1, 30)
    weights[:5] = 0
    a, b = rays(pair.xy_a.astype(np.float64)), rays(pair.xy_b.astype(np.float64))
    got = np.asarray(eight_point(a, b, weights))
    # Normalised with a scale for each image instead of one for both: the same up to noise.
    want = reference_eight_point(a, b, weights)
    assert distance_up_to_sign(got[None], [True], want) < 2e-3
    exact = make_pair(rng, 30)
    got = eight_point(*(rays(x.astype(np.float64)) for x in exact[:2]))
    assert distance_up_to_sign(np.asarray(got)[None], [True], essential(exact.b_from_a)) < 1e-3


@pytest.mark.parametrize("roots", [[-3.0, 0.5, 40.0], [0.5, 0.501, -2.0], [1.0, 2.0], []])
def test_real_roots(roots):
    """Far from zero, close together, beside complex ones."""
    real = np.poly(roots) if roots else np.ones(1)
    for extra in ([1.0, 0.2, 1.0], [1.0, 3.0, 9.0]):
        real = np.polymul(real, extra)
    angles, exist = jax.jit(lambda c: real_roots(c, 4))(real[::-1].astype(np.float32).copy())
    angles, exist = np.asarray(angles, np.float64), np.asarray(exist)
    assert exist.sum() == len(roots)
    got = np.sort(angles[exist, 0] / angles[exist, 1])
    np.testing.assert_allclose(got, np.sort(roots), rtol=3e-3)


def test_wide_intervals_are_refused():
    with pytest.raises(ValueError, match="at least 16, got 8"):
        real_roots(np.ones(4, np.float32), 3, grid=8)


def test_degenerate_samples_are_finite():
    same = np.ones((7, 2), np.float32)
    line = np.stack([np.linspace(0, 1, 7), np.linspace(0, 2, 7)], axis=1).astype(np.float32)
    for points in (same, line, np.full((7, 2), np.nan, np.float32)):
        for solver, n in ((five_point, 5), (seven_point, 7), (four_point, 4)):
            many = np.broadcast_to(points[:n], (COUNT, n, 2))
            models, exist = batched(solver)(many, many)
            assert np.isfinite(models).all()
            if solver is four_point:
                assert not np.asarray(exist).any()


@pytest.mark.parametrize("n, noise", [(8, 0.5), (30, 0.5), (30, 0.0)])
def test_the_gradient_of_eight_points(n, noise):
    """Also without noise, where the two singular values of the matrix are equal."""
    pair = make_pair(np.random.default_rng(3), n, noise=noise)
    a, b = rays(pair.xy_a.astype(np.float64)), rays(pair.xy_b.astype(np.float64))
    weights = np.random.default_rng(4).uniform(0.5, 1, n)
    slope = np.random.default_rng(5).standard_normal((3, 3))
    along = np.random.default_rng(6).standard_normal((n, 2))

    def value(a, b, w):
        matrix = eight_point(a, b, w)
        return jnp.sum(matrix * slope) * jnp.sign(matrix[0, 1])  # its sign is arbitrary

    to_a, to_weights = jax.grad(value, (0, 2))(*(x.astype(np.float32) for x in (a, b, weights)))

    def reference(a, w):
        matrix = reference_eight_point(a, b, w, one_scale=True)
        return np.sum(matrix * slope) * np.sign(matrix[0, 1])

    h = 1e-6
    want = (reference(a + h * along, weights) - reference(a - h * along, weights)) / (2 * h)
    np.testing.assert_allclose(np.sum(to_a * along), want, rtol=2e-2, atol=1e-3)
    moved = along[:, 0]
    want = (reference(a, weights + h * moved) - reference(a, weights - h * moved)) / (2 * h)
    np.testing.assert_allclose(np.sum(to_weights * moved), want, rtol=2e-2, atol=1e-3)
    assert np.isfinite(jax.grad(value, 2)(a, b, 0 * weights)).all()
