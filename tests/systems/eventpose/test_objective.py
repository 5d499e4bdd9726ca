"""Pose losses against reference numbers, closed forms, and the singular points of the heads."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.spatial.transform import Rotation
from scipy.stats import multivariate_normal

from posejax.systems.eventpose.objective import (
    SPADES_STATS,
    ObjectiveConfig,
    TranslationStats,
    denormalize_translation,
    example_losses,
    initial_log_variance,
    normalize_translation,
    predicted_pose,
    predicted_sigma,
    smooth_l1,
    translation_stats,
)

# Compiled whole: one program per shape instead of one per operation.
example_losses = jax.jit(example_losses, static_argnums=(2, 3))
predicted_pose = jax.jit(predicted_pose, static_argnums=(1, 2))

UNCERTAINTIES = ("none", "kendall", "gaussian")


@functools.partial(jax.jit, static_argnums=(2, 3))
def pose_loss(outputs, target_pose, config, stats):
    """The mean loss, and the means of its parts."""
    means = {k: v.mean() for k, v in example_losses(outputs, target_pose, config, stats).items()}
    return means.pop("loss"), means


def random_poses(rng, n):
    pose = np.tile(np.eye(4), (n, 1, 1))
    pose[:, :3, :3] = Rotation.random(n, rng=rng).as_matrix()
    pose[:, :3, 3] = rng.normal([0, 0, 5], 1, size=(n, 3))
    return pose


def heads(rotation, pose=None, stats=SPADES_STATS):
    """Raw outputs whose pose is `pose` [N, 4, 4]."""
    turn = pose[:, :3, :3]
    raw = (
        turn[:, :, :2].transpose(0, 2, 1).reshape(-1, 6)
        if rotation == "6d"
        else Rotation.from_matrix(turn).as_quat()
    )
    return {
        "translation": normalize_translation(pose[:, :3, 3], stats),
        "rotation": 0.7 * raw,  # heads do not know about unit length
        "log_variance": jnp.array([0.3, -0.8]),
        "log_sigma": jnp.linspace(-1, 1, 4 * len(pose)).reshape(-1, 4),
    }


@pytest.mark.golden
def test_heads_and_smooth_l1_equal_the_reference_numbers(golden):
    z = golden("losses.npz")
    np.testing.assert_allclose(
        smooth_l1(z["smooth_l1/pred"] - z["smooth_l1/target"]),
        z["smooth_l1/elementwise"],
        atol=1e-6,
    )
    with jax.enable_x64(True):
        for rotation, raw in (("6d", z["sixd"]), ("quaternion", z["sixd_quat_xyzw"])):
            outputs = {"rotation": raw, "translation": np.zeros((len(raw), 3))}
            pose = predicted_pose(outputs, ObjectiveConfig(rotation), TranslationStats())
            np.testing.assert_allclose(pose[:, :3, :3], z["sixd_matrix"], atol=1e-12)
        # A pair of known angle: the whole rotation loss.
        target = np.tile(np.eye(4), (200, 1, 1))
        target[:, :3, :3] = z["pair_b"]
        outputs = {"rotation": z["pair_quat_a_xyzw"], "translation": np.zeros((200, 3))}
        found = example_losses(outputs, target, ObjectiveConfig("quaternion"), TranslationStats())
        # A float64 matrix holds an angle to 1e-8 near 180 degrees.
        np.testing.assert_allclose(found["rotation"], z["pair_angle_rad"], atol=3e-8)


@pytest.mark.golden
def test_the_gradient_of_the_6d_head_equals_the_reference(golden):
    z = golden("losses.npz")

    def value(sixd):
        outputs = {"rotation": sixd, "translation": jnp.zeros((200, 3))}
        pose = predicted_pose(outputs, ObjectiveConfig("6d"), TranslationStats())
        return jnp.sum(pose[:, :3, :3] * z["sixd_grad_weight"])

    gradient = jax.grad(value)(jnp.asarray(z["sixd"], jnp.float32))
    scale = np.abs(z["sixd_grad"]).max()
    np.testing.assert_allclose(gradient, z["sixd_grad"], atol=1e-5 * scale)


@pytest.mark.parametrize("rotation", ["6d", "quaternion"])
def test_perfect_heads_have_no_error(rng, rotation):
    pose = random_poses(rng, 20)
    config = ObjectiveConfig(rotation)
    np.testing.assert_allclose(
        predicted_pose(heads(rotation, pose), config, SPADES_STATS), pose, atol=3e-6
    )
    loss, parts = pose_loss(heads(rotation, pose), pose, config, SPADES_STATS)
    assert loss < 1e-5 and parts["position_m"] < 1e-5 and parts["rotation_deg"] < 1e-4


def test_the_plain_loss_is_smooth_l1_plus_weighted_angle(rng):
    pose = random_poses(rng, 6)
    outputs = heads("6d", pose)
    shift = np.array([0.2, -0.5, 3.0])  # in standard deviations
    outputs["translation"] = outputs["translation"] + shift[None]
    turned = pose.copy()
    turned[:, :3, :3] = pose[:, :3, :3] @ Rotation.from_rotvec([0, 0.4, 0]).as_matrix()
    config = ObjectiveConfig(translation_beta=0.5)
    loss, parts = pose_loss(outputs, turned, config, SPADES_STATS)
    smooth = np.mean([0.2**2 / (2 * 0.5), 0.5 - 0.25, 3.0 - 0.25])
    assert parts["translation"] == pytest.approx(smooth, rel=1e-4)
    assert parts["rotation"] == pytest.approx(0.4, rel=1e-5)
    assert loss == pytest.approx(smooth + 3 * 0.4, rel=1e-4)
    assert parts["rotation_deg"] == pytest.approx(np.rad2deg(0.4), rel=1e-5)
    metres = np.linalg.norm(shift * SPADES_STATS.std)
    assert parts["position_m"] == pytest.approx(metres, rel=1e-4)


def test_kendall_starts_as_the_fixed_weights_and_settles_at_the_log_of_the_loss(rng):
    pose, truth = random_poses(rng, 8), random_poses(rng, 8)
    config = ObjectiveConfig(uncertainty="kendall", rot_weight=2.0)
    outputs = heads("6d", pose)
    start = initial_log_variance(config)
    outputs["log_variance"] = jnp.array(start)
    loss, parts = pose_loss(outputs, truth, config, SPADES_STATS)
    fixed, _ = pose_loss(
        outputs, truth, dataclasses.replace(config, uncertainty="none"), SPADES_STATS
    )
    assert loss == pytest.approx(float(fixed) - math.log(2), rel=1e-3)
    # d/ds (exp(-s) L + s) = 0 at s = log L.
    best = jnp.log(jnp.array([parts["translation"], parts["rotation"]]))

    def of(s):
        return pose_loss({**outputs, "log_variance": s}, truth, config, SPADES_STATS)[0]

    inverse = 12 * jnp.arctanh(best / 12)  # log-variances pass through 12 tanh(s / 12)
    np.testing.assert_allclose(jax.grad(of)(inverse), 0, atol=1e-5)


def test_gaussian_is_the_likelihood_of_a_normal_law(rng):
    pose = random_poses(rng, 5)
    error, vector = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)) * 0.3
    outputs = heads("quaternion", pose)
    outputs["translation"] = outputs["translation"] + error
    truth = pose.copy()
    truth[:, :3, :3] = pose[:, :3, :3] @ Rotation.from_rotvec(vector).as_matrix()
    log_sigma = rng.normal(size=(5, 4)) * 0.5
    outputs["log_sigma"] = jnp.asarray(12 * np.arctanh(log_sigma / 12))
    config = ObjectiveConfig("quaternion", uncertainty="gaussian")
    found = example_losses(outputs, truth, config, SPADES_STATS)["loss"]
    want = [
        -multivariate_normal(np.zeros(6), np.exp(2 * s[[0, 1, 2, 3, 3, 3]])).logpdf([*e, *v])
        - 3 * math.log(2 * math.pi)
        for e, v, s in zip(error, vector, log_sigma, strict=True)
    ]
    np.testing.assert_allclose(found, want, rtol=2e-4)
    sigma_t, sigma_r = predicted_sigma(outputs, SPADES_STATS)
    np.testing.assert_allclose(sigma_t, np.exp(log_sigma[:, :3]) * SPADES_STATS.std, rtol=1e-5)
    np.testing.assert_allclose(sigma_r, np.exp(log_sigma[:, 3]), rtol=1e-5)


def all_losses(outputs, truth, rotation):
    """Losses under all three treatments of uncertainty, [3]."""
    configs = [ObjectiveConfig(rotation, uncertainty=u) for u in UNCERTAINTIES]
    return jnp.stack([pose_loss(outputs, truth, c, SPADES_STATS)[0] for c in configs])


@pytest.mark.parametrize(
    "rotation, dtype",
    [
        ("6d", jnp.bfloat16),
        ("quaternion", jnp.float32),
        pytest.param("6d", jnp.float32, marks=pytest.mark.slow),
        pytest.param("quaternion", jnp.bfloat16, marks=pytest.mark.slow),
    ],
)
def test_gradients_are_finite_at_every_singular_point(rotation, dtype):
    angles = [0.0, 1e-8, 1e-4, np.pi - 1e-8, np.pi]
    pose = np.tile(np.eye(4), (len(angles) + 2, 1, 1))
    pose[: len(angles), :3, :3] = [Rotation.from_rotvec([0, a, 0]).as_matrix() for a in angles]
    truth = np.tile(np.eye(4), (len(pose), 1, 1))
    outputs = heads(rotation, pose)
    # A head that says nothing, and one whose two columns are parallel (or its tiniest quaternion).
    outputs["rotation"][-2] = 0
    outputs["rotation"][-1] = [1, 2, 3, 2, 4, 6] if rotation == "6d" else [1e-30] * 4
    outputs["log_sigma"] = outputs["log_sigma"].at[0].set(jnp.array([-1e4, 1e4, -60, 60]))
    outputs = jax.tree.map(lambda x: jnp.asarray(x, dtype), outputs)

    def twice(outputs):
        losses = all_losses(outputs, truth, rotation)
        return losses, losses

    jacobians, losses = jax.jit(jax.jacrev(twice, has_aux=True))(outputs)
    assert losses.dtype == jnp.float32 and jnp.isfinite(losses).all()
    for name, jacobian in jacobians.items():
        assert jacobian.dtype == dtype
        assert np.isfinite(np.asarray(jacobian, np.float32)).all(), name


@pytest.mark.parametrize("rotation", ["6d", "quaternion"])
def test_gradients_match_finite_differences(rng, rotation):
    with jax.enable_x64(True):
        truth = jnp.asarray(random_poses(rng, 3))
        outputs = heads(rotation, random_poses(rng, 3))
        outputs = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), outputs)
        flat, unravel = ravel_pytree(outputs)
        losses = jax.jit(lambda x: all_losses(unravel(x), truth, rotation))
        direction = jnp.asarray(rng.normal(size=flat.shape))
        found = jax.jit(jax.jacrev(losses))(flat) @ direction
        slope = (losses(flat + 1e-6 * direction) - losses(flat - 1e-6 * direction)) / 2e-6
        np.testing.assert_allclose(found, slope, rtol=1e-6)


def test_normalisation_is_inverted_and_measured(rng):
    t = rng.normal(size=(5000, 3)) * [0.93, 0.5, 1.4] + [-0.24, 0.03, 5.68]
    np.testing.assert_allclose(
        denormalize_translation(normalize_translation(t, SPADES_STATS), SPADES_STATS), t, atol=2e-6
    )
    found = translation_stats(t)
    np.testing.assert_allclose(found.mean, t.mean(0))
    np.testing.assert_allclose(found.std, t.std(0))
    assert translation_stats(np.ones((4, 3))).std == (0.01,) * 3


def test_wrong_settings_and_shapes_are_refused(rng):
    pose = random_poses(rng, 2)
    with pytest.raises(ValueError, match="finite"):
        translation_stats(np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match="must be positive"):
        ObjectiveConfig(rot_weight=0)
    with pytest.raises(ValueError, match=r"\[N > 0, 3\]"):
        translation_stats(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="'quaternion' head has 4"):
        predicted_pose(heads("6d", pose), ObjectiveConfig("quaternion"), SPADES_STATS)
    outputs = {**heads("6d", pose), "log_variance": jnp.zeros((2, 2)), "log_sigma": jnp.zeros(4)}
    for uncertainty, word in (("kendall", "one for each task"), ("gaussian", "log_sigma is")):
        with pytest.raises(ValueError, match=word):
            pose_loss(outputs, pose, ObjectiveConfig(uncertainty=uncertainty), SPADES_STATS)
