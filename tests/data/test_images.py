"""Image files: what is read is what was written, everything else is one error; views stay exact."""

import io
import struct
import zlib

import jax
import numpy as np
import pytest
from PIL import Image

import posejax.image
from posejax.data.cameras import Camera
from posejax.data.errors import DataError
from posejax.data.images import (
    crop_image,
    crop_view,
    image_size,
    read_image,
    resize_image,
    resize_view,
)

K = np.array([[50.0, 0, 20.0], [0, 50.0, 15.0], [0, 0, 1]])


def png(pixels, **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", **options)
    return out.getvalue()


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 2), (5, 7, 3), (5, 7, 4)])
def test_png_files_come_back(tmp_path, rng, shape):
    pixels = rng.integers(0, 256, shape).astype(np.uint8)
    path = tmp_path / "a.png"
    path.write_bytes(png(pixels))
    np.testing.assert_array_equal(read_image(path), pixels)
    assert image_size(path) == (5, 7)
    assert read_image(path, convert="RGB").shape == (5, 7, 3)


def test_depth_in_16_bits_is_kept_and_never_cut_off(tmp_path):
    depth = np.array([[0, 255, 256], [1000, 65535, 7]], np.uint16)
    path = tmp_path / "depth.png"
    path.write_bytes(png(depth))
    found = read_image(path)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, depth)
    with pytest.raises(DataError, match="colour mode: I;16"):
        read_image(path, convert="RGB")
    with pytest.raises(DataError, match="colour mode: I;16; expected L or RGB"):
        read_image(path, modes=("L", "RGB"))


def test_a_jpeg_is_read_whatever_its_name(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.full((16, 16, 3), 128, np.uint8)).save(path, "JPEG")
    assert abs(read_image(path).astype(int) - 128).max() <= 1


def postscript() -> bytes:
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


def gif() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(out, "GIF")
    return out.getvalue()


def flipped_pixel() -> bytes:
    """One bit of the stored pixels, in an uncompressed block: only the checksums notice."""
    raw = bytearray(png(np.zeros((64, 64), np.uint8), compress_level=0))
    raw[raw.index(b"IDAT") + 200] ^= 1
    return bytes(raw)


def bomb() -> bytes:
    """A header of 9,000 x 9,000 pixels over the data of 4 x 4."""
    raw = bytearray(png(np.zeros((4, 4), np.uint8)))
    raw[16:24] = struct.pack(">II", 9_000, 9_000)
    raw[29:33] = struct.pack(">I", zlib.crc32(raw[12:29]))
    return bytes(raw)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (postscript, "unreadable"),
        (gif, "unreadable"),
        (flipped_pixel, "pixels: unreadable"),
        (bomb, "9000 x 9000 pixels in"),
        (lambda: png(np.zeros((9, 9), np.uint8))[:-30], "unreadable"),
        (lambda: b"", "unreadable"),
    ],
)
def test_other_formats_and_damage_are_one_error(tmp_path, make, words):
    path = tmp_path / "a.png"
    path.write_bytes(make())
    with pytest.raises(DataError, match=words):
        read_image(path)


def test_no_file_and_no_regular_file_are_one_error(tmp_path):
    for path in (tmp_path / "none.png", tmp_path, "/dev/zero", "a\0b.png"):
        with pytest.raises(DataError):
            read_image(path)


def test_resizing_is_that_of_the_library(rng):
    image = rng.uniform(0, 1, (30, 40, 3)).astype(np.float32)
    for size in ((15, 20), (13, 27), (61, 90)):
        with jax.default_matmul_precision("highest"):
            want = posejax.image.resize(image, size)
        np.testing.assert_allclose(resize_image(image, size), want, atol=5e-6)
        bytes_ = np.rint(image * 255).astype(np.uint8)
        off = resize_image(bytes_, size) - np.asarray(posejax.image.resize(bytes_, size))
        assert np.abs(off).max() < 1.01  # two roundings, one after each axis
    labels = np.arange(12, dtype=np.int64).reshape(3, 4)
    np.testing.assert_array_equal(
        resize_image(labels, (6, 8), method="nearest"), labels.repeat(2, 0).repeat(2, 1)
    )
    with pytest.raises(ValueError, match="uint8 or float32"):
        resize_image(labels, (6, 8))


def test_crops_beyond_the_border_are_zero():
    image = np.arange(1, 13, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(crop_image(image, (1, 1), (2, 2)), image[1:, 1:3])
    np.testing.assert_array_equal(
        crop_image(image, (-1, -1), (3, 3)), [[0, 0, 0], [0, 1, 2], [0, 5, 6]]
    )
    np.testing.assert_array_equal(crop_image(image, (3, 2), (2, 2)), [[12, 0], [0, 0]])
    assert not crop_image(image, (-9, 50), (2, 2)).any()


def test_what_a_camera_sees_stays_where_it_is(rng):
    """A linear ramp says at every pixel which point it shows: exact through resizing and crops."""
    camera = Camera(K, (30, 40))
    v, u = np.mgrid[:30, :40] + 0.5
    image = np.stack([u, v], axis=-1).astype(np.float32)
    small, half = resize_view(image, camera, (15, 20))
    part, cropped = crop_view(small, half, (3, 2), (10, 12))
    points = np.array([[-0.05, 0.02, 1.0]])  # at the centre of a pixel of the crop
    xy, _ = camera.project(points)
    at, _ = cropped.project(points)
    x, y = np.floor(at[0]).astype(int)
    centre = (np.floor(at[0]) + 0.5 - at[0]) * 2  # how far the pixel's centre is, in old pixels
    np.testing.assert_allclose(part[y, x], xy[0] + centre, atol=1e-4)
    with pytest.raises(ValueError, match="for a camera"):
        resize_view(image, half, (5, 5))
