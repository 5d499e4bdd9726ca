"""From a dense warp to matches: balanced random samples, all of them, or those of keypoints."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.geometry import as_float, normalize
from posejax.image import bilinear_sample
from posejax.matching.streaming import cell_centers

_BINS = 8  # per axis of the four dimensional space of matches: a quarter of [-1, 1]


class Matches(NamedTuple):
    """Point pairs, in the units of the maps they come from; `weights` of zero are padding.

    Attributes:
      xy_a: [n, 2].
      xy_b: [n, 2].
      weights: [n], the certainty.
    """

    xy_a: Array
    xy_b: Array
    weights: Array


def sample_matches(
    key: Array,
    warp: ArrayLike,
    certainty: ArrayLike,
    n: int,
    *,
    shape_b: tuple[int, int] | None = None,
    saturate: float = 0.05,
    balance: bool = True,
) -> Matches:
    """n matches of a dense warp, drawn without replacement.

    A match is drawn with a probability proportional to its certainty, divided by the number of
    matches in its neighbourhood if balanced, so that a large plane does not take all of them.

    Args:
      key: the same key gives the same matches on every device.
      warp: [H, W, 2], for every cell of image A its partner (x, y) in B.
      certainty: [H, W] in [0, 1]; zero and what is not finite is never drawn.
      n: static.
      shape_b: (H, W) of B in the units of the warp; that of A by default.
      saturate: certainties above it count as 1.
      balance: by the density of the matches.

    Returns:
      `Matches` in the units of both maps' cells (first centre at 0.5); where fewer than n can be
      drawn the rest has weight zero. No gradient passes through the choice, one does through the
      warp and the certainty of what was chosen.

    RoMa draws 4 n matches, estimates their density with Gaussians of standard deviation 0.1 in
    (x_a, y_a, x_b, y_b) from -1 to 1, and draws n with probability 1 / (density + 1), never those
    of a density below 10; on CPUs it uses every eighth match, so that CPU and GPU draw from
    different distributions. Here the density is a count in 8^4 cells of side 0.25, in integers: it
    takes one pass and does not depend on the order of a sum. Isolated matches remain.
    """
    warp, certainty, weight = _checked(warp, certainty)
    height, width = certainty.shape if shape_b is None else shape_b
    return _sample(key, warp, weight, saturate, n, (int(height), int(width)), bool(balance))


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def _sample(key, warp, weight, saturate, n: int, shape_b, balance: bool) -> Matches:
    height, width, _ = warp.shape
    xy_a = cell_centers((height, width), warp.dtype)
    xy_b = warp.reshape(-1, 2)
    p = lax.stop_gradient(jnp.where(weight > saturate, 1, weight))
    if balance:
        sizes = np.array([width, height, *shape_b[::-1]], np.float32)
        position = jnp.concatenate([xy_a, lax.stop_gradient(xy_b)], axis=1) / sizes[None]
        position = jnp.where(jnp.isfinite(position), position, 0)
        bins = jnp.clip(jnp.floor(position * _BINS), 0, _BINS - 1).astype(jnp.int32)
        index = bins @ (_BINS ** np.arange(4)).astype(np.int32)
        counts = jnp.zeros(_BINS**4, jnp.int32).at[index].add((p > 0).astype(jnp.int32))
        p = p / jnp.maximum(counts[index], 1)
    # The largest n of log p + Gumbel noise are a draw without replacement.
    rank = jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1)), -jnp.inf)
    rank = rank + jax.random.gumbel(key, p.shape, p.dtype)
    best, chosen = lax.top_k(rank, min(n, len(rank)))
    drawn = jnp.isfinite(best)
    found = Matches(xy_a[chosen], xy_b[chosen], jnp.where(drawn, weight[chosen], 0))
    missing = n - len(chosen)
    return jax.tree.map(lambda x: jnp.pad(x, ((0, missing),) + ((0, 0),) * (x.ndim - 1)), found)


def all_matches(warp: ArrayLike, certainty: ArrayLike) -> Matches:
    """Every cell's match with its certainty as weight: the deterministic way, [H W] matches."""
    warp, certainty, weight = _checked(warp, certainty)
    xy_a = cell_centers(certainty.shape, warp.dtype)
    return Matches(xy_a, warp.reshape(-1, 2), weight)


def _checked(warp: ArrayLike, certainty: ArrayLike) -> tuple[Array, Array, Array]:
    warp, certainty = as_float(warp), as_float(certainty)
    if warp.ndim != 3 or warp.shape != (*certainty.shape, 2):
        raise ValueError(
            f"warp is [H, W, 2] and certainty [H, W], got {warp.shape} and {certainty.shape}"
        )
    flat = certainty.reshape(-1)
    usable = jnp.isfinite(flat) & (flat > 0) & jnp.all(jnp.isfinite(warp.reshape(-1, 2)), axis=-1)
    weight = jnp.where(usable, flat, 0)
    return jnp.where(usable.reshape(certainty.shape)[..., None], warp, 0), certainty, weight


class Pairing(NamedTuple):
    """For every keypoint of A its partner in B.

    Attributes:
      index: [na] into the keypoints of B; of the nearest one where there is no partner.
      mutual: [na] bool, whether each is the other's nearest.
      score: [na] similarity, or certainty of the warp.
    """

    index: Array
    mutual: Array
    score: Array


def mutual_nearest_neighbours(
    descriptors_a: ArrayLike,
    descriptors_b: ArrayLike,
    *,
    valid_a: ArrayLike | None = None,
    valid_b: ArrayLike | None = None,
    min_similarity: float = -1.0,
) -> Pairing:
    """Pairs of sparse keypoints whose descriptors are each other's most similar.

    Args:
      descriptors_a: [na, C]; compared by the cosine of their angle.
      descriptors_b: [nb, C].
      valid_a: [na] bool, false for padding.
      valid_b: [nb] bool.
      min_similarity: pairs below do not count as mutual (XFeat uses 0.82).
    """
    a, b = (normalize(x) for x in (descriptors_a, descriptors_b))
    similarity = jnp.matmul(a, b.T, precision=lax.Precision.HIGHEST)
    for valid, axis in ((valid_a, 1), (valid_b, 0)):
        if valid is not None:
            known = jnp.expand_dims(jnp.asarray(valid, bool), axis)
            similarity = jnp.where(known, similarity, -jnp.inf)
    return _mutual(similarity, similarity, min_similarity)


def match_keypoints(
    warp: ArrayLike,
    certainty: ArrayLike,
    xy_a: ArrayLike,
    xy_b: ArrayLike,
    *,
    radius: float = 2.0,
) -> Pairing:
    """Pairs of given keypoints that a dense warp connects.

    Args:
      warp: [H, W, 2], for every cell of image A its partner (x, y) in B.
      certainty: [H, W].
      xy_a: [na, 2] in cells of A; not finite for padding.
      xy_b: [nb, 2] in the units of the warp.
      radius: a partner is at most so far from where the warp points, in the units of the warp.

    Returns:
      `Pairing` with the warp's certainty at the keypoints as score. Mutual: no other keypoint of A
      is sent nearer to the partner.
    """
    warp, certainty = as_float(warp), as_float(certainty)
    xy_a, xy_b = as_float(xy_a), as_float(xy_b)
    maps = jnp.concatenate([warp, certainty[..., None]], axis=-1)
    sampled, inside = bilinear_sample(maps, xy_a, padding="border", valid="image")
    away = sampled[:, None, :2] - xy_b[None]
    distance = jnp.sqrt(jnp.sum(away**2, axis=-1))
    usable = inside[:, None] & jnp.isfinite(distance)
    score = jnp.broadcast_to(sampled[:, 2:], distance.shape)
    return _mutual(jnp.where(usable, -distance, -jnp.inf), score, -radius)


def _mutual(closeness: Array, score: Array, least: float) -> Pairing:
    index, back = jnp.argmax(closeness, axis=1), jnp.argmax(closeness, axis=0)
    rows = jnp.arange(len(index))
    best = closeness[rows, index]
    mutual = (back[index] == rows) & jnp.isfinite(best) & (best >= least)
    return Pairing(index, mutual, score[rows, index])
