"""The RTS smoother: the dense Gaussian posterior, noise, gaps, queries, gradients, real motion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posejax.trajectory import rts_smooth


@pytest.fixture(scope="module")
def smooth(compiled):
    """A batch of tracks with queries, in float32."""

    def one(t, poses, valid, query):
        return rts_smooth(t, poses, valid, t_query=query, drift=(0.1, 0.1))

    return compiled(jax.vmap(one))


@pytest.fixture(scope="module")
def hand_held(data_dir):
    """(t [480] s, poses): 2.4 seconds at 200 Hz, stretched by 20 to the rates of a spacecraft."""
    rows = np.loadtxt(data_dir("trajectory_poster_6dof") / "poster_6dof.csv", delimiter=",")
    rows = rows[3000:3480]
    poses = np.tile(np.eye(4), (480, 1, 1))
    poses[:, :3, :3] = Rotation.from_quat(rows[:, 4:]).as_matrix()
    poses[:, :3, 3] = rows[:, 1:4] + [0, 0, 5]
    return (rows[:, 0] - rows[0, 0]) * 1e-9 * 20, poses


@pytest.mark.real
def test_batches_of_noisy_tracks_are_smoothed(rt002, tumbling, hand_held, smooth, spoil, errors):
    rng = np.random.default_rng(1)
    t, truth = rt002
    swaying = tumbling[1]
    tracks = [truth, *(spoil(p, rng, 10, 0.3, s)[0] for p in (truth, swaying) for s in (0, 0.3))]
    valid, order = np.ones((7, 480), bool), rng.permutation(480)
    lost, short = (t > 20) & (t < 22), t < 30
    valid[5] = short & ~lost
    tracks.append(np.where(valid[5][:, None, None], tracks[3], np.nan))
    tracks.append(spoil(hand_held[1], np.random.default_rng(3), 10, 0.1, 0.2)[0])
    times = np.stack([t] * 6 + [hand_held[0]])
    query = times.copy()
    # Padding may carry any time; order does not matter.
    times[5, 300:] = [0.0] * 90 + [1e6] * 89 + [np.nan]
    times[4], tracks[4] = t[order], tracks[4][order]
    found = smooth(times, np.stack(tracks), valid, query)
    # The smoother never trusts a measurement to better than a tenth of a millimetre.
    assert np.abs(found.poses[0] - truth).max() < 1e-3
    for k, want in ((1, truth), (2, truth), (3, swaying), (4, swaying)):
        e_t, angle = errors(want, found.poses[k])
        assert e_t < 0.02 and angle < 3.5, k
    assert np.isfinite(np.asarray(found.poses[5])).all()
    e_t, angle = errors(swaying[valid[5]], found.poses[5][valid[5]])
    assert e_t < 0.02 and angle < 3.5
    assert errors(swaying[lost], found.poses[5][lost])[0] < 0.08
    assert np.all(np.asarray(found.weights[5])[~valid[5]] == 0)
    assert np.all(np.asarray(found.residuals[5])[~valid[5]] == 0)
    # Errors agree with the claimed covariance: the mean of chi-square with 3 degrees is 3.
    away = np.asarray(found.poses[3])[:, :3, 3] - swaying[:, :3, 3]
    spread = np.asarray(found.covariance[3])[:, :3, :3]
    nees = np.einsum("ni,nij,nj->n", away, np.linalg.inv(spread), away).mean()
    assert 1 < nees < 9
    # In the gap and past the end it knows less.
    sigma = np.sqrt(np.asarray(found.covariance[5])[:, 0, 0])
    assert sigma[210] > 1.4 * sigma[150] and sigma[350] > 2 * sigma[150]
    # Real motion of a hand.
    raw, got = errors(hand_held[1], tracks[6]), errors(hand_held[1], found.poses[6])
    assert got[1] < 2.5 and got[1] < raw[1] / 8 and got[0] < raw[0] / 4


def dense_posterior(t, z, known, noise, drift, prior):
    """Mean and variance of positions under white-noise acceleration, one axis, by one solve."""
    n = len(t)
    information, right = np.zeros((2 * n, 2 * n)), np.zeros(2 * n)
    information[:2, :2] += np.diag(1 / np.array([prior[1], prior[2]]))
    right[0] += prior[0] / prior[1]
    for k in range(n):
        if known[k]:
            information[2 * k, 2 * k] += 1 / noise[k]
            right[2 * k] += z[k] / noise[k]
        if k:
            h = t[k] - t[k - 1]
            q = drift**2 * np.array([[h**3 / 3, h**2 / 2], [h**2 / 2, h]])
            j = np.concatenate([-np.array([[1, h], [0, 1]]), np.eye(2)], axis=1)
            part = slice(2 * k - 2, 2 * k + 2)
            information[part, part] += j.T @ np.linalg.inv(q) @ j
    covariance = np.linalg.inv(information)
    return (covariance @ right)[::2], (covariance @ right)[1::2], np.diag(covariance)[::2]


@pytest.mark.slow
def test_translation_alone_is_the_gaussian_posterior(rng, compiled):
    m, drift, speed = 40, 0.3, 0.7
    t = np.sort(rng.uniform(0, 9, m))
    query = np.array([-0.5, 2.03, 5.5, 9.5])
    turn = Rotation.from_rotvec([0.4, -0.2, 0.9]).as_matrix()
    poses = np.tile(np.eye(4), (m, 1, 1))
    poses[:, :3, :3] = turn
    poses[:, :3, 3] = np.stack([np.sin(t), 0.3 * t, 5 + np.cos(t)], 1)
    noise = rng.uniform(0.01, 0.05, size=(m, 6))
    poses[:, :3, 3] += rng.normal(size=(m, 3)) * np.sqrt(noise[:, :3])
    # A known attitude; otherwise the direction of motion tells about it, and is no linear problem.
    noise[:, 3:] = 1e-10
    covariance = noise[:, :, None] * np.eye(6)
    valid = rng.random(m) < 0.8

    def fit(step):
        moved = jnp.asarray(poses).at[:, 0, 3].add(step * jnp.sin(t))
        settings = {"t_query": query, "drift": (drift, 1e-4), "speed": (speed, 1e-4)}
        found = rts_smooth(t, moved, valid, None, covariance, robust="none", **settings)
        return jnp.sum(found.poses[:, 0, 3]), found

    with jax.enable_x64(True):
        run = compiled(jax.value_and_grad(fit, has_aux=True))
        (_, found), slope = run(0.0)
        steps = [float(run(h)[0][0]) for h in (1e-4, -1e-4)]
    assert slope == pytest.approx((steps[0] - steps[1]) / 2e-4, rel=1e-6)
    merged = np.concatenate([t, query])
    order = np.argsort(merged)
    known = np.concatenate([valid, np.zeros(4, bool)])[order]
    place = np.argsort(order)[m:]
    prior = 0, np.inf, speed**2  # nothing is presumed of the first pose
    for axis in range(3):
        z = np.concatenate([poses[:, axis, 3], np.zeros(4)])[order]
        spread = np.concatenate([noise[:, axis], np.ones(4)])[order]
        mean, velocity, variance = dense_posterior(merged[order], z, known, spread, drift, prior)
        np.testing.assert_allclose(found.poses[:, axis, 3], mean[place], atol=1e-6)
        np.testing.assert_allclose(found.covariance[:, axis, axis], variance[place], rtol=1e-5)
        # Velocities are in body axes, with one drift and speed for all of them.
        rates = np.einsum("ij,nj->ni", turn, found.twists[:, :3])[:, axis]
        np.testing.assert_allclose(rates, velocity[place], atol=1e-4)
    np.testing.assert_allclose(found.poses[:, :3, :3], np.tile(turn, (4, 1, 1)), atol=1e-5)
