"""Lists of image pairs with intrinsics and relative pose: ScanNet's test pairs. To evaluate on.

ROOT/pairs.json: a list of objects with image0, image1, K0, K1, T_0to1 and optionally size_wh; or a
text file in SuperGlue's form, a pair in a line: image0 image1 rot0 rot1 K0 (9) K1 (9) T_0to1 (16),
of images that are not to be turned (rot0 = rot1 = 0). Both put the first pixel's centre at (0, 0).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from posejax.data.cameras import PixelConvention
from posejax.data.dataset import Source
from posejax.data.errors import DataError
from posejax.data.files import decoding, is_file, path_inside, read_text, root_folder
from posejax.data.images import read_image
from posejax.data.raster_folder import OnError
from posejax.data.rgbd_frames import checked_intrinsics, checked_pose
from posejax.data.tables import finite_numbers, read_words
from posejax.systems.tinyroma.pairs import Pairs

_FORM = "image0, image1, K0, K1, T_0to1"


class ListedPair(NamedTuple):
    """A line of a list: images, intrinsics (first centre at 0.5) and b_from_a."""

    image_a: Path
    image_b: Path
    intrinsics_a: np.ndarray
    intrinsics_b: np.ndarray
    b_from_a: np.ndarray
    size: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class ScanNetPairs(Pairs):
    """Pairs without depth, for evaluation.

    Attributes:
      root: folder of the images and the list.
      pairs: name of the list in it: .json, or .txt in SuperGlue's form.
      pixels: convention of the list's intrinsics.
      on_error: "stop" at a pair that cannot be used, or "skip" and list it.
    """

    root: str = ""
    pairs: str = "pairs.json"
    pixels: PixelConvention = "opencv"
    on_error: OnError = "stop"

    splits: ClassVar[tuple[str, ...]] = ("test",)

    @property
    def kind(self) -> str:
        return f"image pairs of {Path(self.root).resolve().name}"

    def source(self, split: str) -> "ListSource":
        """Raises DataError: any other split than "test"; an unusable list."""
        root = root_folder(self.root, f"a folder with {self.pairs}")
        if split not in self.splits:
            raise DataError(root, f"split {split!r}", "has no depth to train on", '"test"')
        return ListSource(root, self.pairs, self.pixels, self.on_error)


class ListSource(Source):
    """The pairs of a list, in its order."""

    def __init__(self, root: Path, name: str, pixels: PixelConvention, on_error: OnError):
        self.skipped = skipped = []
        self.pairs: list[ListedPair] = []
        path = root / name
        for field, entry in _entries(path):
            try:
                self.pairs.append(_pair(path, field, entry, pixels))
            except DataError as error:
                if on_error == "stop":
                    raise
                skipped.append((field, str(error)))
        if not self.pairs:
            hint = f"the first skipped: {skipped[0][1]}" if skipped else ""
            raise DataError(path, "pairs", "no usable pair", "at least one", hint)

    def __len__(self) -> int:
        return len(self.pairs)

    def describe(self, index: int) -> str:
        pair = self.pairs[index]
        return f"{pair.image_a.name} - {pair.image_b.name}"

    def __getitem__(self, index: int) -> dict[str, Any]:
        pair = self.pairs[index]
        a, b = (read_image(path, convert="RGB") for path in (pair.image_a, pair.image_b))
        for path, image in ((pair.image_a, a), (pair.image_b, b)):
            if pair.size and image.shape[:2] != pair.size:
                expected = f"{pair.size}, to which the list's intrinsics belong"
                raise DataError(path, "size (H, W)", image.shape[:2], expected)
        return {
            "index": index,
            "image_a": a,
            "image_b": b,
            "K_a": pair.intrinsics_a,
            "K_b": pair.intrinsics_b,
            "b_from_a": pair.b_from_a,
            "overlap": np.nan,
        }


def _entries(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(where, {name: value}) of every pair of a list."""
    if path.suffix == ".txt":
        return [(f"line {n}", _superglue(path, n, words)) for n, words in read_words(path, _FORM)]
    expected = f"a list of objects with {_FORM}"
    text = read_text(path, expected)
    with decoding(path, "file", expected):
        entries = json.loads(text)
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise DataError(path, "top level", type(entries).__name__, expected)
    return [(f"pair {k}", entry) for k, entry in enumerate(entries)]


def _superglue(path: Path, line: int, words: list[str]) -> dict[str, Any]:
    if len(words) != 38:
        expected = "38: image0 image1 rot0 rot1 K0 (9) K1 (9) T_0to1 (16)"
        raise DataError(path, f"line {line}", f"{len(words)} words", expected)
    numbers = np.array(finite_numbers(path, f"line {line}", words[2:]))
    if numbers[:2].any():
        raise DataError(path, f"line {line}: rot0, rot1", words[2:4], "0 0")
    k0, k1, pose = numbers[2:11], numbers[11:20], numbers[20:]
    return {
        "image0": words[0], "image1": words[1],
        "K0": k0.reshape(3, 3), "K1": k1.reshape(3, 3), "T_0to1": pose.reshape(4, 4),
    }  # fmt: skip


def _pair(path: Path, where: str, entry: dict[str, Any], pixels: PixelConvention) -> ListedPair:
    images = []
    for name in ("image0", "image1"):
        value = entry.get(name)
        image = path_inside(path.parent, value) if isinstance(value, str) else None
        if image is None or not is_file(image):
            found = "missing" if name not in entry else repr(value)[:80]
            raise DataError(path, f"{where}: {name}", found, "a file beside the list")
        images.append(image)
    cameras = [
        checked_intrinsics(path, f"{where}: {name}", _matrix(path, where, name, entry), pixels)
        for name in ("K0", "K1")
    ]
    pose = checked_pose(path, f"{where}: T_0to1", _matrix(path, where, "T_0to1", entry))
    size = None
    if "size_wh" in entry:
        value = entry["size_wh"]
        good = isinstance(value, list) and len(value) == 2 and all(type(v) is int for v in value)
        if not good:
            raise DataError(path, f"{where}: size_wh", repr(value)[:80], "[width, height]")
        size = value[1], value[0]
    return ListedPair(images[0], images[1], cameras[0], cameras[1], pose, size)


def _matrix(path: Path, where: str, name: str, entry: dict[str, Any]) -> np.ndarray:
    if name not in entry:
        raise DataError(path, f"{where}: {name}", "missing", _FORM)
    try:
        return np.array(entry[name], dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        found, expected = repr(entry[name])[:80], "rows of numbers"
        raise DataError(path, f"{where}: {name}", found, expected) from None
