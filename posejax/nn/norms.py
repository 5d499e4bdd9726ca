"""Normalisation layers behind one name, so that an ablation is a change of one string."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

NormKind = Literal["batch", "instance", "group", "layer", "none"]
MAX_GROUPS = 8


class Norm(nn.Module):
    """Normalises `[..., H, W, C]`; statistics in float32 whatever the activations are.

    batch: running statistics over batch and space (global over a sharded batch); the only kind
      that behaves differently in training and inference.
    instance: per example and channel, over space.
    group: per example, over space and `min(8, C)` groups of channels (C must divide).
    layer: per example and position, over channels.
    none: identity, without parameters.

    Attributes:
      kind: one of the names above.
      momentum: decay of the running statistics of `batch`.
      dtype: of the output; `None` keeps the promoted type.
    """

    kind: NormKind = "batch"
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        common = {"epsilon": self.epsilon, "dtype": self.dtype}
        match self.kind:
            case "batch":
                return nn.BatchNorm(
                    use_running_average=not train, momentum=self.momentum, name="norm", **common
                )(x)
            case "instance":
                return nn.InstanceNorm(name="norm", **common)(x)
            case "group":
                groups = min(MAX_GROUPS, x.shape[-1])
                if x.shape[-1] % groups:
                    raise ValueError(
                        f"norm 'group' needs channels divisible by {groups}, got {x.shape[-1]}"
                    )
                return nn.GroupNorm(num_groups=groups, name="norm", **common)(x)
            case "layer":
                return nn.LayerNorm(name="norm", **common)(x)
            case "none":
                return jnp.asarray(x, self.dtype)
        raise ValueError(
            f"unknown norm {self.kind!r}; expected one of batch, instance, group, layer, none"
        )
