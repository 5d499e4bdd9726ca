"""Search over large windows: coarse bound everywhere, exact score where it can matter.

For a block B of p x p shifts and the dot score of a raster `a` (online, turned) with `g` (geo),

    sum_y a(y) g(y + s)  <=  sum_u a+(u) max_{y in u, s in B} g(y + s) - a-(u) min_{...} g(y + s)

where u runs over p x p blocks of cells, a+(u) is the sum of the positive cells of `a` in the block
and a-(u) that of the magnitudes of its negative ones. The right side is a correlation of rasters
p x p times smaller, for every block of shifts at once: an upper bound of the exact score, for
signed features too. The blocks with the best bounds are scored exactly.

**Guarantee.** The result says whether it is the maximum over the whole window: `exact` is true if
no block outside the beam has a bound above the best exact score. If it is false the true maximum
may be in one of those blocks, and it is at most `bound`; ask again with a larger beam. With
`order="mean"` blocks are ranked by the score of average-pooled rasters instead, which finds the
peak of *smooth* rasters with a smaller beam but can rank a one-cell peak below the beam; `exact`
is computed from the bounds all the same, so a miss is never silent.

A peak narrower than a yaw step between two `angles` is missed by every lattice, this one included.
"""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from posejax.registration.correlation import translation_cost
from posejax.registration.lattice import index_to_pose
from posejax.registration.rasters import check_rasters, mask_weight, search_window, valid_cells
from posejax.registration.rotation import rotate


class SearchResult(NamedTuple):
    """The best pose found, and what is known about the ones not looked at."""

    pose: Array
    """[3] = (x, y, yaw)."""
    index: Array
    """[3] int = (k, i, j) in the volume [K, 2r+1, 2r+1] that was never made."""
    score: Array
    """Exact dot score of that pose."""
    bound: Array
    """Upper bound of the scores of all poses outside the beam (-inf if there are none)."""
    exact: Array
    """Bool: score >= bound, so that no pose of the window is better."""


@partial(jax.jit, static_argnames=("radius", "stride", "beam", "order"))
def search_pose(
    online: Array,
    geo: Array,
    angles: Array,
    radius: int,
    cell_size: float | Array,
    *,
    stride: int = 2,
    beam: int = 64,
    order: Literal["bound", "mean"] = "bound",
    online_mask: Array | None = None,
    geo_mask: Array | None = None,
) -> SearchResult:
    """Highest dot score over all yaws and shifts of at most `radius` cells, by bounded search.

    Args:
      online: [H, W, C].
      geo: [Hg, Wg, C], same centre, even size differences; cells beyond it count as zero.
      angles: [K] radians.
      radius: r, largest shift in cells (static).
      cell_size: metres per cell.
      stride: p, side of the blocks of cells and of shifts (static). The coarse rasters are p^2
        times smaller, but the bound loosens quickly with p (a maximum over (2p - 1)^2 cells): on
        rasters with 5 % occupied cells 2 settles the question with 1 % of the blocks, 4 does not
        with half of them.
      beam: number of blocks that are scored exactly (static), p * p poses each.
      order: "bound" ranks blocks by their upper bound, "mean" by average-pooled rasters.
      online_mask, geo_mask: [H, W] and [Hg, Wg], bool or in [0, 1]; invalid cells count as zero,
        whatever they hold (NaN included).

    Returns:
      SearchResult. The bound carries a margin of 1e-5 of its largest value for float32 rounding.
      Not differentiable: estimate the pose from a `pose_volume` about the one found here.
    """
    radius = check_rasters(online, geo, radius)
    if stride < 1 or beam < 1:
        raise ValueError(f"stride and beam must be positive, got {stride} and {beam}")
    if order not in ("bound", "mean"):
        raise ValueError(f"order is 'bound' or 'mean', got {order!r}")
    angles = jnp.asarray(angles, jnp.float32)
    online_weight = mask_weight(online_mask, online, "online")
    geo_weight = mask_weight(geo_mask, geo, "geo")
    online = valid_cells(online, online_weight) * online_weight[..., None]
    geo = valid_cells(geo, geo_weight) * geo_weight[..., None]
    height, width, _ = online.shape
    side, count = 2 * radius + 1, angles.shape[0]
    blocks = -(-side // stride)
    window = search_window(geo, (height, width), radius)
    coarse = (-(-height // stride), -(-width // stride))

    # Shift block I starts at shift I p; cell block u starts at u p; the cells that both can meet
    # start at (u + I) p and span 2 p - 1.
    extent = tuple((n + blocks - 1) * stride + stride - 1 for n in coarse)
    grown = _pad_to(window, extent)
    span = 2 * stride - 1
    highest = _pool(grown, span, stride, lax.max, -jnp.inf)
    lowest = _pool(grown, span, stride, lax.min, jnp.inf)
    average = _pool(grown, span, stride, lax.add, 0.0) / span**2

    def rank(angle):
        turned = _pad_to(rotate(online, angle), tuple(n * stride for n in coarse))
        positive, negative = (
            _pool(part, stride, stride, lax.add, 0.0)
            for part in (jnp.maximum(turned, 0), jnp.maximum(-turned, 0))
        )
        upper = _valid_correlation(positive, highest) - _valid_correlation(negative, lowest)
        return upper, _valid_correlation(positive - negative, average)

    upper, smooth = lax.map(rank, angles)
    upper = upper + 1e-5 * jnp.abs(upper).max()
    ranking = (upper if order == "bound" else smooth).reshape(-1)
    beam = min(beam, ranking.size)
    _, chosen = lax.top_k(ranking, beam)
    bound = upper.reshape(-1).at[chosen].set(-jnp.inf).max()

    # The last blocks reach beyond the window: their excess shifts are masked, not scored.
    reach = _pad_to(window, (height + blocks * stride - 1, width + blocks * stride - 1))

    def score_block(chosen):
        # Slices want indices of one type, also where integers are int64.
        index = jnp.stack(jnp.unravel_index(chosen, (count, blocks, blocks))).astype(jnp.int32)
        (k, i, j), zero = index, jnp.int32(0)
        size = (height + stride - 1, width + stride - 1, window.shape[2])
        region = lax.dynamic_slice(reach, (i * stride, j * stride, zero), size)
        turned = rotate(online, angles[k])
        rows = lax.map(
            lambda di: jnp.stack(
                [
                    jnp.vdot(
                        turned,
                        lax.dynamic_slice(region, (di, zero + dj, zero), turned.shape),
                        precision="highest",
                    )
                    for dj in range(stride)
                ]
            ),
            jnp.arange(stride, dtype=jnp.int32),
        )
        inside_y, inside_x = (jnp.arange(stride) + block * stride < side for block in (i, j))
        scores = jnp.where(inside_y[:, None] & inside_x[None, :], rows, -jnp.inf)
        best = jnp.argmax(scores)
        di, dj = jnp.unravel_index(best, scores.shape)
        return scores.reshape(-1)[best], jnp.stack([k, i * stride + di, j * stride + dj])

    scores, indices = lax.map(score_block, chosen)
    best = jnp.argmax(scores)
    score, index = scores[best], indices[best].astype(jnp.int32)
    pose = index_to_pose(index, angles, radius, cell_size)
    return SearchResult(pose, index, score, bound, score >= bound)


def _pad_to(raster: Array, shape: tuple[int, ...]) -> Array:
    """Zero-pad (or crop) at the far ends of the first two axes."""
    pads = [(0, n - m, 0) for n, m in zip(shape, raster.shape[:2], strict=True)]
    return lax.pad(raster, jnp.zeros((), raster.dtype), [*pads, (0, 0, 0)])


def _pool(raster: Array, span: int, stride: int, reducer, start: float) -> Array:
    return lax.reduce_window(raster, start, reducer, (span, span, 1), (stride, stride, 1), "VALID")


def _valid_correlation(online: Array, window: Array) -> Array:
    """Correlation for the shifts that keep `online` inside `window`, [blocks, blocks]."""
    blocks = window.shape[0] - online.shape[0] + 1
    # translation_cost is centred: one more row and column make the size difference even.
    extra = (blocks - 1) % 2
    padded = _pad_to(window, (window.shape[0] + extra, window.shape[1] + extra))
    return translation_cost(online, padded, (blocks - 1 + extra) // 2)[:blocks, :blocks]
