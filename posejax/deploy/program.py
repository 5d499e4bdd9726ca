"""What a system offers for deployment: a function of weights and named arrays, and their shapes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax import export

HEIGHT, WIDTH = "height", "width"
Size = tuple[int, int]


@dataclass(frozen=True)
class Input:
    """An array that a program takes.

    Attributes:
      shape: sides; "height" and "width" are chosen at the export.
      dtype: of the numbers.
      multiple: what height and width are multiples of.
    """

    shape: tuple[int | str, ...]
    dtype: Any = np.float32
    multiple: int = 1

    def at(self, size: Size | None) -> tuple[int, ...]:
        """The shape at a size (height, width).

        Raises:
          ValueError: the input needs a size and there is none, or it is no multiple.
        """
        named: dict[str, int] = dict(zip((HEIGHT, WIDTH), size or (), strict=False))
        if not named and not self.fixed:
            raise ValueError(f"an input {self.shape} needs a size")
        found = tuple(named[s] if isinstance(s, str) else s for s in self.shape)
        for name in (HEIGHT, WIDTH):
            if name in self.shape and (named[name] < 1 or named[name] % self.multiple):
                raise ValueError(f"{name} {named[name]}: expected a multiple of {self.multiple}")
        return found

    @property
    def fixed(self) -> bool:
        return not any(isinstance(side, str) for side in self.shape)


@dataclass(frozen=True)
class Program:
    """A function of weights and named arrays.

    Attributes:
      function: function(weights, **inputs) -> dict of arrays; pure.
      weights: pytree of arrays.
      inputs: name -> `Input`.
      sample: values of the inputs to compare with; uniform random numbers without.
    """

    function: Callable[..., Mapping[str, jax.Array]]
    weights: Any
    inputs: Mapping[str, Input]
    sample: Mapping[str, np.ndarray] = field(default_factory=dict)

    def call(self, weights: Any, inputs: Mapping[str, Any]) -> dict[str, jax.Array]:
        return dict(self.function(weights, **inputs))

    @property
    def sized(self) -> bool:
        """Whether height and width are chosen at the export."""
        return not all(i.fixed for i in self.inputs.values())

    def shapes(self, size: Size | None) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of the inputs at a size; symbolic height and width without one.

        Raises:
          ValueError: the size does not suit an input.
        """
        if size is not None or not self.sized:
            return {k: jax.ShapeDtypeStruct(i.at(size), i.dtype) for k, i in self.inputs.items()}
        scope = export.SymbolicScope()
        found = {}
        for name, given in self.inputs.items():
            sides = [str(s) if isinstance(s, int) else f"{given.multiple}*{s}" for s in given.shape]
            shape = export.symbolic_shape(", ".join(sides), scope=scope)
            found[name] = jax.ShapeDtypeStruct(shape, given.dtype)
        return found

    def examples(self, size: Size | None, seed: int = 0) -> dict[str, np.ndarray]:
        """Inputs to compare with."""
        rng = np.random.default_rng(seed)
        return {
            name: np.asarray(self.sample[name], given.dtype)
            if name in self.sample
            else rng.random(given.at(size)).astype(given.dtype)
            for name, given in self.inputs.items()
        }
