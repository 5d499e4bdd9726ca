"""The screw fit: exact data, SciPy's optimum, noise, gross errors, several turns, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from posejax.trajectory import fit_constant_twist, screw_residual, twist_poses
from tests.trajectory.dense_map import exp6


@pytest.fixture(scope="module")
def fit(compiled):
    return compiled(fit_constant_twist)


@pytest.fixture(scope="module")
def fit_batch(compiled):
    return compiled(jax.vmap(fit_constant_twist))


@pytest.mark.real
def test_a_real_sequence_is_reproduced_to_rounding(rt002, fit):
    t, poses = rt002
    with jax.enable_x64(True):
        found = fit(t, poses)
        assert np.abs(found.poses - poses).max() < 1e-14
        assert np.all(found.weights > 0.9)
        ahead = twist_poses(found, np.array([[-1.0, 0.0], [24.05, 47.9]]))
        np.testing.assert_allclose(ahead[0, 1], poses[0], atol=1e-14)
        # 0.18349 degrees and 1.0562 cm in 0.1 s.
        step = np.linalg.norm(poses[1:, :3, 3] - poses[:-1, :3, 3], axis=1)
        assert np.rad2deg(np.linalg.norm(found.twist[3:])) / 10 == pytest.approx(0.18349, abs=1e-5)
        assert step.mean() == pytest.approx(0.010562, abs=1e-6)
    single = fit(t.astype(np.float32), poses.astype(np.float32))
    assert single.poses.dtype == jnp.float32
    assert np.abs(single.poses - poses).max() < 1e-5


@pytest.mark.real
@pytest.mark.parametrize(
    "degrees, metres, share, most",
    [
        (5, 0.2, 0, (0.0040, 0.45)),
        (20, 0.5, 0, (0.0075, 1.8)),
        (5, 0.2, 0.3, (0.0045, 0.60)),
        (20, 0.5, 0.3, (0.0110, 2.2)),
    ],
)
def test_noise_is_averaged_out(rt002, fit_batch, spoil, errors, degrees, metres, share, most):
    t, poses = rt002
    rng = np.random.default_rng(0)
    draws = [spoil(poses, rng, degrees, metres, share) for _ in range(6)]
    found = fit_batch(np.tile(t, (6, 1)), np.stack([noisy for noisy, _ in draws]))
    mean = np.mean([errors(poses, p) for p in found.poses], axis=0)
    raw = np.mean([errors(poses, noisy) for noisy, _ in draws], axis=0)
    assert np.all(mean < most) and np.all(mean < raw / 8)
    if share:
        gross = np.stack([g for _, g in draws])
        weights = np.asarray(found.weights)
        assert weights[gross].mean() < 0.15 and weights[~gross].mean() > 0.8


@pytest.mark.slow
def test_turns_gaps_padding_and_disorder_do_not_matter(screw, fit_batch, spoil, rng):
    t, poses = screw
    noisy, _ = spoil(poses, rng, 10, 0.3, 0.3)
    short, order = np.arange(480) < 300, rng.permutation(480)
    holes = rng.random(480) < 0.7
    lost = np.where(short[:, None, None], noisy, np.nan)
    tracks = [(t, poses), (t, noisy), (t[order], noisy[order]), (t, noisy), (t, lost), (t, noisy)]
    valid = np.ones((6, 480), bool)
    valid[3], valid[5] = holes, short
    found = fit_batch(*(np.stack(x) for x in zip(*tracks, strict=True)), valid)
    want = twist_truth(t, poses)
    for k in range(6):
        assert np.isfinite(np.asarray(found.poses[k])).all()
        # Half the duration leaves the twist an eighth as well known.
        tolerance = 1e-5 if k == 0 else 0.02
        np.testing.assert_allclose(found.twist[k], want, atol=tolerance)
    np.testing.assert_allclose(found.twist[2], found.twist[1], atol=1e-5)
    np.testing.assert_allclose(found.weights[2], found.weights[1][order], atol=2e-3)
    assert np.all(np.asarray(found.weights[3])[~holes] == 0)
    np.testing.assert_allclose(found.twist[4], found.twist[5], atol=1e-5)
    assert np.all(np.asarray(found.residuals[4])[~short] == 0)


def twist_truth(t, poses):
    """Twist in body axes between two poses close in time."""
    k = int(np.argmin(np.diff(t)[:200] + (np.diff(t)[:200] < 0.05) * 9))
    motion = np.linalg.inv(poses[k]) @ poses[k + 1]
    turn = Rotation.from_matrix(motion[:3, :3]).as_rotvec()
    x, y, z = turn
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    # V = the integral of exp(s w) over s in [0, 1].
    big = np.zeros((6, 6))
    big[:3, :3], big[:3, 3:] = cross, np.eye(3)
    v = np.linalg.solve(expm(big)[:3, 3:], motion[:3, 3])
    return np.concatenate([v, turn]) / (t[k + 1] - t[k])


def test_least_squares_is_scipys_optimum(tumbling, spoil, rng, compiled):
    """On a track that is no screw the residuals are large, and the optimum is no easy one."""
    t, poses = tumbling
    noisy, _ = spoil(poses[::8], rng, 10, 0.2)
    t = t[::8]
    with jax.enable_x64(True):
        found = compiled(lambda t, p: fit_constant_twist(t, p, robust="none", iterations=40))(
            t, noisy
        )
        scale, pose0, twist = (np.asarray(x) for x in (found.scale, found.pose0, found.twist))

        def cost(x):
            model = (
                pose0 @ exp6(x[None, :6]) @ exp6((t - float(found.t0))[:, None] * (twist + x[6:]))
            )
            turn = Rotation.from_matrix(noisy[:, :3, :3] @ model[:, :3, :3].swapaxes(1, 2))
            away = noisy[:, :3, 3] - model[:, :3, 3]
            return np.concatenate([away / scale[0], turn.as_rotvec() / scale[1]]).ravel()

        best = least_squares(cost, np.zeros(12), xtol=1e-12, ftol=1e-12, gtol=1e-12, x_scale="jac")
        assert best.cost <= np.sum(cost(np.zeros(12)) ** 2) / 2
        np.testing.assert_allclose(best.x, 0, atol=1e-5)


@pytest.mark.slow
def test_gradients_are_those_of_finite_differences(screw, spoil, rng, compiled):
    t, poses = screw
    t, poses = t[::8], poses[::8]
    noisy, gross = spoil(poses, rng, 3, 0.1, 0.2)
    assert gross.any()
    with jax.enable_x64(True):
        direction = jnp.asarray(rng.normal(size=(60, 3)))

        def place(step, valid):
            moved = jnp.asarray(noisy).at[:, :3, 3].add(step * direction)
            return jnp.sum(fit_constant_twist(t, moved, valid, iterations=20).pose0[:3, 3])

        slope = compiled(jax.value_and_grad(place))
        everywhere = np.ones(60, bool)
        value = [slope(h, everywhere)[0] for h in (1e-5, -1e-5)]
        assert slope(0.0, everywhere)[1] == pytest.approx(
            float(value[0] - value[1]) / 2e-5, rel=1e-2
        )
        # No measurement, one, two and three: values and gradients stay finite.
        for count in range(4):
            value, gradient = slope(0.0, np.arange(60) < count)
            assert np.isfinite(value) and np.isfinite(gradient)


@pytest.mark.slow
def test_the_residual_tells_screws_from_other_motions(screw, tumbling, spoil, rng, compiled):
    tell = compiled(jax.vmap(screw_residual))
    tracks = [screw, (screw[0], spoil(screw[1], rng, 5, 0.2, 0.2)[0]), tumbling]
    found = tell(*(np.stack(x) for x in zip(*tracks, strict=True)))
    assert np.all(found.residual[0] < 1e-4)
    assert np.all(found.unexplained[0] < 1e-4)
    assert np.all(found.unexplained[1] < 0.05)
    assert np.all(found.unexplained[2] > 0.1)
    np.testing.assert_allclose(
        found.residual[1], np.array([0.2, np.deg2rad(5)]) / np.sqrt(3), rtol=0.3
    )
    assert np.all(found.extent > 0.1)


def test_wrong_sigma_is_refused(screw):
    t, poses = screw
    with pytest.raises(ValueError, match=r"sigma is \[2\] or \[480, 2\]"):
        fit_constant_twist(t, poses, None, np.ones(3))
