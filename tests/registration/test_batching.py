"""The batching rule: any mix of mapped and shared arguments, nested maps, pytrees of results."""

import jax
import jax.numpy as jnp
import numpy as np

from posejax.registration.batching import one_by_one_on_cpu


def plain(a, b, c):
    return {"sum": a + b * c, "kept": (b, None)}


def test_equals_vmap_for_every_mix_of_arguments(rng):
    a, b, c = jnp.asarray(rng.standard_normal((3, 4, 5)), jnp.float32)
    wrapped = one_by_one_on_cpu(plain)
    for axes in [(0, 0, 0), (0, None, None), (None, 0, None), (None, None, 0), (0, None, 0)]:
        args = [x if axis == 0 else x[0] for x, axis in zip((a, b, c), axes, strict=True)]
        got, want = (jax.jit(jax.vmap(f, axes))(*args) for f in (wrapped, plain))
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), got, want)


def test_nested_maps(rng):
    a = jnp.asarray(rng.standard_normal((2, 3, 5)), jnp.float32)
    b = jnp.asarray(rng.standard_normal((3, 5)), jnp.float32)
    inner = jax.vmap(one_by_one_on_cpu(plain), (0, 0, None))
    got = jax.vmap(inner, (0, None, None))(a, b, b[0])["sum"]
    np.testing.assert_allclose(got, a + (b * b[:1])[None], rtol=1e-5)
