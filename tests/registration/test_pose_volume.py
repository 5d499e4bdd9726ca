"""pose_volume against a cell-by-cell float64 reference; masks, memory, conventions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from posejax.registration import (
    argmax_pose,
    pose_volume,
    pose_volume_with_overlap,
    rotate,
    softmax_expectation,
)

ANGLES = np.array([-0.3, 0.0, 0.2], np.float32)
RADIUS = 3


def turn(maps, angle):
    """Bilinear rotation in float64 by scipy, zero outside, [H, W] or [H, W, C]."""
    maps = np.asarray(maps, np.float64)
    if maps.ndim == 3:
        return np.stack([turn(maps[..., k], angle) for k in range(maps.shape[2])], -1)
    c, s = np.cos(float(angle)), np.sin(float(angle))
    matrix = np.array([[c, -s], [s, c]])
    centre = (np.array(maps.shape) - 1) / 2
    offset = centre - matrix @ centre
    return ndimage.affine_transform(maps, matrix, offset, order=1, mode="grid-constant")


def reference(online, geo, mask_o, mask_g, angles, radius, score, joint=False):
    """Scores and overlaps by explicit loops over poses, each from the definition."""
    h, w, _ = online.shape
    oy, ox = (geo.shape[0] - h) // 2, (geo.shape[1] - w) // 2
    pad = ((radius, radius), (radius, radius))
    geo = np.pad(np.asarray(geo, np.float64), (*pad, (0, 0)))
    mask_g = np.pad(np.asarray(mask_g, np.float64), pad)
    side = 2 * radius + 1
    volume, overlap = np.zeros((2, len(angles), side, side))
    for k, angle in enumerate(angles):
        weight = turn(mask_o, angle)
        weighted = turn(online * mask_o[..., None], angle)
        weight = np.where(weight > 1e-3, weight, 0)
        value = np.where(weight[..., None] > 0, weighted / np.maximum(weight, 1e-3)[..., None], 0)
        for i in range(side):
            for j in range(side):
                g = geo[oy + i : oy + i + h, ox + j : ox + j + w]
                m = mask_g[oy + i : oy + i + h, ox + j : ox + j + w]
                p = (weight * m)[..., None]
                overlap[k, i, j] = n = p.sum()
                if score == "dot":
                    volume[k, i, j] = (p * value * g).sum()
                    continue
                v = value - (p * value).sum((0, 1)) / n
                u = g - (p * g).sum((0, 1)) / n
                cov, vv, uu = ((p * a).sum((0, 1)) for a in (v * u, v * v, u * u))
                if joint:
                    cov, vv, uu = cov.sum(), vv.sum(), uu.sum()
                volume[k, i, j] = (cov / np.sqrt(vv * uu)).mean()
    return volume, overlap


@pytest.fixture
def pair(rng):
    online = rng.standard_normal((14, 12, 2)).astype(np.float32) + 3
    geo = rng.standard_normal((20, 16, 2)).astype(np.float32) * 2 - 5
    mask_o = (rng.random((14, 12)) < 0.7).astype(np.float32)
    mask_g = (rng.random((20, 16)) < 0.8).astype(np.float32)
    return online, geo, mask_o, mask_g


@functools.cache
def compiled(**options):
    """Volume of (online, geo, mask_o, mask_g, angles), compiled once for all tests."""

    @jax.jit
    def volume(online, geo, mask_o, mask_g, angles, arrays):
        return pose_volume_with_overlap(
            online, geo, angles, RADIUS, online_mask=mask_o, geo_mask=mask_g, **options, **arrays
        )

    return volume


def masked_volume(pair, angles=ANGLES, **options):
    arrays = {k: v for k, v in options.items() if isinstance(v, jax.Array)}
    static = {k: v for k, v in options.items() if k not in arrays}
    return compiled(**static)(*(jnp.asarray(a, jnp.float32) for a in pair), angles, arrays)


@functools.cache
def compiled_gradient(**options):
    """Weighted mean pose, its gradients by both rasters, and the volume."""

    @jax.jit
    def step(pair):
        def loss(online, geo):
            volume = masked_volume((online, geo, *pair[2:]), **options).score
            estimate = softmax_expectation(volume, jnp.asarray(ANGLES), 0.2)
            return estimate.pose.sum(), volume

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(*pair[:2])

    return step


@pytest.mark.parametrize("options", [{}, {"method": "direct"}, {"yaw_chunk": 2, "remat": True}])
def test_dot_equals_definition(pair, options):
    got = masked_volume(pair, **options)
    want, overlap = reference(*pair, ANGLES, RADIUS, "dot")
    np.testing.assert_allclose(got.score, want, atol=2e-2)  # of 2500
    np.testing.assert_allclose(got.overlap, overlap, atol=1e-3)


@pytest.mark.parametrize("channels", ["mean", "joint"])
def test_zncc_equals_definition(pair, channels):
    online, geo, *masks = pair
    # Per-channel scales must not matter to "mean", and only a common one to "joint".
    online = online * np.array([1e3, 1e-3], np.float32) if channels == "mean" else online * 50
    got = masked_volume((online, geo, *masks), score="zncc", channels=channels)
    want, overlap = reference(*pair, ANGLES, RADIUS, "zncc", channels == "joint")
    # Joint: the common scale of each raster is free, so the same reference holds.
    np.testing.assert_allclose(got.score, want, atol=2e-5)
    np.testing.assert_allclose(got.overlap, overlap, atol=1e-3)
    assert got.valid.all()


def test_zncc_channel_weights(pair):
    both = [
        masked_volume((pair[0][..., c : c + 1], pair[1][..., c : c + 1], *pair[2:]), score="zncc")
        for c in (0, 1)
    ]
    got = masked_volume(pair, score="zncc", channel_weights=jnp.array([3.0, 1.0])).score
    np.testing.assert_allclose(got, 0.75 * both[0].score + 0.25 * both[1].score, atol=1e-5)


@pytest.mark.parametrize("score", ["dot", "zncc"])
def test_gradients_by_differences(pair, score):
    g = np.random.default_rng(5).standard_normal((3, 7, 7))

    def numeric(which):
        direction = np.random.default_rng(6).standard_normal(pair[which].shape)
        values = []
        for sign in (1, -1):
            moved = [np.asarray(a, np.float64) for a in pair]
            moved[which] = moved[which] + sign * 1e-5 * direction
            values.append((g * reference(*moved, ANGLES, RADIUS, score)[0]).sum())
        return direction, (values[0] - values[1]) / 2e-5

    def loss(online, geo):
        return (masked_volume((online, geo, *pair[2:]), score=score).score * g).sum()

    grads = jax.jit(jax.grad(loss, (0, 1)))(pair[0], pair[1])
    for which in (0, 1):
        direction, want = numeric(which)
        np.testing.assert_allclose(np.vdot(grads[which], direction), want, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize(("score", "scale"), [("dot", 1e-6), ("zncc", 1.0)])
def test_angle_gradient(pair, score, scale):
    """By differences; of "zncc" it needs the turned mask too, by 12 % on rasters this small."""

    def loss(angles):
        return (masked_volume(pair, angles, score=score).score ** 2).sum() * scale

    # Not at zero: bilinear interpolation has a kink where the lattices coincide.
    angles = np.array([-0.3, 0.05, 0.2], np.float32)
    got = jax.jit(jax.grad(loss))(angles)
    h = 1e-6
    for k in range(3):
        steps = [(np.asarray(angles, np.float64) + s * h * np.eye(3)[k]) for s in (1, -1)]
        ends = [(reference(*pair, a, RADIUS, score)[0] ** 2).sum() * scale for a in steps]
        np.testing.assert_allclose(got[k], (ends[0] - ends[1]) / (2 * h), rtol=5e-3, atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("score", ["dot", "zncc"])
def test_memory_options_change_nothing(pair, score):
    args = tuple(jnp.asarray(a) for a in pair)
    want = compiled_gradient(score=score)(args)
    for options in [{"remat": True, "yaw_chunk": 2}] + [{"yaw_chunk": 1}] * (score == "zncc"):
        got = compiled_gradient(score=score, **options)(args)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("score", ["dot", "zncc"])
def test_vmap_equals_loop(rng, score):
    online = jnp.asarray(rng.standard_normal((3, 10, 10, 2), np.float32))
    geo = jnp.asarray(rng.standard_normal((3, 14, 14, 2), np.float32))
    mask = jnp.asarray(rng.random((3, 10, 10)) < 0.8)

    def loss(a, b, m):
        return (pose_volume(a, b, ANGLES, 2, online_mask=m, score=score) ** 2).sum()

    grad = jax.jit(jax.grad(loss, (0, 1)))
    got = jax.jit(jax.vmap(grad))(online, geo, mask)
    for n in range(3):
        want = grad(online[n], geo[n], mask[n])
        for a, b in zip(want, got, strict=True):
            np.testing.assert_allclose(a, b[n], rtol=1e-3, atol=1e-3)


SINGULAR = {
    "empty online mask": lambda o, g, m, n: (o, g, 0 * m, n),
    "empty geo mask": lambda o, g, m, n: (o, g, m, 0 * n),
    "constant online": lambda o, g, m, n: (0 * o + 0.1, g, m, n),
    "constant geo": lambda o, g, m, n: (o, 0 * g - 1e4 / 3, m, n),
    "zero rasters": lambda o, g, m, n: (0 * o, 0 * g, m, n),
    "one valid cell": lambda o, g, m, n: (o, g, 0 * m + np.eye(14, 12, 9), n),
    "identical": lambda o, g, m, n: (g[3:17, 2:14], g, 0 * m + 1, 0 * n + 1),
    "NaN in invalid cells": lambda o, g, m, n: (np.where(m[..., None] > 0, o, np.nan), g, m, n),
}


@pytest.mark.parametrize("score", ["dot", "zncc"])
@pytest.mark.parametrize("name", SINGULAR)
def test_finite_at_singular_inputs(pair, score, name):
    changed = tuple(jnp.asarray(a, jnp.float32) for a in SINGULAR[name](*pair))
    (_, volume), grads = compiled_gradient(score=score)(changed)
    assert all(np.isfinite(a).all() for a in (volume, *grads))
    if score == "zncc":
        assert np.abs(volume).max() <= 1 + 1e-5
        if "empty" in name or "one valid" in name:
            assert (volume == -1).all()  # nothing overlaps: every pose is rejected
        if "constant" in name or "zero" in name:
            np.testing.assert_array_equal(volume, 0)  # no evidence either way
        if name == "identical":
            assert volume[1, RADIUS, RADIUS] == pytest.approx(1, abs=1e-5)


def test_minimum_overlap_is_relative_to_the_expected_one(rng):
    """Two rasters with the same random fill pattern (a fixed sampling pattern of a sensor).

    Their overlap is several times higher at zero shift than anywhere else. A minimum relative to
    the maximum would leave zero shift alone; relative to the expectation, the truth stays valid.
    """
    scene = ndimage.gaussian_filter(rng.standard_normal((48, 48)), 1.5)
    mask = rng.random((40, 40)) < 0.2
    online, geo = scene[4:44, 4:44], scene[2:42, 7:47]  # truth: (x, y) = (-3, 2)
    got = pose_volume_with_overlap(
        jnp.asarray(online[..., None], jnp.float32),
        jnp.asarray(geo[..., None], jnp.float32),
        jnp.zeros(1),
        5,
        online_mask=jnp.asarray(mask),
        geo_mask=jnp.asarray(mask),
        score="zncc",
        min_overlap=0.5,
    )
    assert got.overlap[0, 5, 5] > 3 * got.overlap[0, 7, 2]
    np.testing.assert_allclose(got.expected[0], mask.sum() ** 2 / mask.size, rtol=1e-4)
    assert got.valid.all()
    assert np.unravel_index(np.argmax(got.score), got.score.shape) == (0, 7, 2)


def test_rejected_poses(pair):
    # The geo raster ends where the online raster does: large shifts hang over its border.
    online, geo, mask_o, mask_g = pair
    cut = (online, geo[3:-3, 2:-2], mask_o, 0 * mask_g[3:-3, 2:-2] + 1)
    zncc = masked_volume(cut, score="zncc", min_overlap=0.7)
    assert (~zncc.valid).any() and zncc.valid[:, RADIUS, RADIUS].all()
    assert (np.asarray(zncc.score)[~zncc.valid] == -1).all()
    dot = masked_volume(cut, score="dot", min_overlap=0.7)
    np.testing.assert_array_equal(dot.valid, zncc.valid)
    assert (np.asarray(dot.score)[~dot.valid] == dot.score.min()).all()


def test_small_geo_equals_a_masked_one(rng):
    """A geo raster far smaller than online is the same data as a large one, masked around it."""
    online = rng.standard_normal((30, 26, 1)).astype(np.float32)
    geo = online[10:18, 8:16]
    large, mask = np.zeros_like(online), np.zeros((30, 26))
    large[11:19, 9:17], mask[11:19, 9:17] = geo, 1
    options = {"angles": np.zeros(1), "radius": RADIUS, "score": "zncc"}
    small = pose_volume_with_overlap(online, geo, **options)
    masked = pose_volume_with_overlap(online, large, geo_mask=mask, **options)
    assert small.valid.all() and float(small.score[0, 4, 4]) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(small.expected, masked.expected, rtol=1e-6)
    np.testing.assert_allclose(small.score, masked.score, atol=1e-5)


def test_four_cells_are_four_whatever_the_transforms_round_to(rng):
    for seed in range(20):
        generator = np.random.default_rng(seed)
        mask = np.zeros((14, 12))
        mask.flat[generator.choice(mask.size, 4, replace=False)] = 1
        raster = generator.standard_normal((14, 12, 1)).astype(np.float32)
        got = masked_volume((raster, raster, mask, mask), np.zeros(1), score="zncc")
        assert got.valid[0, RADIUS, RADIUS], float(got.overlap[0, RADIUS, RADIUS])


@pytest.mark.parametrize("sparse", [False, True])
def test_an_outlier_does_not_take_the_digits_of_the_rest(rng, sparse):
    """One unmasked cell of 1e4, seen by none of the poses around the true one."""
    scene = rng.standard_normal((34, 34, 1)) * (rng.random((34, 34, 1)) < (0.1 if sparse else 1))
    geo = scene.copy()
    geo[1, 2] = 1e4
    online = scene[10:24, 11:23]
    args = np.float32(online), np.float32(geo[:, 1:-1]), np.zeros(1), RADIUS
    got = pose_volume(*args, score="zncc")[0]
    assert float(got.max()) == pytest.approx(1, abs=1e-3)
    assert np.unravel_index(np.argmax(got), got.shape) == (RADIUS, RADIUS)


@pytest.mark.parametrize("score", ["dot", "zncc"])
def test_nan_in_a_valid_cell_is_seen(pair, score):
    online = pair[0].copy()
    row, column = np.argwhere(pair[2] > 0)[40]  # away from the corners, which turn out of sight
    online[row, column, 1] = np.nan
    assert np.isnan(masked_volume((online, *pair[1:]), score=score).score).all()


def test_log_prior_is_added(pair):
    prior = jnp.asarray(np.random.default_rng(1).standard_normal((3, 7, 7)), jnp.float32)
    plain = masked_volume(pair, score="zncc").score
    np.testing.assert_allclose(
        masked_volume(pair, score="zncc", log_prior=prior).score, plain + prior
    )
    with pytest.raises(ValueError, match="log_prior"):
        masked_volume(pair, log_prior=prior[:2])


@functools.cache
def moved_peak(score):
    angles = jnp.deg2rad(jnp.arange(-20.0, 21.0, 5.0))

    @jax.jit
    def peak(scene, dx, dy, k):
        geo = jnp.roll(rotate(scene, angles[k]), (dy, dx), (0, 1))[8:-8, 8:-8]
        volume = pose_volume(scene[16:-16, 16:-16], geo, angles, 4, score=score)
        return argmax_pose(volume, angles, 0.5), angles[k]

    return peak


@settings(max_examples=15, deadline=None)
@given(st.integers(-4, 4), st.integers(-4, 4), st.integers(0, 8), st.sampled_from(["dot", "zncc"]))
def test_recovers_a_known_motion(dx, dy, k, score):
    """Conventions: content turned by yaw, then moved by (x, y), is what the peak reports."""
    scene = np.random.default_rng(3).standard_normal((72, 72, 2))
    scene = jnp.asarray(ndimage.gaussian_filter(scene, (1.5, 1.5, 0)), jnp.float32)
    got, angle = moved_peak(score)(scene, dx, dy, k)
    np.testing.assert_allclose(got, [0.5 * dx, 0.5 * dy, angle], atol=1e-5)


def test_joint_volume_fits_in_memory():
    """32 yaws x 41 x 41 on 128x128x8 with gradient at batch 2: below 0.5 GB of extra memory."""
    online, geo = jnp.zeros((2, 128, 128, 8)), jnp.zeros((2, 168, 168, 8))
    angles = jnp.linspace(-0.2, 0.2, 32)

    def loss(a, b, options):
        volume = jax.vmap(lambda a, b: pose_volume(a, b, angles, 20, **options))(a, b)
        return jax.nn.logsumexp(volume, axis=(1, 2, 3)).sum()

    def peak(options):
        step = jax.jit(jax.value_and_grad(lambda a, b: loss(a, b, options), (0, 1)))
        return step.lower(online, geo).compile().memory_analysis().temp_size_in_bytes / 1e6

    assert peak({}) < 300
    assert peak({"remat": True, "yaw_chunk": 4}) < 40
    assert peak({"score": "zncc"}) < 300


def test_bad_input_is_named(pair):
    online, geo, _, mask_g = pair
    for options, words in [
        ({"score": "ncc"}, "ncc"),
        ({"score": "zncc", "channels": "sum"}, "sum"),
        ({"score": "zncc", "method": "direct"}, "direct"),
        ({"score": "zncc", "channel_weights": jnp.ones(3)}, "channel_weights"),
        ({"online_mask": mask_g}, "online_mask"),
    ]:
        with pytest.raises(ValueError, match=words):
            pose_volume(online, geo, jnp.asarray(ANGLES), RADIUS, **options)
    with pytest.raises(ValueError, match="angles"):
        pose_volume(online, geo, jnp.zeros(()), RADIUS)
