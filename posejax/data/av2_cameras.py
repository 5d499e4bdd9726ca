"""Cameras and annotated boxes of an Argoverse 2 log.

    <log_id>/calibration/intrinsics.feather             sensor_name, fx_px fy_px cx_px cy_px,
                                                        k1 k2 k3, height_px, width_px
    <log_id>/calibration/egovehicle_SE3_sensor.feather  sensor_name, qw qx qy qz, tx_m ty_m tz_m
    <log_id>/sensors/cameras/<sensor_name>/<timestamp_ns>.jpg
    <log_id>/annotations.feather                        timestamp_ns, track_uuid, category,
                                                        length_m width_m height_m,
                                                        qw qx qy qz, tx_m ty_m tz_m,
                                                        num_interior_pts

The published images are undistorted already: k1, k2 and k3 are those of the lens before that, and
are no part of the camera here. Principal points count from the first pixel's centre (OpenCV's
convention, which the calibration does not state) and are moved to this library's.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posejax.data.cameras import Camera, convert_intrinsics
from posejax.data.errors import DataError
from posejax.data.feather import FeatherTable, write_feather
from posejax.data.images import MAX_PIXELS
from posejax.data.rigid import (
    matrix_to_quat_xyzw,
    quat_xyzw_to_matrix,
    se3_from_rotation_translation,
)

POSE_COLUMNS = ("qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m")
INTRINSICS_FILE = "calibration/intrinsics.feather"
EXTRINSICS_FILE = "calibration/egovehicle_SE3_sensor.feather"
ANNOTATIONS_FILE = "annotations.feather"
_XYZW = [1, 2, 3, 0]  # where they are in the columns
_SIZES = ("length_m", "width_m", "height_m")


@dataclass(frozen=True, eq=False)
class RigCamera:
    """A camera of the vehicle: `ego_from_camera` [4, 4]; camera frame x right, y down, z ahead."""

    name: str
    camera: Camera
    ego_from_camera: np.ndarray


@dataclass(frozen=True, eq=False)
class Annotations:
    """Boxes of a log.

    Attributes:
      timestamp_ns: [N] int64, the sweep that a box belongs to.
      track: [N] str, the same for one thing at all times.
      category: [N] str, e.g. "REGULAR_VEHICLE".
      size: [N, 3] float64 m: length, width, height (along x, y, z of the box).
      ego_from_box: [N, 4, 4] float64, to the centre of the box, in the ego frame of its time.
      points: [N] int64, LiDAR returns inside.
    """

    timestamp_ns: np.ndarray
    track: np.ndarray
    category: np.ndarray
    size: np.ndarray
    ego_from_box: np.ndarray
    points: np.ndarray

    def __len__(self) -> int:
        return len(self.timestamp_ns)

    def at(self, timestamp_ns: int) -> "Annotations":
        """The boxes of one time; none where it has none."""
        rows = self.timestamp_ns == timestamp_ns
        return Annotations(**{name: values[rows] for name, values in vars(self).items()})


def read_cameras(log_dir: str | Path) -> dict[str, RigCamera]:
    """The cameras of a log by name, in the order of the calibration.

    Raises:
      DataError: a missing table or column, another dtype, NaN, a focal length or size that is not
        positive, a quaternion that is none, a name twice, a camera without a pose.
    """
    path = Path(log_dir) / INTRINSICS_FILE
    table = FeatherTable(path)
    names = _names(path, table)
    focal = table.columns(("fx_px", "fy_px"))
    centre = table.columns(("cx_px", "cy_px"))
    sizes = np.stack([table.column(key, "integer") for key in ("height_px", "width_px")], axis=1)
    _check_positive(path, "columns fx_px, fy_px", focal)
    _check_positive(path, "columns height_px, width_px", sizes)
    if (sizes > MAX_PIXELS).any():
        raise DataError(path, "columns height_px, width_px", int(sizes.max()), "pixels")
    posed = _read_extrinsics(Path(log_dir) / EXTRINSICS_FILE)
    cameras = {}
    for i, name in enumerate(names):
        if name not in posed:
            hint = f"{Path(log_dir) / EXTRINSICS_FILE} has: {', '.join(posed)[:300]}"
            raise DataError(path, "column sensor_name", f"{name!r} has no pose", "one each", hint)
        k = np.array([[focal[i, 0], 0, centre[i, 0]], [0, focal[i, 1], centre[i, 1]], [0, 0, 1]])
        k = convert_intrinsics(k, source="opencv", target="posejax")
        camera = Camera(k, (int(sizes[i, 0]), int(sizes[i, 1])))
        cameras[name] = RigCamera(name, camera, posed[name])
    return cameras


def write_cameras(log_dir: str | Path, cameras: dict[str, RigCamera]) -> None:
    """Write both tables of the calibration.

    Raises:
      ValueError: a camera with a lens or skew, which the images of the format do not have.
    """
    if any(c.camera.distortion is not None or c.camera.intrinsics[0, 1] for c in cameras.values()):
        raise ValueError("the images of the format are undistorted: cameras without lens and skew")
    names = np.array(list(cameras), object)
    k = np.stack(
        [
            convert_intrinsics(c.camera.intrinsics, source="posejax", target="opencv")
            for c in cameras.values()
        ]
    )
    sizes = np.array([c.camera.size for c in cameras.values()], np.int64)
    columns = {"sensor_name": names, "fx_px": k[:, 0, 0], "fy_px": k[:, 1, 1]}
    columns |= {"cx_px": k[:, 0, 2], "cy_px": k[:, 1, 2]}
    columns |= dict.fromkeys(("k1", "k2", "k3"), np.zeros(len(names)))
    columns |= {"height_px": sizes[:, 0], "width_px": sizes[:, 1]}
    write_feather(Path(log_dir) / INTRINSICS_FILE, _contiguous(columns))
    poses = np.stack([c.ego_from_camera for c in cameras.values()])
    columns = {"sensor_name": names, **pose_columns(poses)}
    write_feather(Path(log_dir) / EXTRINSICS_FILE, columns)


def list_images(log_dir: str | Path, name: str) -> list[tuple[int, Path]]:
    """(timestamp in ns, file) of the images of a camera in time order; read by `read_image`.

    Raises:
      DataError: none, or a file whose name is not a timestamp.
    """
    folder = Path(log_dir) / "sensors" / "cameras" / name
    images = sorted((timestamp_of(path), path) for path in folder.glob("*.jpg"))
    if not images:
        raise DataError(folder, "images", "none", "<timestamp_ns>.jpg files")
    return images


def read_annotations(log_dir: str | Path) -> Annotations:
    """All boxes of a log, in the order of the file.

    Raises:
      DataError: missing file or column, another dtype, NaN, a size that is not positive, a
        quaternion that is none, a negative count.
    """
    path = Path(log_dir) / ANNOTATIONS_FILE
    table = FeatherTable(path)
    size = table.columns(_SIZES)
    _check_positive(path, f"columns {', '.join(_SIZES)}", size)
    points = table.column("num_interior_pts", "integer").astype(np.int64)
    if (points < 0).any():
        raise DataError(path, "column num_interior_pts", int(points.min()), "counts >= 0")
    return Annotations(
        timestamp_ns=table.column("timestamp_ns", "int64"),
        track=table.column("track_uuid", "string"),
        category=table.column("category", "string"),
        size=size,
        ego_from_box=read_pose_columns(path, table),
        points=points,
    )


def write_annotations(log_dir: str | Path, boxes: Annotations) -> None:
    """Write the table of boxes."""
    columns = {
        "timestamp_ns": np.asarray(boxes.timestamp_ns, np.int64),
        "track_uuid": np.asarray(boxes.track, object),
        "category": np.asarray(boxes.category, object),
        **dict(zip(_SIZES, np.asarray(boxes.size, np.float64).T, strict=True)),
        **pose_columns(boxes.ego_from_box),
        "num_interior_pts": np.asarray(boxes.points, np.int64),
    }
    write_feather(Path(log_dir) / ANNOTATIONS_FILE, _contiguous(columns))


def read_pose_columns(path: str | Path, table: FeatherTable) -> np.ndarray:
    """[N, 4, 4] float64 of the columns qw qx qy qz tx_m ty_m tz_m.

    Raises:
      DataError: a missing column, NaN, a quaternion whose norm is off by more than 1e-3.
    """
    values = table.columns(POSE_COLUMNS)
    with np.errstate(over="ignore"):  # infinite is off as well
        norm = np.linalg.norm(values[:, :4], axis=1)
    bad = np.flatnonzero(np.abs(norm - 1.0) > 1e-3)
    if len(bad):
        found = f"norm {norm[bad[0]]:.4g} in row {bad[0]}"
        raise DataError(path, "columns qw, qx, qy, qz", found, "unit quaternions, w first")
    return se3_from_rotation_translation(quat_xyzw_to_matrix(values[:, _XYZW]), values[:, 4:])


def pose_columns(poses: np.ndarray) -> dict[str, np.ndarray]:
    """Inverse of `read_pose_columns`: [N, 4, 4] to columns."""
    poses = np.asarray(poses, np.float64)
    quat = np.roll(matrix_to_quat_xyzw(poses[:, :3, :3]), 1, axis=1)
    values = np.concatenate([quat, poses[:, :3, 3]], axis=1)
    return {name: values[:, i].copy() for i, name in enumerate(POSE_COLUMNS)}


def timestamp_of(path: str | Path) -> int:
    """Time of a sweep or an image in ns: its file name.

    Raises:
      DataError: the name is none.
    """
    stem = Path(path).stem
    if not (stem.isascii() and stem.isdecimal() and len(stem) < 20 and int(stem) < 1 << 63):
        raise DataError(path, "file name", repr(stem[:80]), "the timestamp in ns")
    return int(stem)


def _read_extrinsics(path: Path) -> dict[str, np.ndarray]:
    table = FeatherTable(path)
    return dict(zip(_names(path, table), read_pose_columns(path, table), strict=True))


def _names(path: Path, table: FeatherTable) -> list[str]:
    names = [str(name) for name in table.column("sensor_name", "string")]
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise DataError(path, "column sensor_name", f"{twice[0]!r} twice", "unique names")
    return names


def _check_positive(path: Path, field: str, values: np.ndarray) -> None:
    bad = np.flatnonzero(~(values > 0).all(axis=1))
    if len(bad):
        raise DataError(path, field, f"{values[bad[0]].tolist()} in row {bad[0]}", "positive")


def _contiguous(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(values) for name, values in columns.items()}
