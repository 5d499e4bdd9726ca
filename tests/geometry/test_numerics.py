"""Norms and exponential factors at the points where naive formulas fail."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.geometry import as_float, matmul, normalize, safe_norm, skew
from posejax.geometry.numerics import cross, stumpff


def exact_stumpff(square: float, n: int) -> float:
    """Power series summed without rounding (math.fsum of fractions would be the same)."""
    return math.fsum((-square) ** k / math.factorial(2 * k + n) for k in range(40))


@pytest.mark.parametrize("n", range(5))
def test_stumpff_matches_its_series_in_float64(n):
    # Up to a = pi; the reference series itself is good to 1e-14 there.
    squares = np.concatenate([[0, 1e-30, 1e-16, 1e-6, 0.999999, 1, 1.000001], np.linspace(0, 10)])
    with jax.enable_x64(True):
        got = stumpff(jnp.asarray(squares), n)
    np.testing.assert_allclose(got, [exact_stumpff(s, n) for s in squares], rtol=2e-14, atol=1e-15)


@pytest.mark.parametrize("n", range(5))
def test_stumpff_derivatives_are_those_of_the_series(n):
    squares = np.array([0, 1e-12, 0.3, 1, 4.0])
    # d/dx sum (-x)^k / (2k + n)! term by term.
    exact = [
        math.fsum(-k * (-s) ** (k - 1) / math.factorial(2 * k + n) for k in range(1, 40))
        for s in squares
    ]
    with jax.enable_x64(True):
        got = jax.vmap(jax.grad(lambda s: stumpff(s, n)))(jnp.asarray(squares))
    np.testing.assert_allclose(got, exact, rtol=1e-13)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e20, 1e30])
def test_norms_neither_underflow_nor_overflow(scale):
    v = jnp.array([3, -4, 12], jnp.float32) * scale
    np.testing.assert_allclose(safe_norm(v), 13 * scale, rtol=1e-6)
    np.testing.assert_allclose(normalize(v), np.array([3, -4, 12]) / 13, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(safe_norm)(v), np.array([3, -4, 12]) / 13, rtol=1e-5)


def test_norm_and_direction_of_zero_have_zero_gradients():
    zero = jnp.zeros(3)
    np.testing.assert_array_equal(jax.grad(safe_norm)(zero), 0)
    np.testing.assert_array_equal(jax.jacobian(normalize)(zero), 0)
    np.testing.assert_array_equal(normalize(zero, jnp.array([0, 1.0, 0])), [0, 1, 0])


def test_normalize_jacobian_is_the_projection_across():
    v = jnp.array([1.0, 2.0, -2.0])
    unit = np.array([1, 2, -2]) / 3
    # d(v / |v|) = (I - u u^T) / |v|
    np.testing.assert_allclose(
        jax.jacobian(normalize)(v), (np.eye(3) - np.outer(unit, unit)) / 3, atol=1e-6
    )


def test_cross_and_skew_agree_with_numpy(rng):
    a, b = rng.normal(size=(2, 20, 3)).astype(np.float32)
    np.testing.assert_allclose(cross(jnp.asarray(a), jnp.asarray(b)), np.cross(a, b), atol=1e-6)
    np.testing.assert_allclose(np.einsum("nij,nj->ni", skew(a), b), np.cross(a, b), atol=1e-6)


def test_small_floats_are_computed_in_float32():
    assert as_float(jnp.ones(2, jnp.bfloat16)).dtype == jnp.float32
    assert as_float(np.arange(3)).dtype == jnp.float32
    assert matmul(jnp.eye(2, dtype=jnp.bfloat16), np.eye(2)).dtype == jnp.float32


def test_products_ask_for_full_precision():
    # On accelerators the default would be TF32; the request is visible in the program.
    text = jax.jit(matmul).lower(jnp.eye(3), jnp.eye(3)).as_text()
    assert "HIGHEST" in text
