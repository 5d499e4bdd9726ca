"""rotate and orientation_cost against scipy in float64, exact transposes, the golden numbers."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from posejax.image import affine_warp
from posejax.registration import orientation_cost, rotate, rotate_transpose

ANGLES = [0.0, 1e-4, 0.1, -0.17, np.pi / 4, np.pi / 2, 2.5, np.pi, -3.0]


def scipy_rotate(raster, angle):
    """online(R^-1 p) by scipy in float64; "grid-constant" interpolates to zero at the border."""
    c, s = np.cos(angle), np.sin(angle)
    inverse_row_column = np.array([[c, -s], [s, c]])  # (row, column) from (row, column)
    centre = (np.array(raster.shape[:2]) - 1) / 2
    channels = [
        ndimage.affine_transform(
            np.asarray(raster[..., k], np.float64),
            inverse_row_column,
            centre - inverse_row_column @ centre,
            order=1,
            mode="grid-constant",
        )
        for k in range(raster.shape[2])
    ]
    return np.stack(channels, -1)


@pytest.mark.parametrize("shape", [(12, 12, 2), (9, 14, 1), (1, 7, 1), (2, 2, 1)])
def test_equals_scipy(rng, shape):
    raster = rng.standard_normal(shape, np.float32)
    for angle in ANGLES:
        got = rotate(jnp.asarray(raster), angle)
        want = scipy_rotate(raster, angle)
        np.testing.assert_allclose(got, want, atol=3e-5, err_msg=str(angle))


def test_quarter_turn_takes_x_to_y():
    # A mark on the +x side (last column) must come to the +y side (last row).
    raster = jnp.zeros((5, 5, 1)).at[2, 4].set(1.0)
    turned = rotate(raster, jnp.pi / 2)
    assert np.unravel_index(np.argmax(turned[..., 0]), (5, 5)) == (4, 2)


@pytest.mark.parametrize("shape", [(11, 11, 2), (8, 13, 1), (2, 1, 1)])
def test_transpose_is_exact(rng, shape):
    # <R a, b> = <a, R^T b> for R of the float64 reference, so both directions are checked.
    a, b = rng.standard_normal((2, *shape), np.float32)
    for angle in ANGLES:
        want = (scipy_rotate(a, angle) * b).sum()
        got = np.vdot(a, rotate_transpose(jnp.asarray(b), angle))
        np.testing.assert_allclose(got, want, atol=5e-4, err_msg=str(angle))


def test_gradient_equals_scatter_form(rng):
    """Every entry, against automatic differentiation of an independent bilinear warp."""
    a, b = jnp.asarray(rng.standard_normal((2, 10, 10, 2), np.float32))

    def plain(raster, angle):
        c, s = jnp.cos(angle), jnp.sin(angle)
        y, x = jnp.mgrid[0:10, 0:10] - 4.5
        coordinates = [c * y - s * x + 4.5, c * x + s * y + 4.5]
        padded = jnp.pad(raster, ((1, 1), (1, 1), (0, 0)))
        sample = jax.vmap(
            lambda m: jax.scipy.ndimage.map_coordinates(
                m, [v + 1 for v in coordinates], 1, mode="constant"
            ),
            2,
            2,
        )
        return (sample(padded) * b).sum()

    ours = jax.jit(jax.grad(lambda raster, angle: (rotate(raster, angle) * b).sum()))
    theirs = jax.jit(jax.grad(plain))
    for angle in ANGLES:
        np.testing.assert_allclose(ours(a, angle), theirs(a, angle), atol=3e-5, err_msg=str(angle))


def test_angle_gradient_by_differences(rng):
    a, b = rng.standard_normal((2, 12, 15, 2), np.float32)
    slope = jax.jit(jax.grad(lambda t: (rotate(jnp.asarray(a), t) * b).sum()))
    for angle in (0.05, 0.7, -2.0):
        h = 1e-6
        want = ((scipy_rotate(a, angle + h) - scipy_rotate(a, angle - h)) * b).sum() / (2 * h)
        np.testing.assert_allclose(slope(angle), want, rtol=1e-3, atol=1e-2)


def test_a_bad_angle_spoils_its_own_rotation_alone(rng):
    raster = jnp.asarray(rng.standard_normal((4, 5, 1), np.float32))
    cost = np.asarray(orientation_cost(raster, raster, jnp.array([0.0, np.nan, 0.1])))
    np.testing.assert_array_equal(np.isnan(cost), [False, True, False])


def test_several_angles_and_masks(rng):
    raster = jnp.asarray(rng.standard_normal((8, 8, 3), np.float32))
    angles = jnp.array([0.0, 0.3, -1.0])
    stack = rotate(raster, angles)
    assert stack.shape == (3, 8, 8, 3)
    for k in range(3):
        np.testing.assert_allclose(stack[k], rotate(raster, angles[k]), atol=1e-6)
    np.testing.assert_allclose(rotate(raster[..., 0], 0.3), rotate(raster, 0.3)[..., 0], atol=1e-6)
    with pytest.raises(ValueError, match="raster is"):
        rotate(jnp.zeros(4), 0.1)


def test_orientation_cost_and_gradients(rng):
    online = rng.standard_normal((10, 12, 2), np.float32)
    geo = rng.standard_normal((14, 16, 2), np.float32)
    angles = np.linspace(-0.4, 0.5, 7).astype(np.float32)
    inner = geo[2:-2, 2:-2]
    want = [(scipy_rotate(online, a) * inner).sum() for a in angles]

    def cost(a, b):
        return orientation_cost(a, b, jnp.asarray(angles))

    np.testing.assert_allclose(cost(jnp.asarray(online), jnp.asarray(geo)), want, atol=2e-4)
    g = rng.standard_normal(7).astype(np.float32)
    d_online, d_geo = rng.standard_normal(online.shape), rng.standard_normal(geo.shape)
    grads = jax.jit(jax.grad(lambda a, b: cost(a, b) @ g, (0, 1)))(online, geo)
    weighted = list(zip(g, angles, strict=True))
    along_online = sum(w * (scipy_rotate(d_online, a) * inner).sum() for w, a in weighted)
    along_geo = sum(w * (scipy_rotate(online, a) * d_geo[2:-2, 2:-2]).sum() for w, a in weighted)
    np.testing.assert_allclose(np.vdot(grads[0], d_online), along_online, atol=2e-3)
    np.testing.assert_allclose(np.vdot(grads[1], d_geo), along_geo, atol=2e-3)


def test_vmap_equals_loop(rng):
    online, geo = jnp.asarray(rng.standard_normal((2, 3, 9, 9, 2), np.float32))
    angles = jnp.array([-0.2, 0.1])

    def loss(a, b):
        return (orientation_cost(a, b, angles) ** 2).sum()

    grad = jax.jit(jax.grad(loss, (0, 1)))
    got = jax.jit(jax.vmap(grad))(online, geo)
    for n in range(3):
        for a, b in zip(grad(online[n], geo[n]), got, strict=True):
            np.testing.assert_allclose(a, b[n], rtol=1e-4, atol=1e-3)


def _golden_orientation(z, name):
    case = json.loads(str(z["meta"]))["cases"][name]
    shape = (case["B"], case["C"], case["H"], case["W"])
    online = np.random.default_rng(case["seed"]).standard_normal(shape, dtype=np.float32)
    geo = z[f"{name}/geo_ori"]
    return case, *(jnp.asarray(np.moveaxis(a, 1, -1)) for a in (online, geo))


def _golden_check(z, tap, got):
    info = json.loads(str(z["meta"]))["taps"][tap]
    want, got = z[tap].astype(np.float64), np.asarray(got, np.float64)
    part = got.reshape(-1)[:: info["stride"]].reshape(want.shape)
    assert np.abs(part - want).max() <= max(20 * info["err64"], 1e-5 * info["absmax"]), tap


def _golden_compare(z, name, case, cost_of, online, geo):
    """`cost_of(online, geo) -> [B, K]` against cost, loss and both gradients of the reference."""
    count = case["C"] * case["H"] * case["W"]

    def loss(a, b):
        return jax.nn.logsumexp(cost_of(a, b) / count, axis=1).sum()

    _golden_check(z, f"{name}/ori_cost", cost_of(online, geo))
    value, (d_online, d_geo) = jax.jit(jax.value_and_grad(loss, (0, 1)))(online, geo)
    _golden_check(z, f"{name}/ori_loss", value)
    _golden_check(z, f"{name}/ori_grad_online", np.moveaxis(np.asarray(d_online), -1, 1))
    _golden_check(z, f"{name}/ori_grad_geo", np.moveaxis(np.asarray(d_geo), -1, 1))


@pytest.mark.golden
def test_golden_square(golden):
    """Its angle is the negative of our yaw; for square rasters its map is a rigid rotation."""
    z = golden("cost_volume.npz")
    case, online, geo = _golden_orientation(z, "c0")
    yaw = -jnp.deg2rad(jnp.array(case["angles_deg"]))
    turned = np.moveaxis(np.asarray(rotate(online[0], jnp.deg2rad(10.0))), -1, 0)[None]
    _golden_check(z, "c0/rot_m10", turned)
    _golden_compare(z, "c0", case, jax.vmap(lambda a, b: orientation_cost(a, b, yaw)), online, geo)


@pytest.mark.golden
@pytest.mark.parametrize("name", ["c1", "c2"])
def test_golden_not_square(golden, name):
    """There the reference shears: checked through the general warp with its matrix in pixels."""
    z = golden("cost_volume.npz")
    case, online, geo = _golden_orientation(z, name)
    height, width = case["H"], case["W"]
    scale = np.diag([width / 2, height / 2])

    def matrix(degrees):
        t = np.deg2rad(degrees)
        turn = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
        linear = scale @ turn @ np.linalg.inv(scale)
        centre = np.array([width / 2, height / 2])
        return np.concatenate([linear, (centre - linear @ centre)[:, None]], 1)

    matrices = jnp.asarray(np.stack([matrix(d) for d in case["angles_deg"]]), jnp.float32)

    def cost(a, b):
        return jax.lax.map(lambda m: (affine_warp(a, m)[0] * b).sum(), matrices)

    _golden_compare(z, name, case, jax.vmap(cost), online, geo)
