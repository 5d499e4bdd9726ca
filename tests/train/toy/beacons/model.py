"""Parameters: two dense layers around an optional normalisation."""

import flax.linen as nn
import jax


class RangeNet(nn.Module):
    """Ranges `[B, 4]` (m) to positions `[B, 2]` (m)."""

    hidden: int
    norm: str

    @nn.compact
    def __call__(self, ranges: jax.Array, train: bool) -> jax.Array:
        x = nn.Dense(self.hidden, name="encoder")(ranges)
        if self.norm == "batch":
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
        return nn.Dense(2, name="head")(nn.tanh(x))
