"""translation_cost against brute force in float64, the golden numbers, and its own two methods."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.registration import next_fast_length, translation_cost


def brute_force(online, geo, radius):
    """The definition, cell by cell in float64; `geo` zero outside its extent."""
    online, geo = np.asarray(online, np.float64), np.asarray(geo, np.float64)
    h, w, _ = online.shape
    oy, ox = (geo.shape[0] - h) // 2, (geo.shape[1] - w) // 2
    pad = radius + max(0, -oy, -ox)
    padded = np.pad(geo, ((pad, pad), (pad, pad), (0, 0)))
    cost = np.zeros((2 * radius + 1,) * 2)
    for i in range(2 * radius + 1):
        for j in range(2 * radius + 1):
            y, x = oy + i - radius + pad, ox + j - radius + pad
            cost[i, j] = (online * padded[y : y + h, x : x + w]).sum()
    return cost


CASES = [
    ((12, 12, 2), (12, 12, 2), 3),
    ((9, 14, 3), (15, 14, 3), 4),  # odd, not square, larger in y alone
    ((10, 8, 1), (40, 30, 1), 2),  # geo beyond the window
    ((10, 12, 2), (6, 8, 2), 3),  # geo smaller than online
    ((5, 5, 4), (5, 5, 4), 0),
    ((4, 6, 1), (4, 6, 1), 9),  # window beyond the raster
]


@pytest.mark.parametrize("method", ["fft", "direct"])
@pytest.mark.parametrize(("online_shape", "geo_shape", "radius"), CASES)
def test_equals_definition(rng, method, online_shape, geo_shape, radius):
    online = rng.standard_normal(online_shape, np.float32)
    geo = rng.standard_normal(geo_shape, np.float32)
    got = translation_cost(jnp.asarray(online), jnp.asarray(geo), radius, method=method)
    assert got.shape == (2 * radius + 1,) * 2
    np.testing.assert_allclose(got, brute_force(online, geo, radius), atol=2e-5)


@pytest.mark.parametrize("method", ["fft", "direct"])
@pytest.mark.parametrize(("online_shape", "geo_shape", "radius"), CASES)
def test_gradient_is_the_transpose(rng, method, online_shape, geo_shape, radius):
    # The cost is linear in each raster: <g, cost(d, geo)> must equal <gradient, d> for every d.
    online, d_online = rng.standard_normal((2, *online_shape), np.float32)
    geo, d_geo = rng.standard_normal((2, *geo_shape), np.float32)
    g = rng.standard_normal((2 * radius + 1,) * 2, np.float32)

    def loss(a, b):
        return (translation_cost(a, b, radius, method=method) * g).sum()

    grad_online, grad_geo = jax.jit(jax.grad(loss, (0, 1)))(online, geo)
    want = (g * brute_force(d_online, geo, radius)).sum()
    np.testing.assert_allclose(np.vdot(grad_online, d_online), want, rtol=1e-4, atol=1e-3)
    want = (g * brute_force(online, d_geo, radius)).sum()
    np.testing.assert_allclose(np.vdot(grad_geo, d_geo), want, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("radius", "method"), [(0, "direct"), (1, "fft"), (3, "fft")])
def test_auto_takes_the_cheaper_method_and_changes_nothing(rng, radius, method):
    args = jnp.asarray(rng.standard_normal((2, 10, 12, 2), np.float32))

    def step(method):
        def loss(a, b):
            return jnp.sin(translation_cost(a, b, radius, method=method)).sum()

        return jax.jit(jax.value_and_grad(loss, (0, 1)))

    assert ("fft" in step("auto").lower(*args).as_text()) == (method == "fft")
    other = step("fft" if method == "direct" else "direct")(*args)
    for a, b in zip(jax.tree.leaves(step("auto")(*args)), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_peak_is_at_the_shift(rng):
    geo = rng.standard_normal((24, 24, 2), np.float32)
    online = np.roll(geo, (-3, 2), (0, 1))  # online moved by (x, y) = (-2, 3) lies on geo
    cost = translation_cost(jnp.asarray(online), jnp.asarray(geo), 5)
    assert np.unravel_index(np.argmax(cost), cost.shape) == (5 + 3, 5 - 2)


def test_vmap_equals_loop(rng):
    online = jnp.asarray(rng.standard_normal((3, 10, 12, 2), np.float32))
    geo = jnp.asarray(rng.standard_normal((3, 16, 18, 2), np.float32))

    def loss(a, b):
        return (translation_cost(a, b, 3) ** 2).sum()

    grad = jax.jit(jax.grad(loss, (0, 1)))
    got = jax.jit(jax.vmap(grad))(online, geo)
    for n in range(3):
        for a, b in zip(grad(online[n], geo[n]), got, strict=True):
            np.testing.assert_allclose(a, b[n], rtol=1e-4, atol=1e-3)


def test_one_trace_for_all_values(rng):
    traces = []

    @jax.jit
    def f(a, b):
        traces.append(1)
        return translation_cost(a, b, 2)

    for _ in range(3):
        f(*jnp.asarray(rng.standard_normal((2, 8, 8, 1), np.float32)))
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("online", "geo", "radius", "words"),
    [
        ((8, 8), (8, 8), 2, "channel axis"),
        ((8, 8, 2), (8, 8, 3), 2, "channels"),
        ((8, 8, 2), (9, 8, 2), 2, "even"),
        ((8, 8, 2), (8, 8, 2), -1, "radius"),
        ((8, 8, 2), (8, 8, 2), 1.5, "radius"),
    ],
)
def test_bad_input_is_named(online, geo, radius, words):
    with pytest.raises(ValueError, match=words):
        translation_cost(jnp.zeros(online), jnp.zeros(geo), radius)


def test_unknown_method_is_refused():
    with pytest.raises(ValueError, match="wavelet"):
        translation_cost(jnp.zeros((4, 4, 1)), jnp.zeros((4, 4, 1)), 1, method="wavelet")


def test_next_fast_length():
    def smooth(n):
        for p in (2, 3, 5, 7):
            while n % p == 0:
                n //= p
        return n == 1

    for n in range(1, 700):
        got = next_fast_length(n)
        assert got >= n and smooth(got) and not any(smooth(m) for m in range(n, got)), n
    with pytest.raises(ValueError, match="positive"):
        next_fast_length(0)


def golden_case(z, name):
    """Inputs of a golden case as [B, H, W, C] float32, with its settings."""
    case = json.loads(str(z["meta"]))["cases"][name]
    shape = (case["B"], case["C"], case["H"], case["W"])
    online = np.random.default_rng(case["seed"]).standard_normal(shape, dtype=np.float32)
    noise = np.random.default_rng(case["seed"] + 1).standard_normal(shape, dtype=np.float32)
    shifted = np.roll(online, (case["dy"], case["dx"]), (2, 3))
    geo = (0.7 * shifted + noise).astype(np.float32)
    return case, jnp.asarray(np.moveaxis(online, 1, -1)), jnp.asarray(np.moveaxis(geo, 1, -1))


def golden_check(z, name, got):
    """Compare a full array (channels first) with a stored tap at the documented tolerance."""
    info = json.loads(str(z["meta"]))["taps"][name]
    got = np.asarray(got, np.float64)
    assert list(got.shape) == info["shape"], name
    want = z[name].astype(np.float64)
    part = got.reshape(-1)[:: info["stride"]].reshape(want.shape)
    tolerance = max(20 * info["err64"], 1e-5 * info["absmax"])
    assert np.abs(part - want).max() <= tolerance, name
    assert abs(got.mean() - info["mean"]) <= tolerance, name


@pytest.mark.golden
@pytest.mark.parametrize("method", ["fft", "direct"])
@pytest.mark.parametrize("name", ["c0", "c1", "c2"])
def test_golden(golden, name, method):
    z = golden("cost_volume.npz")
    case, online, geo = golden_case(z, name)
    radius, count = case["r"], case["C"] * case["H"] * case["W"]

    def cost_of(a, b):
        return jax.vmap(lambda a, b: translation_cost(a, b, radius, method=method))(a, b)

    def loss(a, b):
        return jax.nn.logsumexp(cost_of(a, b) / count, axis=(1, 2)).sum()

    golden_check(z, f"{name}/trans_cost", cost_of(online, geo))
    value, grads = jax.jit(jax.value_and_grad(loss, (0, 1)))(online, geo)
    golden_check(z, f"{name}/trans_loss", value)
    for tap, grad in zip(("trans_grad_online", "trans_grad_geo"), grads, strict=True):
        golden_check(z, f"{name}/{tap}", np.moveaxis(np.asarray(grad), -1, 1))
