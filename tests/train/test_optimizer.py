"""The update rule against optax; groups: matching, rates, freezing, staged unfreezing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from posejax.config import Group, Optimizer, Schedule
from posejax.train import groups, optimizer


def params() -> dict:
    k = jax.random.split(jax.random.key(0), 3)
    return {
        "encoder": {"kernel": jax.random.normal(k[0], [3, 4]), "bias": jnp.ones(4)},
        "head": {"kernel": jax.random.normal(k[1], [4, 2])},
    }


def gradient(step: int) -> dict:
    return jax.tree.map(
        lambda p: jnp.cos(p * (step + 1)) * 3.0, params(), is_leaf=lambda x: hasattr(x, "shape")
    )


def run(rule: Optimizer, steps: int = 8, total: int = 8):
    """Parameters after `steps` updates, and the norms and rates of each."""
    tree = params()
    opt = optimizer.make(rule, tree, total)
    state = opt.init(tree)
    norms, rates = [], []
    for step in range(steps):
        stage = groups.stage_of(opt.members, step)
        trained = {p for m in opt.trained(stage) for p in m.paths}
        grads = {p: g for p, g in groups.flatten(gradient(step)).items() if p in trained}
        flat = groups.flatten(tree)
        updates, state, norm = opt.update(
            grads, state, {p: flat[p] for p in grads}, jnp.int32(step), stage
        )
        tree = groups.unflatten({p: v + updates.get(p, 0.0) for p, v in flat.items()}, tree)
        norms.append(float(norm))
        rates.append({k: float(v) for k, v in opt.rates(jnp.int32(step)).items()})
    return tree, norms, rates


@pytest.mark.parametrize("kind", ["adamw", "sgd", "lion"])
def test_update_is_that_of_optax(kind):
    rule = Optimizer(kind, Schedule("cosine", 0.1), weight_decay=0.01, clip_norm=2.0, no_decay=())
    lr = optax.cosine_decay_schedule(0.1, 8)
    theirs = {
        "adamw": optax.adamw(lr, weight_decay=0.01),
        "lion": optax.lion(lr, b1=0.9, b2=0.999, weight_decay=0.01),
        "sgd": optax.chain(
            optax.trace(0.9), optax.add_decayed_weights(0.01), optax.scale_by_learning_rate(lr)
        ),
    }[kind]
    theirs = optax.chain(optax.clip_by_global_norm(2.0), theirs)
    tree = params()
    state = theirs.init(tree)
    for step in range(8):
        updates, state = theirs.update(gradient(step), state, tree)
        tree = optax.apply_updates(tree, updates)
    mine, norms, _ = run(rule)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), mine, tree)
    np.testing.assert_allclose(norms[0], optax.global_norm(gradient(0)), rtol=1e-6)


def test_decay_spares_what_no_decay_names():
    rule = Optimizer("sgd", Schedule("constant", 0.1), weight_decay=1.0, clip_norm=None, b1=0.0)
    opt = optimizer.make(rule, params(), 4)
    flat = groups.flatten(params())
    zero = {p: jnp.zeros_like(v) for p, v in flat.items()}
    updates, _, _ = opt.update(zero, opt.init(params()), flat, jnp.int32(0), 0)
    np.testing.assert_array_equal(updates["encoder/bias"], 0)
    np.testing.assert_allclose(updates["head/kernel"], -0.1 * flat["head/kernel"], rtol=1e-6)


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        (["encoder"], ["match no group", "head/kernel"]),
        (["encoder", "kernel"], ["match several groups", "encoder/kernel (encoder, kernel)"]),
        (["encoder", "head", "neck"], ["match no parameter", "neck", "all parameters"]),
        (["encoder", "("], ["not a regular expression"]),
        (["encoder", "encoder"], ["names must differ"]),
    ],
)
def test_every_parameter_belongs_to_exactly_one_group(patterns, words):
    rule = Optimizer(groups=tuple(Group(p) for p in patterns))
    with pytest.raises(ValueError) as error:
        optimizer.make(rule, params(), 10)
    for word in words:
        assert word in str(error.value)


def test_group_rates_multiply_replace_and_wait():
    rule = Optimizer(
        schedule=Schedule("constant", 0.1),
        groups=(
            Group("bias", "slow", lr=0.1),
            Group("encoder/kernel", "own", schedule=Schedule("multi_step", 1.0, milestones=(2,))),
            Group("head", "late", unfreeze_at=0.5),
        ),
    )
    _, _, rates = run(rule)
    np.testing.assert_allclose([r["slow"] for r in rates], 0.01, rtol=1e-6)
    np.testing.assert_allclose([r["own"] for r in rates], [1, 1] + [0.1] * 6, rtol=1e-6)
    np.testing.assert_allclose([r["late"] for r in rates], [0] * 4 + [0.1] * 4, rtol=1e-6)


def test_frozen_parameters_stay_and_do_not_count_in_the_clip_norm():
    rule = Optimizer(groups=(Group("encoder", frozen=True), Group("head")))
    tree, norms, _ = run(rule)
    np.testing.assert_array_equal(tree["encoder"]["kernel"], params()["encoder"]["kernel"])
    assert not np.allclose(tree["head"]["kernel"], params()["head"]["kernel"])
    np.testing.assert_allclose(norms[0], optax.global_norm(gradient(0)["head"]), rtol=1e-6)
    assert "encoder" not in optimizer.make(rule, params(), 8).init(params())


def test_first_step_after_unfreezing_is_a_first_step_of_adam():
    """Had the moments' count run while frozen, this step would be three times too large."""
    rule = Optimizer(
        schedule=Schedule("constant", 0.1), weight_decay=0.0, clip_norm=None,
        groups=(Group("encoder"), Group("head", unfreeze_at=5)),
    )  # fmt: skip
    before, _, _ = run(rule, steps=5)
    after, _, _ = run(rule, steps=6)
    np.testing.assert_array_equal(before["head"]["kernel"], params()["head"]["kernel"])
    moved = after["head"]["kernel"] - before["head"]["kernel"]
    expected = -0.1 * np.sign(gradient(5)["head"]["kernel"])
    np.testing.assert_allclose(moved, expected, rtol=1e-3)


def test_stages_begin_where_groups_unfreeze():
    rule = Optimizer(groups=(Group("bias", unfreeze_at=0.25), Group("kernel", unfreeze_at=4)))
    members = optimizer.make(rule, params(), 8).members
    assert groups.stages(members) == (0, 2, 4)
    assert [groups.stage_of(members, s) for s in range(6)] == [0, 0, 2, 2, 4, 4]
    with pytest.raises(ValueError, match=r"bias has unfreeze_at -1; expected >= 0 \(frozen=True"):
        optimizer.make(Optimizer(groups=(Group("bias", unfreeze_at=-1),)), params(), 8)
