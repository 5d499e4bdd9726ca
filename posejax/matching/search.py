"""Where in image B the partner of a cell of image A may lie.

Feature maps are measured in cells: the first cell's centre is (0.5, 0.5), x along columns. All
searches are pytrees, so they pass through `jax.jit`; the numbers of `Band` and `Rows` are static.
"""

import dataclasses
import functools

import jax
from jax import Array


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Full:
    """Anywhere in image B."""

    def reversed(self) -> "Full":
        return self


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=[], meta_fields=["rows", "columns"]
)
@dataclasses.dataclass(frozen=True)
class Band:
    """Near the same row: |y_b - y_a| <= rows and columns[0] <= x_b - x_a <= columns[1], in cells.

    Attributes:
      rows: 0 for rectified stereo; a few cells for a rig that is nearly rectified.
      columns: bounds of x_b - x_a (both included); None for the whole row. They restrict what
        counts: the scores of whole rows are computed, and those outside are left out.
    """

    rows: int
    columns: tuple[float, float] | None = None

    def __post_init__(self):
        if self.rows < 0:
            raise ValueError(f"rows is not negative, got {self.rows}")
        if self.columns is not None and not self.columns[0] <= self.columns[1]:
            raise ValueError(f"columns are (lowest, highest) x_b - x_a, got {self.columns}")

    def reversed(self) -> "Band":
        return Band(self.rows, None if self.columns is None else _negated(self.columns))


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["disparity"])
@dataclasses.dataclass(frozen=True)
class Rows:
    """The same row, as in rectified stereo.

    Attributes:
      disparity: bounds of x_a - x_b in cells (both included); None for the whole row. Positive
        where A is the left image: `Rows((0, 12))`.
    """

    disparity: tuple[float, float] | None = None

    def __post_init__(self):
        self.as_band()

    def as_band(self) -> Band:
        return Band(0, None if self.disparity is None else _negated(self.disparity))

    def reversed(self) -> "Rows":
        return Rows(None if self.disparity is None else _negated(self.disparity))


@functools.partial(jax.tree_util.register_dataclass, data_fields=["F", "width"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Epipolar:
    """Cells whose centre is at most `width` cells away from the epipolar line.

    Attributes:
      F: [3, 3], (x_b, 1)^T F (x_a, 1) = 0 in cells: from pixels, with strides s_a and s_b, it is
        diag(s_b, s_b, 1) F_pixels diag(s_a, s_a, 1).
      width: cells; at least 1/2 leaves no gap along the line.
    """

    F: Array
    width: float | Array = 1.0

    def reversed(self) -> "Epipolar":
        return Epipolar(self.F.T, self.width)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["flow"], meta_fields=["radius"])
@dataclasses.dataclass(frozen=True)
class Window:
    """The (2 radius + 1)^2 cells around a guess, as in coarse-to-fine matching.

    Attributes:
      flow: [Ha, Wa, 2], guess of (x_b - x_a, y_b - y_a) in cells; receives no gradient.
      radius: cells around the cell that the guess falls in.
    """

    flow: Array
    radius: int

    def reversed(self) -> "Window":
        raise ValueError("a Window has no reverse: call with the flow from B to A instead")


Search = Full | Rows | Band | Epipolar | Window


def _negated(bounds: tuple[float, float]) -> tuple[float, float]:
    return -bounds[1], -bounds[0]
