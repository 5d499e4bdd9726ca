"""Boxes of an example: those of vehicles, in the grid's frame, padded to one size."""

import re
from collections.abc import Sequence

import numpy as np

from posejax.data.rig_frame import Boxes
from posejax.data.rigid import se3_inverse

#: Categories of nuScenes' tables (CARLA's are named like them), of MMDetection3D's infos, of
#: Argoverse 2.
VEHICLES = (
    r"vehicle\..*",
    "car|truck|bus|trailer|construction_vehicle|motorcycle|bicycle",
    "REGULAR_VEHICLE|LARGE_VEHICLE|BOX_TRUCK|TRUCK|TRUCK_CAB|VEHICULAR_TRAILER|BUS|SCHOOL_BUS|"
    "ARTICULATED_BUS|MOTORCYCLE|BICYCLE",
)


def padded_boxes(
    boxes: Boxes, vehicles: Sequence[str], ego_from_grid: np.ndarray, capacity: int
) -> dict[str, np.ndarray]:
    """Entries of an example: the boxes nearest to the grid's origin, in their own order.

    Args:
      vehicles: regular expressions of the categories to keep, matched whole.
      capacity: most boxes.
    """
    wanted = re.compile("|".join(f"(?:{p})" for p in vehicles))
    rows = np.array([bool(wanted.fullmatch(label)) for label in boxes.label], bool)
    rows = np.flatnonzero(rows)
    poses = se3_inverse(ego_from_grid) @ boxes.ego_from_box[rows]
    nearest = np.argsort(np.linalg.norm(poses[:, :3, 3], axis=1), kind="stable")
    nearest = np.sort(nearest[:capacity])
    rows, poses, count = rows[nearest], poses[nearest], len(nearest)
    size = np.zeros((capacity, 3), np.float32)
    pose = np.tile(np.eye(4, dtype=np.float32), (capacity, 1, 1))
    visible, present = np.zeros(capacity, bool), np.arange(capacity) < count
    size[:count], pose[:count] = boxes.size[rows], poses
    visible[:count] = boxes.visibility[rows] > 1
    found = {"box_size": size, "grid_from_box": pose}
    return found | {"box_visible": visible, "box_present": present}
