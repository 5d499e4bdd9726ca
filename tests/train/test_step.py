"""The step: the same on one device, on eight, and in micro-batches; what it skips and costs."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from beacons.system import Beacons

from posejax.config import Group, Optimizer, Schedule
from posejax.train import Batch, groups, setup
from posejax.train.compilation import compile_step
from posejax.train.step import make_step

STEPS = 20


@pytest.fixture
def take_steps(beacons):
    """`take_steps(steps, alter=..., **changes)`: state and scalars of each step."""

    def go(steps=STEPS, alter=None, **changes):
        parts = setup.assemble(beacons(**{"train.steps": STEPS, "train.batch_size": 64, **changes}))
        step = make_step(
            parts.system, parts.optimizer, parts.train, parts.step_key(), 0, parts.steps
        )
        step = jax.jit(step, out_shardings=(parts.shardings(), None))
        state, log = parts.init(), []
        for i in range(steps):
            rng = np.random.default_rng(i)
            rows = [parts.examples(int(k), rng) for k in rng.integers(0, 256, 64)]
            host = {k: np.stack([r[k] for r in rows]) for k in rows[0]}
            host = host if alter is None else alter(i, host)
            state, scalars = step(state, parts.place(host))
            log.append(jax.device_get(scalars))
        return parts, state, log

    return go


@pytest.mark.parametrize("kind", ["adamw", pytest.param("sgd", marks=pytest.mark.slow)])
def test_one_device_is_eight_devices_is_eight_micro_batches(take_steps, kind):
    # Adam divides by the gradient's size: with its usual eps, the rounding of a gradient that
    # happens to be near zero would come out as large as the gradient.
    rule = Optimizer(kind, Schedule("cosine", 5e-3, warmup=0.1), eps=1e-4)
    runs = [
        take_steps(**{"train.optimizer": rule, **changes})
        for changes in (
            {"train.sharding.devices": 1},
            {"train.sharding.devices": 8},
            {"train.sharding.devices": 1, "train.accumulate": 8},
            {"train.sharding.devices": 8, "train.accumulate": 8},
            {"train.sharding.fsdp": 4, "train.sharding.fsdp_min_size": 8},
        )
    ]
    one, state, log = runs[0]
    assert one.mesh.size == 1
    for parts, other, scalars in runs[1:]:
        chex.assert_trees_all_close(other.params, state.params, rtol=1e-5, atol=1e-5)
        losses = [[s["loss"] for s in x] for x in (scalars, log)]
        np.testing.assert_allclose(*losses, rtol=1e-5, atol=1e-5)
        assert parts.mesh.size in (1, 8)
    assert log[-1]["loss"] < 0.8 * log[0]["loss"]


def test_batch_norm_sees_the_whole_batch_on_any_number_of_devices(take_steps):
    # sgd, since the bias before the normalisation has no gradient but rounding: see above.
    changes = {"system.norm": "batch", "train.optimizer": Optimizer("sgd", Schedule(peak=1e-2))}
    results = [take_steps(8, **{**changes, "train.sharding.devices": n})[1] for n in (1, 8)]
    chex.assert_trees_all_close(
        results[0].model_state, results[1].model_state, rtol=1e-5, atol=1e-5
    )
    chex.assert_trees_all_close(results[0].params, results[1].params, rtol=1e-5, atol=1e-5)
    mean = results[0].model_state["batch_stats"]["norm"]["mean"]
    assert np.abs(mean).max() > 0.01


def test_fsdp_splits_large_leaves_and_their_moments(take_steps):
    parts, state, _ = take_steps(
        1, **{"train.sharding.fsdp": 8, "train.sharding.fsdp_min_size": 60, "train.ema": 0.9,
              "train.sharding.replicate": ("head",)}
    )  # fmt: skip
    kernel = state.params["encoder"]["kernel"]  # [4, 16]
    assert kernel.addressable_shards[0].data.shape == (4, 2)
    assert state.opt_state["default"].mu["encoder/kernel"].sharding == kernel.sharding
    assert state.ema["encoder"]["kernel"].sharding == kernel.sharding
    assert state.params["encoder"]["bias"].sharding.is_fully_replicated
    assert state.params["head"]["kernel"].sharding.is_fully_replicated
    assert dict(parts.mesh.shape) == {"data": 1, "fsdp": 8}


@pytest.mark.parametrize("kind", ["full", pytest.param("dots", marks=pytest.mark.slow)])
def test_remat_changes_memory_only(take_steps, kind):
    a, b = take_steps(3)[1], take_steps(3, **{"train.remat": kind})[1]
    chex.assert_trees_all_close(a.params, b.params, rtol=1e-6, atol=1e-7)


def test_moving_average_follows_its_recursion(take_steps):
    _, first, _ = take_steps(1, **{"train.ema": 0.9})
    start = take_steps(0, **{"train.ema": 0.9})[1]
    # decay = min(0.9, (1 + 0) / (10 + 0)) at step 0
    expected = jax.tree.map(lambda a, p: 0.1 * a + 0.9 * p, start.params, first.params)
    chex.assert_trees_all_close(first.ema, expected, rtol=1e-5, atol=1e-7)


def test_non_finite_step_changes_nothing_but_the_counters(take_steps):
    def poison(i, host):
        if i in (1, 2):
            host["ranges"][5] = np.inf if i == 1 else np.nan
        return host

    changes = {"train.ema": 0.9, "system.norm": "batch"}
    before = take_steps(1, **changes)[1]
    _, after, log = take_steps(3, poison, **changes)
    for part in ("params", "model_state", "opt_state", "ema"):
        chex.assert_trees_all_equal(getattr(before, part), getattr(after, part))
    assert [int(s["finite"]) for s in log] == [1, 0, 0]
    assert [int(s["in_a_row"]) for s in log] == [0, 1, 2]
    assert (int(after.step), int(after.skipped)) == (3, 2)
    _, healed, log = take_steps(4, poison, **changes)
    assert (int(healed.in_a_row), int(healed.skipped)) == (0, 2)
    assert not np.array_equal(healed.params["head"]["kernel"], after.params["head"]["kernel"])


def test_frozen_groups_cost_no_gradient(beacons):
    flops = {}
    for frozen in (False, True):
        rule = Optimizer(groups=(Group("encoder", frozen=frozen), Group("head")))
        parts = setup.assemble(
            beacons(**{"train.optimizer": rule, "system.hidden": 256, "train.sharding.devices": 1})
        )
        step = make_step(
            parts.system, parts.optimizer, parts.train, parts.step_key(), 0, parts.steps
        )
        program = compile_step(step, parts)
        flops[frozen] = program.flops
    # forward 2 * 16 * 256 * (4 + 2); backward of the encoder alone adds its 2 * 16 * 4 * 256.
    assert flops[True] < flops[False] - 2 * 16 * 4 * 256


def test_step_is_traced_once(beacons):
    parts = setup.assemble(beacons(**{"train.steps": 5}))
    inner = make_step(parts.system, parts.optimizer, parts.train, parts.step_key(), 0, parts.steps)
    step = jax.jit(chex.assert_max_traces(inner, n=1), out_shardings=(parts.shardings(), None))
    state = parts.init()
    for _ in range(5):
        state, _ = step(state, parts.place(parts.first_batch()))


def test_accumulation_equals_the_mean_gradient_of_micro_batches(beacons):
    """Against gradients taken by hand, micro-batch a holding the examples a, a + n, ..."""
    rule = Optimizer("sgd", Schedule("constant", 1.0), clip_norm=None, weight_decay=0.0, b1=0.0)
    parts = setup.assemble(
        beacons(**{"train.optimizer": rule, "train.accumulate": 4, "train.sharding.devices": 1})
    )
    state, host = parts.init(), parts.first_batch()
    step = make_step(parts.system, parts.optimizer, parts.train, parts.step_key(), 0, parts.steps)
    new, _ = jax.jit(step)(state, Batch(host))

    def loss(params, part):
        key, model_state = jax.random.key(0), state.model_state
        return parts.system.loss(params, model_state, part, key, jnp.float32(0), True)[0]

    parted = [Batch({k: v[a::4] for k, v in host.items()}) for a in range(4)]
    grads = [jax.grad(loss)(state.params, part) for part in parted]
    mean = jax.tree.map(lambda *g: sum(g) / 4, *grads)
    moved = jax.tree.map(jnp.subtract, state.params, new.params)
    chex.assert_trees_all_close(moved, mean, rtol=1e-4, atol=1e-6)


@dataclasses.dataclass(frozen=True)
class Ramped(Beacons):
    """Tells the progress that it was given."""

    def loss(self, params, state, batch, key, progress, train):
        loss, output = super().loss(params, state, batch, key, progress, train)
        return loss, output._replace(scalars={"progress": progress})


@pytest.mark.parametrize("accumulate", [1, 4])
def test_progress_is_the_share_of_the_steps_that_are_done(take_steps, accumulate):
    changes = {"system": Ramped(), "train.accumulate": accumulate}
    log = take_steps(6, **changes)[2]
    np.testing.assert_allclose([s["progress"] for s in log], np.arange(6) / STEPS, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train.batch_size": 12, "train.sharding.devices": 8}, "multiple of 8 devices"),
        ({"train.sharding.devices": 9}, "there are 8 devices"),
        ({"train.sharding.fsdp": 3}, "divisor of 8"),
        ({"train.steps": None, "train.epochs": None}, "train.steps or train.epochs"),
        ({"train.steps": 0}, "has 0 steps"),
        ({"train.accumulate": 0}, "train.accumulate: 0; expected >= 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(beacons, changes, words):
    with pytest.raises(ValueError, match=words):
        setup.assemble(beacons(**changes))


def test_odd_batches_use_fewer_devices(beacons):
    parts = setup.assemble(beacons(**{"train.batch_size": 12}))
    assert parts.mesh.size == 6
    parts = setup.assemble(beacons(**{"train.batch_size": 12, "train.accumulate": 3}))
    assert parts.mesh.size == 4


def test_epochs_and_steps(beacons):
    parts = setup.assemble(beacons(**{"train.epochs": 3, "train.batch_size": 24}))
    assert parts.steps == 32  # 3 * 256 / 24
    assert [parts.epochs_done(s) for s in (0, 10, 11, 21, 22, 32)] == [0, 0, 1, 1, 2, 3]
    assert parts.epoch(16) == 1.5
    assert setup.assemble(beacons(**{"train.steps": 7})).steps == 7


def test_groups_flatten_is_undone():
    tree = {"a": {"b": 1, "c": (2, 3)}, "d": 4}
    assert groups.unflatten(groups.flatten(tree), tree) == tree
    assert list(groups.flatten(tree)) == ["a/b", "a/c/0", "a/c/1", "d"]
