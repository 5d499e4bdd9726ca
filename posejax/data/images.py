"""Image files to arrays, and images resized and cropped together with their camera.

PNG and JPEG only: Pillow knows some forty formats by content, whatever the name says, and hands
PostScript to an interpreter.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from posejax.data.cameras import Camera
from posejax.data.errors import DataError
from posejax.data.files import decoding, read_bytes

FORMATS = ("PNG", "JPEG")
MAX_PIXELS = 170_000_000  # below the size at which Pillow itself refuses (2**28 / 3 * 2)
_MAX_BYTES = 1 << 30
_RATIO = 1032  # the most that PNG's compression can reach; progressive JPEG's reaches 1024
_FREE = 1 << 20
_CHANNELS = {"1": 1, "L": 1, "P": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I;16": 2, "CMYK": 4}
_EXPECTED = "a PNG or JPEG image"


def read_image(path: str | Path, *, modes: Sequence[str] = (), convert: str = "") -> np.ndarray:
    """Pixels of a PNG or JPEG file.

    Args:
      path: the file.
      modes: Pillow's modes that are taken as they are: "L" and "I;16" (8 and 16 bits of gray, e.g.
        depth in mm), "LA", "RGB", "RGBA"; empty: any.
      convert: "L" or "RGB": the mode that pixels are converted to. A 16-bit image is never
        converted: its values would be cut off.

    Returns:
      [H, W] or [H, W, C], uint8, or uint16 of a 16-bit file.

    Raises:
      DataError: missing file, another format, another mode, more than 170 million pixels or more
        than the bytes can hold, damage (every checksum of a PNG is verified; a JPEG has none, so
        that of a damaged one only what its decoder notices is).
    """
    raw = read_bytes(path, _EXPECTED, _MAX_BYTES)
    image = _opened(path, raw)
    if modes and image.mode not in modes:
        hint = "16-bit and palette images lose values silently: store them as .npy"
        raise DataError(path, "colour mode", image.mode, _either(modes), hint)
    if convert and image.mode.startswith("I"):
        raise DataError(path, "colour mode", image.mode, "8 bits a channel")
    with decoding(path, "pixels", _EXPECTED):
        if image.format == "PNG":
            image.verify()  # decoding alone skips the pixels' checksums
            image = Image.open(io.BytesIO(raw), formats=FORMATS)
        image.load()
        if convert and image.mode != convert:
            image = image.convert(convert)
        pixels = np.asarray(image)
    return pixels


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of a PNG or JPEG file, from its header.

    Raises:
      DataError: see `read_image`.
    """
    image = _opened(path, read_bytes(path, _EXPECTED, _MAX_BYTES))
    return image.height, image.width


def resize_image(
    image: np.ndarray, size: tuple[int, int], *, method: Literal["bilinear", "nearest"] = "bilinear"
) -> np.ndarray:
    """Image at another size; pixel coordinates scale with it (`Camera.resized`).

    Args:
      image: [H, W] or [H, W, C], uint8 or float32; masks, labels and depths by "nearest" (any
        dtype).
      size: (height, width) of the result.
      method: "bilinear" averages over all pixels that a new one covers when shrinking, as
        `posejax.image.resize` does.

    Returns:
      the resized image, in its dtype.
    """
    height, width = image.shape[:2]
    if (height, width) == tuple(size):
        return image
    if method == "nearest":
        rows, columns = (
            ((np.arange(new) + 0.5) * (old / new)).astype(np.intp)
            for new, old in zip(size, (height, width), strict=True)
        )
        return image[rows[:, None], columns]
    if image.dtype not in (np.uint8, np.float32):
        raise ValueError(f"bilinear resizing of uint8 or float32, got {image.dtype}")
    planes = image if image.ndim == 3 else image[..., None]
    planes = [
        np.asarray(Image.fromarray(plane).resize((size[1], size[0]), Image.Resampling.BILINEAR))
        for plane in np.ascontiguousarray(np.moveaxis(planes, -1, 0))
    ]
    return np.stack(planes, axis=-1) if image.ndim == 3 else planes[0]


def crop_image(image: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Crop of `size` (height, width) with its top left corner at `corner` (x, y); zero beyond."""
    (x, y), (height, width) = corner, size
    top, left = max(-y, 0), max(-x, 0)
    part = image[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)]
    if part.shape[:2] == (height, width):
        return part
    out = np.zeros((height, width, *image.shape[2:]), image.dtype)
    out[top : top + part.shape[0], left : left + part.shape[1]] = part
    return out


def resize_view(
    image: np.ndarray, camera: Camera, size: tuple[int, int]
) -> tuple[np.ndarray, Camera]:
    """Image and camera at another (height, width)."""
    _check_camera(image, camera)
    return resize_image(image, size), camera.resized(size)


def crop_view(
    image: np.ndarray, camera: Camera, corner: tuple[int, int], size: tuple[int, int]
) -> tuple[np.ndarray, Camera]:
    """Crop (see `crop_image`) and its camera."""
    _check_camera(image, camera)
    return crop_image(image, corner, size), camera.cropped(corner, size)


def _check_camera(image: np.ndarray, camera: Camera) -> None:
    if image.shape[:2] != tuple(camera.size):
        raise ValueError(f"an image of {image.shape[:2]} for a camera of {camera.size}")


def _opened(path: str | Path, raw: bytes) -> Image.Image:
    """The image, of which only the header is read, of a size that the bytes can hold."""
    try:
        with decoding(path, "file", _EXPECTED):
            image = Image.open(io.BytesIO(raw), formats=FORMATS)
    except DataError as error:
        if not isinstance(error.__cause__, UnidentifiedImageError):
            raise
        found = f"unreadable (it begins with {raw[:12]!r})"  # Pillow would name the buffer
        raise DataError(path, "file", found, _EXPECTED) from error.__cause__
    _check_size(path, image, len(raw))
    return image


def _check_size(path: str | Path, image: Image.Image, count: int) -> None:
    pixels = image.width * image.height
    if not 0 < pixels <= MAX_PIXELS:
        found = f"{image.width} x {image.height} pixels"
        raise DataError(path, "size", found, f"1 to {MAX_PIXELS} pixels")
    claimed = pixels * _CHANNELS.get(image.mode, 1) // (8 if image.mode in ("1", "P") else 1)
    if claimed > _FREE + count * _RATIO:
        found = f"{image.width} x {image.height} pixels in {count} bytes"
        raise DataError(path, "size", found, "data for every pixel", "is the file cut off?")


def _either(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
