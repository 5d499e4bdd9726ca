"""The kernel: derivatives against finite differences, the batching rule, order and devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from posejax.events import (
    Events,
    averaged_time_surface,
    events_from_arrays,
    time_surface,
    voxel_grid,
)
from posejax.events import accumulate as module

SENSOR = (24, 32)
PLACE = {"size": (9, 12), "sensor_size": SENSOR}


def grid_of(events, start=0.0, end=0.1, **options):
    settings = {"bins": 4, "time": "linear", "space": "bilinear", **options}
    return voxel_grid(events, window=(start, end), **PLACE, **settings)


def make(rng, *batch, floats=True, margin=3.0):
    y, x = (rng.uniform(-margin, n + margin, batch) for n in SENSOR)
    t, p = rng.uniform(-0.01, 0.11, batch), rng.integers(0, 2, batch)
    kind = np.float32 if floats else np.int32
    arrays = (x.astype(kind), y.astype(kind), t.astype(np.float32), p, rng.random(batch) < 0.8)
    return Events(*(jnp.asarray(a) for a in arrays))


@pytest.mark.parametrize(
    "representation",
    [
        lambda e, w: voxel_grid(e, bins=4, time="linear", space="bilinear", window=w, **PLACE),
        lambda e, w: voxel_grid(
            e, bins=3, polarity="signed", time="linear", space="bilinear", window=w, **PLACE
        ),
        lambda e, w: averaged_time_surface(e, tau=0.05, space="bilinear", window=w, **PLACE),
        lambda e, w: time_surface(e, tau=0.05, window=w, **PLACE),
    ],
)
def test_gradients_are_finite_differences(rng, representation):
    with jax.enable_x64(True):
        events = make(rng, 60)
        events = events._replace(**{k: getattr(events, k).astype(jnp.float64) for k in "xyt"})
        weights = jnp.asarray(rng.standard_normal(representation(events, (0.0, 0.1)).shape))

        @jax.jit
        def loss(values):
            x, y, t, start, end = values
            return jnp.sum(representation(events._replace(x=x, y=y, t=t), (start, end)) * weights)

        at = (events.x, events.y, events.t, jnp.float64(0.0), jnp.float64(0.1))
        slopes = jax.grad(loss)(at)
        step = 1e-7
        for i, (value, slope) in enumerate(zip(at, slopes, strict=True)):
            places = [()] if value.ndim == 0 else [(k,) for k in range(0, 60, 3)]
            for k in places:
                up, down = (
                    loss((*at[:i], value.at[k].add(s), *at[i + 1 :])) for s in (step, -step)
                )
                numeric = (up - down) / (2 * step)
                np.testing.assert_allclose(slope[k], numeric, atol=1e-5, rtol=1e-5)
        assert np.abs(slopes[2]).max() > 0 and slopes[4] != 0


def test_ties_share_the_slope_of_a_maximum():
    events = events_from_arrays([3, 3, 3], [4, 4, 4], [0.05, 0.05, 0.01], [1, 1, 1])

    def peak(t):
        surface = time_surface(
            events._replace(t=t), tau=1.0, kind="linear", window=(0.0, 0.1), **PLACE
        )
        return surface.sum()

    np.testing.assert_allclose(jax.grad(peak)(events.t), [0.5, 0.5, 0], atol=1e-6)


def loss(events, start, end, **options):
    grid = grid_of(events, start, end, **options)
    return jnp.sum(grid * jnp.arange(grid.size).reshape(grid.shape) / grid.size)


@pytest.mark.parametrize("floats", [True, False])
@pytest.mark.parametrize("count", [5, 700])  # sparse and dense
def test_vmap_is_the_loop(rng, floats, count):
    events = make(rng, 6, count, floats=floats)
    events = events._replace(valid=events.valid.at[2].set(False))
    starts, ends = jnp.linspace(0, 0.02, 6), jnp.linspace(0.1, 0.08, 6)
    rows = [jax.tree.map(lambda v, k=k: v[k], events) for k in range(6)]
    for axes in [(0, 0, 0), (0, None, 0), (None, 0, None), (0, None, None)]:
        whole = zip((rows, starts, ends), axes, strict=True)
        picked = [v if a == 0 else [v[0]] * 6 for v, a in whole]
        want = jnp.stack([grid_of(*args) for args in zip(*picked, strict=True)])
        given = [
            v if a == 0 else first
            for v, first, a in zip(
                (events, starts, ends), (rows[0], starts[0], ends[0]), axes, strict=True
            )
        ]
        np.testing.assert_allclose(jax.jit(jax.vmap(grid_of, axes))(*given), want, atol=1e-5)


def test_nested_maps_jit_and_gradients(rng):
    events = make(rng, 2, 3, 50)
    starts = jnp.linspace(0, 0.01, 3)

    def slopes(events, start):
        def of(x, y, t, start):
            return loss(events._replace(x=x, y=y, t=t), start, 0.1)

        return jax.grad(of, (0, 1, 2, 3))(events.x, events.y, events.t, start)

    inner = jax.vmap(slopes, (0, 0))
    got = jax.jit(jax.vmap(inner, (0, None)))(events, starts)
    for i in range(2):
        for j in range(3):
            row = jax.tree.map(lambda v, i=i, j=j: v[i, j], events)
            for a, b in zip(got, slopes(row, starts[j]), strict=True):
                np.testing.assert_allclose(a[i, j], b, atol=1e-4, rtol=1e-4)
    # The gradient of a batch with shared arguments is summed over the batch.
    total = jax.grad(lambda s: jax.vmap(loss, (0, None, None))(events_of(events), s, 0.1).sum())
    want = sum(
        slopes(jax.tree.map(lambda v, k=k: v[k], events_of(events)), starts[0])[3] for k in range(6)
    )
    np.testing.assert_allclose(total(starts[0]), want, rtol=1e-3)


def events_of(events):
    return jax.tree.map(lambda v: v.reshape(6, 50), events)


def test_one_scatter_for_accelerators_is_the_loop(rng):
    """What is lowered for other platforms, run here."""
    taps = module.Taps((9, 12), SENSOR, 4, time="linear", space="bilinear")
    events = make(rng, 5, 300)
    bounds = jnp.zeros(5), jnp.full(5, 0.1), jnp.ones(1)  # the last one shared

    def one(*leaves):
        return taps(Events(*leaves[:5]), *leaves[5:])

    for how in ("float", "fixed", "max"):
        by_loop = module._fill_by_loop(one, taps, how, *events, *bounds)
        together = module._maps(lambda *a, how=how: module._fill(one, taps, how, *a))[1]
        np.testing.assert_allclose(together(*events, *bounds), by_loop, atol=2e-5)  # one step


def test_a_batch_over_devices_needs_no_communication_elsewhere():
    """The form for accelerators splits along the batch: no grid is summed or gathered."""
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    rows = NamedSharding(mesh, PartitionSpec("data"))
    taps = module.Taps((9, 12), SENSOR, 4, time="linear")

    def one(*leaves):
        return taps(Events(*leaves[:5]), jnp.float32(0), jnp.float32(0.1), jnp.float32(1))

    together = module._maps(lambda *a: module._fill(one, taps, "float", *a))[1]
    events = make(np.random.default_rng(0), 8, 100)
    step = jax.jit(together, in_shardings=rows, out_shardings=rows)
    text = step.lower(*events).compile().as_text()
    assert "scatter" in text
    assert not any(word in text for word in ("all-reduce", "all-gather", "all-to-all"))
    # And the public function works on such arrays.
    both = jax.jit(jax.vmap(grid_of), in_shardings=rows, out_shardings=rows)(events)
    np.testing.assert_allclose(both, jax.vmap(grid_of)(events), atol=1e-5)


def test_fixed_point_does_not_depend_on_the_order(rng):
    events = make(rng, 3000)
    order = rng.permutation(3000)
    shuffled = jax.tree.map(lambda v: v[order], events)
    a, b = (np.asarray(grid_of(e, accumulate="fixed")) for e in (events, shuffled))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a * 65536, np.round(a * 65536))
    np.testing.assert_allclose(a, grid_of(events), atol=3e-4)
    assert (np.asarray(grid_of(events)) != np.asarray(grid_of(shuffled))).any()
    slopes = [
        jax.grad(lambda t, h=h: loss(events._replace(t=t), 0, 0.1, accumulate=h))(events.t)
        for h in ("float", "fixed")
    ]
    np.testing.assert_array_equal(*slopes)


def test_calls_with_equal_settings_compile_once():
    before = module.accumulate._cache_size()
    events = make(np.random.default_rng(1), 33)
    for _ in range(3):
        voxel_grid(events, bins=7, window=(0.0, 0.1), **PLACE)
    assert module.accumulate._cache_size() == before + 1


@pytest.mark.real
def test_real_recording_is_numpys(data_dir):
    data = np.load(data_dir("prophesee_evt3") / "evt3_truth.npz")
    x, y, p = (data[k].astype(np.int64) for k in "xyp")
    t = ((data["t"] - data["t"][0]) * 1e-6).astype(np.float32)
    end = float(t[-1]) + 1e-3
    events = events_from_arrays(x, y, t, p, capacity=230_000)
    got = voxel_grid(
        events, bins=5, size=(256, 256), sensor_size=(720, 1280), window=(0, end), time="linear"
    )
    want = np.zeros((256, 256, 10))
    u = t.astype(np.float64) / np.float32(end) * 4
    low = u.astype(int)
    rows, columns = (2 * y + 1) * 256 // 1440, (2 * x + 1) * 256 // 2560
    np.add.at(want, (rows, columns, 5 * p + low), 1 - (u - low))
    np.add.at(want, (rows, columns, 5 * p + low + 1), u - low)
    np.testing.assert_allclose(got, want, atol=2e-3)
    np.testing.assert_allclose(got.sum(), 219_596, rtol=1e-5)
