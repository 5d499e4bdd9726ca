"""Bilinear sampling against SciPy, its border rules, and its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from posejax.image import bilinear_sample, masked_bilinear_sample, pixel_centers


def scipy_sample(image, xy, mode):
    """Reference in float64: SciPy's (row, column) indices put the first centre at 0."""
    rows_columns = [xy[..., 1] - 0.5, xy[..., 0] - 0.5]
    channels = np.moveaxis(np.asarray(image, np.float64), -1, 0)
    # "grid-constant" and "nearest": zeros, or edge pixels, go on outside for ever.
    out = [map_coordinates(c, rows_columns, order=1, mode=mode, cval=0) for c in channels]
    return np.stack(out, axis=-1)


@pytest.mark.parametrize("shape", [(7, 9, 3), (1, 5, 1), (4, 1, 2), (1, 1, 1)])
@pytest.mark.parametrize("padding, mode", [("zeros", "grid-constant"), ("border", "nearest")])
def test_values_agree_with_scipy(rng, shape, padding, mode):
    image = rng.normal(size=shape).astype(np.float32)
    xy = rng.uniform(-3, 12, size=(40, 50, 2)).astype(np.float32)
    # Whole, half and far coordinates too: pixel centres, edges, and the outside.
    xy[:3, :3] = np.array([0, 0.5, 1])[:, None, None]
    xy[3, :4] = [[1e9, 2], [-1e9, 2], [2, 1e30], [3e38, -3e38]]
    got, _ = bilinear_sample(image, xy, padding=padding)
    want = scipy_sample(image, np.clip(xy.astype(np.float64), -100, 100), mode)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_pixel_centres_return_the_pixels(rng):
    image = rng.normal(size=(5, 6, 2)).astype(np.float32)
    got, valid = bilinear_sample(image, pixel_centers((5, 6)))
    np.testing.assert_array_equal(got, image)
    assert valid.all()


def test_validity_rules_at_the_border():
    image = jnp.ones((4, 6, 1))
    x = jnp.array([-0.01, 0.0, 0.49, 0.5, 3.0, 5.5, 5.51, 6.0, 6.01])
    xy = jnp.stack([x, jnp.full_like(x, 2)], axis=-1)
    values, centers = bilinear_sample(image, xy)
    _, area = bilinear_sample(image, xy, valid="image")
    np.testing.assert_array_equal(centers, [0, 0, 0, 1, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(area, [0, 1, 1, 1, 1, 1, 1, 1, 0])
    # "centers": no zero padding enters a valid value.
    np.testing.assert_array_equal(values[centers], 1)
    np.testing.assert_allclose(values[1], 0.5)


@settings(max_examples=40, deadline=None)
@given(st.floats(-2, 9), st.floats(-2, 7), st.sampled_from(["zeros", "border"]))
def test_a_linear_image_is_reproduced_wherever_valid(x, y, padding):
    # Bilinear interpolation is exact for a + b x + c y: the pixel convention to the last digit.
    image = (2 + 3 * pixel_centers((5, 7))[..., :1] - 1.5 * pixel_centers((5, 7))[..., 1:]) / 8
    value, valid = bilinear_sample(image, jnp.array([x, y], jnp.float32), padding=padding)
    assert bool(valid) == (0.5 <= np.float32(x) <= 6.5 and 0.5 <= np.float32(y) <= 4.5)
    if valid:
        np.testing.assert_allclose(value[0], (2 + 3 * x - 1.5 * y) / 8, atol=2e-6)


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_gradients_equal_central_differences(rng, padding):
    with jax.enable_x64(True):
        image = jnp.asarray(rng.normal(size=(4, 5, 2)))
        # Away from the kinks at pixel centres, where the derivative jumps.
        xy = rng.integers(-2, 8, (30, 2)) + rng.uniform(0.1, 0.4, (30, 2))
        weight = jnp.asarray(rng.normal(size=(30, 2)))

        def loss(image, xy):
            return jnp.sum(weight * bilinear_sample(image, xy, padding=padding)[0])

        slopes = jax.jit(jax.grad(loss, argnums=(0, 1)))(image, jnp.asarray(xy))
        value = jax.jit(loss)
        for argument, slope in enumerate(slopes):
            numeric = np.zeros(slope.size)
            for k in range(slope.size):
                step = np.zeros(slope.size)
                step[k] = 1e-6
                both = []
                for sign in (1, -1):
                    inputs = [image, xy]
                    inputs[argument] = inputs[argument] + sign * step.reshape(slope.shape)
                    both.append(value(*inputs))
                numeric[k] = (both[0] - both[1]) / 2e-6
            np.testing.assert_allclose(slope.reshape(-1), numeric, atol=1e-8)


def test_points_that_are_not_finite_are_zero_invalid_and_without_gradient():
    image = jnp.ones((3, 3, 1))
    xy = jnp.array([[jnp.nan, 1], [1, jnp.inf], [-jnp.inf, jnp.nan]])
    for padding in ("zeros", "border"):

        def loss(image, xy, padding=padding):
            return bilinear_sample(image, xy, padding=padding)[0].sum()

        values, valid = bilinear_sample(image, xy, padding=padding)
        np.testing.assert_array_equal(values, 0)
        assert not valid.any()
        slopes = jax.grad(loss, argnums=(0, 1))(image, xy)
        assert all((np.asarray(s) == 0).all() for s in slopes)


def test_batches_dtypes_and_empty_point_lists(rng):
    images = rng.normal(size=(3, 6, 7, 2)).astype(np.float32)
    xy = rng.uniform(0, 7, size=(3, 11, 2)).astype(np.float32)
    batched, _ = jax.jit(jax.vmap(bilinear_sample))(images, xy)
    for k in range(3):
        np.testing.assert_allclose(batched[k], bilinear_sample(images[k], xy[k])[0], atol=1e-6)
    assert bilinear_sample(images[0], np.zeros((0, 2)))[0].shape == (0, 2)
    half, _ = bilinear_sample(jnp.asarray(images[0], jnp.bfloat16), xy[0])
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(np.float32), batched[0], atol=0.05)
    counts, _ = bilinear_sample(np.arange(4, dtype=np.uint8).reshape(2, 2, 1), np.array([1.0, 1]))
    np.testing.assert_allclose(counts, [1.5])


def test_wrong_shapes_are_refused_with_advice():
    with pytest.raises(ValueError, match="vmap"):
        bilinear_sample(jnp.zeros((2, 3, 3, 1)), jnp.zeros((4, 2)))
    with pytest.raises(ValueError, match="column, row"):
        bilinear_sample(jnp.zeros((3, 3, 1)), jnp.zeros((4, 3)))
    with pytest.raises(ValueError, match="reflect"):
        bilinear_sample(jnp.zeros((3, 3, 1)), jnp.zeros((4, 2)), padding="reflect")  # pyright: ignore


def test_unknown_pixels_are_left_out_of_the_average():
    image = jnp.array([[1.0, jnp.nan], [3.0, 5.0]])[..., None]
    mask = jnp.array([[True, False], [True, True]])
    xy = jnp.array([[1.0, 1.0], [1.5, 0.5], [0.5, 1.0]])
    values, known = masked_bilinear_sample(image, mask, xy)
    np.testing.assert_allclose(values[:, 0], [3.0, 0.0, 2.0], atol=1e-6)
    np.testing.assert_allclose(known, [0.75, 0, 1], atol=1e-6)
    slopes = jax.grad(lambda i, p: masked_bilinear_sample(i, mask, p)[0].sum(), (0, 1))(image, xy)
    assert all(np.isfinite(s).all() for s in slopes)
    assert slopes[0][0, 1] == 0
