"""Things of a frame or a map: points of a class that has things, by the centres they vote for."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from posejax.bev import panoptic_quality
from posejax.sparse import bucket_capacity, decode_point_instances
from posejax.systems.bifusion.objective import instance_numbers

STUFF = ("wall", "floor", "ceiling")  # of which there are no single ones
MOST = 64  # things of a frame or a map
# Furniture votes to within some 0.4 m: with less, a bed becomes three things.
CELL, RADIUS = 0.2, 0.7


def of_things(classes: Sequence[str]) -> np.ndarray:
    """[classes] bool."""
    return np.array([name not in STUFF for name in classes])


def decode(
    points: ArrayLike,
    offset: ArrayLike,
    label: ArrayLike,
    mask: ArrayLike,
    classes: Sequence[str],
) -> jax.Array:
    """[B, N] int32, 1 + the number of each point's thing, or 0.

    Args:
      points, offset: [B, N, 3] metres, and the ways to the things' centres.
      label: [B, N] int32 classes.
      mask: [B, N] bool, points that are there.
    """
    valid = jnp.asarray(mask) & jnp.asarray(of_things(classes))[jnp.asarray(label)]

    def one(votes: jax.Array, valid: jax.Array) -> jax.Array:
        return decode_point_instances(votes, valid, count=MOST, cell=CELL, radius=RADIUS).label

    return jax.vmap(one)(jnp.asarray(points) + offset, valid)


def panoptic(
    thing: jax.Array, examples: Mapping[str, Any], kept: ArrayLike, classes: Sequence[str]
) -> jax.Array:
    """[B, 4] matched, their IoU, extra and missed things of every example.

    Args:
      thing: [B, N] from `decode`.
      examples: with `mask`, `semantic` and `instance`; unlabelled points are on neither side.
        Walls, floors and ceilings are no things, also where they are numbered, as in ScanNet.
      kept: [B] bool, examples that count.
    """
    semantic = jnp.asarray(examples["semantic"])
    known = examples["mask"] & (semantic >= 0) & jnp.asarray(kept)[:, None]
    things = jnp.asarray(of_things(classes))[jnp.maximum(semantic, 0)]
    true = jax.vmap(instance_numbers)(jnp.where(things, examples["instance"], -1)) + 1

    def one(*maps: jax.Array) -> jax.Array:
        return jnp.stack(panoptic_quality(*maps, most_predicted=MOST, most_true=2 * MOST))

    return jax.vmap(one)(thing, true, known)


def of_map(
    center: np.ndarray,
    label: np.ndarray,
    instance: np.ndarray,
    semantic: np.ndarray,
    classes: Sequence[str],
) -> tuple[np.ndarray, tuple[float, ...]]:
    """Things of a map's voxels, and how good they are.

    Args:
      center: [V, 3] metres, where the voxels vote that their things' centres are.
      label: [V] class; instance: [V] true thing, -1 for none.
      semantic: [V] true class, -1 where it is not known: such voxels are on neither side.

    Returns:
      [V] int32, 1 + the number of a voxel's thing, or 0; matched, their IoU, extra, missed.
    """
    # In float32 from the map's middle, and of few sizes: maps of all sizes compile few programs.
    middle = center.mean(0) if len(center) else np.zeros(3)
    rows = bucket_capacity(len(center))
    pad = (0, rows - len(center))
    votes = np.pad((center - middle).astype(np.float32), (pad, (0, 0)))
    examples = {
        "mask": (np.arange(rows) < len(center))[None],
        "semantic": np.pad(semantic, pad, constant_values=-1)[None],
        "instance": np.pad(instance, pad, constant_values=-1)[None],
    }
    said = np.pad(label, pad)[None]
    thing = decode(votes[None], np.float32(0), said, examples["mask"], classes)
    sums = panoptic(thing, examples, np.ones(1, bool), classes)
    return np.asarray(thing[0])[: len(center)], tuple(np.asarray(sums[0], float).tolist())
