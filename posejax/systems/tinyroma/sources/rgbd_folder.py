"""Pairs of RGB-D recordings: a folder of frames, or a folder of such folders."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posejax.data.cameras import PixelConvention
from posejax.data.dataset import SPLITS, Source
from posejax.data.errors import DataError
from posejax.data.files import is_file, root_folder
from posejax.data.raster_folder import OnError
from posejax.data.rgbd_frames import FrameFiles, has_frames, list_frames, read_frame
from posejax.data.rigid import se3_inverse
from posejax.data.tables import named_row, read_csv
from posejax.systems.tinyroma.pairs import Pairs
from posejax.systems.tinyroma.warp_targets import overlap

PAIRS_FILE = "pairs.csv"


@dataclass(frozen=True, kw_only=True)
class RgbdFolder(Pairs):
    """Frames with depth, pose and intrinsics (layouts: `posejax.data.rgbd_frames`).

    Attributes:
      root: folder of the frames, or of folders of frames, one for each recording; folders train,
        val and test in it, if there, are the splits.
      split: shares of the recordings (of the pairs where there is one recording) that train,
        validate and test, where there are no such folders.
      pixels: convention of the intrinsics' files: where the first pixel's centre is.
      overlap: least and greatest share of A that B sees, where a recording has no pairs.csv with
        the columns a and b (names of frames) and overlap (may be empty).
      most: pairs of a recording without pairs.csv, evenly drawn.
      on_error: "stop" at a recording or a pair that cannot be used, or "skip" and list it.
    """

    root: str = ""
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)
    pixels: PixelConvention = "opencv"
    overlap: tuple[float, float] = (0.2, 0.95)
    most: int = 200
    on_error: OnError = "stop"

    @property
    def kind(self) -> str:
        return f"RGB-D frames of {Path(self.root).resolve().name}"

    def source(self, split: str) -> "RgbdSource":
        """Raises DataError: no such folder, no frames, an unusable list of pairs, no pair."""
        root = root_folder(self.root, "a folder of RGB-D frames")
        options = self.overlap, self.most, self.on_error
        if (root / split).is_dir():
            return RgbdSource(recordings(root / split), self.pixels, *options)
        folders = recordings(root)
        if len(folders) >= len(SPLITS):
            return RgbdSource(divide(folders, self.split, split), self.pixels, *options)
        source = RgbdSource(folders, self.pixels, *options)
        source.pairs = divide(source.pairs, self.split, split)
        if not source.pairs:
            raise DataError(root, f"split {split!r}", "no pair", "at least one")
        return source


def recordings(root: Path) -> list[Path]:
    """The folders of frames in a folder, or the folder itself where it has none."""
    inner = sorted(p for p in root.iterdir() if p.is_dir() and has_frames(p))
    return inner if inner and not has_frames(root) else [root]


def divide(items: list, shares: Sequence[float], split: str) -> list:
    """The items of a split: consecutive, in the proportions of `shares`."""
    ends = np.rint(np.cumsum([0.0, *shares]) / np.sum(shares) * len(items)).astype(int)
    k = SPLITS.index(split)
    return items[ends[k] : ends[k + 1]]


class RgbdSource(Source):
    """Pairs of recordings, one recording after the other."""

    def __init__(
        self,
        folders: Sequence[Path],
        pixels: PixelConvention = "opencv",
        bounds: tuple[float, float] = (0.2, 0.95),
        most: int = 200,
        on_error: OnError = "stop",
    ):
        self.pixels: PixelConvention = pixels
        self.skipped = skipped = []
        self.pairs: list[tuple[FrameFiles, FrameFiles, float]] = []
        for folder in folders:
            try:
                if is_file(folder / PAIRS_FILE):
                    self.pairs += read_pair_list(folder, on_error, skipped)
                else:
                    self.pairs += overlapping(list_frames(folder), pixels, bounds, most)
            except DataError as error:
                if on_error == "stop":
                    raise
                skipped.append((folder.name, str(error)))
        if not self.pairs:
            hint = f"the first skipped: {skipped[0][1]}" if skipped else ""
            where = folders[0] if folders else "data source"
            raise DataError(where, "pairs", "no pair", "frames that see the same things", hint)

    def __len__(self) -> int:
        return len(self.pairs)

    def describe(self, index: int) -> str:
        a, b, _ = self.pairs[index]
        return f"{a.image} - {b.image.name}"

    def __getitem__(self, index: int) -> dict[str, Any]:
        files_a, files_b, share = self.pairs[index]
        a, b = read_frame(files_a, self.pixels), read_frame(files_b, self.pixels)
        return {
            "index": index,
            "image_a": a.image,
            "image_b": b.image,
            "K_a": a.intrinsics,
            "K_b": b.intrinsics,
            "depth_a": a.depth,
            "depth_b": b.depth,
            "b_from_a": se3_inverse(b.world_from_camera) @ a.world_from_camera,
            "overlap": share,
        }


def read_pair_list(
    folder: Path, on_error: OnError = "stop", skipped: list | None = None
) -> list[tuple[FrameFiles, FrameFiles, float]]:
    """The pairs of FOLDER/pairs.csv.

    Raises:
      DataError: a missing column; with "stop" a row with a frame that is not there, or an overlap
        that is no share.
    """
    path = folder / PAIRS_FILE
    names, rows = read_csv(path, ("a", "b"))
    frames = {frame.name: frame for frame in list_frames(folder)}
    pairs = []
    for line, words in rows:
        try:
            row = named_row(path, line, names, words)
            for column in ("a", "b"):
                if row[column] not in frames:
                    found, expected = repr(row[column])[:80], "the name of a frame"
                    raise DataError(path, f"line {line}: {column}", found, expected)
            share = _share(path, line, row.get("overlap", ""))
            pairs.append((frames[row["a"]], frames[row["b"]], share))
        except DataError as error:
            if on_error == "stop":
                raise
            (skipped if skipped is not None else []).append((f"{path} line {line}", str(error)))
    return pairs


def _share(path: Path, line: int, word: str) -> float:
    if not word.strip():
        return float("nan")
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise DataError(path, f"line {line}: overlap", repr(word)[:40], "a share from 0 to 1")
    return value


def write_pair_list(folder: Path, pairs: Sequence[tuple[int, int, float]]) -> None:
    """Write FOLDER/pairs.csv of (number, number, overlap) of frames in 7-Scenes' names."""
    lines = [f"frame-{a:06d},frame-{b:06d},{share:.4f}\n" for a, b, share in pairs]
    (folder / PAIRS_FILE).write_text("a,b,overlap\n" + "".join(lines))


def overlapping(
    frames: list[FrameFiles], pixels: PixelConvention, bounds: tuple[float, float], most: int
) -> list[tuple[FrameFiles, FrameFiles, float]]:
    """Up to `most` pairs within the bounds of the overlap, evenly drawn from all frames.

    At most 64 frames, evenly spread, are looked at: what they see is read from disk.
    """
    keep = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), 64)).astype(int))
    frames = [frames[k] for k in keep]
    read = [read_frame(frame, pixels) for frame in frames]
    found = []
    for (i, a), (j, b) in itertools.combinations(enumerate(read), 2):
        b_from_a = se3_inverse(b.world_from_camera) @ a.world_from_camera
        share = overlap((a.depth, b.depth), (a.intrinsics, b.intrinsics), b_from_a)
        if bounds[0] <= share <= bounds[1]:
            found.append((frames[i], frames[j], share))
    step = np.unique(np.linspace(0, len(found) - 1, min(len(found), most)).astype(int))
    return [found[k] for k in step] if found else []
