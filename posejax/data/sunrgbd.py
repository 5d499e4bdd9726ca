"""SUN RGB-D frames as MMDetection3D prepares them: coloured points, an image, boxes.

    FOLDER/infos.json (or any name): {"data_list": [{
        "images": {"CAM0": {"img_path", "depth2img" 3 x 3}},
        "lidar_points": {"lidar_path", "num_pts_feats": 6},
        "instances": [{"bbox_label_3d", "bbox_3d": [x, y, z, l, w, h, yaw]}]}]}
    FOLDER/points/000017.bin             float32 [N, 6]: x right, y forward, z up, metres; rgb 0..1
    FOLDER/sunrgbd_trainval/image/000017.jpg      or either file beside the list

Song, Lichtenberg and Xiao, SUN RGB-D, CVPR 2015; classes and boxes as in Qi et al., Deep Hough
voting for 3D object detection in point clouds, ICCV 2019. The published lists are pickles, which
are never opened here: convert them where you trust them.

The calibration is MATLAB's: its first pixel is centred at (1, 1). What is handed on is this
library's; a point's colour is then the image's at its pixel, with an RMSE of 0.04 of 255 on the
sample (15.7 if that is forgotten).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posejax.data.cameras import convert_intrinsics
from posejax.data.errors import DataError
from posejax.data.files import is_file, read_bytes
from posejax.data.json_fields import Field, json_fields
from posejax.data.rigid import se3_from_rotation_translation, so3_exp

CLASSES = (
    "bed", "table", "sofa", "chair", "toilet", "desk", "dresser", "night stand", "bookshelf",
    "bathtub",
)  # fmt: skip
_PLACES = {"points": ("", "points"), "image": ("", "sunrgbd_trainval/image", "image")}


@dataclass(frozen=True, eq=False)
class SunRgbdFrame:
    """One frame.

    Attributes:
      points, image: files.
      intrinsics: [3, 3], the first pixel's centre at (0.5, 0.5).
      camera_from_world: [4, 4]; the world has its origin in the camera, z is up.
      size: [B, 3] metres: length, width, height of boxes.
      world_from_box: [B, 4, 4], to their centres.
      label: [B] int32, number in `CLASSES`.
    """

    points: Path
    image: Path
    intrinsics: np.ndarray
    camera_from_world: np.ndarray
    size: np.ndarray
    world_from_box: np.ndarray
    label: np.ndarray

    def boxes_of(self, points: np.ndarray) -> np.ndarray:
        """[N] int32: the smallest box that holds each point [N, 3]; -1 where none does."""
        found = np.full(len(points), -1, np.int32)
        for row in np.argsort(-self.size.prod(-1), kind="stable"):
            pose = self.world_from_box[row]
            local = (points - pose[:3, 3]) @ pose[:3, :3]
            found[(np.abs(local) <= self.size[row] / 2).all(-1)] = row
        return found


def read_sunrgbd(path: str | Path) -> list[SunRgbdFrame]:
    """All frames of a list.

    Raises:
      DataError: missing file, a key that is missing or of another kind, a projection that is none,
        a file that is not there or leads elsewhere.
    """
    top = json_fields(path, "SUN RGB-D infos")
    return [_frame(row) for row in top["data_list"].rows()]


def read_sunrgbd_points(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, 3] float32 metres and colours [N, 3] float32 in 0..1.

    Raises:
      DataError: missing or empty file, a size that is no multiple of six float32, values that are
        not finite, colours beyond 0..1.
    """
    raw = read_bytes(path, "a SUN RGB-D .bin file")
    if not raw or len(raw) % 24:
        expected = "a positive multiple of 24 (x, y, z, r, g, b)"
        raise DataError(path, "size", f"{len(raw)} bytes", expected)
    values = np.frombuffer(bytearray(raw), "<f4").reshape(-1, 6)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
        raise DataError(path, f"point {row}", values[row].tolist(), "finite numbers")
    colors = values[:, 3:]
    if colors.min() < 0 or colors.max() > 1:
        found = f"from {colors.min():g} to {colors.max():g}"
        raise DataError(path, "colours", found, "0 to 1", "divide 8-bit colours by 255")
    return np.ascontiguousarray(values[:, :3]), np.ascontiguousarray(colors)


def _frame(row: Field) -> SunRgbdFrame:
    view = row["images"]["CAM0"]
    intrinsics, rotation = _projection(view["depth2img"])
    size, poses, labels = [], [], []
    for item in row["instances"].rows():
        values = _numbers(item["bbox_3d"], 7)
        if not (values[3:6] > 0).all():
            raise item["bbox_3d"].fault(values[3:6].tolist(), "positive sizes")
        labels.append(item["bbox_label_3d"].whole(0, len(CLASSES) - 1))
        size.append(values[3:6])
        poses.append(se3_from_rotation_translation(so3_exp([0, 0, values[6]]), values[:3]))
    return SunRgbdFrame(
        _found(row["lidar_points"]["lidar_path"], _PLACES["points"]),
        _found(view["img_path"], _PLACES["image"]),
        convert_intrinsics(intrinsics, source="matlab", target="posejax"),
        se3_from_rotation_translation(rotation, np.zeros(3)),
        np.array(size, np.float64).reshape(-1, 3),
        np.array(poses, np.float64).reshape(-1, 4, 4),
        np.array(labels, np.int32),
    )


def _projection(field: Field) -> tuple[np.ndarray, np.ndarray]:
    """K and camera_from_world of their product [3, 3]: RQ decomposition, K's diagonal positive."""
    matrix = np.stack([_numbers(row, 3) for row in field.rows()] or [np.zeros(3)])
    if matrix.shape != (3, 3) or abs(np.linalg.det(matrix)) < 1e-6:
        raise field.fault(np.array2string(matrix, precision=3)[:120], "an invertible 3 x 3 matrix")
    flip = np.eye(3)[::-1]
    q, r = np.linalg.qr((flip @ matrix).T)
    k, rotation = flip @ r.T @ flip, flip @ q.T
    sign = np.diag(np.where(np.diag(k) < 0, -1.0, 1.0))
    k, rotation = k @ sign, sign @ rotation
    if np.linalg.det(rotation) < 0:
        raise field.fault("a left-handed projection", "camera axes x right, y down, z forward")
    return k / k[2, 2], rotation


def _numbers(field: Field, count: int) -> np.ndarray:
    values = np.array([item.number() for item in field.rows()])
    if values.shape != (count,):
        raise field.fault(f"{len(values)} numbers", f"{count}")
    return values


def _found(field: Field, places: tuple[str, ...]) -> Path:
    """The file that a field names, in the first place that has it."""
    file = field.file()
    found = [file.parent / place / file.name for place in places]
    for path in [file, *found]:
        if is_file(path):
            return path
    raise field.fault(f"{file.name}: not found", f"in {' or '.join(str(p.parent) for p in found)}")
