"""Key frames of MMDetection3D's info files (version 1.1), as JSON.

    {"metainfo": {"categories": {"car": 0, ...}},
     "data_list": [{"timestamp", "ego2global",
                    "images": {NAME: {"img_path", "cam2img", "cam2ego", "lidar2cam", "timestamp"}},
                    "lidar_points": {"lidar_path", "lidar2ego"},
                    "instances": [{"bbox_3d": [x, y, z, l, w, h, yaw], "bbox_label_3d",
                                   "num_lidar_pts", "bbox_3d_isvalid"}],
                    "cam_instances": {NAME: [{"bbox": [left, top, right, bottom],
                                              "bbox_3d": [x, y, z, ...]}]}}]}

The published files are pickles, which are never opened here: convert them where you trust them.
Boxes are in the LiDAR's frame (nuScenes: x right, y forward, z up), their centre in the middle.
`lidar2cam` contains the motion between the two stamps (0.40 m in the nuScenes sample), `cam2ego`
does not. Pixels count from the first one's centre (OpenCV) and are moved to this library's.
"""

from pathlib import Path
from typing import Any

import numpy as np

from posejax.data.av2_cameras import RigCamera
from posejax.data.cameras import Camera, convert_intrinsics, convert_pixels
from posejax.data.errors import DataError
from posejax.data.files import json_number, path_inside, read_bytes, read_json
from posejax.data.images import image_size
from posejax.data.rig_frame import Boxes, ImageBoxes, RigFrame
from posejax.data.rigid import (
    is_rotation,
    se3_apply,
    se3_from_rotation_translation,
    se3_inverse,
    so3_exp,
)

_SAME_M = 0.05  # two annotations of one box differ by rounding alone


def read_infos(path: str | Path) -> list[RigFrame]:
    """All key frames of a file; image and LiDAR files lie beside it.

    Raises:
      DataError: missing file, a key that is missing or of another kind, a pose that is none, a
        file name that leads elsewhere, an image that is not there or no image.
    """
    path = Path(path)
    content = read_json(path, "MMDetection3D infos", constants=True)  # velocities may be NaN
    categories = _get(path, "metainfo", _get(path, "", content, "metainfo", dict), "categories")
    if not isinstance(categories, dict):
        raise DataError(path, "metainfo.categories", type(categories).__name__, "an object")
    names = {number: str(name) for name, number in categories.items()}
    frames = _get(path, "", content, "data_list", list)
    return [_frame(path, f"data_list[{i}]", frame, names) for i, frame in enumerate(frames)]


def read_nuscenes_points(path: str | Path) -> np.ndarray:
    """A nuScenes sweep (.pcd.bin): [N, 5] float32 x, y, z (m, LiDAR frame), intensity, ring.

    Raises:
      DataError: missing or empty file, a size that is no multiple of five float32, values that are
        not finite.
    """
    raw = read_bytes(path, "a nuScenes .pcd.bin file")
    if not raw or len(raw) % 20:
        found, expected = f"{len(raw)} bytes", "a positive multiple of 20 (x, y, z, i, ring)"
        raise DataError(path, "size", found, expected)
    points = np.frombuffer(bytearray(raw), "<f4").reshape(-1, 5)
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(1))[0])
        raise DataError(path, f"point {row}", points[row].tolist(), "finite numbers")
    return points


def _frame(path: Path, where: str, frame: Any, names: dict[Any, str]) -> RigFrame:
    sweep = _get(path, where, frame, "lidar_points", dict)
    ego_from_lidar = _pose(path, f"{where}.lidar_points", sweep, "lidar2ego")
    cameras, mounted, times, images, from_lidar = {}, {}, {}, {}, {}
    for name, view in _get(path, where, frame, "images", dict).items():
        at = f"{where}.images.{name}"
        images[name] = _file(path, at, view, "img_path")
        k = _numbers(path, at, view, "cam2img", (3, 3))
        if k[0, 0] <= 0 or k[1, 1] <= 0 or np.any(k[2] != (0, 0, 1)):
            raise DataError(path, f"{at}.cam2img", k.tolist(), "[[fx, s, cx], [0, fy, cy], ...]")
        camera = Camera(
            convert_intrinsics(k, source="opencv", target="posejax"), image_size(images[name])
        )
        from_lidar[name] = _pose(path, at, view, "lidar2cam")
        ego_from_camera = ego_from_lidar @ se3_inverse(from_lidar[name])
        cameras[name] = RigCamera(name, camera, ego_from_camera)
        mounted[name] = _pose(path, at, view, "cam2ego")
        times[name] = json_number(path, f"{at}.timestamp", _get(path, at, view, "timestamp"))
    boxes, centers = _boxes(path, where, frame, names, ego_from_lidar)
    image_boxes = {}
    for name, seen in _get(path, where, frame, "cam_instances", dict).items():
        at = f"{where}.cam_instances.{name}"
        if name not in cameras:
            raise DataError(path, at, "boxes of a camera that is none", ", ".join(cameras))
        image_boxes[name] = _image_boxes(path, at, seen, se3_apply(from_lidar[name], centers))
    return RigFrame(
        time=json_number(path, f"{where}.timestamp", _get(path, where, frame, "timestamp")),
        cameras=cameras,
        mounted=mounted,
        times=times,
        images=images,
        lidar=_file(path, f"{where}.lidar_points", sweep, "lidar_path"),
        ego_from_lidar=ego_from_lidar,
        world_from_ego=_pose(path, where, frame, "ego2global"),
        boxes=boxes,
        image_boxes=image_boxes,
    )


def _boxes(
    path: Path, where: str, frame: Any, names: dict[Any, str], ego_from_lidar: np.ndarray
) -> tuple[Boxes, np.ndarray]:
    """The boxes in the ego frame, and their centres [N, 3] in the LiDAR's."""
    values, labels, points = np.zeros((0, 7)), [], []
    for i, item in enumerate(_get(path, where, frame, "instances", list)):
        at = f"{where}.instances[{i}]"
        values = np.concatenate([values, _numbers(path, at, item, "bbox_3d", (7,))[None]])
        if not (values[-1, 3:6] > 0).all():
            raise DataError(path, f"{at}.bbox_3d", values[-1, 3:6].tolist(), "positive sizes")
        label = _get(path, at, item, "bbox_label_3d")
        if label != -1 and label not in names:
            raise DataError(path, f"{at}.bbox_label_3d", label, "a number of metainfo.categories")
        labels.append(names.get(label, "ignore"))
        count = json_number(path, f"{at}.num_lidar_pts", _get(path, at, item, "num_lidar_pts"))
        points.append(int(count))
    turn = so3_exp(values[:, 6:] * [0.0, 0.0, 1.0])
    lidar_from_box = se3_from_rotation_translation(turn, values[:, :3])
    poses = ego_from_lidar @ lidar_from_box
    label, count = np.array(labels, np.str_), np.array(points, np.int64)
    return Boxes(values[:, 3:6], poses, label, count), values[:, :3]


def _image_boxes(path: Path, where: str, seen: Any, centers: np.ndarray) -> ImageBoxes:
    """Boxes of one image; `centers` [N, 3] are those of all boxes in its camera's frame."""
    corners, rows = np.zeros((0, 4)), []
    if not isinstance(seen, list):
        raise DataError(path, where, type(seen).__name__, "a list")
    for i, item in enumerate(seen):
        at = f"{where}[{i}]"
        box = _numbers(path, at, item, "bbox", (4,))
        corners = np.concatenate([corners, box[None]])
        if box[0] > box[2] or box[1] > box[3]:
            raise DataError(path, f"{at}.bbox", box.tolist(), "left, top, right, bottom")
        away = np.linalg.norm(centers - _numbers(path, at, item, "bbox_3d", (7,))[:3], axis=1)
        rows.append(int(away.argmin()) if away.min(initial=np.inf) < _SAME_M else -1)
    corners = convert_pixels(corners, source="opencv", target="posejax")
    return ImageBoxes(corners, np.array(rows, np.int64))


def _get(path: Path, where: str, item: Any, key: str, kind: type | None = None) -> Any:
    field = f"{where}.{key}" if where else key
    if not isinstance(item, dict) or key not in item:
        raise DataError(path, field, "missing", "a key of MMDetection3D's infos, version 1.1")
    if kind is not None and not isinstance(item[key], kind):
        expected = {dict: "an object", list: "a list", str: "text"}[kind]
        raise DataError(path, field, type(item[key]).__name__, expected)
    return item[key]


def _numbers(path: Path, where: str, item: Any, key: str, shape: tuple[int, ...]) -> np.ndarray:
    value = _get(path, where, item, key, list)
    rows = value if len(shape) == 2 else [value]
    if len(shape) == 2 and len(rows) != shape[0]:
        raise DataError(path, f"{where}.{key}", f"{len(rows)} rows", f"{shape[0]}")
    found = []
    for row in rows:
        if not isinstance(row, list) or len(row) != shape[-1]:
            raise DataError(path, f"{where}.{key}", repr(row)[:80], f"{shape[-1]} numbers")
        found.append([json_number(path, f"{where}.{key}", v) for v in row])
    return np.array(found, np.float64).reshape(shape)


def _pose(path: Path, where: str, item: Any, key: str) -> np.ndarray:
    pose = _numbers(path, where, item, key, (4, 4))
    if not is_rotation(pose[:3, :3]) or np.any(pose[3] != (0, 0, 0, 1)):
        expected = "a rotation and a translation over (0, 0, 0, 1)"
        raise DataError(path, f"{where}.{key}", "no pose", expected)
    return pose


def _file(path: Path, where: str, item: Any, key: str) -> Path:
    name = _get(path, where, item, key, str)
    found = path_inside(path.parent, name)
    if found is None:
        raise DataError(path, f"{where}.{key}", repr(name[:80]), "a file below the folder")
    return found
