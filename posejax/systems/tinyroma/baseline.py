"""Matching that learns nothing here: mutual nearest neighbours of XFeat's descriptors."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from posejax.matching import mutual_nearest_neighbours
from posejax.matching.mutual import MIN_SIMILARITY
from posejax.matching.streaming import cell_centers


class NearestWarp(NamedTuple):
    """Of cells of stride 8 of A: partner in cells of B [h, w, 2], certainty [h, w]."""

    warp: Array
    certainty: Array


def nearest_warp(coarse_a: Array, coarse_b: Array) -> NearestWarp:
    """Every cell's most similar cell of B; its cosine as certainty where each is the other's.

    Args:
      coarse_a: [h, w, C].
      coarse_b: [h', w', C].
    """
    flat: Any = (x.reshape(-1, x.shape[-1]) for x in (coarse_a, coarse_b))
    found = mutual_nearest_neighbours(*flat, min_similarity=MIN_SIMILARITY)
    shape = coarse_a.shape[:2]
    warp = cell_centers(coarse_b.shape[:2])[found.index].reshape(*shape, 2)
    certainty = jnp.where(found.mutual, found.score, 0).reshape(shape)
    return NearestWarp(jax.lax.stop_gradient(warp), jax.lax.stop_gradient(certainty))


def nearest_maps(coarse_a: Array, coarse_b: Array) -> dict[str, Array]:
    """Features of a batch, [B, h, w, C] each, to the maps that `Tinyroma.predict` names."""
    coarse = jax.vmap(nearest_warp)(coarse_a, coarse_b)
    fine = jax.vmap(doubled)(coarse)
    return {
        "warp": 4 * fine.warp,
        "certainty": fine.certainty,
        "coarse_warp": 8 * coarse.warp,
        "coarse_certainty": coarse.certainty,
        "loss": jnp.zeros(len(coarse.warp)),
    }


def doubled(found: NearestWarp) -> NearestWarp:
    """At stride 4, in its cells: the quarters of a cell move with it."""

    def quarters(maps):
        return jnp.repeat(jnp.repeat(maps, 2, 0), 2, 1)

    warp = quarters(2 * found.warp)
    inside = cell_centers(warp.shape[:2]).reshape(warp.shape) % 2 - 1
    return NearestWarp(warp + inside, quarters(found.certainty))
