"""Events of a window as an image: voxel grid, histogram, surfaces of times, event frame.

All have the same arguments and the same rules:

- the window is stated, [start, end), and time is measured from its bounds, never from the first or
  last event: the same motion gives the same image, and one event or none is no special case;
- the grid has any size and covers the whole sensor: positions are scaled, images never resized;
- events outside the sensor or the window are left out, never moved to a border;
  `dropped_events` counts them;
- results are [H, W, C] with channel = polarity * bins + bin, and polarity 0 = OFF, 1 = ON.
"""

from typing import Literal

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from posejax.events.accumulate import accumulate as _accumulate
from posejax.events.events import Events, check_events
from posejax.events.taps import Interpolation, Polarity, Splat, Taps

Window = tuple[ArrayLike, ArrayLike]
Size = tuple[int, int]


def _pair(size) -> Size:
    """Also of a list or an array: hashable, of Python integers."""
    height, width = (int(n) for n in size)
    return height, width


def _grid(taps: Taps, events: Events, window: Window, tau: ArrayLike, how) -> Array:
    check_events(events)
    dtype = jnp.promote_types(events.t.dtype, jnp.float32)
    start, end, tau = (jnp.asarray(v, dtype) for v in (*window, tau))
    cells = _accumulate(taps, events, start, end, tau, how=how)
    return cells.reshape(*taps.size, taps.channels)


def voxel_grid(
    events: Events,
    *,
    bins: int,
    size: Size,
    sensor_size: Size,
    window: Window,
    polarity: Polarity = "split",
    time: Interpolation = "nearest",
    space: Splat = "nearest",
    accumulate: Literal["float", "fixed"] = "float",
) -> Array:
    """Number of events per cell of space, time and polarity.

    Args:
      events: fields [N].
      bins: B, time bins.
      size: (H, W) of the result.
      sensor_size: (height, width) of the sensor in pixels.
      window: (start, end) in the events' seconds; numbers or traced scalars.
      polarity: "split" in OFF and ON channels, "signed" with OFF as -1, or "merged".
      time: "nearest", B equal intervals; or "linear", shared between the two nearest of B instants
        from start to end.
      space: "nearest", the cell of the pixel's centre; or "bilinear", shared between the four
        nearest cell centres (what falls beyond the outermost centres is lost there).
      accumulate: "float", or "fixed" for sums of multiples of 2^-16, which repeat to the bit (of
        2^-15 from a capacity of 65536 on, and so on: no sum wraps).

    Returns:
      [H, W, C], C = 2 B for "split" (OFF bins first), else B; float.

    Raises:
      ValueError: sizes or words that are none.

    Differentiable once in reverse mode: by t and the window with "linear" time, by x and y with
    "bilinear" space. `jax.vmap` of it is fast (`posejax.events.accumulate`). Linear time follows
    Zhu et al., Unsupervised Event-based Learning of Optical Flow, Depth, and Egomotion, CVPR 2019,
    with the window's bounds instead of the first and last event.
    """
    if accumulate not in ("float", "fixed"):
        raise ValueError(f"accumulate is 'float' or 'fixed', got {accumulate!r}")
    taps = Taps(_pair(size), _pair(sensor_size), bins, polarity, time, space)
    return _grid(taps, events, window, 1.0, accumulate)


def histogram(
    events: Events,
    *,
    size: Size,
    sensor_size: Size,
    window: Window,
    polarity: Polarity = "split",
    space: Splat = "nearest",
    accumulate: Literal["float", "fixed"] = "float",
) -> Array:
    """Number of events per cell: a voxel grid of one bin. [H, W, 2] = (OFF, ON), or [H, W, 1]."""
    return voxel_grid(
        events,
        bins=1,
        size=size,
        sensor_size=sensor_size,
        window=window,
        polarity=polarity,
        space=space,
        accumulate=accumulate,
    )


def _unsigned(polarity: str) -> None:
    if polarity not in ("split", "merged"):
        raise ValueError(f"polarity is 'split' or 'merged' here, got {polarity!r}")


def _last_time(
    events: Events, size: Size, sensor_size: Size, window: Window, polarity: Polarity
) -> Array:
    """Time of the last event of every cell, [H, W, 1 or 2]; -inf where there is none."""
    _unsigned(polarity)
    taps = Taps(_pair(size), _pair(sensor_size), polarity=polarity, value="time")
    return _grid(taps, events, window, 1.0, "max")


def time_surface(
    events: Events,
    *,
    size: Size,
    sensor_size: Size,
    window: Window,
    tau: ArrayLike,
    kind: Literal["exponential", "linear"] = "exponential",
    polarity: Literal["split", "merged"] = "split",
) -> Array:
    """How recent the last event of every cell is, as seen at the end of the window.

    Args:
      events, size, sensor_size, window: as for `voxel_grid`.
      tau: seconds; the time constant, a number or traced scalar.
      kind: "exponential", exp(-age / tau); or "linear", max(0, 1 - age / tau).
      polarity: "split" or "merged".

    Returns:
      [H, W, 2] or [H, W, 1] in [0, 1]; zero where there is no event. Differentiable by t, the
      window and tau.

    Lagorce et al., HOTS: a Hierarchy Of event-based Time-Surfaces, PAMI 2017.
    """
    if kind not in ("exponential", "linear"):
        raise ValueError(f"kind is 'exponential' or 'linear', got {kind!r}")
    last = _last_time(events, size, sensor_size, window, polarity)
    seen = jnp.isfinite(last)
    age = (jnp.asarray(window[1], last.dtype) - jnp.where(seen, last, 0)) / tau
    age = jnp.where(seen, age, 0)  # of empty cells: no overflow, no slope
    value = jnp.exp(-age) if kind == "exponential" else jnp.maximum(1 - age, 0)
    return jnp.where(seen, value, 0)


def lnes(
    events: Events,
    *,
    size: Size,
    sensor_size: Size,
    window: Window,
    polarity: Literal["split", "merged"] = "split",
) -> Array:
    """Locally normalised event surface: (t - start) / (end - start) of the last event of a cell.

    [H, W, 2] or [H, W, 1], zero where there is no event. The last event replaces earlier ones.
    Rudnev et al., EventHands: Real-Time Neural 3D Hand Pose Estimation from an Event Stream,
    ICCV 2021.
    """
    last = _last_time(events, size, sensor_size, window, polarity)
    start, end = (jnp.asarray(v, last.dtype) for v in window)
    seen = jnp.isfinite(last)
    value = (jnp.where(seen, last, start) - start) / jnp.where(end > start, end - start, 1)
    return jnp.where(seen, value, 0)


def event_frame(events: Events, *, size: Size, sensor_size: Size, window: Window) -> Array:
    """Polarity of the last event of every cell, [H, W, 1]: -1 = OFF, +1 = ON, 0 = none.

    Events of both signs at the same last instant cancel to 0. Piecewise constant: no gradient.
    """
    last = _last_time(events, size, sensor_size, window, "split")
    return jnp.sign(
        (last[..., 1:] > last[..., :1]).astype(last.dtype)
        - (last[..., 1:] < last[..., :1]).astype(last.dtype)
    )


def averaged_time_surface(
    events: Events,
    *,
    size: Size,
    sensor_size: Size,
    window: Window,
    tau: ArrayLike,
    kind: Literal["exponential", "linear"] = "exponential",
    polarity: Literal["split", "merged"] = "split",
    space: Splat = "nearest",
    accumulate: Literal["float", "fixed"] = "float",
) -> Array:
    """Mean over the events of every cell of their decay since, as seen at the end of the window.

    Less noisy than `time_surface`, where one noise event hides all before it. With kind="linear"
    and tau = end - start it is the average timestamp, 0 at the start and 1 at the end.

    Args and Returns as for `time_surface`; `space` and `accumulate` as for `voxel_grid`.
    Differentiable once in reverse mode by t, the window and tau, and by x and y with "bilinear".
    """
    if kind not in ("exponential", "linear"):
        raise ValueError(f"kind is 'exponential' or 'linear', got {kind!r}")
    _unsigned(polarity)
    sizes = _pair(size), _pair(sensor_size)
    decayed = Taps(*sizes, polarity=polarity, space=space, value=kind)
    total = _grid(decayed, events, window, tau, accumulate)
    count = _grid(Taps(*sizes, polarity=polarity, space=space), events, window, tau, accumulate)
    seen = count > 0
    return jnp.where(seen, total / jnp.where(seen, count, 1), 0)
