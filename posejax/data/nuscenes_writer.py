"""Scenes in nuScenes' layout, written: what `posejax.data.nuscenes` reads.

Tokens are digests of what they stand for, so that the same scene gets the same ones. The tables
`attribute` and `map` stay empty.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posejax.data.cameras import Camera, convert_intrinsics, convert_pixels
from posejax.data.files import read_json_rows
from posejax.data.nuscenes_tables import write_tables
from posejax.data.rig_frame import Boxes
from posejax.data.rigid import matrix_to_quat_xyzw

TABLE_NAMES = (
    "attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample",
    "sample_annotation", "sample_data", "scene", "sensor", "visibility", "image_annotations",
)  # fmt: skip
_VISIBILITY = ("v0-40", "v40-60", "v60-80", "v80-100")
_FORMATS = {"camera": "jpg", "lidar": "pcd", "radar": "pcd"}


class SceneWriter:
    """The tables of one scene, row by row.

    Times are whole microseconds, poses [4, 4], the world's frame is the file's.
    """

    def __init__(self, name: str, *, location: str, description: str, date: str = "2026-01-01"):
        self.name = name
        self._tables: dict[str, list[dict[str, Any]]] = {table: [] for table in TABLE_NAMES}
        self._modality: dict[str, str] = {}
        for number, level in enumerate(_VISIBILITY, 1):
            row = {"token": str(number), "level": level, "description": f"visibility {level} %"}
            self._tables["visibility"].append(row)
        log = {"logfile": name, "vehicle": "sim", "date_captured": date, "location": location}
        self._add("log", name, log)
        row = {"name": name, "description": description, "log_token": _token("log", name)}
        self._add("scene", name, row)

    def add_sensor(
        self, channel: str, modality: str, ego_from_sensor: np.ndarray, camera: Camera | None = None
    ) -> None:
        """A sensor as it is mounted, "camera", "lidar" or "radar"."""
        self._modality[channel] = modality
        row = {"channel": channel, "modality": modality}
        self._tables["sensor"].append({"token": _token("sensor", channel)} | row)
        k = [] if camera is None else convert_intrinsics(
            camera.intrinsics, source="posejax", target="opencv").tolist()  # fmt: skip
        row = {"sensor_token": _token("sensor", channel), "camera_intrinsic": k}
        self._add("calibrated_sensor", channel, row | _pose(ego_from_sensor))

    def add_sample(self, time_us: int) -> int:
        """A key frame; its number."""
        number = len(self._tables["sample"])
        row = {"timestamp": int(time_us), "scene_token": _token("scene", self.name)}
        self._add("sample", number, row)
        return number

    def add_recording(
        self,
        sample: int,
        channel: str,
        time_us: int,
        world_from_ego: np.ndarray,
        *,
        size: tuple[int, int] = (0, 0),
        key: bool = True,
    ) -> str:
        """What a sensor recorded; the name of the file to write, below the root.

        Args:
          sample: the key frame that it belongs to.
          world_from_ego: [4, 4] at `time_us`.
          size: (height, width) of an image.
        """
        modality = self._modality[channel]
        end = {"camera": "jpg", "lidar": "pcd.bin", "radar": "pcd"}[modality]
        folder = "samples" if key else "sweeps"
        file = f"{folder}/{channel}/{self.name}__{channel}__{int(time_us)}.{end}"
        mark = f"{channel}/{int(time_us)}"
        self._add("ego_pose", mark, {"timestamp": int(time_us)} | _pose(world_from_ego))
        row = {
            "sample_token": self._own("sample", sample),
            "ego_pose_token": self._own("ego_pose", mark),
            "calibrated_sensor_token": self._own("calibrated_sensor", channel),
            "timestamp": int(time_us),
            "fileformat": _FORMATS[modality],
            "is_key_frame": bool(key),
            "height": int(size[0]),
            "width": int(size[1]),
            "filename": file,
        }
        self._add("sample_data", mark, row)
        return file

    def add_image_boxes(
        self, sample: int, channel: str, time_us: int, instances: Sequence[str], corners: np.ndarray
    ) -> None:
        """What an image shows of boxes of its key frame: corners [M, 4] left, top, right, bottom,
        the first pixel's centre at (0.5, 0.5)."""
        corners = convert_pixels(corners, source="posejax", target="opencv")
        for name, around in zip(instances, corners, strict=True):
            self._tables["image_annotations"].append(
                {
                    "sample_data_token": self._own("sample_data", f"{channel}/{int(time_us)}"),
                    "sample_annotation_token": self._own("sample_annotation", f"{sample}/{name}"),
                    "instance_token": self._own("instance", name),
                    "bbox_corners": around.tolist(),
                }
            )

    def add_boxes(self, sample: int, world_from_ego: np.ndarray, boxes: Boxes) -> None:
        """Boxes of a key frame; `instance` names the thing within this scene."""
        poses = world_from_ego @ boxes.ego_from_box
        for i in range(len(boxes)):
            name, label = str(boxes.instance[i]), str(boxes.label[i])
            category = {"token": _token("category", label), "name": label, "description": ""}
            if category not in self._tables["category"]:
                self._tables["category"].append(category)
            known = {row["token"] for row in self._tables["instance"]}
            if self._own("instance", name) not in known:
                self._add("instance", name, {"category_token": category["token"]})
            row = {
                "sample_token": self._own("sample", sample),
                "instance_token": self._own("instance", name),
                "visibility_token": str(int(boxes.visibility[i])),
                "attribute_tokens": [],
                "size": boxes.size[i][[1, 0, 2]].tolist(),
                "num_lidar_pts": int(boxes.points[i]),
                "num_radar_pts": 0,
            }
            self._add("sample_annotation", f"{sample}/{name}", row | _pose(poses[i]))

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """All tables, their rows chained by `prev` and `next` where nuScenes' are."""
        out = {name: [dict(row) for row in rows] for name, rows in self._tables.items()}
        _chain(out["sample"], "scene_token")
        _chain(sorted(out["sample_data"], key=_time), "calibrated_sensor_token")
        _chain(out["sample_annotation"], "instance_token")
        for scene in out["scene"]:
            samples = [row["token"] for row in out["sample"]]
            scene |= {"nbr_samples": len(samples)} | _ends("sample", samples)
        for thing in out["instance"]:
            rows = [r for r in out["sample_annotation"] if r["instance_token"] == thing["token"]]
            thing |= {"nbr_annotations": len(rows)}
            thing |= _ends("annotation", [row["token"] for row in rows])
        return out

    def _own(self, table: str, mark: Any) -> str:
        return _token(table, mark if table in ("log", "scene") else f"{self.name}/{mark}")

    def _add(self, table: str, mark: Any, row: dict[str, Any]) -> None:
        self._tables[table].append({"token": self._own(table, mark)} | row)


def merge_scenes(root: str | Path, version: str, folders: Sequence[str]) -> None:
    """Make one data set of ROOT/FOLDER/VERSION: the tables side by side in ROOT/VERSION, the files
    where they are.

    Raises:
      DataError: a table that is missing or no array of objects.
      OSError: the folder cannot be written.
    """
    merged: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in TABLE_NAMES}
    for folder in folders:
        for name, rows in merged.items():
            path = Path(root) / folder / version / f"{name}.json"
            for number, row in enumerate(read_json_rows(path)):
                if isinstance(row.get("filename"), str):
                    row["filename"] = f"{folder}/{row['filename']}"
                # Kinds and sensors are the same in all; boxes in images have no tokens.
                rows.setdefault(str(row.get("token", f"{folder}/{number}")), row)
    tables = {name: list(rows.values()) for name, rows in merged.items()}
    write_tables(Path(root) / version, tables)


def _token(table: str, mark: Any) -> str:
    return hashlib.sha256(f"{table}/{mark}".encode()).hexdigest()[:32]


def _pose(pose: np.ndarray) -> dict[str, Any]:
    quat = np.roll(matrix_to_quat_xyzw(pose[:3, :3]), 1)  # w first
    return {"rotation": quat.tolist(), "translation": np.asarray(pose[:3, 3]).tolist()}


def _chain(rows: Sequence[dict[str, Any]], key: str) -> None:
    last: dict[str, dict[str, Any]] = {}
    for row in rows:
        before = last.get(row[key])
        row |= {"prev": before["token"] if before else "", "next": ""}
        if before:
            before["next"] = row["token"]
        last[row[key]] = row


def _ends(name: str, tokens: Sequence[str]) -> dict[str, str]:
    return {f"first_{name}_token": tokens[0] if tokens else "",
            f"last_{name}_token": tokens[-1] if tokens else ""}  # fmt: skip


def _time(row: dict[str, Any]) -> int:
    return row["timestamp"]
