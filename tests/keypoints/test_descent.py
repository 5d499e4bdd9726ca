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
    error = np.abs((single - want) / scale).reshape(200, -1).max(axis=1)
    assert np.quantile(error, 0.99) < 1e-2 and np.median(error) < 1e-4


def test_the_gradient_is_that_of_the_inverse(matrices, rng):
    """d sum(W * A^-1) = -sum((A^-1 W A^-1) * dA) for a symmetric change dA."""
    weight = rng.normal(size=(6, 6))
    weight, change = weight + weight.T, rng.normal(size=(6, 6))
    inverse = np.linalg.inv(matrices)
    want = -np.einsum("nij,ij->n", inverse @ weight @ inverse, change + change.T)
    with jax.enable_x64(True):
        slope = jax.jit(
            jax.vmap(lambda a: jax.jvp(
                lambda a: jnp.sum(weight * solve_spd(a, jnp.eye(6))), (a,), (change + change.T,)
            )[1])
        )(matrices)  # fmt: skip
        np.testing.assert_allclose(slope, want, rtol=1e-7, atol=1e-9 * np.abs(want).max())


def test_what_nothing_determines_stays_finite_and_is_large(rng):
    root = rng.normal(size=(6, 4)).astype(np.float32)
    for matrix in (np.zeros((6, 6)), np.diag([1, 1, 0, 1, 0, 1.0])):
        inverse = np.asarray(solve_spd(jnp.asarray(matrix, jnp.float32), jnp.eye(6)))
        assert np.isfinite(inverse).all()
        assert (np.diagonal(inverse)[np.diagonal(matrix) == 0] > 1e4).all()
    inverse = np.asarray(solve_spd(jnp.asarray(root @ root.T), jnp.eye(6)))
    assert np.linalg.eigvalsh((inverse + inverse.T) / 2)[-1] > 1e4
    gradient = jax.grad(lambda a: solve_spd(a, jnp.ones(6)).sum())(jnp.zeros((6, 6)))
    assert np.isfinite(gradient).all()


def test_a_pose_moves_in_its_own_axes(rng):
    pose, step = se3_exp(rng.normal(size=6)), rng.normal(size=6)
    np.testing.assert_allclose(_moved(pose, step), pose @ se3_exp(step), atol=1e-5)
