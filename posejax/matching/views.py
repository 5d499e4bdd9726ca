"""Matching without training across large changes of scale and turns of the camera.

Learned features stand a change of scale by 1.5 and a turn by 30 degrees, not much more. A wide
baseline is matched by looking at the images at several sizes and turned by quarters, and keeping
the view in which most matches agree on one geometry: what ASIFT (Morel and Yu 2009) and MODS
(Mishkin et al. 2015) do with whole grids of affine views, for zoom and roll alone.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from posejax.geometry import as_float, normalize
from posejax.image import resize, whole_size
from posejax.matching.mutual import MIN_SIMILARITY, Rank, mutual_cells
from posejax.matching.sampling import Matches

Features = Callable[[Array], Array]
"""Image [H, W, 3] in [0, 1], sides multiples of 32 -> features [H/8, W/8, C]."""


class View(NamedTuple):
    """How a pair is looked at: sizes of the images, and quarter turns of B (counter-clockwise)."""

    scale_a: float = 1.0
    scale_b: float = 1.0
    turns: int = 0


SCALES = tuple(View(a, b) for a, b in ((1, 1), (1, 0.7), (1, 0.5), (0.7, 1), (0.5, 1)))
VIEWS = tuple(view._replace(turns=turns) for turns in range(4) for view in SCALES)


class ViewMatches(NamedTuple):
    """The best view of a pair.

    Attributes:
      view: of `views`.
      matches: pixels of the images as given, and weights, 0 for padding.
      estimate: what `estimate` made of them.
      inliers: of each of `views`, how many matches agreed.
    """

    view: View
    matches: Matches
    estimate: Any
    inliers: tuple[int, ...]


def search_views(
    key: Array,
    features: Features,
    image_a: ArrayLike,
    image_b: ArrayLike,
    estimate: Callable[[Array, Array, Array, Array], Any],
    *,
    views: Sequence[View] = VIEWS,
    side: int = 960,
    count: int = 2048,
    min_similarity: float = MIN_SIMILARITY,
    rank: Rank = "similarity",
) -> ViewMatches:
    """Mutual matches in the view of a pair in which most of them agree on one geometry.

    Args:
      key: of the estimates; the same key gives the same result.
      features: a network; compiled once for every size that the views ask for.
      image_a: [H, W, 3] in [0, 1].
      image_b: [H', W', 3].
      estimate: (key, xy_a, xy_b, weights) -> anything with `inliers` [n], for example

          lambda key, a, b, w: estimate_fundamental(key, a, b, weights=w, threshold=3.0)

      views: what is tried, see `VIEWS`.
      side: longer side in pixels of an image at scale 1.
      count: matches that a view keeps.
      min_similarity: cosine below which cells are no match.
      rank: which matches a view keeps, and their weights; see `mutual_cells`. Views are compared
        by the weights of the matches that agree.

    Returns:
      `ViewMatches`; the first of several equal views.

    Not for `jax.jit`: a loop over programs, two feature maps and one estimate for each view. The
    inliers of a view are its score, so the threshold of `estimate` must be one in pixels of the
    images as given, and small views find fewer matches than large ones of the same quality.
    """
    a, b = (_Pyramid(features, as_float(image), side) for image in (image_a, image_b))
    best, counts, most = None, [], -1.0
    for view in views:
        matches = _in_pixels(a, b, view, count, min_similarity, rank)
        found = estimate(key, *matches)
        counts.append(int(jnp.sum(found.inliers)))
        support = float(jnp.sum(found.inliers * matches.weights))
        if support > most:
            best, most = (view, matches, found), support
    if best is None:
        raise ValueError("no views to search")
    return ViewMatches(*best, tuple(counts))


class _Pyramid:
    """Unit features of an image at the sizes and turns that were asked for."""

    def __init__(self, features: Features, image: Array, side: int):
        self.features, self.image, self.side = features, image, side
        self.known: dict[tuple[float, int], Array] = {}

    def size(self, scale: float) -> tuple[int, int]:
        """(height, width), the longer near `side * scale`, multiples of 32."""
        return whole_size(self.image.shape, scale * self.side, enlarge=True)

    def __call__(self, scale: float, turns: int) -> Array:
        if (scale, turns) not in self.known:
            found = self.features(jnp.rot90(resize(self.image, self.size(scale)), turns))
            self.known[scale, turns] = normalize(found)
        return self.known[scale, turns]

    def pixels(self, xy: Array, scale: float, turns: int) -> Array:
        """Pixels of the image as given, of cells of a view."""
        height, width = (n / 8 for n in self.size(scale))
        x, y = xy[:, 0], xy[:, 1]
        x, y = ((x, y), (width - y, x), (width - x, height - y), (y, height - x))[turns % 4]
        given = self.image.shape[1] / width, self.image.shape[0] / height
        return jnp.stack([x * given[0], y * given[1]], axis=-1)


def _in_pixels(
    a: _Pyramid, b: _Pyramid, view: View, count: int, least: float, rank: Rank
) -> Matches:
    maps = a(view.scale_a, 0), b(view.scale_b, view.turns)
    cells = mutual_cells(*maps, count=count, min_similarity=least, rank=rank)
    xy_a = a.pixels(cells.xy_a, view.scale_a, 0)
    xy_b = b.pixels(cells.xy_b, view.scale_b, view.turns)
    return Matches(xy_a, xy_b, cells.weights)
