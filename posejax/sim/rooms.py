"""Procedural rooms: walls, furniture and pictures from one seed, with labels and boxes.

Room frame: z up, the floor at z = 0, the origin in the middle of the floor. Labels are the NYU40
numbers that ScanNet uses (Silberman et al. 2012; Dai et al. 2017), so that its readers, class lists
and evaluation scripts apply.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from posejax.sim import textures
from posejax.sim.builder import SceneBuilder
from posejax.sim.factory import world_seed
from posejax.sim.furniture import FURNITURE, Looks, Piece
from posejax.sim.light import Lamp
from posejax.sim.lookalikes import lookalikes
from posejax.sim.objects import ObjectBox
from posejax.sim.scene import Scene

#: NYU40 numbers of what is in a room.
CLASSES = {
    "wall": 1, "floor": 2, "cabinet": 3, "bed": 4, "chair": 5, "sofa": 6, "table": 7, "door": 8,
    "window": 9, "bookshelf": 10, "picture": 11, "desk": 14, "ceiling": 22, "box": 29,
    "whiteboard": 30, "night stand": 32, "bag": 37,
}  # fmt: skip
_CLEARANCE = 0.08  # between pieces of furniture


@dataclass(frozen=True)
class RoomSettings:
    """Size and richness of a room.

    Attributes:
      side: least and greatest length of floor's sides, metres.
      height: least and greatest, metres.
      pieces: most pieces of furniture.
      pictures: least and most posters on the walls.
      texel: metres per texel of floor and walls; posters are twice as fine.
      lookalikes: most pieces that one sense alone cannot tell apart, see `posejax.sim.lookalikes`;
        with any, pictures of marks are whiteboards. The rest of the room stays as it is without.
    """

    side: tuple[float, float] = (4.0, 7.0)
    height: tuple[float, float] = (2.4, 3.0)
    pieces: int = 12
    pictures: tuple[int, int] = (3, 7)
    texel: float = 0.008
    lookalikes: int = 0


@dataclass(frozen=True, eq=False)
class Room:
    """One room.

    Attributes:
      scene: for the sensors.
      size: [3] metres inside the walls.
      boxes: of the furniture, doors, windows and pictures.
      footprints: [N, 4] (x, y, half length, half width) and `yaws` [N] of what stands on the floor.
      lamp: the light at the ceiling.
    """

    scene: Scene
    size: np.ndarray
    boxes: list[ObjectBox]
    footprints: np.ndarray
    yaws: np.ndarray
    lamp: Lamp

    def clearance(self, xy: np.ndarray) -> np.ndarray:
        """Distance [...] (metres) from points [..., 2] to the nearest wall or furniture.

        Zero or below inside of either.
        """
        xy = np.asarray(xy, np.float64)
        walls = (self.size[:2] / 2 - np.abs(xy)).min(-1)
        if not len(self.yaws):
            return walls
        c, s = np.cos(self.yaws), np.sin(self.yaws)
        off = xy[..., None, :] - self.footprints[:, :2]
        local = np.stack([c * off[..., 0] + s * off[..., 1], c * off[..., 1] - s * off[..., 0]], -1)
        beyond = np.abs(local) - self.footprints[:, 2:]
        outside = np.linalg.norm(np.maximum(beyond, 0), axis=-1)
        distance = outside + np.minimum(beyond.max(-1), 0)
        return np.minimum(walls, distance.min(-1))


def build_room(
    seed: int | Sequence[int],
    settings: RoomSettings = RoomSettings(),
) -> Room:
    """Build the room of a seed (one number or several): a pure function of its arguments.

    All rooms of the default settings share one compiled ray caster.
    """
    streams = np.random.SeedSequence(seed).spawn(6)
    shape_rng, look_rng, wall_rng, piece_rng, lamp_rng, twin_rng = map(
        np.random.default_rng, streams
    )
    size = np.array([*shape_rng.uniform(*settings.side, 2), shape_rng.uniform(*settings.height)])
    builder = SceneBuilder()
    looks = Looks(look_rng, builder)
    _add_shell(look_rng, builder, size, settings)
    openings = _add_openings(wall_rng, builder, looks, size, settings)
    placed = _Placed([], [])
    stand = functools.partial(_stand, builder=builder, looks=looks, size=size, openings=openings)
    stand(piece_rng, _choice(piece_rng, FURNITURE, settings.pieces), placed)
    if settings.lookalikes:
        pieces = lookalikes(twin_rng, builder)
        stand(twin_rng, _choice(twin_rng, pieces, settings.lookalikes), placed)
    # Room enough for every room, so that they all run one compiled program.
    scene = builder.build(
        mip_levels=5,
        rectangles=16,
        boxes=192,
        cylinders=32,
        ellipsoids=8,
        triangles=96,
        materials=48,
        textures=32,
        texels=1 << 22,
    )
    place = (*lamp_rng.uniform(-0.15, 0.15, 2) * size[:2], size[2] - 0.25)
    lamp = Lamp(place, lamp_rng.uniform(0.5, 0.9), lamp_rng.uniform(2.5, 4.0))
    footprints, yaws = np.array(placed.footprints).reshape(-1, 4), np.array(placed.yaws)
    return Room(scene, size, builder.objects(), footprints, yaws, lamp)


def room_of_split(
    split: str,
    number: int,
    seed: int = 0,
    settings: RoomSettings = RoomSettings(),
) -> Room:
    """Room `number` of a split: rooms of two splits never share a seed.

    Raises:
      ValueError: an unknown split.
    """
    return build_room((*world_seed(seed, split, number), 7), settings)


def _add_shell(rng, builder: SceneBuilder, size, settings: RoomSettings) -> None:
    """Floor, ceiling and four walls: each a rectangle with a texture of its own size."""
    x, y, z = np.eye(3)
    half = size / 2

    def light(low: float) -> np.ndarray:
        return rng.uniform(low, 0.85) * rng.uniform(0.8, 1.0, 3)

    floor, kind = _cells(size[0], size[1], settings.texel, 1), rng.integers(3)
    brown = rng.uniform(0.25, 0.6) * np.array([1.0, rng.uniform(0.6, 0.8), rng.uniform(0.3, 0.6)])
    if kind == 0:
        picture = textures.wood(rng, floor, brown, planks=int(size[1] / 0.18))
    elif kind == 1:
        picture = textures.carpet(rng, floor, rng.uniform(0.15, 0.6, 3), accent=light(0.1))
    else:
        picture = textures.tiles(rng, floor, light(0.4), count=int(size[0] / 0.4), other=light(0.2))
    label = CLASSES["floor"]
    builder.add_rectangle((0, 0, 0), x, y, half[:2], textures.as_texture(picture), label=label)
    white = textures.plaster(rng, (512, 512), light(0.7))
    top = textures.as_texture(white)
    label = CLASSES["ceiling"]
    builder.add_rectangle((0, 0, size[2]), x, y, half[:2], top, label=label)
    colour, brick = light(0.35), rng.integers(4)
    for k, (axis, along) in enumerate(((x, y), (y, -x), (-x, -y), (-y, x))):
        reach = abs(along[:2]) @ half[:2]
        shape = _cells(2 * reach, size[2], settings.texel, 1)
        if k == brick:
            count = int(size[2] / 0.09), int(2 * reach / 0.25)
            picture = textures.bricks(
                rng, shape, (0.55, 0.28, 0.2), courses=count[0], per_course=count[1]
            )
        else:
            picture = textures.plaster(rng, shape, colour * rng.uniform(0.85, 1.1), strength=0.09)
        centre = axis * (abs(axis[:2]) @ half[:2]) + z * half[2]
        # Rows run downwards: row 0 is at the ceiling.
        texture = textures.as_texture(picture)
        builder.add_rectangle(centre, -along, -z, (reach, half[2]), texture, label=CLASSES["wall"])


def _cells(wide: float, high: float, texel: float, least: int) -> tuple[int, int]:
    """(height, width) of a texture in texels: multiples of 16, so that four halvings fit."""
    rows, columns = (16 * max(int(np.ceil(s / texel / 16)), least) for s in (high, wide))
    return rows, columns


def _add_openings(rng, builder: SceneBuilder, looks: Looks, size, settings: RoomSettings):
    """A door, windows and pictures; (wall, from, to) of what furniture keeps free."""
    taken: list[tuple[int, float, float, float, float]] = []

    def place(wide: float, low: float, high: float, depth: float):
        """(centre, yaw, wall, place along it), or None where nothing fits."""
        for _ in range(20):
            wall = int(rng.integers(4))
            reach = size[1 - wall % 2] / 2 - wide / 2 - 0.15
            along = rng.uniform(-reach, reach)
            span = along - wide / 2, along + wide / 2
            clash = any(
                wall == w and span[0] < b + 0.1 and span[1] > a - 0.1 and low < t and high > f
                for w, a, b, f, t in taken
            )
            if not clash and reach > 0:
                taken.append((wall, *span, low, high))
                yaw = wall * np.pi / 2 + np.pi  # x into the room
                inwards = np.array([np.cos(yaw), np.sin(yaw)])
                middle = -inwards * (size[wall % 2] / 2 - depth / 2)
                middle = middle + along * np.array([-inwards[1], inwards[0]])
                return np.array([*middle, (low + high) / 2]), yaw, wall, along
        return None

    openings = []
    wide, high = rng.uniform(0.8, 0.95), rng.uniform(1.95, 2.1)
    if spot := place(wide, 0.0, high, 0.05):
        centre, yaw, wall, along = spot
        instance = builder.new_object(CLASSES["door"], yaw=yaw)
        builder.add_box(centre, (0.025, wide / 2, high / 2), looks.wood, yaw=yaw, instance=instance)
        turn = np.array([np.cos(yaw), np.sin(yaw)])
        handle = centre.copy()
        handle[:2] += turn * 0.05 + wide * 0.4 * np.array([-turn[1], turn[0]])
        builder.add_box(handle, (0.025, 0.06, 0.015), looks.metal, yaw=yaw, instance=instance)
        openings.append((wall, along - wide / 2, along + wide / 2))
    for _ in range(int(rng.integers(1, 3))):
        wide, high = rng.uniform(0.9, 1.8), rng.uniform(0.9, 1.3)
        if spot := place(wide, 0.9, 0.9 + high, 0.06):
            centre, yaw, *_ = spot
            instance = builder.new_object(CLASSES["window"], yaw=yaw)
            half = np.array([0.02, wide / 2, high / 2])
            builder.add_box(centre, half, looks.glass, yaw=yaw, instance=instance)
            side = np.array([-np.sin(yaw), np.cos(yaw), 0])
            for at in (-1, 0, 1):
                bar = (0.03, 0.025, high / 2)
                post = centre + at * side * (wide / 2 - 0.025)
                builder.add_box(post, bar, looks.paint, yaw=yaw, instance=instance)
                bar = (0.03, wide / 2, 0.025)
                rail = centre + at * np.array([0, 0, high / 2 - 0.025])
                builder.add_box(rail, bar, looks.paint, yaw=yaw, instance=instance)
    for _ in range(int(rng.integers(settings.pictures[0], settings.pictures[1] + 1))):
        wide, high = rng.uniform(0.35, 1.1), rng.uniform(0.35, 0.9)
        low = rng.uniform(1.0, max(size[2] - high - 0.15, 1.01))
        if spot := place(wide, low, low + high, 0.02):
            centre, yaw, *_ = spot
            shape, poster = _cells(wide, high, settings.texel / 2, 4), rng.random() < 0.7
            art = textures.poster(rng, shape) if poster else textures.marks(
                rng, shape, rng.uniform(0.6, 0.9, 3), rng.uniform(0, 0.25, 3),
                line=int(rng.integers(10, 24)),
            )  # fmt: skip
            label = "picture" if poster or not settings.lookalikes else "whiteboard"
            instance = builder.new_object(CLASSES[label], yaw=yaw)
            inwards = np.array([np.cos(yaw), np.sin(yaw), 0])
            side = np.array([-np.sin(yaw), np.cos(yaw), 0])
            half = (wide / 2, high / 2)
            front = centre + 0.01 * inwards
            texture = textures.as_texture(art)
            builder.add_rectangle(front, side, (0, 0, -1), half, texture, instance=instance)
            back = centre - 0.002 * inwards
            frame = (0.007, wide / 2 + 0.01, high / 2 + 0.01)
            builder.add_box(back, frame, looks.metal, yaw=yaw, instance=instance)
    return openings


class _Placed(NamedTuple):
    """What stands on the floor already: (x, y, half length, half width), and yaws."""

    footprints: list[tuple[float, float, float, float]]
    yaws: list[float]


def _choice(rng, pieces: dict[str, Piece], count: int) -> list[tuple[str, Piece]]:
    """Every room has its own, most kinds once before any comes twice."""
    names = list(pieces)
    order = [names[k] for k in rng.permutation(len(names))]
    order += [names[k] for k in rng.integers(len(names), size=count)]
    return [(name, pieces[name]) for name in order[:count]]


def _stand(rng, pieces, placed: _Placed, *, builder, looks: Looks, size, openings) -> None:
    """Pieces along the walls and in the middle, where they have room."""
    footprints, yaws = placed
    for name, piece in pieces:
        extent = np.array([rng.uniform(*bounds) for bounds in piece.size])
        for _ in range(12):
            if piece.at_wall:
                wall = int(rng.integers(4))
                yaw = wall * np.pi / 2 + np.pi
                reach = size[1 - wall % 2] / 2 - extent[1] / 2 - 0.03
                if reach <= 0:
                    continue
                along = rng.uniform(-reach, reach)
                span = along - extent[1] / 2, along + extent[1] / 2
                if any(w == wall and span[0] < b and span[1] > a for w, a, b in openings):
                    continue
                inwards = np.array([np.cos(yaw), np.sin(yaw)])
                centre = -inwards * (size[wall % 2] / 2 - extent[0] / 2 - 0.04)
                centre = centre + along * np.array([-inwards[1], inwards[0]])
            else:
                yaw = rng.uniform(-np.pi, np.pi)
                room = size[:2] / 2 - np.hypot(*extent[:2]) / 2 - 0.1
                centre = rng.uniform(-room, room)
            foot = (*centre, extent[0] / 2, extent[1] / 2)
            if _free(foot, yaw, footprints, yaws):
                footprints.append(foot)
                yaws.append(float(yaw))
                instance = builder.new_object(CLASSES[name], yaw=yaw)
                piece.build(rng, builder, looks, centre, yaw, extent, instance)
                break


def _free(foot, yaw: float, footprints, yaws) -> bool:
    """Whether a turned rectangle keeps its distance (separating axes, Gottschalk et al. 1996)."""
    one = _corners(foot, yaw)
    for other, turn in zip(footprints, yaws, strict=True):
        two = _corners(other, turn)
        apart = False
        for angle in (yaw, yaw + np.pi / 2, turn, turn + np.pi / 2):
            axis = np.array([np.cos(angle), np.sin(angle)])
            a, b = one @ axis, two @ axis
            apart |= a.min() > b.max() + _CLEARANCE or b.min() > a.max() + _CLEARANCE
        if not apart:
            return False
    return True


def _corners(foot, yaw: float) -> np.ndarray:
    x, y, a, b = foot
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[-a, -b], [a, -b], [a, b], [-a, b]]) @ np.array([[c, s], [-s, c]]) + [x, y]
