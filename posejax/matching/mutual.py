"""Which cells of two feature maps are each other's partner: matching that needs no training."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from posejax.matching.correspondence import expected_correspondence
from posejax.matching.sampling import Matches
from posejax.matching.search import Full, Search
from posejax.matching.streaming import cell_centers

#: Cosine of mutual nearest neighbours, as XFeat has it.
MIN_SIMILARITY = 0.82
TEMPERATURE = 0.03  # of cosines


class RoundTrip(NamedTuple):
    """Of every cell of A: its partner in B, and where that one's own partner is.

    Attributes:
      there: [Ha, Wa, 2] cells of B, the expectation around the most similar one.
      away: [Ha, Wa] cells between the cell and its partner's partner.
      similarity: [Ha, Wa] cosine with the partner.
      mutual: [Ha, Wa] bool, less than a cell away and similar enough.
    """

    there: Array
    away: Array
    similarity: Array
    mutual: Array


@functools.partial(jax.jit, static_argnames=("search", "min_similarity"))
def round_trip(
    feat_a: Array,
    feat_b: Array,
    *,
    search: Search = Full(),  # noqa: B008 - a frozen value
    min_similarity: float = MIN_SIMILARITY,
) -> RoundTrip:
    """From every cell of A to its partner in B and back.

    Args:
      feat_a: [Ha, Wa, C] unit vectors.
      feat_b: [Hb, Wb, C].
      search: where partners are looked for.
      min_similarity: cosine below which cells are no match (XFeat uses 0.82).
    """
    forward, back = expected_correspondence(
        feat_a, feat_b, search=search, temperature=TEMPERATURE, refine=1, reverse=True, block=256
    )
    home = jnp.asarray(cell_centers(feat_a.shape[:2])).reshape(forward.coords.shape)
    limit = np.array(feat_b.shape[1::-1]) - 1
    cells = jnp.clip(jnp.floor(forward.coords).astype(jnp.int32), 0, limit[None, None])
    x, y = cells[..., 0], cells[..., 1]
    away = jnp.sqrt(jnp.sum((back.coords[y, x] - home) ** 2, axis=-1))
    similarity = jnp.sum(feat_a * feat_b[y, x], axis=-1)
    mutual = (away < 1) & (similarity > min_similarity)
    return RoundTrip(forward.coords, away, similarity, mutual)


@functools.partial(jax.jit, static_argnames=("count", "min_similarity"))
def mutual_cells(
    feat_a: Array, feat_b: Array, *, count: int = 2048, min_similarity: float = MIN_SIMILARITY
) -> Matches:
    """The most similar cells of A and B that are each other's partner, to a fraction of a cell.

    Args:
      feat_a: [Ha, Wa, C] unit vectors.
      feat_b: [Hb, Wb, C].
      count: of matches, padded with weight zero.
      min_similarity: cosine below which cells are no match (XFeat uses 0.82).

    Returns:
      `Matches` in cells. Mutual: the partner's own partner is less than a cell from home.
    """
    trip = round_trip(feat_a, feat_b, min_similarity=min_similarity)
    home = jnp.asarray(cell_centers(feat_a.shape[:2])).reshape(-1, 2)
    score = jnp.where(trip.mutual, trip.similarity, -1).reshape(-1)
    score, chosen = jax.lax.top_k(score, min(count, len(home)))
    there = trip.there.reshape(-1, 2)[chosen]
    found = Matches(home[chosen], there, (score > -1).astype(jnp.float32))
    missing = count - len(chosen)
    return jax.tree.map(lambda x: jnp.pad(x, ((0, missing),) + ((0, 0),) * (x.ndim - 1)), found)
