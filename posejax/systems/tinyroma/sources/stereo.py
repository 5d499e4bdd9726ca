"""Rectified stereo pairs with a disparity map: x_right = x_left - d, rows are the same.

A folder is a pair, or holds a folder for each pair, by Middlebury's names or plain ones:

    im0.png, im1.png, disp0.pfm, calib.txt       or
    left.png, right.png, disp.npy (.npz, .pfm, .png)       also with a prefix: motorcycle_left.png

Disparity is in pixels of the left image; what is not finite or not above 0 is unknown. A .png holds
256 d in 16 bits (KITTI). calib.txt is Middlebury's (cam0, cam1, baseline in mm). Without it the
scale is nominal: for the warp, and the direction of the baseline, it does not matter.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posejax.data.arrays import read_npy, read_npz
from posejax.data.cameras import PixelConvention
from posejax.data.dataset import Source
from posejax.data.errors import DataError
from posejax.data.files import is_file, read_bytes, root_folder
from posejax.data.images import read_image
from posejax.data.raster_folder import OnError
from posejax.data.rgbd_frames import checked_intrinsics
from posejax.data.tables import finite_numbers, read_words
from posejax.systems.tinyroma.pairs import Pairs
from posejax.systems.tinyroma.sources.rgbd_folder import divide

_NAMES = (("im0", "im1", "disp0"), ("left", "right", "disp"))
_BASELINE = 0.1  # metres, nominal


@dataclass(frozen=True)
class StereoFiles:
    """Where the parts of a pair are; `calibration` may be None."""

    left: Path
    right: Path
    disparity: Path
    calibration: Path | None


@dataclass(frozen=True, kw_only=True)
class StereoFolder(Pairs):
    """Rectified stereo pairs.

    Attributes:
      root: folder of a pair, or of folders of pairs.
      split: shares of the pairs that train, validate and test.
      pixels: convention of the calibration files.
      on_error: "stop" at a folder that cannot be used, or "skip" and list it.
    """

    root: str = ""
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)
    pixels: PixelConvention = "opencv"
    on_error: OnError = "stop"

    @property
    def kind(self) -> str:
        return f"stereo pairs of {Path(self.root).resolve().name}"

    def source(self, split: str) -> "StereoSource":
        """Raises DataError: no such folder, no pair of the split in it."""
        root = root_folder(self.root, "a folder of rectified stereo pairs")
        inner = sorted(p for p in root.iterdir() if p.is_dir())
        folders = [root] if stereo_files(root) or not inner else inner
        return StereoSource(divide(folders, self.split, split), root, self.pixels, self.on_error)


class StereoSource(Source):
    """Pairs, left to right."""

    def __init__(self, folders, root: Path, pixels: PixelConvention, on_error: OnError):
        self.pixels: PixelConvention = pixels
        self.skipped = skipped = []
        self.pairs: list[StereoFiles] = []
        for folder in folders:
            files = stereo_files(folder)
            if files is None:
                error = DataError(folder, "files", "no stereo pair", "im0, im1, disp0 or left, ...")
                if on_error == "stop":
                    raise error
                skipped.append((folder.name, str(error)))
            else:
                self.pairs.append(files)
        if not self.pairs:
            raise DataError(root, "pairs", "none in this split", "at least one", "see --data.split")

    def __len__(self) -> int:
        return len(self.pairs)

    def describe(self, index: int) -> str:
        return str(self.pairs[index].left)

    def __getitem__(self, index: int) -> dict[str, Any]:
        files = self.pairs[index]
        left, right = (read_image(path, convert="RGB") for path in (files.left, files.right))
        disparity = read_disparity(files.disparity)
        for path, shape in ((files.right, right.shape[:2]), (files.disparity, disparity.shape)):
            if shape != left.shape[:2]:
                raise DataError(path, "size (H, W)", shape, f"{left.shape[:2]}, the left image's")
        k_left, k_right, baseline = _calibration(files.calibration, left.shape[:2], self.pixels)
        offset = k_right[0, 2] - k_left[0, 2]
        scale = k_left[0, 0] * baseline
        pose = np.eye(4)
        pose[0, 3] = -baseline
        return {
            "index": index,
            "image_a": left,
            "image_b": right,
            "K_a": k_left,
            "K_b": k_right,
            "b_from_a": pose,
            "depth_a": _depth(disparity, offset, scale),
            "depth_b": _depth(right_disparity(disparity), offset, scale),
            "overlap": np.nan,
        }


def stereo_files(folder: Path) -> StereoFiles | None:
    """The files of a pair in a folder, or None."""
    for left, right, disparity in _NAMES:
        for image in sorted(folder.glob(f"*{left}.*")):
            prefix = image.stem.removesuffix(left)
            others = [folder / f"{prefix}{right}{s}" for s in (image.suffix, ".png", ".jpg")]
            maps = [
                folder / f"{prefix}{disparity}{end}"
                for end in (".pfm", "GT.pfm", ".npy", ".npz", ".png")
            ]
            other, found = (next(filter(is_file, paths), None) for paths in (others, maps))
            if other and found and image.suffix in (".png", ".jpg"):
                calibration = folder / "calib.txt"
                return StereoFiles(
                    image, other, found, calibration if is_file(calibration) else None
                )
    return None


def read_disparity(path: Path) -> np.ndarray:
    """Disparity [H, W] float32, 0 where unknown, of a .pfm, .npy, .npz or 16-bit .png.

    Raises:
      DataError: missing or damaged file, another shape or dtype.
    """
    if path.suffix == ".pfm":
        values = read_pfm(path)
    elif path.suffix == ".png":
        values = read_image(path, modes=("I;16",)) / np.float32(256)
    elif path.suffix == ".npz":
        arrays = read_npz(path)
        if len(arrays) != 1:
            raise DataError(path, "arrays", ", ".join(arrays)[:80] or "none", "one array")
        values = next(iter(arrays.values()))
    else:
        values = read_npy(path)
    if values.ndim != 2 or values.dtype.kind != "f" or 0 in values.shape:
        raise DataError(path, "array", f"{values.dtype} {values.shape}", "floats [H, W]")
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    return np.where(np.isfinite(values) & (values > 0), values, np.float32(0))


def read_pfm(path: Path) -> np.ndarray:
    """Portable float map of one channel, [H, W] float32, row 0 at the top.

    Raises:
      DataError: missing file, another header, another number of bytes than it claims.
    """
    expected = "a portable float map: Pf, width height, scale, float32 from the bottom row up"
    raw = read_bytes(path, expected)
    lines = raw.split(b"\n", 3)
    try:
        kind, (wide, high), scale = lines[0].strip(), map(int, lines[1].split()), float(lines[2])
    except (IndexError, ValueError):
        raise DataError(path, "header", raw[:40], expected) from None
    if kind != b"Pf" or min(wide, high) < 1 or not np.isfinite(scale) or scale == 0:
        raise DataError(path, "header", raw[:40], expected)
    if len(lines[3:]) != 1 or len(lines[3]) != 4 * wide * high:
        count = len(lines[3]) if len(lines) > 3 else 0
        raise DataError(path, "pixels", f"{count} bytes", f"{4 * wide * high}")
    values = np.frombuffer(lines[3], "<f4" if scale < 0 else ">f4").reshape(high, wide)
    return values[::-1].astype(np.float32)


def right_disparity(disparity: np.ndarray) -> np.ndarray:
    """Disparity [H, W] of the right image from that of the left: the nearest of what lands there.

    Both pixels about the place of landing are painted, so that slanted surfaces have no gaps;
    what only the right camera sees stays unknown (0).
    """
    row, column = np.nonzero(disparity > 0)
    value = disparity[row, column]
    landing = column - value
    out = np.zeros_like(disparity)
    for at in (np.floor(landing), np.ceil(landing)):
        inside = (at >= 0) & (at < disparity.shape[1])
        np.maximum.at(out, (row[inside], at[inside].astype(np.intp)), value[inside])
    return out


def _depth(disparity: np.ndarray, offset: float, scale: float) -> np.ndarray:
    """Z = f b / (d + cx_right - cx_left); 0 where that is unknown."""
    parallax = disparity + np.float32(offset)
    known = (disparity > 0) & (parallax > 1e-3)
    depth = np.where(known, np.float32(scale) / np.where(known, parallax, 1), 0)
    return depth.astype(np.float32)


def _calibration(path: Path | None, size: tuple[int, int], pixels: PixelConvention):
    """K left and right, baseline (m)."""
    if path is None:
        wide = float(size[1])
        nominal = np.array([[wide, 0, wide / 2], [0, wide, size[0] / 2], [0, 0, 1.0]])
        return nominal, nominal, _BASELINE
    found: dict[str, str] = {}
    for _, words in read_words(path, "cam0=[...], cam1=[...], baseline="):
        name, _, value = " ".join(words).partition("=")
        found[name.strip()] = value
    cameras = []
    for name in ("cam0", "cam1"):
        rows = [r.split() for r in found.get(name, "").strip(" []").split(";")]
        if [len(r) for r in rows] != [3, 3, 3]:
            raise DataError(path, name, found.get(name, "missing")[:60], "[f 0 cx; 0 f cy; 0 0 1]")
        matrix = np.array([finite_numbers(path, name, row) for row in rows])
        cameras.append(checked_intrinsics(path, name, matrix, pixels))
    words = found.get("baseline", "").split()
    if len(words) != 1:
        raise DataError(path, "baseline", found.get("baseline", "missing")[:60], "millimetres")
    baseline = finite_numbers(path, "baseline", words)[0] / 1000
    if not 1e-6 < baseline < 1e4:
        raise DataError(path, "baseline", f"{baseline * 1000:g} mm", "above 0")
    return cameras[0], cameras[1], baseline
