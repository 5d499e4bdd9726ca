"""How the cost functions run on CPUs: example by example under `jax.vmap`, in whole kernels."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import custom_vmap


def one_by_one_on_cpu(function: Callable) -> Callable:
    """Make `jax.vmap(function)` run example after example on CPUs, and all together elsewhere.

    A rotation or a stack of spectra of one example fits into the caches of a CPU core, a batch of
    them does not, and gathers with a batch axis lower to slower loops: the batched form of a pose
    volume takes twice the time and `batch` times the memory. Accelerators want the whole batch.
    The choice is made when the function is lowered for its platform.

    The result has no derivative of its own: use it inside the two halves of a `jax.custom_vjp`.
    """
    wrapped = custom_vmap(function)

    @wrapped.def_vmap
    def rule(axis_size, in_batched, *args):
        del axis_size
        leaves, structure = jax.tree.flatten(args)
        batched = jax.tree.leaves(in_batched)

        def call(*mapped):
            mapped = iter(mapped)
            both = [next(mapped) if b else a for a, b in zip(leaves, batched, strict=True)]
            return function(*jax.tree.unflatten(structure, both))

        out = lax.platform_dependent(
            *(a for a, b in zip(leaves, batched, strict=True) if b),
            cpu=lambda *mapped: lax.map(lambda one: call(*one), mapped),
            default=jax.vmap(call),
        )
        return out, jax.tree.map(lambda _: True, out)

    return wrapped


def apart_on_cpu(function: Callable, angle: Array):
    """`function(angle)`, a pytree of arrays, as kernels of its own on CPUs.

    XLA:CPU fuses a producer into the loop that reads it. Into the sum of a dot product or the
    update of a stack this costs twice: such loops run on one core, and walk in an order that
    repeats the index arithmetic of a gather for every channel. Nothing is fused across the border
    of a conditional. Its other branch is for angles that are not finite, whose result is NaN.
    """

    function = jax.jit(function)  # traced once, for all its uses below

    def fill(x):
        return jnp.full(x.shape, jnp.nan if jnp.issubdtype(x.dtype, jnp.inexact) else 0, x.dtype)

    def cpu(angle):
        shapes = jax.eval_shape(function, angle)
        return lax.cond(jnp.isfinite(angle), function, lambda _: jax.tree.map(fill, shapes), angle)

    return lax.platform_dependent(angle, cpu=cpu, default=function)
