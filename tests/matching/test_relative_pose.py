"""Relative pose: accuracy among outliers, invariances, degenerate input, derivative, covariance."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from posejax.matching import (
    decompose_essential,
    estimate_homography,
    estimate_relative_pose,
    pose_difference,
    pose_from_essential,
    refine_relative_pose,
)
from tests.matching.scenes import K, angle_errors, essential, make_pair, rays

N = 160
KEY = jax.random.key(0)
K32 = K.astype(np.float32)
estimate = functools.partial(estimate_relative_pose, K_a=K32, K_b=K32, iterations=512)


@pytest.mark.parametrize(
    "score", ["marginalised", pytest.param("truncated", marks=pytest.mark.slow)]
)
def test_half_of_the_matches_are_wrong(score):
    rng = np.random.default_rng(2)
    for seed in range(4):
        pair = make_pair(rng, N, outliers=0.5, noise=0.5)
        found = estimate(jax.random.fold_in(KEY, seed), pair.xy_a, pair.xy_b, score=score)
        assert found.valid and 128 <= found.samples <= 512
        assert max(angle_errors(found.b_from_a, pair.b_from_a)) < 1.5
        inliers = np.asarray(found.inliers)
        assert inliers[pair.good].mean() > 0.97
        assert inliers[~pair.good].mean() < 0.15
        np.testing.assert_allclose(np.linalg.norm(found.b_from_a[:3, 3]), 1, atol=1e-5)
        eigenvalues = np.linalg.eigvalsh(found.covariance)
        assert (eigenvalues > 0).all() and (eigenvalues < 1e-2).all()


@pytest.mark.slow
def test_padding_the_key_and_a_batch_change_nothing():
    rng = np.random.default_rng(3)
    pairs = [make_pair(rng, N, outliers=0.3, noise=0.3) for _ in range(2)]
    a, b = (np.stack([p[i] for p in pairs]) for i in range(2))
    b[1, 100:] = np.nan  # missing matches: not finite, or without weight
    weights = np.ones((2, N), np.float32)
    weights[0, 120:] = 0
    keys = jax.random.split(KEY, 2)
    single = [estimate(k, x, y, weights=w) for k, x, y, w in zip(keys, a, b, weights, strict=True)]
    again = estimate(keys[0], a[0], b[0], weights=weights[0])
    np.testing.assert_array_equal(single[0].b_from_a, again.b_from_a)
    garbage = np.where(weights[0][:, None] > 0, a[0], 1e6).astype(np.float32)
    other = estimate(keys[0], garbage, b[0], weights=weights[0])
    np.testing.assert_array_equal(single[0].b_from_a, other.b_from_a)
    assert not np.asarray(single[0].inliers)[120:].any()
    assert not np.asarray(single[1].inliers)[100:].any()
    batch = jax.vmap(lambda k, x, y, w: estimate(k, x, y, weights=w))(keys, a, b, weights)
    for i, pair in enumerate(pairs):
        assert max(angle_errors(single[i].b_from_a, pair.b_from_a)) < 1.5
        np.testing.assert_allclose(batch.b_from_a[i], single[i].b_from_a, atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("known", [0, 4])
def test_too_few_matches_are_not_valid(known):
    pair = make_pair(np.random.default_rng(0), N)
    weights = np.zeros(N, np.float32)
    weights[:known] = 1

    def loss(a, w):
        found = estimate(KEY, a, pair.xy_b, weights=w)
        return jnp.sum(found.b_from_a**2) + jnp.sum(found.covariance * 0), found

    (_, found), gradient = jax.value_and_grad(loss, (0, 1), has_aux=True)(pair.xy_a, weights)
    assert not found.valid and not np.asarray(found.inliers).any()
    np.testing.assert_array_equal(found.b_from_a, np.eye(4))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((found[:-1], gradient)))


def test_degenerate_points_stay_finite():
    """Collinear, identical, unrelated, none at all."""
    nothing = estimate(KEY, *np.full((2, N, 2), np.nan, np.float32))
    assert not nothing.valid and nothing.samples == 0
    np.testing.assert_array_equal(nothing.b_from_a, np.eye(4))
    rng = np.random.default_rng(4)
    line = np.stack([np.linspace(100, 500, N), np.linspace(50, 400, N)], axis=1)
    point = np.full((N, 2), 300.0)
    for a, b in ((line, line + 3), (point, point), (line, rng.uniform(0, 400, (N, 2)))):
        found = estimate(KEY, a.astype(np.float32), b.astype(np.float32))
        assert all(np.isfinite(x).all() for x in found)
        if a is point:  # any model fits them
            assert not found.valid and not np.asarray(found.inliers).any()
            np.testing.assert_array_equal(found.b_from_a, np.eye(4))


def test_the_scale_of_the_weights_changes_nothing():
    pair = make_pair(np.random.default_rng(16), N, outliers=0.2, noise=0.5)
    weights = np.random.default_rng(17).uniform(0.2, 1, N).astype(np.float32)
    one, tiny = (estimate(KEY, *pair[:2], weights=s * weights) for s in (1, 1e-9))
    np.testing.assert_allclose(tiny.b_from_a, one.b_from_a, atol=1e-4)
    np.testing.assert_allclose(np.diag(tiny.covariance), np.diag(one.covariance), rtol=1e-2)
    np.testing.assert_allclose(tiny.loss, 1e-9 * one.loss, rtol=1e-3)


def test_a_pure_rotation_keeps_its_rotation():
    pair = make_pair(np.random.default_rng(5), N, noise=0.3, baseline=1e-9)
    found = estimate(KEY, pair.xy_a, pair.xy_b)
    assert angle_errors(found.b_from_a, pair.b_from_a)[0] < 0.3
    good = make_pair(np.random.default_rng(5), N, noise=0.3)
    sure = estimate(KEY, good.xy_a, good.xy_b)
    assert found.covariance[0, 0] > 30 * sure.covariance[0, 0]


@pytest.mark.slow
def test_known_gravity():
    """Three matches a sample, and the estimated turn is about gravity alone."""
    rng = np.random.default_rng(6)
    tilts = Rotation.from_rotvec([[0.2, 0, -0.1], [-0.1, 0.05, 0.3]]).as_matrix()
    for seed in range(3):
        pair = make_pair(rng, N, outliers=0.6, noise=0.3, upright=True)
        # The same rays in tilted cameras.
        pixels, gravity = [], []
        for xy, tilt in zip(pair[:2], tilts, strict=True):
            turned = np.c_[rays(xy), np.ones(N)] @ tilt.T
            pixels.append((turned[:, :2] / turned[:, 2:] * 500 + K[:2, 2]).astype(np.float32))
            gravity.append((2 * tilt[:, 1]).astype(np.float32))
        truth = np.eye(4)
        truth[:3, :3] = tilts[1] @ pair.b_from_a[:3, :3] @ tilts[0].T
        truth[:3, 3] = tilts[1] @ pair.b_from_a[:3, 3]
        found = estimate(
            jax.random.fold_in(KEY, seed), *pixels, gravity_a=gravity[0], gravity_b=gravity[1]
        )
        assert max(angle_errors(found.b_from_a, truth)) < 1.0
        down = np.asarray(found.b_from_a)[:3, :3] @ gravity[0] - gravity[1]
        np.testing.assert_allclose(down, 0, atol=1e-4)
        assert np.linalg.matrix_rank(np.asarray(found.covariance, np.float64), tol=1e-12) == 3


@pytest.fixture(scope="module")
def noisy():
    pair = make_pair(np.random.default_rng(7), N, noise=0.5)
    weights = np.random.default_rng(8).uniform(0.5, 1.5, N).astype(np.float32)
    return pair, weights


def refine(pair, a, weights):
    start = pair.b_from_a.astype(np.float32)
    return refine_relative_pose(
        start, a, pair.xy_b, K32, K32, weights=weights, threshold=20.0, score="truncated"
    )


@pytest.mark.slow
def test_refinement_is_the_weighted_least_squares_solution(noisy):
    """Of Sampson distances, by SciPy in float64; and its derivative is that of the solution."""
    pair, weights = noisy

    def solution(a, weights):
        ends = [np.c_[x.astype(np.float64), np.ones(N)] for x in (a, pair.xy_b)]

        def residuals(x):
            pose = np.eye(4)
            pose[:3, :3] = Rotation.from_rotvec(x[:3]).as_matrix()
            pose[:3, 3] = [np.cos(x[3]) * np.cos(x[4]), np.sin(x[3]) * np.cos(x[4]), np.sin(x[4])]
            f = np.linalg.inv(K).T @ essential(pose) @ np.linalg.inv(K)
            in_b, in_a = ends[0] @ f.T, ends[1] @ f
            size = np.sqrt((in_b[:, :2] ** 2).sum(1) + (in_a[:, :2] ** 2).sum(1))
            return np.sqrt(weights) * (ends[1] * in_b).sum(1) / size

        x, y, z = pair.b_from_a[:3, 3]
        start = [*Rotation.from_matrix(pair.b_from_a[:3, :3]).as_rotvec(), np.arctan2(y, x)]
        found = least_squares(residuals, [*start, np.arcsin(z)], xtol=1e-14, ftol=1e-14).x
        return Rotation.from_rotvec(found[:3]).as_matrix()

    want = solution(pair.xy_a, weights)
    got = refine(pair, pair.xy_a, weights)
    np.testing.assert_allclose(got.b_from_a[:3, :3], want, atol=2e-5)

    direction = np.random.default_rng(9).standard_normal((N, 2))
    along = np.random.default_rng(10).standard_normal(N)
    slope = np.random.default_rng(11).standard_normal((3, 3))

    def value(a, w):
        return jnp.sum(refine(pair, a, w).b_from_a[:3, :3] * slope)

    to_a, to_weights = jax.grad(value, (0, 1))(pair.xy_a, weights)
    for got, h, changed in (
        (np.sum(to_a * direction), 1e-3, lambda h: (pair.xy_a + h * direction, weights)),
        (np.sum(to_weights * along), 1e-4, lambda h: (pair.xy_a, weights + h * along)),
    ):
        ahead, behind = (np.sum(solution(*changed(s)) * slope) for s in (h, -h))
        np.testing.assert_allclose(got, (ahead - behind) / (2 * h), rtol=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize("score", ["marginalised", "truncated"])
def test_the_covariance_covers(score):
    """95 % ellipsoids of 600 noisy pairs hold the truth 95 times out of 100."""
    rng = np.random.default_rng(12)
    clean = make_pair(rng, N)
    a, b = (x + rng.standard_normal((600, N, 2)).astype(np.float32) for x in clean[:2])
    start = clean.b_from_a.astype(np.float32)
    settings = {"threshold": 4.0, "score": score}
    run = jax.jit(jax.vmap(lambda a, b: refine_relative_pose(start, a, b, K32, K32, **settings)))
    found = run(a, b)
    steps = jax.vmap(lambda pose: pose_difference(pose, start))(found.b_from_a)
    steps = np.asarray(steps, np.float64)
    solved = np.linalg.solve(np.asarray(found.covariance, np.float64), steps[..., None])
    square = np.sum(steps * solved[..., 0], axis=-1)
    assert 0.92 < np.mean(square < 11.07) < 0.98  # chi squared, 5 degrees of freedom


@pytest.mark.slow
def test_the_covariance_covers_among_wrong_matches():
    """Refined from the truth: four of five wrong, 768 pairs of one scene in 500 matches."""
    rng = np.random.default_rng(14)
    clean = make_pair(rng, 500)
    a, b = (x + rng.standard_normal((768, 500, 2)).astype(np.float32) for x in clean[:2])
    anywhere = rng.uniform([0, 0], [640, 480], b.shape).astype(np.float32)
    b = np.where(rng.random((768, 500, 1)) < 0.8, anywhere, b)
    start = clean.b_from_a.astype(np.float32)
    run = jax.jit(jax.vmap(lambda a, b: refine_relative_pose(start, a, b, K32, K32)))
    found = run(a, b)
    steps = jax.vmap(lambda pose: pose_difference(pose, start))(found.b_from_a)
    steps = np.asarray(steps, np.float64)
    solved = np.linalg.solve(np.asarray(found.covariance, np.float64), steps[..., None])
    square = np.sum(steps * solved[..., 0], axis=-1)
    assert 0.90 < np.mean(square < 11.07) < 0.98


def test_decomposition_and_cheirality():
    rng = np.random.default_rng(13)
    for _ in range(5):
        pair = make_pair(rng, 20)
        e = essential(pair.b_from_a)
        first, second, t = (np.asarray(x, np.float64) for x in decompose_essential(e))
        for r in (first, second):
            np.testing.assert_allclose(r @ r.T, np.eye(3), atol=1e-5)
            assert np.linalg.det(r) > 0
            f = essential(np.block([[r, t[:, None]], [np.zeros(3), 1]]))
            assert min(np.abs(f - s * e).max() for s in (-1, 1)) < 1e-4
        pose = pose_from_essential(-e, rays(pair.xy_a), rays(pair.xy_b))
        assert max(angle_errors(np.asarray(pose.matrix), pair.b_from_a)) < 0.05


def reference_pose(e, near):
    """By singular values in float64: the rotation and the translation nearest to given ones."""
    u, _, v = np.linalg.svd(e)
    u, v = u * np.sign(np.linalg.det(u)), v * np.sign(np.linalg.det(v))
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    rotation = max((u @ turn @ v, u @ turn.T @ v), key=lambda r: np.sum(r * near[:3, :3]))
    return np.c_[rotation, u[:, 2] * np.sign(u[:, 2] @ near[:3, 3])]


@pytest.mark.parametrize("bend", [0.0, 0.1])
def test_the_gradient_of_a_decomposition(bend):
    """At an essential matrix two singular values are equal; and at any other matrix."""
    rng = np.random.default_rng(15)
    pair = make_pair(rng, 20)
    e = essential(pair.b_from_a) + bend * rng.standard_normal((3, 3))
    slope, along = rng.standard_normal((3, 4)), rng.standard_normal((3, 3))
    points = rays(pair.xy_a), rays(pair.xy_b)

    def value(e):
        pose = pose_from_essential(e, *points)
        return jnp.sum(pose.matrix[:3] * slope), pose.matrix[:3]

    gradient, pose = jax.grad(value, has_aux=True)(jnp.asarray(e, jnp.float32))
    np.testing.assert_allclose(pose, reference_pose(e, pair.b_from_a), atol=1e-5)
    ends = (np.sum(slope * reference_pose(e + h * along, pair.b_from_a)) for h in (1e-6, -1e-6))
    want = (next(ends) - next(ends)) / 2e-6
    np.testing.assert_allclose(np.sum(gradient * along), want, rtol=1e-3)
    assert all(np.isfinite(x).all() for x in jax.jacrev(decompose_essential)(jnp.zeros((3, 3))))


def test_wrong_arguments_are_named():
    a = np.zeros((5, 2), np.float32)
    with pytest.raises(ValueError, match="vmap"):
        estimate(KEY, a[None], a[None])
    with pytest.raises(ValueError, match="weights"):
        estimate(KEY, a, a, weights=np.ones(4))
    with pytest.raises(ValueError, match="both cameras"):
        estimate(KEY, a, a, gravity_a=np.ones(3))
    wrong = [
        ("score", {"score": "foo"}),
        ("K_a", {"K_a": np.ones((2, 3))}),
        ("K_b", {"K_b": np.ones(4)}),
        ("gravity_b", {"gravity_a": np.ones(3), "gravity_b": np.ones((5, 3))}),
        ("threshold", {"threshold": 0.0}),
        ("threshold", {"threshold": np.nan}),
        ("threshold", {"threshold": np.ones(5)}),
        ("confidence", {"confidence": 1.0}),
        ("confidence", {"confidence": 0.0}),
        ("iterations", {"iterations": -1}),
    ]
    for word, arguments in wrong:
        with pytest.raises(ValueError, match=word):
            estimate(KEY, a, a, **arguments)
        if word in ("score", "threshold", "confidence", "iterations"):
            with pytest.raises(ValueError, match=word):
                estimate_homography(KEY, a, a, **arguments)
    with pytest.raises(ValueError, match="b_from_a"):
        refine_relative_pose(np.eye(3), a, a, K32, K32)
