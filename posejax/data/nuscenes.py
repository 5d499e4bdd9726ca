"""Key frames of nuScenes (Caesar et al., CVPR 2020), from the official tables, without the devkit.

    ROOT/v1.0-mini/scene.json ...             the tables, see `posejax.data.nuscenes_columns`
    ROOT/samples/CAM_FRONT/....jpg            what `sample_data.filename` names
    ROOT/sweeps/LIDAR_TOP/....pcd.bin         and what lies between key frames

Every sensor has its own time and the vehicle its pose at that time. A frame's ego frame is that of
its LiDAR sweep; all other sensors lead there by way of the world: the vehicle moves up to half a
metre between two of them. Quaternions have w first, sizes are width, length, height, pixels count
from the first one's centre: all that is converted here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posejax.data.av2_cameras import RigCamera
from posejax.data.cameras import Camera, convert_intrinsics, convert_pixels
from posejax.data.errors import DataError
from posejax.data.files import is_file, path_inside, read_text
from posejax.data.nuscenes_columns import (
    MODALITIES,
    Annotations,
    ImageAnnotations,
    Sensors,
    Tables,
    read_annotations,
    read_image_annotations,
    read_sensors,
)
from posejax.data.rig_frame import Boxes, ImageBoxes, LidarSweep, RadarSweep, RigFrame
from posejax.data.rigid import se3_inverse

#: The official splits of v1.0-mini; those of v1.0-trainval come from a file, see `read_names`.
MINI_TRAIN = (
    "scene-0061", "scene-0553", "scene-0655", "scene-0757",
    "scene-0796", "scene-1077", "scene-1094", "scene-1100",
)  # fmt: skip
MINI_VAL = ("scene-0103", "scene-0916")


@dataclass(frozen=True)
class Scene:
    """A drive: its name, where and what it is, and its key frames in order of time."""

    name: str
    location: str
    description: str
    frames: range


class Scenes(Sequence[RigFrame]):
    """Key frames, put together when asked for; see `read_nuscenes`."""

    def __init__(
        self,
        table: Path,
        root: Path,
        scenes: tuple[Scene, ...],
        samples: np.ndarray,
        scene_of: np.ndarray,
        sensors: Sensors,
        boxes: Annotations,
        image_boxes: ImageAnnotations,
        sweeps: int,
    ):
        self.scenes = scenes
        self._table, self._root, self._samples = table, root, samples
        self._sensors, self._boxes, self._sweeps = sensors, boxes, sweeps
        self._image_boxes = image_boxes
        # Where the recordings of each sample are, in the order of the file.
        self._order = np.argsort(sensors.sample, kind="stable")
        self._sorted = sensors.sample[self._order]
        # All LiDAR sweeps, by the scene they are of and their time.
        self._scene_of = scene_of[sensors.sample]
        lidar = np.flatnonzero([kind == "lidar" for kind in sensors.modality])
        self._lidar = lidar[np.lexsort((sensors.time[lidar], self._scene_of[lidar]))]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index):
        """The frame of a number, or `Scenes`' frames of a slice as a list.

        Raises:
          DataError: a file that is not there or lies outside of the data set, a sensor twice in a
            key frame, none or several LiDARs.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        sample, data = int(self._samples[range(len(self))[index]]), self._sensors
        low, high = np.searchsorted(self._sorted, [sample, sample + 1])
        by_kind: dict[str, dict[str, int]] = {kind: {} for kind in MODALITIES}
        for row in self._order[low:high]:
            if data.key[row]:
                rows = by_kind[data.modality[row]]
                if data.channel[row] in rows:
                    found = f"{data.channel[row]} twice in the key frame of {data.file[row][:80]}"
                    raise DataError(self._table, "is_key_frame", found, "each sensor once")
                rows[data.channel[row]] = int(row)
        if len(by_kind["lidar"]) != 1:
            found = f"{len(by_kind['lidar'])} LiDARs in key frame {index}"
            raise DataError(self._table, "is_key_frame", found, "one")
        (lidar,) = by_kind["lidar"].values()
        ego_from_world = se3_inverse(data.world_from_ego[lidar])

        def posed(row: int) -> np.ndarray:
            return ego_from_world @ data.world_from_ego[row] @ data.ego_from_sensor[row]

        cameras = by_kind["camera"]
        return RigFrame(
            time=float(data.time[lidar]),
            cameras={c: RigCamera(c, self._camera(r), posed(r)) for c, r in cameras.items()},
            mounted={c: data.ego_from_sensor[r] for c, r in cameras.items()},
            times={c: float(data.time[r]) for c, r in cameras.items()},
            images={c: self._file(r) for c, r in cameras.items()},
            lidar=self._file(lidar),
            ego_from_lidar=data.ego_from_sensor[lidar],
            world_from_ego=data.world_from_ego[lidar],
            boxes=self._boxes_of(sample, ego_from_world),
            image_boxes={
                c: seen for c, r in cameras.items() if len((seen := self._seen(sample, r)).box)
            },
            radar={
                c: RadarSweep(self._file(r), posed(r), float(data.time[r]))
                for c, r in by_kind["radar"].items()
            },
            sweeps=tuple(
                LidarSweep(self._file(r), posed(r), float(data.time[r])) for r in self._past(lidar)
            ),
        )

    def _past(self, lidar: int) -> list[int]:
        """Rows of the sweeps before one, the latest first."""
        at = int(np.flatnonzero(self._lidar == lidar)[0]) if self._sweeps else 0
        rows = self._lidar[max(at - self._sweeps, 0) : at][::-1]
        return [int(r) for r in rows if self._scene_of[r] == self._scene_of[lidar]]

    def _camera(self, row: int) -> Camera:
        k = convert_intrinsics(self._sensors.intrinsics[row], source="opencv", target="posejax")
        return Camera(k, (int(self._sensors.size[row, 0]), int(self._sensors.size[row, 1])))

    def _file(self, row: int) -> Path:
        name = self._sensors.file[row]
        found = path_inside(self._root, name)
        if found is None or not is_file(found):
            expected = f"a file below {self._root}"
            raise DataError(self._table, "filename", repr(name[:120]), expected)
        return found

    def _seen(self, sample: int, row: int) -> ImageBoxes:
        seen = self._image_boxes
        rows = slice(*np.searchsorted(seen.recording, [row, row + 1]))
        first = np.searchsorted(self._boxes.sample, sample)
        corners = convert_pixels(seen.corners[rows], source="opencv", target="posejax")
        return ImageBoxes(corners, seen.box[rows] - first)

    def _boxes_of(self, sample: int, ego_from_world: np.ndarray) -> Boxes:
        boxes = self._boxes
        rows = slice(*np.searchsorted(boxes.sample, [sample, sample + 1]))
        return Boxes(
            size=boxes.size[rows],
            ego_from_box=ego_from_world @ boxes.world_from_box[rows],
            label=boxes.label[rows],
            points=boxes.points[rows],
            visibility=boxes.visibility[rows],
            instance=boxes.instance[rows],
        )


def read_nuscenes(
    root: str | Path,
    version: str = "v1.0-mini",
    *,
    scenes: Iterable[str] | None = None,
    sweeps: int = 0,
) -> Scenes:
    """Key frames of a data set in nuScenes' layout.

    Args:
      root: the folder that holds `samples` and the folder of the tables.
      version: name of the folder of the tables.
      scenes: names of the scenes to keep, e.g. `MINI_TRAIN` or `read_names(...)`; None: all.
      sweeps: number of LiDAR sweeps before a frame's own that it names as well.

    Returns:
      Frames, scene by scene in the order of the table, in order of time: a sequence that puts a
      `RigFrame` together when it is asked for. Boxes are those that are annotated, in the ego frame
      at the LiDAR's time; label "vehicle.car" and the like. Boxes in images if there is the table
      `image_annotations.json` that nuScenes' export_2d_annotations_as_json.py makes.

    Raises:
      DataError: a missing table or column, a value of another kind, a token that the other table
        has not, a pose or size that is none, a name in `scenes` that is none.

    The tables are held in memory as Python objects while they are read: 10 GB for v1.0-trainval.
    What is kept of each key frame is a few kilobytes.
    """
    root = Path(root)
    tables = Tables(root / version)
    drives, samples, scene_of = _scenes(tables, scenes)
    wanted = np.isin(np.arange(len(scene_of)), samples)
    sensors = read_sensors(tables, wanted, past=sweeps > 0)
    boxes = read_annotations(tables, wanted)
    path = tables["sample_data"].path
    seen = read_image_annotations(tables, sensors, boxes)
    return Scenes(path, root, drives, samples, scene_of, sensors, boxes, seen, sweeps)


def read_names(path: str | Path) -> list[str]:
    """Names of scenes from a text file, one in a line; "#" begins a comment.

    Raises:
      DataError: missing file, no UTF-8, no name.
    """
    lines = read_text(path, "names of scenes, one in a line").splitlines()
    names = [name for line in lines if (name := line.partition("#")[0].strip())]
    if not names:
        raise DataError(path, "lines", "no name", "names of scenes, one in a line")
    return names


def _scenes(
    tables: Tables, names: Iterable[str] | None
) -> tuple[tuple[Scene, ...], np.ndarray, np.ndarray]:
    """The scenes of those names, the rows of their samples one after the other, and the row of the
    scene of every sample."""
    table, samples = tables["scene"], tables["sample"]
    there, about = table.texts("name"), table.texts("description")
    log, places = table.links("log_token", tables["log"]), tables["log"].texts("location")
    chosen = set(there) if names is None else set(names)
    for name in chosen - set(there):
        raise DataError(table.path, "name", f"no scene {name[:60]!r}", "the names asked for")
    scene_of, time = samples.links("scene_token", table), samples.numbers("timestamp")
    scenes, rows, first = [], [np.zeros(0, np.int64)], 0
    for number, name in enumerate(there):
        if name in chosen:
            own = np.flatnonzero(scene_of == number)
            frames = range(first, first + len(own))
            scenes.append(Scene(name, places[log[number]], about[number], frames))
            rows.append(own[np.argsort(time[own], kind="stable")])
            first += len(own)
    return tuple(scenes), np.concatenate(rows), scene_of
