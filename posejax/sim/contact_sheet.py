"""A picture of simulated frames for people: colour, measured depth, normals, classes, objects."""

from pathlib import Path

import jax
import numpy as np
from PIL import Image

from posejax.sim.cameras import Camera, develop, measure_depth, render
from posejax.sim.room_path import camera_path
from posejax.sim.rooms import room_of_split


def write_room_sheet(path: str | Path, split: str, count: int, *, wide: int = 320) -> None:
    """Write a contact sheet: a row for each of the first `count` rooms of a split.

    Args:
      wide: width of a picture in pixels; its height is three quarters of it.
    """
    size = wide * 3 // 4, wide
    focal = 0.8 * wide
    intrinsics = np.array([[focal, 0, wide / 2], [0, focal, size[0] / 2], [0, 0, 1.0]])
    camera = Camera(intrinsics, size)
    rows = []
    for number in range(count):
        room = room_of_split(split, number)
        poses = camera_path(np.random.default_rng(number), room, 9)
        frame = render(room.scene, camera, poses[4], light=room.lamp)
        one, two = jax.random.split(jax.random.key(number))
        depth = np.asarray(measure_depth(one, frame))
        views = (
            np.asarray(develop(two, camera, frame.colour)),
            np.repeat((255 * np.clip(depth / 6.0, 0, 1))[..., None], 3, -1),
            127.5 * (1 + np.asarray(frame.normal)),
            index_colours(np.asarray(frame.label)),
            index_colours(np.asarray(frame.instance)),
        )
        rows.append(np.concatenate([view.astype(np.uint8) for view in views], axis=1))
    Image.fromarray(np.concatenate(rows)).save(path)


def index_colours(index: np.ndarray) -> np.ndarray:
    """[..., 3] uint8: a colour of its own for every number above 0, grey for 0, black below."""
    index = np.asarray(index, np.int64)
    mixed = (index[..., None] * np.array([67, 151, 211]) + np.array([30, 90, 170])) % 206 + 50
    return np.where((index > 0)[..., None], mixed, np.where(index[..., None] == 0, 90, 0)).astype(
        np.uint8
    )
