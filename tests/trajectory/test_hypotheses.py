"""The chosen chain against all chains, and on tumbling bodies often seen back to front."""

import itertools

import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posejax.trajectory import choose_hypotheses
from tests.trajectory.dense_map import exp6

HALF_TURN = np.diag([-1.0, 1, -1, 1])


def tumbling(rng, count=60, step=0.1, noise=0.05, turn=0.3):
    """(t, poses [T, 2, 4, 4] right and half turned, right index [T]) in shuffled order."""
    t = step * np.arange(count)
    twist = np.array([0.02, -0.05, 0.1, *(turn * rng.normal(size=3))])
    start = exp6(rng.normal(size=6))
    truth = start @ exp6(t[:, None] * twist)
    right, wrong = (
        x @ exp6(noise * rng.normal(size=(count, 6))) for x in (truth, truth @ HALF_TURN)
    )
    index = rng.integers(0, 2, count)
    order = np.where(index[:, None] == 0, [0, 1], [1, 0])
    poses = np.take_along_axis(np.stack([right, wrong], 1), order[:, :, None, None], 1)
    return t, poses, index


def log_weights(rng, index, right):
    """The right one has the larger weight with probability `right`."""
    odd = rng.random(len(index)) < right
    high = np.where(odd, index, 1 - index)
    return np.log(np.where(np.arange(2) == high[:, None], 0.7, 0.3))


def test_it_is_the_cheapest_of_all_chains(rng):
    count, modes = 5, 2
    t = np.array([0.0, 0.2, 0.3, 0.7, 0.8])
    poses = exp6(0.25 * rng.normal(size=(count, modes, 6)))
    log_weight = np.log(rng.dirichlet(np.ones(modes), count))
    sigma, speed, price = np.array([0.1, 0.12]), np.array([0.4, 0.3]), 4.0
    drift = np.array([0.5, 0.6])

    def cost(chain):
        total, last = 0.0, None
        for k, m in enumerate(chain):
            if m < 0:
                total += price
                continue
            total -= log_weight[k, m]
            if last is not None:
                a, b, span = poses[last], poses[k, m], t[k] - t[last[0]]
                turn = Rotation.from_matrix(a[:3, :3].T @ b[:3, :3]).magnitude()
                away = np.linalg.norm(a[:3, 3] - b[:3, 3])
                var = 2 * sigma**2 + speed**2 * span**2 + drift**2 * span**3 / 3
                total += 0.5 * np.sum(np.array([away, turn]) ** 2 / var)
            last = k, m
        return total

    chains = list(itertools.product(range(-1, modes), repeat=count))
    want = min(chains, key=cost)
    found = choose_hypotheses(
        poses, log_weight, t, position_sigma=0.1, rotation_sigma=0.12, drift=0.5, turn_drift=0.6,
        speed=(0.4, 0.3), outlier=price, passes=1,
    )  # fmt: skip
    np.testing.assert_array_equal(found, want)
    assert -1 in want and len(set(want)) > 1


@pytest.fixture(scope="module")
def choose():
    return jax.jit(choose_hypotheses)


def test_the_body_is_kept_the_right_way_round(rng, choose):
    shares = []
    for _ in range(20):
        t, poses, index = tumbling(rng)
        found = np.asarray(choose(poses, log_weights(rng, index, 0.65), t))
        shares.append(np.mean(found == index))
    # The larger weight alone is right 65 % of the time.
    assert np.mean(np.array(shares) > 0.95) >= 0.95


def test_stretches_without_the_right_pose_are_left_out(rng, choose):
    t, poses, index = tumbling(rng)
    weights = log_weights(rng, index, 0.8)
    gone = slice(25, 37)
    for k in range(25, 37):  # neither pose is right
        poses[k] = exp6(2 * rng.normal(size=(2, 6)))
    found = np.asarray(choose(poses, weights, t))
    np.testing.assert_array_equal(found[gone], -1)
    np.testing.assert_array_equal(np.delete(found, gone), np.delete(index, gone))


def test_a_body_may_turn_round_in_a_gap(rng, choose):
    # 1.2 rad/s: 2.6 s are more than half a turn, at whose end rest would ask for the wrong pose.
    t = 0.1 * np.arange(60)
    twist = np.array([0, 0, 0, 0, 1.2, 0.0])
    truth = exp6(t[:, None] * twist)
    poses = np.stack([truth, truth @ HALF_TURN], 1) @ exp6(0.01 * rng.normal(size=(60, 2, 6)))
    valid = np.ones(60, bool)
    valid[20:46] = False
    weights = np.log(np.full((60, 2), 0.5))
    weights[0] = np.log([0.9, 0.1])
    found = np.asarray(choose(poses, weights, t, valid))
    assert np.all(found[valid] == 0) and np.all(found[~valid] == -1)


def test_what_is_broken_is_never_chosen(rng, choose):
    t, poses, index = tumbling(rng)
    weights = log_weights(rng, index, 0.9)
    poses[3, index[3]] = np.nan
    weights[7, index[7]] = -np.inf
    found = np.asarray(choose(poses, weights, t))
    assert found[3] != index[3] and found[7] != index[7]
    keep = np.delete(np.arange(60), [3, 7])
    np.testing.assert_array_equal(found[keep], index[keep])
    np.testing.assert_array_equal(choose(poses * np.nan, weights, t), np.full(60, -1))


def test_unix_times_and_vmap(rng, choose):
    given = [tumbling(rng) for _ in range(2)]
    weights = np.stack([log_weights(rng, g[2], 0.7) for g in given])
    t, poses = given[0][0], np.stack([g[1] for g in given])
    apart = [
        choose_hypotheses(p, w, t + 1_700_000_000.0) for p, w in zip(poses, weights, strict=True)
    ]
    together = jax.vmap(choose, (0, 0, None))(poses, weights, t)
    np.testing.assert_array_equal(together, apart)
    with pytest.raises(ValueError, match="too coarse"):
        choose_hypotheses(poses[0], weights[0], (t + 1.7e9).astype(np.float32))
    with pytest.raises(ValueError, match="vmap"):
        choose_hypotheses(poses, weights, t)
