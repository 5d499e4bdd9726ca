"""The loss against an independent float64 reference, and where it could break."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.matching import expected_correspondence
from posejax.systems.tinyroma import ModelConfig, ObjectiveConfig
from posejax.systems.tinyroma.model import Features, TinyRomaOutput, Warp
from posejax.systems.tinyroma.objective import (
    Targets,
    contrastive_loss,
    pair_loss,
    total_loss,
    warp_loss,
)

CONFIG = ObjectiveConfig()
SHAPE = (2, 6, 8)


def reference(flow, logit, target, prob, scale):
    """The released training's loss, cell by cell; every cell is known there."""
    values, entropies = [], []
    for f, z, t, p in zip(
        flow.reshape(-1, 2), logit.reshape(-1), target.reshape(-1, 2), prob.reshape(-1), strict=True
    ):
        epe = np.hypot(*(f - t))
        if scale == 4:
            p = p * (epe < (2 / 512) * (4 * 4))
        wanted = p * (epe < scale * 0.001)
        chance = 1 / (1 + np.exp(-z))
        entropies.append(-wanted * np.log(chance) - (1 - wanted) * np.log(1 - chance))
        if p > 0.99:
            cs = 1e-4 * scale
            values.append(cs**0.15 * ((epe / cs) ** 2 + 1) ** (0.15 / 2))
    return np.mean(values) + 0.01 * np.mean(entropies)


def case(rng, spread):
    target = rng.uniform(-1, 1, (*SHAPE, 2))
    flow = target + spread * rng.normal(size=target.shape)
    prob = (rng.uniform(size=SHAPE) < 0.7).astype(float)
    return flow, rng.normal(size=SHAPE) * 3, target, prob


def both(flow, logit, target, prob, scale, known=None):
    warp = Warp(jnp.float32(flow), jnp.float32(logit))
    targets = Targets(
        jnp.float32(target), jnp.float32(prob), jnp.ones(SHAPE) if known is None else known
    )
    return warp_loss(warp, targets, scale, CONFIG)


@pytest.mark.parametrize("scale", [8, 4])
@pytest.mark.parametrize("spread", [1e-3, 0.05, 1.0])
def test_the_released_loss(rng, scale, spread):
    given = case(rng, spread)
    got = both(*given, scale)["loss"]
    np.testing.assert_allclose(got, reference(*given, scale), rtol=2e-5)


def test_pixels_at_the_published_size():
    """At width 1024, stride 8, certain means 4.1 pixels: 0.008 halves of the width."""
    for off, wanted in ((4.0, 1), (4.2, 0)):
        flow = np.zeros((*SHAPE, 2))
        flow[..., 0] = 2 * off / 1024
        logit = np.full(SHAPE, 20.0)
        part = both(flow, logit, 0 * flow, np.ones(SHAPE), 8)
        np.testing.assert_allclose(part["certainty"], 20 * (1 - wanted), atol=1e-4)


@pytest.mark.parametrize("scale", [8, 4])
def test_gradients_are_finite_everywhere(rng, scale):
    """At no error at all, at huge errors and logits, and without a visible or known cell."""
    flow, logit, target, prob = case(rng, 0.01)
    flow[0] = target[0]
    flow[1, :3] = 1e3
    logit[0, 0], logit[0, 1] = 1e4, -1e4
    grad = jax.grad(lambda f, z, p, k: both(f, z, target, p, scale, k)["loss"], (0, 1))
    for visible, known in ((prob, 1.0), (0 * prob, 1.0), (0 * prob, 0.0)):
        known = jnp.full(SHAPE, known)
        for g in grad(jnp.float32(flow), jnp.float32(logit), jnp.float32(visible), known):
            assert np.isfinite(g).all()
    none = both(flow, logit, target, 0 * prob, scale)
    assert none["regression"] == 0
    nothing = both(flow, logit, target, 0 * prob, scale, jnp.zeros(SHAPE))
    assert nothing["loss"] == 0
    to_flow = grad(jnp.float32(flow), jnp.float32(logit), jnp.zeros(SHAPE), jnp.ones(SHAPE))[0]
    assert not to_flow.any()


def test_unknown_cells_do_not_teach(rng):
    """Whatever flow and certainty are there."""
    flow, logit, target, prob = case(rng, 0.01)
    known = np.ones(SHAPE)
    known[:, 2:4] = 0
    prob = prob * known
    one = both(flow, logit, target, prob, 8, jnp.float32(known))
    flow[:, 2:4] += 1
    logit[:, 2:4] -= 5
    other = both(flow, logit, target, prob, 8, jnp.float32(known))
    assert one["loss"] == other["loss"]


def test_scales_add_up(rng):
    given = case(rng, 0.01)
    parts = {s: both(*given, s) for s in (8, 4)}
    total, scalars = total_loss(parts)
    np.testing.assert_allclose(total, parts[8]["loss"] + parts[4]["loss"])
    assert set(scalars) == {f"{k}_{s}" for k in ("regression", "certainty") for s in (8, 4)}


def test_the_contrast_is_the_chance_of_the_true_cell(rng):
    a, b = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    true = rng.integers(0, 12, (3, 4))
    visible = (rng.uniform(size=(3, 4)) < 0.6).astype(np.float32)
    xy = np.stack([true % 4 + 0.5, true // 4 + 0.5], -1).astype(np.float32)

    def loss(a, b, visible):
        log_partition = expected_correspondence(a, b, temperature=0.7).log_partition
        return contrastive_loss(a, b, log_partition, xy, visible, 0.7)

    scores = np.einsum("hwc,uvc->hwuv", a, b, dtype=np.float64).reshape(3, 4, 12) / 0.7
    log_chance = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    want = -np.take_along_axis(log_chance, true[..., None], -1)[..., 0][visible > 0].mean()
    both = jax.jit(jax.value_and_grad(loss, (0, 1)))
    value, slopes = both(a, b, visible)
    np.testing.assert_allclose(value, want, rtol=1e-5)
    assert all(np.abs(s).max() > 0.01 for s in slopes)
    value, slopes = both(a, b, np.zeros_like(visible))
    assert value == 0 and not any(np.any(s) for s in slopes)


def one_way(rng, reverse=None):
    """What a network says of two pairs of images of 16 x 24 pixels."""
    coarse, fine = (2, 2, 3), (2, 4, 6)
    warps = [
        Warp(jnp.float32(rng.uniform(-1, 1, (*s, 2))), jnp.float32(rng.normal(size=s)))
        for s in (coarse, fine)
    ]
    a, b = (Features(None, jnp.float32(rng.normal(size=(*coarse, 8)))) for _ in "ab")
    partition = jnp.float32(3 + rng.normal(size=coarse))
    return TinyRomaOutput(a, b, warps[0].flow, partition, *warps, reverse=reverse)


def targets(rng, prefix=""):
    found = {}
    for stride, shape in ((8, (2, 2, 3)), (4, (2, 4, 6))):
        found[f"{prefix}target_{stride}"] = jnp.float32(rng.uniform(0, 16, (*shape, 2)))
        found[f"{prefix}visible_{stride}"] = jnp.float32(rng.uniform(size=shape) < 0.7)
        found[f"{prefix}known_{stride}"] = jnp.ones(shape)
    return found


def test_taught_both_ways_the_loss_is_the_mean_of_the_two(rng):
    config, model = ObjectiveConfig(contrast=0.1), ModelConfig(symmetric=True)
    back = one_way(rng)
    there, images = one_way(rng, back), {f"image_{c}": jnp.zeros((2, 16, 24, 3)) for c in "ab"}
    ways = targets(rng), targets(rng)
    forward, parts = pair_loss(there, images | ways[0], config, model)
    backward, _ = pair_loss(back, images | ways[1], config, model)
    both = images | ways[0] | {f"back_{k}": v for k, v in ways[1].items()}
    total, scalars = pair_loss(there, both, config, model)
    assert abs(forward - backward) > 1e-3
    np.testing.assert_allclose(total, (forward + backward) / 2, rtol=1e-6)
    np.testing.assert_allclose(scalars.pop("loss_back"), backward, rtol=1e-6)
    assert {k: float(v) for k, v in scalars.items()} == {k: float(v) for k, v in parts.items()}

    def of_reverse(flow):
        turned = back._replace(coarse=back.coarse._replace(flow=flow))
        return pair_loss(there._replace(reverse=turned), both, config, model)[0]

    assert np.abs(jax.grad(of_reverse)(back.coarse.flow)).max() > 0
