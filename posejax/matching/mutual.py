"""Which cells of two feature maps are each other's partner: matching that needs no training."""

import functools
from typing import Literal, NamedTuple

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

Rank = Literal["similarity", "probability"]
"""Which matches come first; see `mutual_cells`."""


class RoundTrip(NamedTuple):
    """Of every cell of A: its partner in B, and where that one's own partner is.

    Attributes:
      there: [Ha, Wa, 2] cells of B, the expectation around the most similar one.
      away: [Ha, Wa] cells between the cell and its partner's partner.
      similarity: [Ha, Wa] cosine with the partner.
      mutual: [Ha, Wa] bool, less than a cell away and similar enough.
      probability: [Ha, Wa] of the partner among all cells of B, times that of the cell among all
        of A (dual softmax). Low where many cells look alike, however similar the partner is.
    """

    there: Array
    away: Array
    similarity: Array
    mutual: Array
    probability: Array


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
    log_partitions = forward.log_partition + back.log_partition[y, x]
    probability = jnp.exp(2 * similarity / TEMPERATURE - log_partitions)
    return RoundTrip(forward.coords, away, similarity, mutual, probability)


@functools.partial(jax.jit, static_argnames=("count", "min_similarity", "rank"))
def mutual_cells(
    feat_a: Array,
    feat_b: Array,
    *,
    count: int = 2048,
    min_similarity: float = MIN_SIMILARITY,
    rank: Rank = "similarity",
) -> Matches:
    """The first cells of A and B that are each other's partner, to a fraction of a cell.

    Args:
      feat_a: [Ha, Wa, C] unit vectors.
      feat_b: [Hb, Wb, C].
      count: of matches, padded with weight zero.
      min_similarity: cosine below which cells are no match (XFeat uses 0.82).
      rank: "similarity", the most similar first, all with weight 1; or "probability", of the
        softmax both ways, which is the weight, too. The most similar cells of an image are those
        of its empty parts, which are like each other as well.

    Returns:
      `Matches` in cells. Mutual: the partner's own partner is less than a cell from home.

    The dual softmax is that of LoFTR (Sun et al., CVPR 2021), a ratio test (Lowe 2004) against
    all other cells at once.
    """
    trip = round_trip(feat_a, feat_b, min_similarity=min_similarity)
    home = jnp.asarray(cell_centers(feat_a.shape[:2])).reshape(-1, 2)
    worth = trip.similarity if rank == "similarity" else trip.probability
    score = jnp.where(trip.mutual, worth, -1).reshape(-1)
    score, chosen = jax.lax.top_k(score, min(count, len(home)))
    there = trip.there.reshape(-1, 2)[chosen]
    weights = jnp.where(score > -1, 1 if rank == "similarity" else score, 0)
    found = Matches(home[chosen], there, weights.astype(jnp.float32))
    missing = count - len(chosen)
    return jax.tree.map(lambda x: jnp.pad(x, ((0, missing),) + ((0, 0),) * (x.ndim - 1)), found)
