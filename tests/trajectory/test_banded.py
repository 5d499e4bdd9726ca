"""The chain solver against a dense one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.trajectory.banded import solve_windows


@pytest.mark.parametrize("count", [4, 7, 9, 11])
def test_windows_are_solved_as_one_dense_system(rng, count):
    size = 2
    half = rng.normal(size=(count, 3, 4 * size))
    half[-3:] = 0  # windows that would reach past the end
    ends = rng.normal(size=(count - 3, 4 * size))
    vectors = np.zeros((count, 4 * size))
    vectors[:-3] = ends
    matrices = np.einsum("kia,kib->kab", half, half)
    matrices[:-3] += 0.5 * np.eye(4 * size)
    dense, right = np.zeros((count * size,) * 2), np.zeros(count * size)
    for k in range(count - 3):
        part = slice(k * size, (k + 4) * size)
        dense[part, part] += matrices[k]
        right[part] += vectors[k]
    with jax.enable_x64(True):
        found = jax.jit(lambda m, v: solve_windows(m, v, size=size, damping=0))(matrices, vectors)
        np.testing.assert_allclose(found.reshape(-1), np.linalg.solve(dense, right), rtol=1e-9)


def test_what_no_window_sees_stays_zero():
    found = solve_windows(jnp.zeros((5, 8, 8)), jnp.zeros((5, 8)), size=2)
    assert found.shape == (5, 2) and jnp.all(found == 0)
