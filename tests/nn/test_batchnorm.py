"""Batch norm with its activation: values and gradients against plain formulas, statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.nn import BatchNorm
from posejax.nn.batchnorm import normalise

ACTIVATIONS = {"none": lambda z: z, "relu": jax.nn.relu, "silu": jax.nn.silu}


def plain(x, scale, bias, epsilon, activation):
    """Differentiated by jax."""
    axes = tuple(range(x.ndim - 1))
    mean, var = jnp.mean(x, axes, keepdims=True), jnp.var(x, axes, keepdims=True)
    scale, bias = jnp.expand_dims(scale, axes), jnp.expand_dims(bias, axes)
    return ACTIVATIONS[activation](scale * (x - mean) / jnp.sqrt(var + epsilon) + bias)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (8, 6)])
def test_values_and_gradients_are_those_of_the_formula(rng, activation, shape):
    x = jnp.asarray(2 + 3 * rng.standard_normal(shape), jnp.float32)
    scale, bias = (jnp.asarray(rng.standard_normal(6), jnp.float32) for _ in range(2))
    weight = jnp.asarray(rng.standard_normal(shape), jnp.float32)

    def loss(function):
        return lambda *a: jnp.sum(weight * function(*a, 1e-3, activation))

    ours = jax.jit(jax.value_and_grad(loss(lambda *a: normalise(*a)[0]), (0, 1, 2)))
    theirs = jax.jit(jax.value_and_grad(loss(plain), (0, 1, 2)))
    got, want = ours(x, scale, bias), theirs(x, scale, bias)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-5, rtol=1e-4), got, want)


def test_running_statistics_follow_pytorch(rng):
    """Biased variance to normalise, unbiased to keep; torch.nn.BatchNorm's documented update."""
    x = rng.standard_normal((2, 2, 1, 3)).astype(np.float32)
    norm = BatchNorm(momentum=0.9, epsilon=0.0)
    variables = norm.init(jax.random.key(0), x, True)
    np.testing.assert_array_equal(variables["batch_stats"]["var"], np.ones(3))  # init is no step
    y, updated = norm.apply(variables, x, True, mutable=["batch_stats"])
    flat, stats = x.reshape(-1, 3).astype(np.float64), updated["batch_stats"]
    want = (flat - flat.mean(0)) / flat.std(0)
    np.testing.assert_allclose(y.reshape(-1, 3), want, atol=1e-5)
    np.testing.assert_allclose(stats["mean"], 0.1 * flat.mean(0), atol=1e-6)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * flat.var(0, ddof=1), rtol=1e-5)


def test_inference_uses_the_running_statistics(rng):
    x = rng.standard_normal((4, 3)).astype(np.float32)
    stats = {"mean": np.array([1.0, 2, 3], np.float32), "var": np.array([4.0, 9, 16], np.float32)}
    params = {"scale": np.full(3, 2, np.float32), "bias": np.ones(3, np.float32)}
    norm = BatchNorm(epsilon=0.0, activation="relu")
    y = norm.apply({"params": params, "batch_stats": stats}, x, False)
    want = np.maximum(2 * (x - stats["mean"]) / np.sqrt(stats["var"]) + 1, 0)
    np.testing.assert_allclose(y, want, atol=1e-5)


def test_statistics_of_bfloat16_are_float32():
    """A small spread around a large mean, which a sum of squares would lose."""
    x = jnp.asarray(np.resize([127.0, 128.0], (64, 64, 1)), jnp.bfloat16)
    norm = BatchNorm(momentum=0.0)
    variables = norm.init(jax.random.key(0), x, True)
    y, updated = norm.apply(variables, x, True, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16 and updated["batch_stats"]["var"].dtype == jnp.float32
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 127.5, atol=1e-3)
    np.testing.assert_allclose(updated["batch_stats"]["var"], 0.25 * 4096 / 4095, rtol=1e-4)
    np.testing.assert_allclose(np.abs(y.astype(np.float32)), 1, atol=0.01)


def test_unknown_activation_is_refused():
    x = jnp.ones((2, 3))
    with pytest.raises(ValueError, match="unknown activation 'gelu'; expected none, relu or silu"):
        BatchNorm(activation="gelu").init(jax.random.key(0), x, False)  # type: ignore[arg-type]
