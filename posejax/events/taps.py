"""Which cells an event touches, and with which weights: time kernel x polarity x spatial kernel.

Cells lie in memory as [H, W, C] with channel = polarity * bins + bin, so the two time bins between
which an event is shared are neighbours: a *run* of cells. An event has one run per pixel of the
grid that it touches.
"""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import Array

from posejax.events.events import Events, on_sensor
from posejax.geometry import as_float

Polarity = Literal["split", "signed", "merged"]
Interpolation = Literal["nearest", "linear"]
Splat = Literal["nearest", "bilinear"]
Value = Literal["one", "time", "exponential", "linear"]


@dataclass(frozen=True)
class Taps:
    """A map from events to cells; hashable, so that compiled functions are found again.

    size: (H, W) of the grid.
    sensor_size: (height, width) in pixels; the grid covers the whole sensor.
    bins: time bins.
    polarity: "split" has OFF channels before ON channels, "signed" counts OFF as -1.
    time: "nearest" takes the bin of bins equal intervals that holds the event; "linear" shares it
      between the two nearest of `bins` instants, the first and last of which are the window's.
    space: "nearest" takes the cell that holds the pixel's centre; "bilinear" shares it between the
      four nearest cell centres.
    value: what an event adds besides: 1, its time, or its decay since the end of the window with
      the constant tau (exp(-age / tau), or max(0, 1 - age / tau)).
    """

    size: tuple[int, int]
    sensor_size: tuple[int, int]
    bins: int = 1
    polarity: Polarity = "split"
    time: Interpolation = "nearest"
    space: Splat = "nearest"
    value: Value = "one"

    def __post_init__(self):
        for name, sizes in (("size", self.size), ("sensor_size", self.sensor_size)):
            if len(sizes) != 2 or min(sizes) < 1:
                raise ValueError(f"{name} is (height, width), both positive, got {sizes}")
        if self.bins < 1:
            raise ValueError(f"bins must be positive, got {self.bins}")
        if self.cells >= 2**31:
            raise ValueError(f"{self.cells} cells are too many for 32-bit indices")
        for cells, pixels in zip(self.size, self.sensor_size, strict=True):
            if (2 * pixels + 1) * cells >= 2**32:  # see `_cells_along`
                raise ValueError(f"{pixels} pixels on {cells} cells are too many for 32 bits")
        choices = {"polarity": Polarity, "time": Interpolation, "space": Splat, "value": Value}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed.__args__:
                words = ", ".join(map(repr, allowed.__args__))
                raise ValueError(f"{name} is one of {words}, got {getattr(self, name)!r}")

    @property
    def channels(self) -> int:
        return self.bins * (2 if self.polarity == "split" else 1)

    @property
    def cells(self) -> int:
        return self.size[0] * self.size[1] * self.channels

    def __call__(self, events: Events, start: Array, end: Array, tau: Array) -> tuple[Array, Array]:
        """First cell of every run and the weights in it.

        Args:
          events: fields [N].
          start, end, tau: scalars, seconds. The window is [start, end).

        Returns:
          index [N, K] int32, `cells` for runs that are outside the grid or not of a valid event in
          the window, and weights [N, K, R]: R cells a run, K runs an event. All weights are finite.
        """
        used = events.valid & on_sensor(events, self.sensor_size)
        used = used & (events.t >= start) & (events.t < end)
        # What is not used may be NaN or infinite and must not poison gradients.
        x, y, t = (jnp.where(used, v, 0) for v in (events.x, events.y, events.t))
        bins, along = self._bins(as_float(t), start, end)
        on = events.p > 0
        factor = self._value(as_float(t), end, tau)
        if self.polarity == "signed":
            factor = jnp.where(on, factor, -factor)
        elif self.polarity == "split":
            bins = bins + jnp.where(on, self.bins, 0)
        columns = _cells_along(x, self.size[1], self.sensor_size[1], self.space)
        rows = _cells_along(y, self.size[0], self.sensor_size[0], self.space)
        index, weights = [], []
        for row, row_inside, row_weight in rows:
            for column, column_inside, column_weight in columns:
                cell = (row * self.size[1] + column) * self.channels + bins
                index.append(jnp.where(used & row_inside & column_inside, cell, self.cells))
                weight = jnp.asarray(row_weight * column_weight * factor)[:, None] * along
                weights.append(jnp.broadcast_to(weight, along.shape))
        return _runs(index), _runs(weights)

    def _bins(self, t: Array, start: Array, end: Array) -> tuple[Array, Array]:
        """First bin [N] and the weights of the run that starts there [N, R]."""
        # A window without length has no events; it must have finite weights all the same.
        nearest = self.time == "nearest" or self.bins == 1
        per_second = (self.bins if nearest else self.bins - 1) / jnp.where(
            end > start, end - start, 1
        )
        position = (t - start) * per_second
        if nearest:
            first = jnp.clip(jnp.floor(position), 0, self.bins - 1)
            return first.astype(jnp.int32), jnp.ones_like(t)[:, None]
        first = jnp.clip(jnp.floor(position), 0, self.bins - 2)
        late = position - first
        return first.astype(jnp.int32), jnp.stack([1 - late, late], axis=1)

    def _value(self, t: Array, end: Array, tau: Array) -> Array:
        if self.value == "one":
            return jnp.ones_like(t)
        if self.value == "time":
            return t
        age = (end - t) / tau
        return jnp.exp(-age) if self.value == "exponential" else jnp.maximum(1 - age, 0)


def _runs(parts: list[Array]) -> Array:
    """K arrays [N, ...] as [N, K, ...]; one array keeps its layout."""
    return parts[0][:, None] if len(parts) == 1 else jnp.stack(parts, axis=1)


def _cells_along(x: Array, cells: int, pixels: int, space: str) -> list[tuple]:
    """[(index [N], inside, weight)] along one axis, for positions on the sensor."""
    if space == "nearest":
        if jnp.issubdtype(x.dtype, jnp.integer):
            centre = (2 * x.astype(jnp.uint32) + 1) * cells  # unsigned: half the work of a division
            return [((centre // (2 * pixels)).astype(jnp.int32), True, 1)]
        # Rounded up: the centre of a pixel on the border of two cells belongs to the second one,
        # as in the integers above. The other centres are far from borders.
        scale = np.nextafter(x.dtype.type(cells / pixels), x.dtype.type(np.inf))
        cell = jnp.minimum(jnp.floor((x + 0.5) * scale), cells - 1)
        return [(cell.astype(jnp.int32), True, 1)]
    position = (as_float(x) + 0.5) * (cells / pixels) - 0.5
    low = jnp.floor(position)
    high_weight = position - low
    low = low.astype(jnp.int32)
    return [(low, low >= 0, 1 - high_weight), (low + 1, low + 1 < cells, high_weight)]
