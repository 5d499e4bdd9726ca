"""Poses and points that know their frames: a wrong composition is an error, at no run-time cost.

The names are static parts of pytrees: under `jax.jit` they are compared while the program is
traced, and nothing of them is left in it.
"""

from dataclasses import dataclass, field

import jax
from jax import Array
from jax.typing import ArrayLike

from posejax.geometry import as_float, matmul, se3_apply, se3_inverse


class FrameError(ValueError):
    """Frames that do not meet: names what was given and what is needed there."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Points:
    """Points [..., 3] in metres, and the name of the frame that they are in."""

    xyz: Array
    frame: str = field(metadata={"static": True})

    def expect(self, frame: str) -> Array:
        """The coordinates, if they are in this frame.

        Raises:
          FrameError: they are in another one.
        """
        if self.frame != frame:
            raise FrameError(f"points in {self.frame!r} given where {frame!r} is needed")
        return self.xyz


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Transform:
    """`target_from_source` [..., 4, 4] with both names; composed, inverted and applied by them.

        camera_from_lidar = camera_from_ego @ ego_from_lidar      # inner names must be equal
        seen = camera_from_lidar @ Points(xyz, "lidar")           # Points in "camera"

    A function of plain arrays takes `transform.expect("camera", "lidar")`.
    """

    matrix: Array
    target: str = field(metadata={"static": True})
    source: str = field(metadata={"static": True})

    def __matmul__(self, other):
        if isinstance(other, Points):
            return Points(se3_apply(self.matrix, other.expect(self.source)), self.target)
        if not isinstance(other, Transform):
            return NotImplemented
        if other.target != self.source:
            hint = ""
            if other.source == self.source:
                hint = f"; the inverse of {other.name} would fit"
            elif self.target == other.target:
                hint = f"; the inverse of {self.name} would fit"
            raise FrameError(f"{self.name} @ {other.name}: the inner frames differ{hint}")
        return Transform(matmul(self.matrix, other.matrix), self.target, other.source)

    @property
    def name(self) -> str:
        """Such as camera_from_ego."""
        return f"{self.target}_from_{self.source}"

    @property
    def inverse(self) -> "Transform":
        """`source_from_target`."""
        return Transform(se3_inverse(self.matrix), self.source, self.target)

    def expect(self, target: str, source: str) -> Array:
        """The matrix, if it is `target_from_source`.

        Raises:
          FrameError: it is another one.
        """
        if (self.target, self.source) != (target, source):
            hint = "; take its inverse" if (self.target, self.source) == (source, target) else ""
            raise FrameError(f"{self.name} given where {target}_from_{source} is needed{hint}")
        return self.matrix


def transform(matrix: ArrayLike, target: str, source: str) -> Transform:
    """`target_from_source` of an array [..., 4, 4]."""
    pose = as_float(matrix)
    if pose.shape[-2:] != (4, 4):
        raise ValueError(f"a pose is [..., 4, 4], got {pose.shape}")
    return Transform(pose, target, source)
