"""Upright boxes around the objects of a world: what detectors and BEV maps learn from."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class ObjectBox:
    """An upright box in the world frame (z up).

    Attributes:
      centre: [3] metres.
      size: [3] metres along its own x (forward), y (left) and z.
      yaw: radians about z, from the world's x to the box's x.
      label: class of the object.
      instance: its number in `Hits.instance`.
      velocity: [3] metres per second.
    """

    centre: np.ndarray
    size: np.ndarray
    yaw: float
    label: int
    instance: int
    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def world_from_box(self) -> np.ndarray:
        """[4, 4]: the box's own frame has its origin at the centre."""
        pose = np.eye(4)
        pose[:3, :3] = _turn(self.yaw)
        pose[:3, 3] = self.centre
        return pose

    def corners(self) -> np.ndarray:
        """[8, 3] corners in the world frame, z varying fastest, then y."""
        signs = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3, indexing="ij"), -1).reshape(-1, 3)
        return signs * self.size @ _turn(self.yaw).T + self.centre


def enclosing_box(parts: list, yaw: float, label: int, instance: int) -> ObjectBox:
    """The smallest box of a yaw around parts.

    Args:
      parts: (kind, centre [3], world_from_body [3, K], half size [K]) of solids, with kind
        "boxes", "cylinders" or "ellipsoids", or ("points", [N, 3], None, None).
    """
    turn = _turn(yaw)
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for kind, place, rotation, half in parts:
        middle = np.asarray(place, np.float64) @ turn
        reach = 0.0 if rotation is None else _reach(kind, np.abs(turn.T @ rotation * half))
        low = np.minimum(low, (middle - reach).reshape(-1, 3).min(0))
        high = np.maximum(high, (middle + reach).reshape(-1, 3).max(0))
    return ObjectBox(turn @ (low + high) / 2, high - low, float(yaw), label, instance)


def _reach(kind: str, along: np.ndarray) -> np.ndarray:
    """How far a solid reaches [3] along three axes: `along` [3, K] are its half axes' shares."""
    if kind == "boxes":
        return along.sum(1)
    if kind == "ellipsoids":
        return np.linalg.norm(along, axis=1)
    return np.hypot(along[:, 0], along[:, 1]) + along[:, 2]


def _turn(yaw: float) -> np.ndarray:
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
