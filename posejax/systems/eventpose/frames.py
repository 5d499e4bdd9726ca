"""Sequences of pictures made from events (time surfaces), with a pose each; NumPy only.

    ROOT/labels.csv     header filename,Tx,Ty,Tz,Qx,Qy,Qz,Qw; one row per frame, in time order
    ROOT/frames/NAME    the pictures, one size, 8 bits; channels are consecutive slices of time
    ROOT/camera.json    cameraMatrix, Nu, Nv of the sensor (pixels counted from the corner)

The pictures may be a centred crop of the sensor, shrunk by a whole number: their intrinsics follow
from their size.
"""

from pathlib import Path
from typing import Any

import numpy as np

from posejax.data.cameras import Camera
from posejax.data.dataset import Source
from posejax.data.errors import DataError
from posejax.data.event_files.spades_csv import read_spades_labels
from posejax.data.files import json_number, path_inside, read_json
from posejax.data.images import read_image

_LARGEST = 1 << 14  # pixels of a side


def read_camera(path: Path) -> Camera:
    """camera.json of SPADES.

    Raises:
      DataError: missing or not a camera.
    """
    found = read_json(path, "cameraMatrix, Nu and Nv")
    rows: Any = found.get("cameraMatrix")
    lists = isinstance(rows, list) and all(isinstance(row, list) for row in rows)
    if not lists or [len(row) for row in rows] != [3, 3, 3]:
        raise DataError(path, "cameraMatrix", repr(rows)[:80], "3 x 3 numbers")
    k = np.array([[json_number(path, "cameraMatrix", v) for v in row] for row in rows])
    if min(k[0, 0], k[1, 1]) <= 0:
        raise DataError(path, "cameraMatrix", k.tolist(), "3 x 3 with positive focal lengths")
    height, width = (json_number(path, key, found.get(key)) for key in ("Nv", "Nu"))
    if not all(side == int(side) and 0 < side <= _LARGEST for side in (height, width)):
        raise DataError(path, "Nv, Nu", (height, width), f"1 to {_LARGEST} pixels")
    return Camera(k, (int(height), int(width)))


def crop_camera(camera: Camera, size: tuple[int, int]) -> Camera:
    """Camera of pictures of `size` (H, W): the largest centred crop, shrunk by a whole number."""
    factor = min(camera.size[0] // size[0], camera.size[1] // size[1])
    if factor < 1:
        raise ValueError(f"pictures of {size} are larger than the sensor, {camera.size}")
    (height, width), whole = camera.size, (size[0] * factor, size[1] * factor)
    corner = (width - whole[1]) / 2, (height - whole[0]) / 2
    return camera.cropped(corner, whole).resized(size)


def read_picture(path: Path) -> np.ndarray:
    """[H, W, 3] uint8.

    Raises:
      DataError: missing, or no picture.
    """
    return read_image(path, convert="RGB")


def picture_size(root: Path) -> tuple[int, int]:
    """(H, W) of the pictures of a folder: that of the first."""
    for path in sorted((root / "frames").glob("*")):
        height, width, _ = read_picture(path).shape
        return height, width
    raise DataError(root / "frames", "pictures", "none", "one for each row of labels.csv")


class FrameSource(Source):
    """Labelled pictures of one folder; all of them stay in memory.

    Args:
      root: the folder.
      rows: first and last (exclusive) row of labels.csv.
      rate: labels per second.
    """

    def __init__(self, root: str | Path, rows: tuple[int, int], rate: float = 10.0):
        self.root = Path(root)
        self.track = read_spades_labels(self.root / "labels.csv", label_rate=rate)
        self.rows = range(*rows).start, min(rows[1], len(self.track))
        if self.rows[0] >= self.rows[1]:
            raise DataError(
                self.root / "labels.csv", "rows", len(self.track), f"more than {rows[0]}"
            )
        images = [self._read(i) for i in range(*self.rows)]
        for row, image in enumerate(images, start=self.rows[0]):
            if image.shape != images[0].shape:
                path = self.root / "frames" / self.track.names[row]
                raise DataError(
                    path, "size", image.shape[:2], f"{images[0].shape[:2]} as the first"
                )
        self.images = np.stack(images)

    def _read(self, row: int) -> np.ndarray:
        name, folder = self.track.names[row], self.root / "frames"
        path = path_inside(folder, name)
        if path is None:
            table = self.root / "labels.csv"
            raise DataError(table, "column filename", repr(name)[:80], f"a name within {folder}")
        return read_picture(path)

    def __len__(self) -> int:
        return self.rows[1] - self.rows[0]

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {
            "index": index,
            "row": self.rows[0] + index,
            "image": self.images[index],
            "track": self.track,
        }

    def describe(self, index: int) -> str:
        return self.track.names[self.rows[0] + index]

    def translations(self) -> np.ndarray:
        """[N, 3] m."""
        return self.track.translation[slice(*self.rows)]


def frame_example(record: dict[str, Any]) -> dict[str, np.ndarray]:
    """Example of a record of `FrameSource`: as `window_example`, with `image` for events."""
    track, row = record["track"], record["row"]
    pose = np.concatenate([track.translation[row], track.quat_xyzw[row]])
    return {
        "index": np.array(record["index"], np.int32),
        "sequence": np.array(0, np.int32),
        "time": np.array(track.t_seconds[row], np.float32),
        "poses": np.stack([pose, pose]).astype(np.float32),
        "fraction": np.array(0, np.float32),
        "light": np.array(np.nan, np.float32),
        "found": np.array(np.count_nonzero(record["image"]), np.int32),
        "image": record["image"],
    }
