"""Batch norms folded into the convolutions before them."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

EPSILON = 1e-5


def fold_batch_norms(variables: Mapping[str, Any], epsilon: float = EPSILON) -> dict[str, Any]:
    """Variables for the same network with `folded=True`, the same function at inference.

    Wherever a module has a convolution `conv` without a bias and running statistics `norm` (see
    `posejax.nn.xfeat.ConvLayer`), its kernel is divided by the standard deviation and gets the bias
    that the mean asks for; scale and bias of the norm, where it has them, go along. Other
    statistics stay.

    Args:
      variables: {"params": ..., "batch_stats": ...}.
      epsilon: of the norms.

    Returns:
      {"params": ...}, and "batch_stats" with what is left of them, if anything is.
    """
    params: dict[Any, Any] = flatten_dict(variables["params"])
    stats: dict[Any, Any] = flatten_dict(variables.get("batch_stats", {}))
    for path in [p[:-2] for p in stats if p[-2:] == ("norm", "var")]:
        kernel, bias = (*path, "conv", "kernel"), (*path, "conv", "bias")
        if kernel not in params or bias in params:
            continue
        mean, var = stats.pop((*path, "norm", "mean")), stats.pop((*path, "norm", "var"))
        gain = params.pop((*path, "norm", "scale"), 1) / jnp.sqrt(var + epsilon)
        params[bias] = params.pop((*path, "norm", "bias"), 0) - mean * gain
        params[kernel] = params[kernel] * gain.reshape((1,) * (params[kernel].ndim - 1) + (-1,))
    found = {"params": unflatten_dict(params)}
    return {**found, "batch_stats": unflatten_dict(stats)} if stats else found
