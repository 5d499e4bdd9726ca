"""Furniture out of boxes, cylinders, ellipsoids and meshes; each piece is one object of a room.

A piece's own frame: x to its front, y to its left, z up, the origin on the floor under its middle.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from posejax.sim import textures
from posejax.sim.builder import SceneBuilder
from posejax.sim.scene import Material

Span = tuple[float, float]


class Looks:
    """The materials of one room: tints of a few shared textures."""

    def __init__(self, rng: np.random.Generator, builder: SceneBuilder):
        def add(picture: np.ndarray) -> int:
            return builder.add_texture(textures.as_texture(picture))

        size, white = (256, 256), (0.9, 0.9, 0.9)
        self._grain = [add(textures.wood(rng, size, white, planks=int(n))) for n in (1, 3)]
        self._cloth = [
            add(textures.fabric(rng, size, white, stripes=int(n), accent=rng.uniform(0.2, 0.9, 3)))
            for n in (0, rng.integers(2, 9))
        ]
        self._spines = add(_book_spines(rng, (128, 512)))
        plain = add(textures.plaster(rng, size, white))
        self.wood = self.timber(rng)
        self.metal = Material(0.5, (0.35, 0.36, 0.38))
        self.paint = Material(0.8, (0.8, 0.8, 0.78), texture=plain, texel=0.003)
        self.glass = Material(0.1, (0.45, 0.6, 0.75), texture=plain, texel=0.01)
        self.books = Material(0.8, (0.95, 0.95, 0.95), texture=self._spines, texel=0.0025)

    def timber(self, rng) -> Material:
        """A new tint of wood."""
        warm = rng.uniform(0.35, 1.0) * np.array(
            [1.0, rng.uniform(0.6, 0.9), rng.uniform(0.35, 0.8)]
        )
        texture, texel = self._grain[rng.integers(2)], float(rng.choice([0.002, 0.004]))
        return Material(float(warm.mean()), tuple(warm.tolist()), texture=texture, texel=texel)

    def cloth(self, rng) -> Material:
        """A new tint of fabric."""
        tint = rng.uniform(0.15, 1.0, 3)
        texture, texel = self._cloth[rng.integers(2)], float(rng.choice([0.002, 0.004]))
        return Material(float(tint.mean()), tuple(tint.tolist()), texture=texture, texel=texel)


def _book_spines(rng, size: tuple[int, int]) -> np.ndarray:
    """Books side by side, row by row."""
    picture = textures.marks(rng, size, (1.0, 1.0, 1.0), (0.2, 0.2, 0.2), line=9)
    left = 0
    while left < size[1]:
        wide = int(rng.integers(6, 22))
        picture[:, left : left + wide] *= rng.uniform(0.1, 1.0, 3).astype(np.float32)
        picture[:, left : left + 1] *= 0.3
        left += wide
    return picture


@dataclass(frozen=True)
class Piece:
    """A kind of furniture.

    Attributes:
      size: bounds of its extent along x, y and z, metres.
      at_wall: whether it stands with its back to a wall.
      build: (rng, builder, looks, centre [2], yaw, extent [3], instance) -> None.
    """

    size: tuple[Span, Span, Span]
    at_wall: bool
    build: Callable


class _Frame:
    """Adds parts that are given in the frame of a piece."""

    def __init__(self, builder: SceneBuilder, centre, yaw: float, instance: int):
        self._builder, self._yaw, self._instance = builder, yaw, instance
        c, s = np.cos(yaw), np.sin(yaw)
        self._turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        self._centre = np.array([*centre, 0.0])

    def _world(self, points) -> np.ndarray:
        return np.asarray(points, np.float64) @ self._turn.T + self._centre

    def box(self, low, high, material: Material) -> None:
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        place, half = self._world((low + high) / 2), (high - low) / 2
        self._builder.add_box(place, half, material, yaw=self._yaw, instance=self._instance)

    def cylinder(self, base, radius: float, height: float, material: Material) -> None:
        place = self._world((base[0], base[1], base[2] + height / 2))
        self._builder.add_cylinder(place, radius, height / 2, material, instance=self._instance)

    def wedge(self, low, high, top: float, material: Material) -> None:
        """A box whose top face slopes: full height at the back (low x), `top` at the front."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        corners = [(x, y, z0) for x in (x0, x1) for y in (y0, y1)]
        corners += [(x, y, z1 if x == x0 else top) for x in (x0, x1) for y in (y0, y1)]
        quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
        faces = [f for a, b, c, d in quads for f in ((a, b, c), (a, c, d))]
        self._builder.add_mesh(self._world(corners), faces, material, instance=self._instance)

    def legs(self, a: float, b: float, height: float, thick: float, material, round_: bool) -> None:
        for x in (-a + thick, a - thick):
            for y in (-b + thick, b - thick):
                if round_:
                    self.cylinder((x, y, 0), thick, height, material)
                else:
                    self.box((x - thick, y - thick, 0), (x + thick, y + thick, height), material)


def _cabinet(rng, builder, looks, centre, yaw, extent, instance):
    frame, (a, b, high) = _Frame(builder, centre, yaw, instance), extent * (0.5, 0.5, 1)
    body, front = looks.timber(rng), looks.timber(rng)
    frame.box((-a, -b, 0), (a - 0.02, b, high), body)
    rows, columns = int(rng.integers(1, 5)), int(rng.integers(1, 3))
    for row in range(rows):
        for column in range(columns):
            y0, y1 = (-b + 2 * b * (column + k) / columns for k in (0, 1))
            z0, z1 = (0.04 + (high - 0.04) * (row + k) / rows for k in (0, 1))
            frame.box((a - 0.02, y0 + 0.01, z0 + 0.01), (a - 0.01, y1 - 0.01, z1 - 0.01), front)
            y, z = (y0 + y1) / 2, (z0 + z1) / 2
            frame.box((a - 0.01, y - 0.05, z - 0.01), (a, y + 0.05, z + 0.01), looks.metal)


def _bed(rng, builder, looks, centre, yaw, extent, instance):
    frame, (a, b, high) = _Frame(builder, centre, yaw, instance), extent * (0.5, 0.5, 1)
    wood, sheet = looks.timber(rng), looks.cloth(rng)
    frame.box((-a, -b, 0), (-a + 0.06, b, high), wood)
    frame.box((-a + 0.06, -b, 0.08), (a, b, 0.28), wood)
    frame.box((-a + 0.06, -b + 0.03, 0.28), (a - 0.03, b - 0.03, 0.48), looks.paint)
    frame.box((-a + 0.7, -b + 0.01, 0.28), (a - 0.01, b - 0.01, 0.52), sheet)
    pillow = looks.cloth(rng)
    for y in (-b / 2, b / 2) if b > 0.6 else (0.0,):
        frame.wedge((-a + 0.08, y - 0.28, 0.48), (-a + 0.5, y + 0.28, 0.66), 0.53, pillow)


def _chair(rng, builder, looks, centre, yaw, extent, instance):
    frame, (a, b, high) = _Frame(builder, centre, yaw, instance), extent * (0.5, 0.5, 1)
    wood, seat = looks.timber(rng), looks.cloth(rng)
    frame.legs(a, b, 0.43, 0.02, wood, bool(rng.random() < 0.5))
    frame.box((-a, -b, 0.43), (a, b, 0.48), seat)
    if rng.random() < 0.5:
        frame.box((-a, -b, 0.48), (-a + 0.04, b, high), seat)
    else:
        for y in np.linspace(-b + 0.02, b - 0.02, 4):
            frame.box((-a, y - 0.02, 0.48), (-a + 0.03, y + 0.02, high), wood)
        frame.box((-a, -b, high - 0.08), (-a + 0.04, b, high), wood)


def _sofa(rng, builder, looks, centre, yaw, extent, instance):
    frame, (a, b, high) = _Frame(builder, centre, yaw, instance), extent * (0.5, 0.5, 1)
    cloth, cushion = looks.cloth(rng), looks.cloth(rng)
    frame.box((-a, -b, 0.05), (a, b, 0.3), cloth)
    frame.box((-a, -b, 0.3), (-a + 0.2, b, high), cloth)
    for y in (-b, b - 0.18):
        frame.box((-a + 0.2, y, 0.3), (a, y + 0.18, 0.6), cloth)
    count = 2 if b < 0.9 else 3
    edges = np.linspace(-b + 0.19, b - 0.19, count + 1)
    for y0, y1 in itertools.pairwise(edges):
        frame.box((-a + 0.2, y0 + 0.01, 0.3), (a, y1 - 0.01, 0.44), cloth)
        frame.wedge((-a + 0.2, y0 + 0.03, 0.44), (-a + 0.42, y1 - 0.03, high - 0.06), 0.5, cushion)


def _table(rng, builder, looks, centre, yaw, extent, instance):
    frame, (a, b, high) = _Frame(builder, centre, yaw, instance), extent * (0.5, 0.5, 1)
    wood = looks.timber(rng)
    if rng.random() < 0.4:  # round, on one leg
        radius = min(a, b)
        frame.cylinder((0, 0, high - 0.035), radius, 0.035, wood)
        frame.cylinder((0, 0, 0.03), 0.05, high - 0.065, looks.metal)
        frame.cylinder((0, 0, 0), radius * 0.6, 0.03, looks.metal)
    else:
        frame.box((-a, -b, high - 0.04), (a, b, high), wood)
        frame.legs(a, b, high - 0.04, 0.035, wood, bool(rng.random() < 0.5))


def _bookshelf(rng, builder, looks, centre, yaw, extent, instance):
    frame, (a, b, high) = _Frame(builder, centre, yaw, instance), extent * (0.5, 0.5, 1)
    wood = looks.timber(rng)
    frame.box((-a, -b, 0), (-a + 0.02, b, high), wood)
    for y in (-b, b - 0.025):
        frame.box((-a + 0.02, y, 0), (a, y + 0.025, high), wood)
    boards = np.linspace(0.02, high - 0.025, round(high / 0.36) + 1)
    for z in boards:
        frame.box((-a + 0.02, -b + 0.025, z), (a, b - 0.025, z + 0.025), wood)
    for z in boards[:-1]:
        start, stop = np.sort(rng.uniform(-b + 0.03, b - 0.03, 2))
        if stop - start > 0.1:
            depth, tall = rng.uniform(0.0, a * 0.9), rng.uniform(0.17, 0.28)
            frame.box((-a + 0.02, start, z + 0.025), (depth, stop, z + 0.025 + tall), looks.books)


def _desk(rng, builder, looks, centre, yaw, extent, instance):
    frame, (a, b, high) = _Frame(builder, centre, yaw, instance), extent * (0.5, 0.5, 1)
    wood = looks.timber(rng)
    frame.box((-a, -b, high - 0.03), (a, b, high), wood)
    frame.box((-a + 0.02, -b, 0), (a - 0.04, -b + 0.4, high - 0.03), looks.timber(rng))
    frame.box((-a + 0.02, b - 0.03, 0), (a - 0.04, b, high - 0.03), wood)
    frame.box((-a + 0.02, -b + 0.4, 0.3), (-a + 0.04, b - 0.03, high - 0.03), wood)


FURNITURE = {
    "cabinet": Piece(((0.35, 0.6), (0.6, 1.4), (0.7, 2.0)), True, _cabinet),
    "bed": Piece(((1.9, 2.1), (0.9, 1.6), (0.7, 1.1)), True, _bed),
    "chair": Piece(((0.4, 0.5), (0.4, 0.5), (0.8, 1.0)), False, _chair),
    "sofa": Piece(((0.8, 0.95), (1.4, 2.2), (0.75, 0.9)), True, _sofa),
    "table": Piece(((0.7, 1.0), (0.8, 1.6), (0.45, 0.76)), False, _table),
    "bookshelf": Piece(((0.26, 0.36), (0.6, 1.2), (1.2, 2.1)), True, _bookshelf),
    "desk": Piece(((0.6, 0.75), (1.2, 1.6), (0.7, 0.76)), True, _desk),
}
