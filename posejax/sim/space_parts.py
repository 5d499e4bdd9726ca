"""A scene cut into the convex parts that a rasteriser paints: flat faces and round solids. NumPy.

The same scene description as the ray caster's, the same order of surfaces (`Hits.surface`).
"""

from typing import NamedTuple

import numpy as np

from posejax.sim.scene import Scene, Solids


class Faces(NamedTuple):
    """Parallelograms: the textured rectangles, and the six sides of every box.

    Attributes:
      centre: [Q, 3] metres, body frame.
      along: [Q, 2, 3] from the centre to the middle of two edges; textures run along them.
      normal: [Q, 3] unit, outwards.
      both: [Q] bool: seen from behind as well.
      surface: [Q] as in `Hits`.
      texture: [Q] number, -1 for none.
    """

    centre: np.ndarray
    along: np.ndarray
    normal: np.ndarray
    both: np.ndarray
    surface: np.ndarray
    texture: np.ndarray


class Rounds(NamedTuple):
    """Elliptic cylinders and ellipsoids.

    Attributes:
      centre: [M, 3] metres, body frame.
      to_unit: [M, 3, 3]: offsets from the centre to the unit solid.
      extent: [M, 3, 3] three vectors: the solid lies within [-1, 1]-combinations of them.
      cylinder: [M] bool.
      surface: [M] as in `Hits`.
    """

    centre: np.ndarray
    to_unit: np.ndarray
    extent: np.ndarray
    cylinder: np.ndarray
    surface: np.ndarray


class Looks(NamedTuple):
    """Reflectance of surfaces; of textured ones it is the texture's.

    Attributes:
      reflectance: [S].
      grain: [S, 2] cell size in metres and strength, see `Materials`.
      material: [S] that seeds the grain.
      centre, rotation: [S, 3], [S, 3, 3] of the frame that the grain lies in.
      texels: [N] reflectance of all textures.
      start, size: [T], [T, 2] first texel and (height, width) of a texture.
    """

    reflectance: np.ndarray
    grain: np.ndarray
    material: np.ndarray
    centre: np.ndarray
    rotation: np.ndarray
    texels: np.ndarray
    start: np.ndarray
    size: np.ndarray


class Parts(NamedTuple):
    """Everything that is painted: Q faces, M round solids.

    Attributes:
      corners: [Q + M, 8, 3] of boxes around the parts (those of faces twice), body frame.
      above, below: [Q, Q + M] bool: parts that reach over a face on the side of its normal, and on
        the other side: only these can cast a shadow on it.
    """

    faces: Faces
    rounds: Rounds
    looks: Looks
    corners: np.ndarray
    above: np.ndarray
    below: np.ndarray


def convex_parts(scene: Scene) -> Parts:
    """The parts of a scene of rectangles and solids, in float64.

    Raises:
      ValueError: triangles, window panes, repeating textures or levels of textures: these only the
        ray caster knows.
    """
    materials, rectangles = scene.materials, scene.rectangles
    if (
        len(scene.triangles.label)
        or np.any(materials.panes)
        or len(materials.texture)
        or scene.textures.start.shape[1] > 1
    ):
        raise ValueError(
            "triangles, panes, textures of solids and texture levels are ray cast only"
        )
    solids = [
        Solids(*(np.asarray(a) for a in group))
        for group in (scene.boxes, scene.cylinders, scene.ellipsoids)
    ]
    first = np.cumsum([len(rectangles.label), *(len(group.label) for group in solids)])
    boxes, cylinders, ellipsoids = solids
    together = Solids(*map(np.concatenate, zip(*solids, strict=True)))
    axes = np.asarray(rectangles.axes, np.float64)
    flat = Faces(
        np.asarray(rectangles.centre, np.float64),
        axes * np.asarray(rectangles.half_size, np.float64)[:, :, None],
        np.cross(axes[:, 0], axes[:, 1]),
        np.ones(first[0], bool),
        np.arange(first[0]),
        np.asarray(rectangles.texture),
    )
    sides = _sides(boxes, int(first[0]))
    faces = Faces(*map(np.concatenate, zip(flat, sides, strict=True)))
    kept = np.abs(faces.along).sum((1, 2)) > 0  # no padding
    none = np.zeros(first[0])
    looks = Looks(
        np.concatenate([none, np.asarray(materials.reflectance, np.float64)[together.material]]),
        np.concatenate([np.zeros((first[0], 2)), np.asarray(materials.grain)[together.material]]),
        np.concatenate([none.astype(int), together.material]),
        np.concatenate([np.zeros((first[0], 3)), together.centre]),
        np.concatenate([np.zeros((first[0], 3, 3)), together.rotation]),
        _grey(np.asarray(scene.textures.texels)),
        np.asarray(scene.textures.start)[:, 0],
        np.asarray(scene.textures.size)[:, 0],
    )
    faces, solid = Faces(*(a[kept] for a in faces)), _rounds(cylinders, ellipsoids, int(first[1]))
    corners = _corners(faces, solid)
    level = (faces.normal * faces.centre).sum(1)
    over = np.einsum("qx,psx->qps", faces.normal, corners) - level[:, None, None]
    above, below = over.max(2) > 1e-5, over.min(2) < -1e-5
    return Parts(faces, solid, looks, corners, above, below)


def _corners(faces: Faces, rounds: Rounds) -> np.ndarray:
    reach = np.zeros((len(faces.centre) + len(rounds.centre), 3, 3))
    reach[: len(faces.centre), :2] = faces.along
    reach[len(faces.centre) :] = rounds.extent
    signs = np.array(list(np.ndindex(2, 2, 2))) * 2.0 - 1
    centre = np.concatenate([faces.centre, rounds.centre])
    return centre[:, None] + np.einsum("sk,pkx->psx", signs, reach)


def _grey(texels: np.ndarray) -> np.ndarray:
    grey = np.ascontiguousarray(texels[:, 0])
    return (grey / np.float32(255)).astype(np.float32) if grey.dtype == np.uint8 else grey


def _sides(boxes: Solids, first: int) -> Faces:
    count = len(boxes.label)
    axes = np.swapaxes(np.asarray(boxes.rotation, np.float64), 1, 2)  # rows: the box's own
    extent = axes * np.asarray(boxes.half_size, np.float64)[:, :, None]
    sides = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            along = extent[:, [(axis + 1) % 3, (axis + 2) % 3]]
            centre = boxes.centre + sign * extent[:, axis]
            sides.append((centre, along, sign * axes[:, axis]))
    centre, along, normal = map(np.concatenate, zip(*sides, strict=True))
    surface = np.tile(first + np.arange(count), 6)
    return Faces(centre, along, normal, np.zeros(6 * count, bool), surface, np.full(6 * count, -1))


def _rounds(cylinders: Solids, ellipsoids: Solids, first: int) -> Rounds:
    both = Solids(*map(np.concatenate, zip(cylinders, ellipsoids, strict=True)))
    kept = np.flatnonzero(both.half_size[:, 0] > 0)
    centre, rotation, half = (np.asarray(a, np.float64)[kept] for a in both[:3])
    axes = np.swapaxes(rotation, 1, 2)
    return Rounds(
        centre,
        axes / half[:, :, None],
        axes * half[:, :, None],
        kept < len(cylinders.label),
        first + kept,
    )
