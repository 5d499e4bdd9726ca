"""One random augmentation of a window: every change of the events with its change of the pose.

The pose is an input and an output of the same function as the events, in metres, before any
normalisation: there is no second place where a label would have to be flipped to match.
"""

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from posejax.events.events import Events
from posejax.events.noise import (
    add_grid_noise,
    add_hot_pixels,
    add_leak_noise,
    flip_polarity,
    scale_time,
    thin,
)
from posejax.events.views import checked_symmetry, mirror, pan_tilt, roll, rotate_view
from posejax.geometry import as_float, matmul


@dataclass(frozen=True)
class AugmentRule:
    """What may happen to a window. Every range of one value and every zero switches a part off.

    Attributes:
      roll: largest turn about the optical axis, uniform in +- (rad).
      pan: largest turn about the camera's y axis, uniform in +- (rad).
      tilt: largest turn about the camera's x axis, uniform in +- (rad).
      time_scale: (low, high), log-uniform, about the query.
      keep: (low, high), share of events kept, uniform.
      polarity_flip: probability that ON and OFF change places.
      mirror: probability of a mirrored picture, which needs the object's symmetry.
      symmetry: rows of S, the reflection that maps the object onto itself.
      hot_pixels: largest number of them.
      hot_rate: events per second of each.
      leak_rate: largest background rate, events per second and pixel.
      most_noise: static bound of the events that each kind of noise adds.
      grid_noise: probability of uniform noise on the representation (`augment_grid`).
      grid_amplitude: the noise is uniform in [0, grid_amplitude).
    """

    roll: float = math.pi
    pan: float = 0.0
    tilt: float = 0.0
    time_scale: tuple[float, float] = (1.0, 1.0)
    keep: tuple[float, float] = (1.0, 1.0)
    polarity_flip: float = 0.3
    mirror: float = 0.0
    symmetry: tuple[tuple[float, float, float], ...] | None = None
    hot_pixels: int = 0
    hot_rate: float = 1000.0
    leak_rate: float = 0.0
    most_noise: int = 256
    grid_noise: float = 0.2
    grid_amplitude: float = 0.05

    def __post_init__(self):
        if self.mirror > 0:
            checked_symmetry(_matrix(self.symmetry))
        for name in ("polarity_flip", "mirror", "grid_noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability, got {getattr(self, name)}")
        for name in ("time_scale", "keep"):
            low, high = getattr(self, name)
            if not 0 < low <= high or (name == "keep" and high > 1):
                raise ValueError(f"{name} is (low, high), 0 < low <= high, got {(low, high)}")


def _matrix(rows) -> np.ndarray | None:
    return None if rows is None else np.asarray(rows)


@partial(jax.jit, static_argnames=("rule", "sensor_size"))
def augment(
    key: Array,
    events: Events,
    camera_from_body: ArrayLike,
    intrinsics: ArrayLike,
    rule: AugmentRule,
    *,
    sensor_size: tuple[int, int],
    window: tuple[ArrayLike, ArrayLike],
    query: ArrayLike | None = None,
) -> tuple[Events, Array]:
    """Random change of a window's events with the exact change of its pose.

    Args:
      key: random key; the result is a pure function of it.
      events: fields [N].
      camera_from_body: [4, 4] pose at the query, metres.
      intrinsics: K [3, 3] of the sensor.
      rule: static.
      sensor_size: (height, width) in pixels.
      window: (start, end) in the events' seconds.
      query: the instant of the pose in the events' seconds; the window's end if not given.

    Returns:
      Events [N] with float positions, and the pose [4, 4]. Noise that finds no free place is left
      out: give the capacity some room.
    """
    keys = dict(zip(_PARTS, jax.random.split(key, len(_PARTS)), strict=True))
    pose, k = as_float(camera_from_body), as_float(intrinsics)

    def between(part, low, high):
        return jax.random.uniform(keys[part], (), pose.dtype, low, high)

    turn = roll(between("roll", -rule.roll, rule.roll))
    if rule.pan or rule.tilt:
        pan, tilt = between("pan", -rule.pan, rule.pan), between("tilt", -rule.tilt, rule.tilt)
        turn = matmul(pan_tilt(pan, tilt), turn)
    events, pose = rotate_view(events, pose, k, turn)
    if rule.mirror > 0:
        mirrored = mirror(events, pose, k, symmetry=_matrix(rule.symmetry))
        use = jax.random.bernoulli(keys["mirror"], rule.mirror)
        events, pose = jax.tree.map(lambda a, b: jnp.where(use, a, b), mirrored, (events, pose))
    if rule.time_scale != (1.0, 1.0):
        factor = jnp.exp(between("time", *(math.log(v) for v in rule.time_scale)))
        events = scale_time(events, factor, window[1] if query is None else query)
    if rule.keep != (1.0, 1.0):
        events = thin(keys["thin"], events, between("keep", *rule.keep))
    if rule.polarity_flip > 0:
        events = flip_polarity(events, jax.random.bernoulli(keys["flip"], rule.polarity_flip))
    # The sensor's own noise comes last: it does not turn with the view.
    places = {"window": window, "sensor_size": sensor_size, "most": rule.most_noise}
    if rule.hot_pixels > 0:
        rate = between("hot rate", 0, rule.hot_rate)
        events, _ = add_hot_pixels(keys["hot"], events, pixels=rule.hot_pixels, rate=rate, **places)
    if rule.leak_rate > 0:
        rate = between("leak rate", 0, rule.leak_rate)
        events, _ = add_leak_noise(keys["leak"], events, rate=rate, **places)
    return events, pose


_PARTS = (
    *("roll", "pan", "tilt", "mirror", "time", "keep"),
    *("thin", "flip", "hot", "leak", "hot rate", "leak rate"),
)


def augment_grid(key: Array, grid: ArrayLike, rule: AugmentRule) -> Array:
    """The rule's noise on a representation [H, W, C]."""
    if rule.grid_noise == 0:  # millions of random numbers for nothing
        return as_float(grid)
    return add_grid_noise(key, grid, probability=rule.grid_noise, amplitude=rule.grid_amplitude)
