"""Targets, loss and per-example sums of bird's-eye maps: pure functions of (outputs, examples)."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from posejax import bev
from posejax.nn import MapOutputs
from posejax.systems.segnet.config import GridConfig, ObjectiveConfig
from posejax.systems.segnet.lifting import compat_of, voxel_grid
from posejax.systems.segnet.summary import EDGES

BINS = 15  # of the reliability
LOSSES = ("segmentation", "center", "offset")
MOST_THINGS = 100


def targets_of(
    examples: Mapping[str, Any], grid: GridConfig, objective: ObjectiveConfig
) -> bev.BoxTargets:
    """Maps [B, Z, X] of the examples' boxes."""
    draw = partial(
        bev.box_targets, grid=voxel_grid(grid), sigma=objective.sigma, compat=compat_of(grid)
    )
    names = ("box_size", "grid_from_box", "box_visible", "box_present")
    return jax.vmap(draw)(*(examples[name] for name in names))


def rasters_of(
    examples: Mapping[str, Any], grid: GridConfig
) -> tuple[jax.Array | None, jax.Array | None]:
    """Occupancy of LiDAR [B, Z, Y, X, 1] and radar [B, Z, Y, X, 1 + 16], as far as there are."""
    draw = jax.vmap(partial(bev.rasterize_points, grid=voxel_grid(grid)))
    lidar = radar = None
    if "lidar_points" in examples:
        lidar = draw(examples["lidar_points"], None, examples["lidar_present"])
    if "radar_points" in examples:
        names = ("radar_points", "radar_values", "radar_present")
        radar = draw(*(examples[name] for name in names))
    return lidar, radar


def map_losses(
    out: MapOutputs, target: bev.BoxTargets, objective: ObjectiveConfig
) -> dict[str, jax.Array]:
    """The three losses, means over all that the arrays hold."""
    valid = target.valid if objective.center_valid else None
    return {
        "segmentation": bev.segmentation_loss(
            out.segmentation, target.segmentation, target.valid, pos_weight=objective.pos_weight
        ),
        "center": bev.center_loss(out.center, target.center, valid),
        "offset": bev.offset_loss(out.offset, target.offset, target.segmentation * target.valid),
    }


def segmentation_term(
    logits: jax.Array, target: bev.BoxTargets, objective: ObjectiveConfig
) -> jax.Array:
    """What a map of logits alone, without log-variances, adds to the loss."""
    loss = bev.segmentation_loss(
        logits, target.segmentation, target.valid, pos_weight=objective.pos_weight
    )
    return objective.segmentation * loss


def total_loss(
    losses: Mapping[str, jax.Array],
    log_variances: Mapping[str, jax.Array],
    objective: ObjectiveConfig,
) -> jax.Array:
    """The weighted sum of `map_losses`."""
    factors = {name: getattr(objective, name) for name in LOSSES}
    return bev.uncertainty_weighting(losses, log_variances, factors)[0]


def example_sums(
    logits: jax.Array,
    probability: jax.Array,
    center: jax.Array,
    offset: jax.Array,
    target: bev.BoxTargets,
    grid: GridConfig,
) -> dict[str, jax.Array]:
    """Sums of one example, to be added up over a set.

    Args:
      logits: [Z, X], above zero where there are vehicles; probability: [Z, X] that there are.
      center: [Z, X]; offset: [Z, X, 2].
      target: of one example.

    Returns:
      intersection, union; the same by distance [D]; reliability [bins, 4] = (cells, sum of
      probabilities, boxes, squared errors); panoptic [4] = (matched, their IoU, extra, missed);
      cells that are wrong.
    """
    voxels = voxel_grid(grid)
    whole = bev.map_overlap(logits, target.segmentation, target.valid)
    far = bev.distance_overlap(logits, target.segmentation, target.valid, grid=voxels, edges=EDGES)
    bins = bev.reliability(probability, target.segmentation, target.valid, bins=BINS)
    things = bev.decode_instances(
        jax.nn.sigmoid(logits), center, offset, count=MOST_THINGS, compat=compat_of(grid)
    )
    panoptic = bev.panoptic_quality(
        things.label, target.instance, target.valid, most_predicted=MOST_THINGS
    )
    return {
        "intersection": whole.intersection,
        "union": whole.union,
        "distance_intersection": far.intersection,
        "distance_union": far.union,
        "reliability": jnp.stack(list(bins), axis=-1),
        "panoptic": jnp.stack(list(panoptic)),
        "wrong_cells": whole.union - whole.intersection,
    }
