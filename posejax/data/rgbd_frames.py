"""Frames of RGB-D recordings on disk: image, depth, pose and intrinsics, a file each.

7-Scenes' names, which simulated worlds are written in too:

    FOLDER/frame-000000.color.jpg (or .png)   8 bits a channel
    FOLDER/frame-000000.depth.png             16 bits, millimetres, 0 = unknown; or .npy, metres
    FOLDER/frame-000000.pose.txt              4 x 4 world_from_camera, metres
    FOLDER/camera-intrinsics.txt              3 x 3, of all frames, or a frame's own
    FOLDER/frame-000000.intrinsics.txt

Those of the ScanNet exporter:

    FOLDER/color/0.jpg, FOLDER/depth/0.png, FOLDER/pose/0.txt
    FOLDER/intrinsic/intrinsic_color.txt, FOLDER/intrinsic/intrinsic_depth.txt   4 x 4
    FOLDER/label-filt/0.png       where there are labels: 16 bits, class, 0 = none
    FOLDER/instance-filt/0.png    8 or 16 bits, thing, 0 = none
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posejax.data.arrays import read_npy
from posejax.data.cameras import PixelConvention, convert_intrinsics
from posejax.data.errors import DataError
from posejax.data.files import is_file, read_text
from posejax.data.images import read_image, resize_image
from posejax.data.rigid import is_rotation
from posejax.data.tables import finite_numbers, read_words

FARTHEST = 65.0  # metres: 65535 mm stands for no measurement in some copies of 7-Scenes


@dataclass(frozen=True)
class FrameFiles:
    """Where the parts of a frame are.

    Attributes:
      intrinsics: of the image: a file, or (fx, fy, cx, cy).
      depth_intrinsics: of the depth map where it has a camera of its own; it is registered to the
        image's (same place, same direction), as exporters write it.
      semantic, instance: pictures of classes and of things, where there are any.
    """

    name: str
    image: Path
    depth: Path
    pose: Path
    intrinsics: Path | tuple[float, float, float, float]
    depth_intrinsics: Path | None = None
    semantic: Path | None = None
    instance: Path | None = None


@dataclass(frozen=True, eq=False)
class RgbdFrame:
    """image [H, W, 3] uint8, depth [H, W] float32 metres (0: unknown), K [3, 3], pose [4, 4];
    semantic, instance [H, W] int32 as they are written, 0: none; None without such pictures."""

    image: np.ndarray
    depth: np.ndarray
    intrinsics: np.ndarray
    world_from_camera: np.ndarray
    semantic: np.ndarray | None = None
    instance: np.ndarray | None = None


def has_frames(folder: Path) -> bool:
    """Whether there are frames in a folder, in either layout."""
    return (folder / "color").is_dir() or any(folder.glob("*.color.*"))


def list_frames(
    folder: Path, intrinsics: tuple[float, float, float, float] | None = None
) -> list[FrameFiles]:
    """Frames of a folder, in order of their names.

    Args:
      intrinsics: (fx, fy, cx, cy) of frames in 7-Scenes' names without a file of them.

    Raises:
      DataError: no such files.
    """
    scannet = (folder / "color").is_dir()
    frames = _scannet_frames(folder) if scannet else _seven_scenes(folder, intrinsics)
    if not frames:
        expected = "frame-*.color.jpg (7-Scenes' names) or color/*.jpg (the ScanNet exporter's)"
        found = "none" if folder.is_dir() else "no such folder"
        raise DataError(folder, "frames", found, expected)
    return frames


def read_frame(files: FrameFiles, pixels: PixelConvention = "opencv") -> RgbdFrame:
    """Read a frame; an image of another size than its depth map is resized to it.

    Labels follow the image, by the nearest pixel.

    Args:
      pixels: convention of the intrinsics' files.

    Raises:
      DataError: a missing or damaged file, another kind of values, a pose that is none.
    """
    image = read_image(files.image, convert="RGB")
    depth = read_depth(files.depth)
    if isinstance(files.intrinsics, tuple):
        fx, fy, cx, cy = files.intrinsics
        matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
        intrinsics = checked_intrinsics(files.image, "intrinsics", matrix, pixels)
    else:
        intrinsics = read_intrinsics(files.intrinsics, pixels)
    if files.depth_intrinsics is not None:
        own = read_intrinsics(files.depth_intrinsics, pixels)
        depth = _registered(depth, own, intrinsics, image.shape[:2])
    elif depth.shape != image.shape[:2]:
        scale = _scale(files.depth, depth.shape, image.shape)
        intrinsics = np.diag([*scale, 1.0]) @ intrinsics
        image = resize_image(image, (depth.shape[0], depth.shape[1]))
    size = image.shape[0], image.shape[1]
    labels = [
        None if path is None else read_labels(path, size)
        for path in (files.semantic, files.instance)
    ]
    return RgbdFrame(image, depth, intrinsics, read_pose(files.pose), *labels)


def read_labels(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Numbers [H, W] int32 of a picture with 8 or 16 bits of grey, brought to `size` (H, W) by the
    nearest pixel.

    Raises:
      DataError: missing or damaged file, colours, another aspect ratio.
    """
    labels = read_image(path, modes=("L", "I;16")).astype(np.int32)
    if labels.shape != size:
        _scale(path, labels.shape, size)
        labels = resize_image(labels, size, method="nearest")
    return labels


def _scale(path: Path, shape, image) -> tuple[float, float]:
    """Scale (x, y) of a map to an image that shows the same."""
    scale = shape[1] / image[1], shape[0] / image[0]
    if abs(scale[0] / scale[1] - 1) > 0.02:
        found = f"{tuple(shape[:2])} for an image of {tuple(image[:2])}"
        raise DataError(path, "shape", found, "the image's aspect ratio")
    return scale


def read_depth(path: Path) -> np.ndarray:
    """Depth [H, W] float32 in metres: a .png of 16-bit millimetres, or a .npy of metres.

    What is not finite, not above 0 or beyond 65 m is unknown: 0.

    Raises:
      DataError: missing or damaged file, another dtype or shape.
    """
    if path.suffix == ".npy":
        depth = read_npy(path)
        if depth.ndim != 2 or depth.dtype.kind != "f":
            raise DataError(path, "array", f"{depth.dtype} {depth.shape}", "floats [H, W], metres")
    else:
        depth = read_image(path, modes=("I;16",)) / np.float32(1000)
    return known_depth(depth, FARTHEST)


def known_depth(depth: np.ndarray, farthest: float = np.inf) -> np.ndarray:
    """float32 depths, 0 where they are not finite, not above 0 or too far."""
    with np.errstate(invalid="ignore", over="ignore"):
        depth = depth.astype(np.float32)
        usable = np.isfinite(depth) & (depth > 0) & (depth <= farthest)
    return np.where(usable, depth, np.float32(0))


def read_matrix(path: Path, shapes: tuple[tuple[int, int], ...]) -> np.ndarray:
    """A text file with the rows of a matrix, float64, of one of the shapes.

    Raises:
      DataError: missing file, other words than finite numbers, another shape.
    """
    sides = " or ".join(f"{rows} x {columns}" for rows, columns in shapes)
    rows = [
        finite_numbers(path, f"line {number}", words)
        for number, words in read_words(path, f"a {sides} matrix")
    ]
    shape = len(rows), len(rows[0]) if rows else 0
    if shape not in shapes or len({len(row) for row in rows}) > 1:
        raise DataError(path, "shape", f"{len(rows)} lines of {shape[1]} numbers", sides)
    return np.array(rows)


def read_intrinsics(path: Path, pixels: PixelConvention) -> np.ndarray:
    """Intrinsics [3, 3] of a file with a 3 x 3 or 4 x 4 matrix, in the library's convention.

    Raises:
      DataError: see `read_matrix`, `checked_intrinsics`.
    """
    matrix = read_matrix(path, ((3, 3), (4, 4)))[:3, :3]
    return checked_intrinsics(path, "intrinsics", matrix, pixels)


def checked_intrinsics(
    path: str | Path, field: str, matrix: np.ndarray, pixels: PixelConvention
) -> np.ndarray:
    """[3, 3] of `pixels` convention to the library's.

    Raises:
      DataError: not finite, focal lengths not above 0, or another form.
    """
    matrix = np.asarray(matrix, np.float64)
    good = matrix.shape == (3, 3) and bool(np.isfinite(matrix).all())
    good = good and min(matrix[0, 0], matrix[1, 1]) > 1e-3 and np.abs(matrix).max() < 1e7
    if not good or np.abs(matrix[[1, 2, 2, 2], [0, 0, 1, 2]] - [0, 0, 0, 1]).max() > 1e-6:
        expected = "[[fx, s, cx], [0, fy, cy], [0, 0, 1]] with fx, fy > 0"
        raise DataError(path, field, np.array2string(matrix, precision=4)[:120], expected)
    return convert_intrinsics(matrix, source=pixels, target="posejax")


def read_pose(path: Path) -> np.ndarray:
    """world_from_camera [4, 4] of a text file.

    Raises:
      DataError: see `read_matrix`, `checked_pose`.
    """
    return checked_pose(path, "pose", read_matrix(path, ((4, 4),)))


def tracked(pose: Path) -> bool:
    """Whether a file has a pose: ScanNet writes infinities where tracking was lost."""
    words = read_text(pose, "a 4 x 4 matrix").lower().split()
    return not any("inf" in word or "nan" in word for word in words)


def checked_pose(path: str | Path, field: str, pose: np.ndarray) -> np.ndarray:
    """A rigid [4, 4] in float64.

    Raises:
      DataError: a rotation that is none, a translation that is not finite, another last row.
    """
    pose = np.asarray(pose, np.float64)
    form = pose.shape == (4, 4) and bool((np.abs(pose) < 1e7).all())  # False for NaN
    if (
        not form
        or not is_rotation(pose[:3, :3], 5e-3)
        or np.abs(pose[3] - [0, 0, 0, 1]).max() > 1e-6
    ):
        expected = "a rotation and a translation, last row 0 0 0 1"
        raise DataError(path, field, np.array2string(pose, precision=3)[:160], expected)
    return pose


def _seven_scenes(folder: Path, default) -> list[FrameFiles]:
    frames, shared = [], folder / "camera-intrinsics.txt"
    if default is None or is_file(shared):
        default = shared
    images = sorted(p for p in folder.glob("*.color.*") if p.suffix in (".jpg", ".png"))
    for image in images:
        name = image.name.split(".")[0]
        own = folder / f"{name}.intrinsics.txt"
        array = folder / f"{name}.depth.npy"
        frames.append(
            FrameFiles(
                name,
                image,
                array if is_file(array) else folder / f"{name}.depth.png",
                folder / f"{name}.pose.txt",
                own if is_file(own) else default,
            )
        )
    return frames


def _scannet_frames(folder: Path) -> list[FrameFiles]:
    images = [p for p in (folder / "color").iterdir() if p.suffix in (".jpg", ".png")]
    own = folder / "intrinsic" / "intrinsic_depth.txt"

    def labels(kind: str) -> dict[str, Path]:
        """By frame; one look at the folder, not one for each of thousands of frames."""
        return {path.stem: path for path in (folder / kind).glob("*.png")}

    semantic, instance = labels("label-filt"), labels("instance-filt")
    return [
        FrameFiles(
            image.stem,
            image,
            folder / "depth" / f"{image.stem}.png",
            folder / "pose" / f"{image.stem}.txt",
            folder / "intrinsic" / "intrinsic_color.txt",
            own if is_file(own) else None,
            semantic.get(image.stem),
            instance.get(image.stem),
        )
        for image in sorted(images, key=lambda p: (len(p.stem), p.stem))
    ]


def _registered(depth: np.ndarray, own: np.ndarray, colour: np.ndarray, size) -> np.ndarray:
    """Depth at the image's pixels: the nearest of the depth map's, 0 beyond it."""
    depth_from_image = own @ np.linalg.inv(colour)
    y, x = (np.arange(side) + 0.5 for side in size)
    column = np.floor(depth_from_image[0, 0] * x + depth_from_image[0, 2]).astype(int)
    row = np.floor(depth_from_image[1, 1] * y + depth_from_image[1, 2]).astype(int)
    inside = ((row >= 0) & (row < depth.shape[0]))[:, None] & (column >= 0)
    inside &= column < depth.shape[1]
    row, column = np.clip(row, 0, depth.shape[0] - 1), np.clip(column, 0, depth.shape[1] - 1)
    return np.where(inside, depth[row[:, None], column], np.float32(0))
