"""One small scene description that every sensor of the simulator looks at.

A `Scene` is a pytree of arrays: textured rectangles (the ground, walls, posters), three kinds of
solids (boxes, elliptic cylinders, ellipsoids: each the image of a unit solid under a rotation and
three half sizes), triangles, and tables of materials and textures. `posejax.sim.SceneBuilder`
makes one. Every part carries a label (its class) and an instance (which object it belongs to).

Frame: a right-handed metric world, z up. Keep coordinates within some hundred metres: float32.
"""

from typing import NamedTuple

import jax
import numpy as np

Array = jax.Array | np.ndarray


class Rectangles(NamedTuple):
    """Textured planar rectangles, seen from both sides.

    Attributes:
      centre: [P, 3] metres.
      axes: [P, 2, 3] unit vectors along texture columns (u) and rows (v); the normal is u x v.
      half_size: [P, 2] metres along u and v; 0 for padding.
      texture: [P] int32 row of `Textures`. The rectangle spans the whole texture: its corner
        -u -v is the continuous pixel position (0, 0).
      label: [P] int32, free for the author of the scene.
      instance: [P] int32, 0 for what is no object.
    """

    centre: Array
    axes: Array
    half_size: Array
    texture: Array
    label: Array
    instance: Array


class Solids(NamedTuple):
    """N solids of one kind: unit solid -> times `half_size` -> `rotation` -> plus `centre`.

    The unit solid is the cube [-1, 1]^3 (boxes), the cylinder x^2 + y^2 <= 1, |z| <= 1 with both
    caps, or the ball of radius 1.

    Attributes:
      centre: [N, 3] metres.
      rotation: [N, 3, 3] world_from_body.
      half_size: [N, 3] metres; 0 for padding.
      material: [N] int32 row of `Materials`.
      label, instance: [N] int32.
    """

    centre: Array
    rotation: Array
    half_size: Array
    material: Array
    label: Array
    instance: Array


class Triangles(NamedTuple):
    """Triangles, seen from both sides: corners [T, 3, 3] (corner, xyz), the rest [T] int32."""

    corners: Array
    material: Array
    label: Array
    instance: Array


class Textures(NamedTuple):
    """T raster textures of any sizes in one flat array, each with halved copies of itself.

    Level l of a texture is averaged over 2^l x 2^l texels: what a far pixel sees (mip mapping,
    Williams 1983). One level is the texture alone.

    Attributes:
      texels: [N, 4] reflectance, red, green, blue, or [N, 1] a grey; float32 in [0, 1] or uint8.
      start: [T, L] int32 first texel of a level, rows one after the other.
      size: [T, L, 2] int32 (height, width).
    """

    texels: Array
    start: Array
    size: Array


class Materials(NamedTuple):
    """Surface looks; a procedural pattern keeps facades from being flat.

    Attributes:
      reflectance: [M] in [0, 1], at the LiDAR's wavelength.
      colour: [M, 3] in [0, 1], linear RGB.
      grain: [M, 2] cell size in metres and relative strength of blocky noise (0: none).
      panes: [M, 3] window spacing along the wall and upwards in metres (0: none) and the relative
        darkness of a window.
      texture: [M] int32 row of `Textures` that repeats over the surface, -1 for none; [0] if no
        material has one (the ray caster then looks nothing up).
      texel: [M] size of its texels, metres.
    """

    reflectance: Array
    colour: Array
    grain: Array
    panes: Array
    texture: Array
    texel: Array


class Scene(NamedTuple):
    """Everything the ray caster needs. Any group may be empty (but for padding)."""

    rectangles: Rectangles
    boxes: Solids
    cylinders: Solids
    ellipsoids: Solids
    triangles: Triangles
    materials: Materials
    textures: Textures


class Material(NamedTuple):
    """One row of `Materials`; reflectance and colour multiply the texture's."""

    reflectance: float
    colour: tuple[float, float, float]
    grain: tuple[float, float] = (0.0, 0.0)
    panes: tuple[float, float, float] = (0.0, 0.0, 0.0)
    texture: int = -1
    texel: float = 0.005
