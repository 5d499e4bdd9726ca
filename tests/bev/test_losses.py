"""Losses of the maps: the original's values and gradients, and what happens at the edges."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.bev import (
    center_loss,
    map_overlap,
    offset_loss,
    segmentation_loss,
    uncertainty_weighting,
)


def first(array):
    """[B, 1, Z, X] -> [B, Z, X]."""
    return array[:, 0]


def last(array):
    """[B, 2, Z, X] -> [B, Z, X, 2]."""
    return np.moveaxis(array, 1, -1)


def test_the_originals_values_and_gradients(golden):
    file = golden("segnet.npz")
    about = json.loads(str(file["meta"]))["losses"]
    seg, valid, center = (first(file[f"losses/tgt_{n}"]) for n in ("seg", "valid", "center"))
    offset, pred = last(file["losses/tgt_offset"]), {}
    pred["segmentation"], pred["center"] = (
        first(file[f"losses/pred_{n}"]) for n in ("seg", "center")
    )
    pred["offset"] = last(file["losses/pred_offset"])
    given = about["weights"]
    weights = {"segmentation": given["ce"], "center": given["center"], "offset": given["offset"]}

    @jax.jit
    @jax.value_and_grad
    def total(pred):
        losses = {
            "segmentation": segmentation_loss(pred["segmentation"], seg, valid),
            "center": center_loss(pred["center"], center),
            "offset": offset_loss(pred["offset"], offset, seg * valid),
        }
        return uncertainty_weighting(losses, weights)[0]

    value, gradient = total(pred)
    expected = about["values"]
    np.testing.assert_allclose(value, expected["total"], rtol=1e-6)
    ce = segmentation_loss(pred["segmentation"], seg, valid, pos_weight=about["pos_weight"])
    np.testing.assert_allclose(ce, expected["ce"], rtol=1e-6)
    np.testing.assert_allclose(center_loss(pred["center"], center), expected["center"], rtol=1e-6)
    off = offset_loss(pred["offset"], offset, seg * valid)
    np.testing.assert_allclose(off, expected["offset"], rtol=1e-6)
    for name, ours in (("seg", gradient["segmentation"]), ("center", gradient["center"])):
        np.testing.assert_allclose(ours, first(file[f"losses/grad_{name}"]), atol=1e-8)
    stored = json.loads(str(file["meta"]))["taps"]["losses/grad_offset"]["stride"]
    ours = np.moveaxis(np.asarray(gradient["offset"]), -1, 1).reshape(-1)[::stored]
    np.testing.assert_allclose(ours, file["losses/grad_offset"], atol=1e-8)
    overlap = map_overlap(pred["segmentation"], seg, valid)
    assert (overlap.intersection, overlap.union) == (expected["intersection"], expected["union"])


def test_weighted_terms(golden):
    """The weighted terms that the original's training step reports, from its own losses."""
    about = json.loads(str(golden("segnet.npz")["meta"]))["run_model"]
    metrics, names = (
        about["metrics"],
        {"segmentation": "ce", "center": "center", "offset": "offset"},
    )
    weights = {ours: metrics[f"{name}_weight"] for ours, name in names.items()}
    factors = {"segmentation": 10.0, "center": 0.5, "offset": 0.5}
    losses = {
        ours: metrics[f"{name}_loss"] / factors[ours] * np.exp(weights[ours])
        for ours, name in names.items()
    }
    total, terms = uncertainty_weighting(losses, weights)
    np.testing.assert_allclose(total, about["total"], rtol=1e-6)
    for ours, name in names.items():
        np.testing.assert_allclose(terms[ours], metrics[f"{name}_loss"], rtol=1e-6)


def test_all_masked_is_zero_with_zero_gradients():
    nothing = np.zeros((3, 4), np.float32)

    @jax.jit
    @jax.value_and_grad
    def total(x):
        return (
            segmentation_loss(x, nothing, nothing)
            + offset_loss(jnp.stack([x, x], -1), np.zeros((3, 4, 2)), nothing)
            + center_loss(x, nothing, nothing)
        )

    value, gradient = total(np.ones((3, 4), np.float32))
    assert value == 0 and not gradient.any()
    assert total(np.full((3, 4), np.nan, np.float32))[0] == 0


def test_huge_logits_stay_finite():
    logits, target = jnp.array([1e4, -1e4]), jnp.array([0.0, 1.0])
    value, gradient = jax.jit(jax.value_and_grad(segmentation_loss))(logits, target, jnp.ones(2))
    assert value == pytest.approx((1e4 + 2.13e4) / 2) and np.isfinite(gradient).all()


def test_names_must_match():
    with pytest.raises(ValueError, match="same names"):
        uncertainty_weighting({"center": 1.0}, {"offset": 0.0})
    with pytest.raises(ValueError, match="same names"):
        uncertainty_weighting({"height": 1.0}, {"height": 0.0})
    total, _ = uncertainty_weighting({"height": 2.0}, {"height": 0.0}, {"height": 3.0})
    assert total == 6
