"""From an example to what the network sees: events or frames, augmented, in a view, on a grid.

One example, pure, inside the jitted step. The same code serves training (with a key) and evaluation
(without), packed events that came with the batch and events that lie on the device.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from posejax.events import (
    Events,
    augment,
    augment_grid,
    histogram,
    lnes,
    time_surface,
    voxel_grid,
)
from posejax.events.events import Halves, halves, unpack_between
from posejax.geometry import (
    interpolate_pose,
    quat_xyzw_to_matrix,
    se3_from_rotation_translation,
)
from posejax.image import bilinear_sample
from posejax.systems.eventpose.config import InputConfig
from posejax.systems.eventpose.view import (
    View,
    apply_homography,
    canonical,
    canonical_view,
    full_view,
    homography,
    outside,
)
from posejax.systems.eventpose.windows import kept_rows


class Prepared(NamedTuple):
    """What the network gets, what it should say, and how to read its answer.

    grid: [H, W, C] float32.
    target: [4, 4] pose in the view's terms (`view.canonical`).
    pose: [4, 4] camera_from_body after augmentation.
    view: the view.
    """

    grid: Array
    target: Array
    pose: Array
    view: View


def label_pose(example: Mapping[str, Any]) -> Array:
    """camera_from_body [4, 4] at the query instant, between the two labels around it."""
    rows = example["poses"]
    ends = se3_from_rotation_translation(quat_xyzw_to_matrix(rows[:, 3:]), rows[:, :3])
    return interpolate_pose(ends[0], ends[1], example["fraction"])


def example_events(example: Mapping[str, Any], resident: Array | None, capacity: int) -> Events:
    """Events of an example, times from the start of its window."""
    found = example["found"]
    packed = example["events"] if resident is None else _gather(resident, example, capacity)
    start, duration = Halves(*example["start_us"]), halves(example["duration_us"])
    low = start.low + duration.low
    end = Halves(start.high + duration.high + (low >> 16), low & 0xFFFF)
    return unpack_between(packed, jnp.minimum(found, capacity), start, end)


def _gather(resident: Array, example: Mapping[str, Any], capacity: int) -> Array:
    """Rows of the array of all events."""
    return resident[example["first"] + kept_rows(example["found"], capacity, jnp)]


def prepare_events(
    example: Mapping[str, Any],
    events: Events,
    config: InputConfig,
    intrinsics: Array,
    sensor_size: tuple[int, int],
    key: Array | None,
) -> Prepared:
    """Grid and target of a window of events; with a key they are augmented."""
    pose, keys = label_pose(example), _keys(key)
    window = (0.0, example["duration_us"].astype(jnp.float32) * 1e-6)
    if keys is not None:
        events, pose = augment(
            keys[0],
            events,
            pose,
            intrinsics,
            config.augment,
            sensor_size=sensor_size,
            window=window,
            query=example["query"],
        )
    xy = jnp.stack([events.x, events.y], axis=-1).astype(jnp.float32) + 0.5
    weight = events.valid.astype(jnp.float32)
    view = _view(xy, weight, config, intrinsics, sensor_size, keys)
    seen = apply_homography(homography(view, intrinsics), xy) - 0.5
    turned = events._replace(x=seen[:, 0], y=seen[:, 1])
    grid = represent(turned, config, window)
    if keys is not None:
        grid = augment_grid(keys[1], grid, config.augment)
    # Counts span three decades between near and far, bright and dark; their logarithm does not.
    grid = jnp.sign(grid) * jnp.log1p(jnp.abs(grid))
    grid = _marked(grid, view, config, intrinsics, sensor_size)
    return Prepared(grid, canonical(view, pose), pose, view)


def represent(events: Events, config: InputConfig, window: tuple[Any, Any]) -> Array:
    """[H, W, C] of events whose pixels are those of the grid."""
    where: dict[str, Any] = {"size": config.size, "sensor_size": config.size, "window": window}
    # "fixed": sums of integers do not depend on the order an accelerator adds in: same seed, same
    # bits.
    if config.representation == "voxel":
        bins, time = config.bins, config.time
        return voxel_grid(events, bins=bins, time=time, **where, accumulate="fixed")
    if config.representation == "histogram":
        return histogram(events, **where, accumulate="fixed")
    if config.representation == "lnes":
        return lnes(events, **where)
    return time_surface(events, tau=config.tau * (window[1] - window[0]), **where)


def prepare_frame(
    example: Mapping[str, Any], config: InputConfig, intrinsics: Array, key: Array | None
) -> Prepared:
    """Grid and target of a frame [H, W, C] (uint8); with a key it is augmented."""
    image = example["image"].astype(jnp.float32) / 255
    height, width, _ = image.shape
    pose, keys = label_pose(example), _keys(key)
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    xy = jnp.stack([columns, rows], axis=-1).reshape(-1, 2).astype(jnp.float32) + 0.5
    weight = image.max(-1).reshape(-1)
    view = _view(xy, weight, config, intrinsics, (height, width), keys)
    n = config.supersample
    rows, columns = jnp.meshgrid(
        (jnp.arange(config.size[0] * n) + 0.5) / n, (jnp.arange(config.size[1] * n) + 0.5) / n,
        indexing="ij",
    )  # fmt: skip
    back = jnp.linalg.inv(homography(view, intrinsics))
    where = apply_homography(back, jnp.stack([columns, rows], axis=-1))
    values, valid = bilinear_sample(image, where)
    values = values * valid[..., None]
    grid = values.reshape(config.size[0], n, config.size[1], n, -1).mean((1, 3))
    grid = _marked(grid, view, config, intrinsics, (height, width))
    if keys is not None:
        grid = grid + config.noise * jax.random.normal(keys[1], grid.shape)
    return Prepared(grid, canonical(view, pose), pose, view)


def _marked(grid: Array, view: View, config: InputConfig, intrinsics: Array, picture) -> Array:
    """The border as a mask in the grid itself, as far as it cuts what is seen."""
    if not config.border:
        return grid
    beyond = outside(view, intrinsics, picture, config.size)[..., None]
    return jnp.where(beyond, grid - view.cut, grid)


def _keys(key: Array | None) -> Array | None:
    return None if key is None else jax.random.split(key, 3)


def _view(xy, weight, config: InputConfig, intrinsics, sensor_size, keys) -> View:
    if config.view == "full":
        return full_view(intrinsics, sensor_size, config.size)
    random: dict[str, Any] = {}
    if keys is not None:
        a, b, c, d = jax.random.split(keys[2], 4)
        turn = math.pi * jax.random.bernoulli(d) if config.upright else 0.0
        random = {
            "roll": turn + jax.random.uniform(a, (), minval=-config.roll, maxval=config.roll),
            "offset": jax.random.uniform(b, (2,), minval=-config.aim, maxval=config.aim),
            "stretch": jnp.exp(jax.random.uniform(c, (), minval=-config.zoom, maxval=config.zoom)),
        }
    return canonical_view(
        xy, weight, intrinsics, config.size, fill=config.fill, upright=config.upright,
        border=sensor_size if config.border else None, **random,
    )  # fmt: skip
