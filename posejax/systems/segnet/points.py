"""Points of an example: radar returns brought to one frame, all padded to one size."""

import numpy as np

from posejax.data.radar_pcd import read_radar
from posejax.data.rig_frame import RigFrame
from posejax.data.rigid import se3_apply, se3_inverse
from posejax.systems.segnet.config import RADAR_VALUES

NOTHING = np.zeros((0, 3)), np.zeros((0, RADAR_VALUES))


def radar_points(frame: RigFrame) -> tuple[np.ndarray, np.ndarray]:
    """Returns [R, 3] of all radars of a nuScenes frame in its ego frame, and what they carry
    [R, 16]: the fields of the file after the place, as they are (velocities along the radar's own
    axes), and the age in seconds."""
    places, values = [NOTHING[0]], [NOTHING[1]]
    for sweep in frame.radar.values():
        rows = read_radar(sweep.file).astype(np.float64)
        age = np.full((len(rows), 1), frame.time - sweep.time)
        places.append(se3_apply(sweep.ego_from_radar, rows[:, :3]))
        values.append(np.concatenate([rows[:, 3:], age], axis=1))
    return np.concatenate(places), np.concatenate(values)


def padded(
    name: str,
    points: np.ndarray,
    values: np.ndarray | None,
    ego_from_grid: np.ndarray,
    capacity: int,
) -> dict[str, np.ndarray]:
    """Entries of an example: points in the grid's frame, evenly thinned or padded to a capacity,
    which of them are points, and what they carry."""
    if len(points) > capacity:
        rows = np.linspace(0, len(points) - 1, capacity).astype(np.intp)
        points, values = points[rows], None if values is None else values[rows]
    place = np.zeros((capacity, 3), np.float32)
    place[: len(points)] = se3_apply(se3_inverse(ego_from_grid), points)
    found = {f"{name}_points": place, f"{name}_present": np.arange(capacity) < len(points)}
    if values is not None:
        carried = np.zeros((capacity, values.shape[1]), np.float32)
        carried[: len(values)] = values
        found[f"{name}_values"] = carried
    return found
