"""Parts of the bird's-eye network: shapes, counts of parameters, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.nn import CameraEncoder, Compressor, InstanceNorm, MapHeads, MapNet
from posejax.nn.bev_tables import encoder_table


def parameters(model, *shapes):
    given = [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]
    train = () if isinstance(model, Compressor | MapHeads) else (False,)
    found = jax.eval_shape(lambda key, *x: model.init(key, *x, *train), jax.random.key(0), *given)
    return sum(np.prod(p.shape) for p in jax.tree.leaves(found["params"]))


@pytest.mark.parametrize("backbone", ["res50", "effb4", "small"])
def test_encoders_have_stride_eight(backbone):
    model, x = CameraEncoder(backbone), jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32)
    shapes = jax.eval_shape(lambda key, x: model.init(key, x, False), jax.random.key(0), x)
    out = jax.eval_shape(lambda v, x: model.apply(v, x, False), shapes, x)
    assert out.shape == (2, 8, 12, 128)


def test_instance_norm_is_per_example_and_channel(rng):
    x = rng.normal(100, 3, (2, 5, 7, 3)).astype(np.float32)
    got = InstanceNorm().apply({}, x)
    want = (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(got, want, atol=2e-4)
    relu = InstanceNorm(activation="relu", dtype=jnp.bfloat16).apply({}, x)
    assert relu.dtype == jnp.bfloat16 and (np.asarray(relu, np.float32) >= 0).all()


def test_the_compressor_takes_heights_within_channels(rng):
    """As the original: channel c at height y is number c * Y + y; then the other sensors."""
    volume = rng.normal(size=(1, 4, 2, 6, 3)).astype(np.float32)
    other = rng.normal(size=(1, 4, 6, 2)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 8, 5)).astype(np.float32)
    got = Compressor(5).apply({"params": {"kernel": kernel}}, volume, (other,))
    flat = volume.transpose(0, 1, 3, 4, 2).reshape(1, 4, 6, 6)
    flat = np.concatenate([flat, other], -1)
    maps = jax.lax.conv_general_dilated(
        flat, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    want = jax.nn.gelu(InstanceNorm().apply({}, maps), approximate=False)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_sizes_that_do_not_halve_are_refused():
    with pytest.raises(ValueError, match=r"multiples of 16, got \(64, 88\)"):
        parameters(CameraEncoder("small"), (1, 64, 88, 3))
    with pytest.raises(ValueError, match=r"multiples of 8, got \(12, 16\)"):
        parameters(MapNet(), (1, 12, 16, 8))
    with pytest.raises(ValueError, match="unknown backbone 'vgg'"):
        parameters(CameraEncoder("vgg"), (1, 64, 64, 3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has no names"):
        encoder_table("small")
