"""Dense correspondence by the softmax expectation of positions, for every kind of search."""

import functools
import math
from typing import Literal, NamedTuple, overload

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.geometry import epipolar_lines
from posejax.matching import local
from posejax.matching.search import Band, Epipolar, Full, Rows, Search, Window
from posejax.matching.streaming import Plan, Streamed, cell_centers, dot, stream

SCORES = 3 * 2**19  # of a block: few enough for a CPU's last cache, many for a call on all cores


class Correspondence(NamedTuple):
    """Partners in image B of the cells of image A.

    Attributes:
      coords: [Ha, Wa, 2] (x, y) in cells of B; the first cell's centre is (0.5, 0.5).
      log_partition: [Ha, Wa], log of the sum of exp(score) over the candidates; -inf without any.
    """

    coords: Array
    log_partition: Array


@overload
def expected_correspondence(
    feat_a: ArrayLike,
    feat_b: ArrayLike,
    *,
    search: Search = ...,
    temperature: ArrayLike | None = ...,
    refine: int | None = ...,
    reverse: Literal[False] = ...,
    mode: Literal["exact", "official_fast"] = ...,
    block: int | None = ...,
) -> Correspondence: ...


@overload
def expected_correspondence(
    feat_a: ArrayLike,
    feat_b: ArrayLike,
    *,
    search: Search = ...,
    temperature: ArrayLike | None = ...,
    refine: int | None = ...,
    reverse: Literal[True],
    mode: Literal["exact", "official_fast"] = ...,
    block: int | None = ...,
) -> tuple[Correspondence, Correspondence]: ...


def expected_correspondence(
    feat_a: ArrayLike,
    feat_b: ArrayLike,
    *,
    search: Search = Full(),  # noqa: B008 - a frozen value
    temperature: ArrayLike | None = None,
    refine: int | None = None,
    reverse: bool = False,
    mode: Literal["exact", "official_fast"] = "exact",
    block: int | None = None,
) -> Correspondence | tuple[Correspondence, Correspondence]:
    """Expected position in image B of every cell of image A under a softmax of dot products.

    p_ij = softmax_j(f_a[i] . f_b[j] / temperature) over the candidates j that `search` allows, and
    coords_i = sum_j p_ij x_j.

    Args:
      feat_a: [Ha, Wa, C].
      feat_b: [Hb, Wb, C].
      search: `Full()`, `Rows(disparity)`, `Band(rows, columns)`, `Epipolar(F, width)` or
        `Window(flow, radius)`; all of them in cells.
      temperature: divides the scores; sqrt(C) by default. A number or a scalar array, which may be
        learned.
      refine: after the softmax, take the expectation only over the cells at most this many columns
        and rows from the best one. It removes the pull of probability mass far away, which a
        softmax over thousands of cells always has; the choice of the best passes no gradient. The
        log-partition remains that of all candidates.
      reverse: also return the expectation in image A for every cell of B. Of a full search it comes
        from the same pass (unless with `refine`).
      mode: "official_fast" is the approximation of Tiny RoMa's released inference, for comparison
        with it only: a full search over every fourth row and column and the best cell.
      block: cells of A at a time in `Full` and `Epipolar` searches; memory is a few times
        block * Hb * Wb. By default so many that a block has at most 1.5 million scores.

    Returns:
      `Correspondence(coords, log_partition)` in float32; with `reverse` a pair of them, A to B and
      B to A. Cells without candidates (a line or a window outside of B) have log-partition -inf,
      coords of no meaning inside the image, and pass no gradient.

    Raises:
      ValueError: features of other shapes than stated; rows of unequal number for `Rows` and
        `Band`; `reverse` of a `Window`; "official_fast" with anything but a full search of a B
        whose sides are multiples of 4.

    `Full` and `Epipolar` run in blocks and keep O(Ha Wa + Hb Wb) numbers, forwards and backwards:
    the gradient computes the scores of each block again from the saved log-partition. `Rows` and
    `Band` store Ha Wa (2 rows + 1) Wb scores, `Window` Ha Wa (2 radius + 1)^2. Scores of float32
    features are products at full precision; bfloat16 features are multiplied as they are and summed
    in float32.
    """
    a, b = _features(feat_a, feat_b)
    if mode not in ("exact", "official_fast"):
        raise ValueError(f'mode is "exact" or "official_fast", got {mode!r}')
    if refine is not None and refine < 0:
        raise ValueError(f"refine is a number of cells, got {refine}")
    if mode == "official_fast" and (search != Full() or reverse or refine is not None):
        raise ValueError('mode "official_fast" is a full search, one way, without refine')
    if temperature is None:
        temperature = math.sqrt(a.shape[-1])
    forward, backward = _correspond(
        a, b, search, temperature, refine=refine, reverse=bool(reverse), mode=mode, block=block
    )
    return forward if backward is None else (forward, backward)


@functools.partial(jax.jit, static_argnames=("refine", "reverse", "mode", "block"))
def _correspond(
    a: Array, b: Array, search: Search, temperature: Array, *, refine, reverse: bool, mode, block
) -> tuple[Correspondence, Correspondence | None]:
    scaled = (a / jnp.asarray(temperature, jnp.promote_types(a.dtype, jnp.float32))).astype(a.dtype)
    if mode == "official_fast":
        return Correspondence(*_official_fast(scaled, b)), None
    if reverse and not (isinstance(search, Full) and refine is None):
        settings = {"refine": refine, "reverse": False, "mode": mode, "block": block}
        forward, _ = _correspond(a, b, search, temperature, **settings)
        return forward, _correspond(b, a, search.reversed(), temperature, **settings)[0]
    match search:
        case Full() | Epipolar():
            return _streamed(scaled, b, search, refine, reverse, block)
        case Rows() | Band():
            if a.shape[0] != b.shape[0]:
                raise ValueError(f"{search} needs equally many rows, got {a.shape} and {b.shape}")
            across = search.as_band() if isinstance(search, Rows) else search
            return Correspondence(*local.band(scaled, b, across, refine)), None
        case Window():
            if search.flow.shape != (*a.shape[:2], 2):
                raise ValueError(f"flow is [Ha, Wa, 2], got {search.flow.shape} for {a.shape}")
            return Correspondence(*local.window(scaled, b, search, refine)), None
    raise ValueError(f"unknown search {search!r}")


def _features(feat_a: ArrayLike, feat_b: ArrayLike) -> tuple[Array, Array]:
    a, b = jnp.asarray(feat_a), jnp.asarray(feat_b)
    for name, x in (("feat_a", a), ("feat_b", b)):
        if x.ndim != 3:
            raise ValueError(f"{name} is [H, W, C], got {x.shape}; use jax.vmap over a batch")
        if 0 in x.shape:
            raise ValueError(f"{name} is empty: {x.shape}")
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"features have different channels: {a.shape} and {b.shape}")
    kind = jnp.promote_types(a.dtype, b.dtype)
    kind = kind if jnp.issubdtype(kind, jnp.floating) else jnp.float32
    return a.astype(kind), b.astype(kind)


def _streamed(
    a: Array, b: Array, search: Full | Epipolar, refine: int | None, reverse: bool, block: int
) -> tuple[Correspondence, Correspondence | None]:
    shape_a, shape_b = a.shape[:2], b.shape[:2]
    channels = a.shape[-1]
    lines = width = None
    if isinstance(search, Epipolar):
        kind = jnp.promote_types(a.dtype, jnp.float32)
        f = lax.stop_gradient(jnp.asarray(search.F, kind))
        lines = epipolar_lines(f, cell_centers(shape_a, kind))
        width = lax.stop_gradient(jnp.asarray(search.width, kind))
    plan = Plan(shape_a, shape_b, refine, reverse, _block(shape_a, shape_b, block))
    queries, keys = a.reshape(-1, channels), b.reshape(-1, channels)
    both: tuple[Streamed, Streamed | None] = stream(plan, queries, keys, lines, width)
    forward, backward = both

    def maps(found, shape):
        return Correspondence(found.coords.reshape(*shape, 2), found.log_partition.reshape(shape))

    return maps(forward, shape_a), None if backward is None else maps(backward, shape_b)


def _block(shape_a: tuple[int, ...], shape_b: tuple[int, ...], given: int | None) -> int:
    """Cells of a block: as many as allowed, or a few less so that the last one is full, too."""
    cells, others = math.prod(shape_a), math.prod(shape_b)
    if not (isinstance(cells, int) and isinstance(others, int)):
        return shape_a[1]  # a row, where the sizes are open until an exported program runs
    if given is not None:
        return min(given, cells)
    most = min(max(SCORES // others, 1), cells)
    return next((n for n in range(most, most // 2, -1) if cells % n == 0), most)


def _official_fast(a: Array, b: Array) -> tuple[Array, Array]:
    """What the released model computes at inference, its oddities included.

    Candidates are every fourth row and column, whose scores are those of the top left cell of a
    4x4 block and whose positions are the block's centre, and the best cell of all, which enters
    with its *index* in place of its score. So it nearly always takes all of the probability.
    """
    height, width, channels = b.shape
    if height % 4 or width % 4:
        raise ValueError(f'"official_fast" needs sides that are multiples of 4, got {b.shape}')
    scores = dot(a.reshape(-1, channels), b.reshape(-1, channels))
    best = jnp.argmax(scores, axis=1)
    coarse = scores.reshape(-1, height, width)[:, ::4, ::4].reshape(scores.shape[0], -1)
    logits = jnp.concatenate([coarse, best[:, None].astype(scores.dtype)], axis=1)
    p = jax.nn.softmax(logits, axis=1)
    blocks = 4 * cell_centers((height // 4, width // 4), scores.dtype)
    coords = dot(p[:, :-1], blocks.T) + p[:, -1:] * cell_centers((height, width))[best]
    shape = a.shape[:2]
    return coords.reshape(*shape, 2), jax.nn.logsumexp(logits, axis=1).reshape(shape)
