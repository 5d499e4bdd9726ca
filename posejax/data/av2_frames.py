"""Annotated sweeps of an Argoverse 2 log with the images nearest in time, as frames of a rig."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from posejax.data import av2
from posejax.data.av2_cameras import INTRINSICS_FILE
from posejax.data.errors import DataError
from posejax.data.rig_frame import Boxes, RigFrame
from posejax.data.rigid import se3_inverse

_APART_NS = 60_000_000  # an image farther from its sweep is of another one


def read_av2_frames(log_dir: str | Path, cameras: Sequence[str] | None = None) -> list[RigFrame]:
    """A frame of every sweep that has boxes.

    Args:
      cameras: names, e.g. "ring_front_center"; None: all that have images. A camera without an
        image within 60 ms of a sweep is missing from its frame.

    Returns:
      Frames whose LiDAR points are in the ego frame (`ego_from_lidar` is the identity), as the
      format has them. `label` is the category ("REGULAR_VEHICLE"), `instance` the track.

    Raises:
      DataError: see `posejax.data.av2`; no pose at the time of a sweep or an image, a camera that
        the calibration has not.
    """
    log_dir = Path(log_dir)
    poses, rig = av2.read_poses(log_dir), av2.read_cameras(log_dir)
    boxes = av2.read_annotations(log_dir)
    folder = log_dir / "sensors" / "cameras"
    if cameras is None:
        cameras = [name for name in rig if any((folder / name).glob("*.jpg"))]
    for name in cameras:
        if name not in rig:
            found, expected = f"no {name[:60]!r}", ", ".join(rig)[:300]
            raise DataError(log_dir / INTRINSICS_FILE, "sensor_name", found, expected)
    images = {name: av2.list_images(log_dir, name) for name in cameras}
    annotated = set(boxes.timestamp_ns.tolist())
    frames = []
    for sweep in av2.list_sweeps(log_dir):
        time = av2.sweep_timestamp(sweep)
        if time not in annotated:
            continue
        city_from_ego = av2.pose_at(log_dir, time, poses)
        ego_from_city = se3_inverse(city_from_ego)
        shown = {name: _nearest(listed, time) for name, listed in images.items()}
        shown = {name: found for name, found in shown.items() if found is not None}
        posed = {
            name: ego_from_city @ av2.pose_at(log_dir, at, poses) @ rig[name].ego_from_camera
            for name, (at, _) in shown.items()
        }
        frames.append(
            RigFrame(
                time=time * 1e-9,
                cameras={n: av2.RigCamera(n, rig[n].camera, pose) for n, pose in posed.items()},
                mounted={name: rig[name].ego_from_camera for name in shown},
                times={name: at * 1e-9 for name, (at, _) in shown.items()},
                images={name: path for name, (_, path) in shown.items()},
                lidar=sweep,
                ego_from_lidar=np.eye(4),
                world_from_ego=city_from_ego,
                boxes=_boxes(boxes.at(time)),
            )
        )
    return frames


def _nearest(images: list[tuple[int, Path]], time: int) -> tuple[int, Path] | None:
    found = min(images, key=lambda image: abs(image[0] - time))
    return found if abs(found[0] - time) <= _APART_NS else None


def _boxes(boxes: av2.Annotations) -> Boxes:
    text = (np.array([str(v) for v in values], np.str_) for values in (boxes.category, boxes.track))
    label, instance = text
    return Boxes(boxes.size, boxes.ego_from_box, label, boxes.points, instance=instance)
