"""Sequences of pictures made from events (time surfaces), with a pose each; NumPy only.

    ROOT/labels.csv     header filename,Tx,Ty,Tz,Qx,Qy,Qz,Qw; one row per frame, in time order
    ROOT/frames/NAME    the pictures, one size, 8 bits; channels are consecutive slices of time
    ROOT/camera.json    cameraMatrix, Nu, Nv of the sensor (pixels counted from the corner)

The pictures may be a centred crop of the sensor, shrunk by a whole number: their intrinsics follow
from their size.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from posejax.data.cameras import Camera
from posejax.data.dataset import Source
from posejax.data.errors import DataError
from posejax.data.event_files.spades_csv import read_spades_labels


def read_camera(path: Path) -> Camera:
    """camera.json of SPADES.

    Raises:
      DataError: missing or not a camera.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        k = np.array(found["cameraMatrix"], np.float64)
        size = int(found["Nv"]), int(found["Nu"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        expected = "cameraMatrix, Nu and Nv"
        raise DataError(path, "camera", f"{type(error).__name__}: {error}", expected) from None
    if k.shape != (3, 3) or not np.isfinite(k).all() or min(k[0, 0], k[1, 1], *size) <= 0:
        raise DataError(path, "cameraMatrix", k.tolist(), "3 x 3 with positive focal lengths")
    return Camera(k, size)


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
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(path, "picture", str(error), "an 8-bit picture") from None


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
        self.images = np.stack([self._read(i) for i in range(*self.rows)])

    def _read(self, row: int) -> np.ndarray:
        return read_picture(self.root / "frames" / self.track.names[row])

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
        "index": np.int32(record["index"]),
        "sequence": np.int32(0),
        "time": np.float32(track.t_seconds[row]),
        "poses": np.stack([pose, pose]).astype(np.float32),
        "fraction": np.float32(0),
        "light": np.float32(np.nan),
        "found": np.int32(np.count_nonzero(record["image"])),
        "image": record["image"],
    }
