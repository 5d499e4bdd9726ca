"""What of nuScenes' tables becomes a frame, as columns of arrays."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posejax.data.files import is_file
from posejax.data.images import MAX_PIXELS
from posejax.data.nuscenes_tables import Table

MODALITIES = ("camera", "lidar", "radar")
_TICK = 1e-6  # seconds


class Tables:
    """The tables of a folder by name, each read when it is asked for, then kept.

    scene, log, sample, sample_data, calibrated_sensor, sensor, ego_pose, sample_annotation,
    instance, category and visibility are read, and image_annotations if it is there; attribute and
    map are not: nothing needs them.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._tables: dict[str, Table] = {}

    def __getitem__(self, name: str) -> Table:
        if name not in self._tables:
            self._tables[name] = Table(self.path(name), numbered=name == "image_annotations")
        return self._tables[name]

    def path(self, name: str) -> Path:
        """The file of a table."""
        return self._folder / f"{name}.json"


@dataclass(frozen=True, eq=False)
class Sensors:
    """Columns of `sample_data` and of what it names; one row per recording that is used."""

    row: np.ndarray  # [D] in the table
    sample: np.ndarray  # [D] row of the sample
    key: np.ndarray  # [D] bool
    time: np.ndarray  # [D] seconds
    channel: list[str]
    modality: list[str]
    file: list[str]
    world_from_ego: np.ndarray  # [D, 4, 4] at `time`
    ego_from_sensor: np.ndarray  # [D, 4, 4]
    intrinsics: np.ndarray  # [D, 3, 3] as in the file; 0 for what is no camera
    size: np.ndarray  # [D, 2] height, width


@dataclass(frozen=True, eq=False)
class Annotations:
    """Columns of `sample_annotation`, those of a sample side by side."""

    row: np.ndarray  # [A] in the table
    sample: np.ndarray  # [A] row of the sample, ascending
    size: np.ndarray  # [A, 3] length, width, height
    world_from_box: np.ndarray  # [A, 4, 4]
    label: np.ndarray  # [A] str
    instance: np.ndarray  # [A] str
    visibility: np.ndarray  # [A]
    points: np.ndarray  # [A]


@dataclass(frozen=True, eq=False)
class ImageAnnotations:
    """Rows of `image_annotations` in images that are used."""

    recording: np.ndarray  # [M] row of `Sensors`, ascending
    box: np.ndarray  # [M] row of `Annotations`
    corners: np.ndarray  # [M, 4] as in the file


def read_sensors(tables: Tables, wanted: np.ndarray, *, past: bool) -> Sensors:
    """Key frames of the samples where `wanted` [S] bool, and if `past` all sweeps of LiDARs.

    Raises:
      DataError: see `Table`; a modality, a size or intrinsics that are none.
    """
    sensor, calibration = tables["sensor"], tables["calibrated_sensor"]
    channel, modality = sensor.texts("channel"), sensor.texts("modality")
    for row, kind in enumerate(modality):
        if kind not in MODALITIES:
            raise sensor.fault(row, "modality", repr(kind[:40]), " or ".join(MODALITIES))
    sensor_of = calibration.links("sensor_token", sensor)
    mounts = calibration.poses()
    kind_of = np.array(modality, np.str_)[sensor_of] if len(sensor) else np.zeros(0, np.str_)
    matrices = _intrinsics(calibration, kind_of == "camera")

    data = tables["sample_data"]
    sample = data.links("sample_token", tables["sample"])
    key, mount = data.flags("is_key_frame"), data.links("calibrated_sensor_token", calibration)
    keep = wanted[sample] & (key | ((kind_of[mount] == "lidar") & past))
    row = np.flatnonzero(keep)
    data, sample, key, mount = data.select(keep), sample[keep], key[keep], mount[keep]
    poses = tables["ego_pose"]
    used = set(data.texts("ego_pose_token"))
    poses = poses.select(np.array([row["token"] in used for row in poses.rows], bool))
    pose = data.links("ego_pose_token", poses)
    size = np.stack([data.counts("height"), data.counts("width")], axis=1)
    off = (size.min(1) < 1) | (size.max(1) > MAX_PIXELS)
    for bad in np.flatnonzero(off & (kind_of[mount] == "camera"))[:1]:
        raise data.fault(int(bad), "height, width", size[bad].tolist(), "those of the image")
    return Sensors(
        row=row,
        sample=sample,
        key=key,
        time=data.numbers("timestamp") * _TICK,
        channel=[channel[row] for row in sensor_of[mount]],
        modality=[modality[row] for row in sensor_of[mount]],
        file=data.texts("filename"),
        world_from_ego=poses.poses()[pose],
        ego_from_sensor=mounts[mount],
        intrinsics=matrices[mount],
        size=size,
    )


def _intrinsics(calibration: Table, camera: np.ndarray) -> np.ndarray:
    """[N, 3, 3], zero for what is no camera."""
    table = calibration.select(camera)
    k = table.numbers("camera_intrinsic", 3, 3)
    bad = (k[:, 0, 0] <= 0) | (k[:, 1, 1] <= 0) | (k[:, 1, 0] != 0) | (k[:, 2] != (0, 0, 1)).any(1)
    for row in np.flatnonzero(bad)[:1]:
        expected = "[[fx, s, cx], [0, fy, cy], [0, 0, 1]]"
        raise table.fault(int(row), "camera_intrinsic", k[row].tolist(), expected)
    out = np.zeros((len(calibration), 3, 3))
    out[camera] = k
    return out


def read_annotations(tables: Tables, wanted: np.ndarray) -> Annotations:
    """Boxes of the samples where `wanted` [S] bool.

    Raises:
      DataError: see `Table`; a size that is not positive, another visibility than 1 to 4.
    """
    categories, instances = tables["category"], tables["instance"]
    visibility, table = tables["visibility"], tables["sample_annotation"]
    sample = table.links("sample_token", tables["sample"])
    own = np.flatnonzero(wanted[sample])
    table, sample = table.select(wanted[sample]), sample[own]
    sizes = table.numbers("size", 3)
    for row in np.flatnonzero(~(sizes > 0).all(axis=1))[:1]:
        raise table.fault(int(row), "size", sizes[row].tolist(), "positive lengths")
    level = table.links("visibility_token", visibility, optional=True)
    levels = [_level(visibility, row, token) for row, token in enumerate(visibility.number)]
    instance = table.links("instance_token", instances)
    names = np.array(categories.texts("name"), np.str_)
    category = instances.links("category_token", categories)
    order = np.argsort(sample, kind="stable")
    columns = {
        "row": own,
        "sample": sample,
        "size": sizes[:, [1, 0, 2]],
        "world_from_box": table.poses(),
        "label": names[category[instance]] if len(instance) else np.zeros(0, np.str_),
        "instance": np.array(table.texts("instance_token"), np.str_),
        "visibility": np.array([*levels, 4], np.int64)[level],  # the last one: not known
        "points": table.counts("num_lidar_pts"),
    }
    return Annotations(**{name: values[order] for name, values in columns.items()})


def read_image_annotations(
    tables: Tables, sensors: Sensors, boxes: Annotations
) -> ImageAnnotations:
    """Boxes in images, from the table that nuScenes' own export script makes; none without it.

    Raises:
      DataError: see `Table`; corners that are not left, top, right, bottom.
    """
    if not is_file(tables.path("image_annotations")):
        none = np.zeros(0, np.int64)
        return ImageAnnotations(none, none, np.zeros((0, 4)))
    table = tables["image_annotations"]
    corners = table.numbers("bbox_corners", 4)
    for row in np.flatnonzero((corners[:, :2] > corners[:, 2:]).any(1))[:1]:
        found, expected = corners[row].tolist(), "left, top, right, bottom"
        raise table.fault(int(row), "bbox_corners", found, expected)
    recording, box = (
        _back(rows, len(tables[name]))[table.links(f"{name}_token", tables[name])]
        for name, rows in (("sample_data", sensors.row), ("sample_annotation", boxes.row))
    )
    used = np.flatnonzero((recording >= 0) & (box >= 0))
    used = used[np.argsort(recording[used], kind="stable")]
    strange = np.flatnonzero(sensors.sample[recording[used]] != boxes.sample[box[used]])
    for row in used[strange][:1]:
        found, expected = "a box of another key frame", "one of the image's"
        raise table.fault(int(row), "sample_annotation_token", found, expected)
    return ImageAnnotations(recording[used], box[used], corners[used])


def _back(rows: np.ndarray, count: int) -> np.ndarray:
    """Where each of `count` rows is in `rows`, -1 for nowhere."""
    out = np.full(count, -1)
    out[rows] = np.arange(len(rows))
    return out


def _level(table: Table, row: int, token: str) -> int:
    """1 to 4: the tokens of the table are these numbers."""
    if token not in ("1", "2", "3", "4"):
        raise table.fault(row, "token", repr(token[:40]), "1, 2, 3 or 4")
    return int(token)
