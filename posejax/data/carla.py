"""Frames recorded in CARLA, as its own API gives them; everything is converted here, once.

    ROOT/frames.json
    {"cameras": {NAME: {"image_size_x": 672, "image_size_y": 448, "fov": 90.0}},
     "frames": [{"timestamp": 12.05,
                 "vehicle": {"id": 7, "transform": T},
                 "images": {NAME: {"file": "...png", "timestamp": 12.05, "transform": T}},
                 "lidar": {"file": "...npy", "transform": T},
                 "actors": [{"id": 12, "type_id": "vehicle.audi.tt", "transform": T,
                             "bounding_box": {"extent": V, "location": V, "rotation": R}}]}]}

with T = {"location": V, "rotation": R}, what `get_transform()` returns, V = {"x", "y", "z"} and
R = {"pitch", "yaw", "roll"}. CARLA's world, actors and sensors are left-handed (x forward, y right,
z up), its angles degrees, its extents half sizes, and a sensor's transform leads to the *world*,
not to the vehicle. A LiDAR file is the [N, 4] float32 of `raw_data` (x, y, z, intensity), as
left-handed: `read_carla_points`; a vehicle may have none. An actor may have "lidar_points" and
"visibility" (1 to 4), an image "boxes": [{"id": 12, "corners": [left, top, right, bottom]}], the
borders of the actor's pixels, e.g. those of an instance segmentation camera in the same place.
"""

from pathlib import Path

import numpy as np

from posejax.data.arrays import read_npy
from posejax.data.av2_cameras import RigCamera
from posejax.data.cameras import Camera
from posejax.data.conventions import box_from_unreal, intrinsics_from_fov, pose_from_unreal
from posejax.data.errors import DataError
from posejax.data.images import MAX_PIXELS
from posejax.data.json_fields import Field, json_fields
from posejax.data.rig_frame import Boxes, ImageBoxes, RigFrame
from posejax.data.rigid import se3_inverse

_FAR = 1e7  # metres; CARLA's worlds are some kilometres wide
_MANY = 1 << 31


def read_carla(root: str | Path) -> list[RigFrame]:
    """All frames of ROOT/frames.json.

    Returns:
      Frames whose world has y to the left (CARLA's y negated). The vehicle's own box is left out;
      `instance` is the actor's id, `label` its type_id ("vehicle.audi.tt", "walker.pedestrian.1").
      `points` are 0 and `visibility` 4 where the file does not tell.

    Raises:
      DataError: missing file, a key that is missing or of another kind, an image without a camera,
        a field of view that is none, a file name that leads elsewhere.
    """
    top = json_fields(Path(root) / "frames.json", "frames recorded in CARLA")
    cameras = {name: _camera(field) for name, field in top["cameras"].items()}
    return [_frame(field, cameras) for field in top["frames"].rows()]


def read_carla_points(path: str | Path) -> np.ndarray:
    """A LiDAR file: [N, 4] float32 x forward, y *left*, z up (m), intensity.

    Raises:
      DataError: missing file, another shape or dtype, values that are not finite.
    """
    points = read_npy(path)
    if points.ndim != 2 or points.shape[1] != 4 or points.dtype.kind != "f":
        found = f"{points.dtype} {list(points.shape)}"
        raise DataError(path, "array", found, "float32 [N, 4]: x, y, z, intensity")
    with np.errstate(over="ignore"):
        points = points.astype(np.float32) * np.array([1, -1, 1, 1], np.float32)
    if not np.isfinite(points).all():
        raise DataError(path, "array", "values that are not finite", "finite numbers")
    return points


def _camera(field: Field) -> Camera:
    height, width = (field[f"image_size_{axis}"].whole(1, MAX_PIXELS) for axis in "yx")
    fov = field["fov"].number()
    if not 0.1 <= fov <= 179.0 or height * width > MAX_PIXELS:
        raise field.fault(f"fov {fov:g}, {width} x {height} pixels", "0.1 to 179 degrees")
    return Camera(intrinsics_from_fov(fov, (height, width)), (height, width))


def _frame(field: Field, cameras: dict[str, Camera]) -> RigFrame:
    world_from_ego = _pose(field["vehicle"]["transform"])
    ego_from_world = se3_inverse(world_from_ego)
    boxes = _boxes(field, ego_from_world)
    row_of = {name: row for row, name in enumerate(boxes.instance.tolist())}
    rig, times, images, seen = {}, {}, {}, {}
    for name, view in field["images"].items():
        if name not in cameras:
            raise view.fault("no such camera", ", ".join(cameras)[:200])
        pose = ego_from_world @ _pose(view["transform"], axes="camera")
        rig[name] = RigCamera(name, cameras[name], pose)
        times[name], images[name] = view["timestamp"].number(), view["file"].file()
        if "boxes" in view:
            seen[name] = _image_boxes(view["boxes"], row_of)
    lidar = field["lidar"] if "lidar" in field else None  # noqa: SIM401 - a Field has no get
    return RigFrame(
        time=field["timestamp"].number(),
        cameras=rig,
        mounted={name: camera.ego_from_camera for name, camera in rig.items()},
        times=times,
        images=images,
        lidar=None if lidar is None else lidar["file"].file(),
        ego_from_lidar=np.eye(4) if lidar is None else ego_from_world @ _pose(lidar["transform"]),
        world_from_ego=world_from_ego,
        boxes=boxes,
        image_boxes=seen,
    )


def _image_boxes(field: Field, row_of: dict[str, int]) -> ImageBoxes:
    corners, rows = [], []
    for item in field.rows():
        around = [value.number() for value in item["corners"].rows()]
        if len(around) != 4 or around[0] > around[2] or around[1] > around[3]:
            raise item["corners"].fault(around[:9], "left, top, right, bottom")
        corners.append(around)
        rows.append(row_of.get(str(item["id"].whole(0, _MANY)), -1))
    return ImageBoxes(np.array(corners).reshape(-1, 4), np.array(rows, np.int64))


def _boxes(field: Field, ego_from_world: np.ndarray) -> Boxes:
    own = field["vehicle"]["id"].whole(0, _MANY)
    actors = [a for a in field["actors"].rows() if a["id"].whole(0, _MANY) != own]
    sizes, poses, points, levels = [], [], [], []
    for actor in actors:
        box = actor["bounding_box"]
        extent = box["extent"].vector("x", "y", "z")
        if not ((extent > 0) & (extent < _FAR)).all():
            raise box["extent"].fault(extent.tolist(), "half of each size, above 0")
        size, actor_from_box = box_from_unreal(extent, *_placed(box))
        sizes.append(size)
        poses.append(ego_from_world @ _pose(actor["transform"]) @ actor_from_box)
        points.append(actor["lidar_points"].whole(0, _MANY) if "lidar_points" in actor else 0)
        levels.append(actor["visibility"].whole(1, 4) if "visibility" in actor else 4)
    return Boxes(
        size=np.array(sizes).reshape(-1, 3),
        ego_from_box=np.array(poses).reshape(-1, 4, 4),
        label=np.array([actor["type_id"].text() for actor in actors], np.str_),
        points=np.array(points, np.int64),
        visibility=np.array(levels, np.int64),
        instance=np.array([str(actor["id"].value) for actor in actors], np.str_),
    )


def _pose(field: Field, *, axes: str = "body") -> np.ndarray:
    return pose_from_unreal(*_placed(field), axes=axes)


def _placed(field: Field) -> tuple[np.ndarray, float, float, float]:
    """Location, and pitch, yaw and roll in degrees."""
    location = field["location"].vector("x", "y", "z")
    pitch, yaw, roll = field["rotation"].vector("pitch", "yaw", "roll")
    if max(np.abs(location).max(), abs(pitch), abs(yaw), abs(roll)) > _FAR:
        raise field.fault("beyond all bounds", "metres and degrees")
    return location, pitch, yaw, roll
