"""Resizing: the half-pixel rule, antialiasing, and agreement with intrinsics and sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.image import bilinear_sample, pixel_centers, resize, whole_size


def test_upsampling_is_border_padded_bilinear_sampling(rng):
    image = rng.normal(size=(5, 6, 3)).astype(np.float32)
    got = resize(image, (12, 9))
    xy = pixel_centers((12, 9)) * jnp.array([6 / 9, 5 / 12]).reshape(1, 1, 2)
    np.testing.assert_allclose(got, bilinear_sample(image, xy, padding="border")[0], atol=1e-5)


def test_shrinking_without_antialias_is_point_sampling_and_with_it_an_average(rng):
    image = rng.normal(size=(32, 32, 1)).astype(np.float32)
    plain = resize(image, (4, 4), antialias=False)
    xy = pixel_centers((4, 4)) * 8
    np.testing.assert_allclose(plain, bilinear_sample(image, xy)[0], atol=1e-5)
    checker = np.indices((32, 32)).sum(0)[..., None] % 2
    # The kernel is cut at the corners, which unbalances it by less than a thousandth.
    np.testing.assert_allclose(resize(checker, (4, 4)), 0.5, atol=1e-3)


def test_halving_averages_with_the_triangle_kernel():
    # Kernel of width 2 x 2 input pixels: weights (1, 3, 3, 1) / 8, cut and renormalised at edges.
    row = np.zeros((1, 8), np.float32)
    row[0, 3] = 8
    np.testing.assert_allclose(resize(row, (1, 4)), [[0, 3, 1, 0]], atol=1e-5)


@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic", "lanczos3"])
@pytest.mark.parametrize("shape", [(3, 4), (20, 30), (7, 9)])
def test_constant_images_stay_constant_and_half_precision_half(method, shape):
    image = jnp.full((7, 9, 2), 3.0, jnp.bfloat16)
    got = resize(image, shape, method=method)
    assert got.shape == (*shape, 2) and got.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.astype(np.float32), 3, rtol=0.01)


def test_labels_survive_nearest_and_integers_become_floats_elsewhere():
    labels = np.arange(12, dtype=np.int32).reshape(3, 4)
    big = resize(labels, (6, 8), method="nearest")
    assert big.dtype == jnp.int32
    np.testing.assert_array_equal(big, labels.repeat(2, 0).repeat(2, 1))
    assert resize(labels, (6, 8)).dtype == jnp.float32


def test_gradient_is_the_transpose(rng):
    a, b = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((6, 7, 2), (3, 10, 2)))
    back = jax.grad(lambda x: jnp.vdot(resize(x, (3, 10)), b))(a)
    np.testing.assert_allclose(jnp.vdot(back, a), jnp.vdot(resize(a, (3, 10)), b), rtol=1e-4)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="method"):
        resize(jnp.zeros((3, 3)), (2, 2), method="area")  # pyright: ignore
    with pytest.raises(ValueError, match=r"H, W"):
        resize(jnp.zeros((2, 3, 3, 1)), (2, 2))
    with pytest.raises(ValueError, match="positive"):
        resize(jnp.zeros((3, 3)), (0, 2))


@pytest.mark.parametrize(
    ("shape", "longest", "expected"),
    [
        ((495, 660, 3), 660, (480, 640)),  # the nearest multiple, 672, is above the limit
        ((990, 1320), 660, (480, 640)),
        ((768, 1024), 640, (480, 640)),
        ((760, 1000), 640, (480, 640)),  # 486: the nearest multiple
        ((500, 1000), 640, (320, 640)),
        ((495, 660), None, (480, 640)),  # its own size, rounded down
        ((495, 660), 1024, (480, 640)),
        ((32, 4000), 640, (32, 640)),
    ],
)
def test_whole_sizes_are_near_and_never_above_the_limit(shape, longest, expected):
    assert whole_size(shape, longest) == expected


def test_whole_sizes_enlarge_if_they_are_told_to():
    assert whole_size((100, 150), 960) == (96, 128)
    assert whole_size((100, 150), 960, enlarge=True) == (640, 960)
    assert whole_size((720, 960), 0.7 * 960, enlarge=True) == (512, 672)
    assert whole_size((100, 150), 700, enlarge=True) == (480, 672)
    assert whole_size((9, 30), 41, multiple=8) == (8, 24)
