"""Single things out of a bird's-eye map, and how good they are."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.bev.sampling import Compat, check_compat
from posejax.geometry import as_float


class Instances(NamedTuple):
    """A fixed number K of things, the best first.

    Attributes:
      center: [K, 2] float32, (column, row), the first cell's centre at 0.5.
      score: [K] float32, the height of the peak; zero where there is none.
      cells: [K] int32, how many cells belong to it.
      label: [Z, X] int32, 1 + the row of a cell's thing, or 0.
    """

    center: Array
    score: Array
    cells: Array
    label: Array

    @property
    def valid(self) -> Array:
        """[K] bool, things that have a peak and a cell."""
        return (self.score > 0) & (self.cells > 0)


@functools.partial(jax.jit, static_argnames=("count", "window", "compat"))
def decode_instances(
    probability: ArrayLike,
    center: ArrayLike,
    offset: ArrayLike,
    *,
    count: int = 100,
    threshold: float = 0.5,
    least_peak: float = 0.1,
    window: int = 5,
    compat: Compat | None = None,
) -> Instances:
    """Peaks of the centre map, and for every cell the peak that its offset points to.

    Args:
      probability: [Z, X] of being on a thing.
      center: [Z, X], the centre map in [0, 1].
      offset: [Z, X, 2] cells, (x, z) from the centre to the cell.
      count: how many things at most.
      threshold: cells above it belong to things.
      least_peak: lower peaks are none.
      window: a peak is the largest value of so many cells across (odd).
      compat: "simple_bev" for offsets that were learnt twice as long.

    Returns:
      Instances; the search and the assignment have fixed sizes and no Hungarian method.

    After FIERY (Hu et al., ICCV 2021).
    """
    check_compat(compat)
    probability, center, offset = as_float(probability), as_float(center), as_float(offset)
    rows, columns = center.shape
    if window % 2 == 0:
        raise ValueError(f"window is odd, got {window}")
    highest = lax.reduce_window(center, -jnp.inf, lax.max, (window, window), (1, 1), "SAME")
    order = jnp.arange(rows * columns).reshape(rows, columns)
    # A plateau has one peak: the first of its cells.
    best = jnp.where(center == highest, order, rows * columns)
    first = lax.reduce_window(best, rows * columns, lax.min, (window, window), (1, 1), "SAME")
    peak = (best == first) & (best == order) & (center >= least_peak)
    score, at = lax.top_k(jnp.where(peak, center, 0).reshape(-1), min(count, rows * columns))
    where = jnp.stack([at % columns, at // columns], axis=-1) + 0.5
    cells = jnp.stack(jnp.meshgrid(jnp.arange(columns), jnp.arange(rows)), axis=-1) + 0.5
    vote = cells - (offset if compat is None else offset / 2)
    square = _squared_distances(vote.reshape(-1, 2), where)
    nearest = jnp.argmin(jnp.where(score[None] > 0, square, jnp.inf), axis=1)
    on = (probability.reshape(-1) > threshold) & (score[0] > 0)
    label = jnp.where(on, nearest + 1, 0)
    held = jnp.sum(label[:, None] == jnp.arange(1, len(at) + 1)[None], axis=0)
    return Instances(where, score, held, label.reshape(rows, columns))


def _squared_distances(a: Array, b: Array) -> Array:
    """[N, K] of [N, 2] and [K, 2], without cancellation."""
    return sum(((a[:, None, i] - b[None, :, i]) ** 2 for i in (0, 1)), start=jnp.zeros(()))


class Panoptic(NamedTuple):
    """Sums over a set: matched things and their IoU, things too many, things missed."""

    matched: Array
    iou: Array
    extra: Array
    missed: Array

    @property
    def quality(self) -> Array:
        """Panoptic quality: sum of IoU / (matched + extra / 2 + missed / 2); NaN for nothing."""
        return self.iou / (self.matched + 0.5 * self.extra + 0.5 * self.missed)

    @property
    def segmentation_quality(self) -> Array:
        """Mean IoU of what is matched."""
        return self.iou / self.matched

    @property
    def recognition_quality(self) -> Array:
        """F1 of the matches."""
        return self.matched / (self.matched + 0.5 * self.extra + 0.5 * self.missed)


@functools.partial(jax.jit, static_argnames=("most_predicted", "most_true"))
def panoptic_quality(
    predicted: ArrayLike,
    target: ArrayLike,
    valid: ArrayLike,
    *,
    most_predicted: int = 100,
    most_true: int = 150,
) -> Panoptic:
    """Sums for the panoptic quality of two maps of things.

    Args:
      predicted, target: [Z, X] int, 0 for nothing; numbers above the largest are an error that is
        not seen under jit: give sizes that hold all.
      valid: [Z, X]; other cells belong to nothing on either side.

    Kirillov et al., Panoptic segmentation, CVPR 2019: an IoU above one half matches at most once.
    """
    known = as_float(valid).reshape(-1) > 0.5
    member = [
        ((jnp.asarray(ids).reshape(-1)[:, None] == jnp.arange(1, n + 1)[None]) & known[:, None])
        for ids, n in ((predicted, most_predicted), (target, most_true))
    ]
    a, b = (m.astype(jnp.float32) for m in member)
    common = jnp.einsum("np,nt->pt", a, b, precision=lax.Precision.HIGHEST)
    area_a, area_b = a.sum(0), b.sum(0)
    union = area_a[:, None] + area_b[None] - common
    iou = common / jnp.maximum(union, 1)
    match = iou > 0.5
    matched = match.sum(dtype=jnp.float32)
    there = [(area > 0).sum(dtype=jnp.float32) for area in (area_a, area_b)]
    total = jnp.where(match, iou, 0).sum()
    return Panoptic(matched, total, there[0] - matched, there[1] - matched)
