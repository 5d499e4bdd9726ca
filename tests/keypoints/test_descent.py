"""Small linear systems of the descent, against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.geometry import se3_exp
from posejax.keypoints.descent import _moved, solve_spd


@pytest.fixture
def matrices(rng):
    """200 positive definite 6x6 matrices whose axes differ in scale by up to 1e4."""
    root = rng.normal(size=(200, 6, 9)) * 10.0 ** rng.uniform(-2, 2, (200, 6, 1))
    return root @ root.swapaxes(1, 2)


@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("columns", [(), (4,)])
def test_solves_as_float64_does(rng, matrices, columns, damping):
    right = rng.normal(size=(200, 6, *columns))
    damped = matrices * (1 + damping * np.eye(6))
    want = np.linalg.solve(damped, right.reshape(200, 6, -1)).reshape(right.shape)
    found = jax.jit(jax.vmap(lambda a, b: solve_spd(a, b, damping)))
    scale = np.abs(want).max(axis=1, keepdims=True)
    with jax.enable_x64(True):
        # Off by the 4 eps that keep pivots positive, times a condition number of up to 1e5.
        assert np.abs((found(matrices, right) - want) / scale).max() < 1e-9
    single = found(matrices.astype(np.float32), right.astype(np.float32))
    assert np.median(np.abs((single - want) / scale)) < 1e-5


def test_what_nothing_determines_stays_finite_and_is_large(rng):
    root = rng.normal(size=(6, 4)).astype(np.float32)
    for matrix in (root @ root.T, np.zeros((6, 6), np.float32), np.diag([1, 1, 0, 1, 0, 1.0])):
        inverse = np.asarray(solve_spd(jnp.asarray(matrix, jnp.float32), jnp.eye(6)))
        assert np.isfinite(inverse).all()
    inverse = np.asarray(solve_spd(jnp.asarray(root @ root.T), jnp.eye(6)))
    assert np.linalg.eigvalsh((inverse + inverse.T) / 2)[-1] > 1e4
    gradient = jax.grad(lambda a: solve_spd(a, jnp.ones(6)).sum())(jnp.zeros((6, 6)))
    assert np.isfinite(gradient).all()


def test_a_pose_moves_in_its_own_axes(rng):
    pose, step = se3_exp(rng.normal(size=6)), rng.normal(size=6)
    np.testing.assert_allclose(_moved(pose, step), pose @ se3_exp(step), atol=1e-5)
