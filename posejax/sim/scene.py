"""One small scene description that every sensor of the simulator looks at.

A `Scene` is a pytree of arrays: textured rectangles (the ground, walls, posters), three kinds of
solids (boxes, elliptic cylinders, ellipsoids: each the image of a unit solid under a rotation and
three half sizes), triangles, and a table of materials. `SceneBuilder` collects parts in NumPy and
pads every group to a bucket size, so that similar worlds share one compiled ray caster.

Frame: a right-handed metric world, z up. Keep coordinates within some hundred metres: float32.
"""

from dataclasses import dataclass, field
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
      texture: [P, H, W, 4] float32: reflectance, red, green, blue in [0, 1], or [P, H, W, 1]:
        a grey. The rectangle spans the whole texture: its corner -u -v is the continuous pixel
        position (0, 0).
      label: [P] int32, free for the author of the scene.
    """

    centre: Array
    axes: Array
    half_size: Array
    texture: Array
    label: Array


class Solids(NamedTuple):
    """N solids of one kind: unit solid -> times `half_size` -> `rotation` -> plus `centre`.

    The unit solid is the cube [-1, 1]^3 (boxes), the cylinder x^2 + y^2 <= 1, |z| <= 1 with both
    caps, or the ball of radius 1.

    Attributes:
      centre: [N, 3] metres.
      rotation: [N, 3, 3] world_from_body.
      half_size: [N, 3] metres; 0 for padding.
      material: [N] int32 row of `Materials`.
      label: [N] int32.
    """

    centre: Array
    rotation: Array
    half_size: Array
    material: Array
    label: Array


class Triangles(NamedTuple):
    """Triangles, seen from both sides: corners [T, 3, 3] (corner, xyz), material [T], label [T]."""

    corners: Array
    material: Array
    label: Array


class Materials(NamedTuple):
    """Surface looks; a procedural pattern keeps facades from being flat.

    Attributes:
      reflectance: [M] in [0, 1], at the LiDAR's wavelength.
      colour: [M, 3] in [0, 1], linear RGB.
      grain: [M, 2] cell size in metres and relative strength of blocky noise (0: none).
      panes: [M, 3] window spacing along the wall and upwards in metres (0: none) and the relative
        darkness of a window.
    """

    reflectance: Array
    colour: Array
    grain: Array
    panes: Array


class Scene(NamedTuple):
    """Everything the ray caster needs. Any group may be empty (but for padding)."""

    rectangles: Rectangles
    boxes: Solids
    cylinders: Solids
    ellipsoids: Solids
    triangles: Triangles
    materials: Materials


class Material(NamedTuple):
    """One row of `Materials`."""

    reflectance: float
    colour: tuple[float, float, float]
    grain: tuple[float, float] = (0.0, 0.0)
    panes: tuple[float, float, float] = (0.0, 0.0, 0.0)


def bucket_size(count: int) -> int:
    """The padded size for `count` parts: 0, 8, 16, 24, 32, 48, 64, 96, ... (at most 2x)."""
    size = 8 if count else 0
    while size < count:
        # Powers of two and the halves between them.
        power = 1 << (size.bit_length() - 1)
        size = 2 * power if size > power or power == 8 else 3 * power // 2
    return size


@dataclass
class SceneBuilder:
    """Collects parts and builds a padded `Scene`.

    Every `add_*` takes the `material` of the part and an integer `label` that comes back in
    `Hits.label` (a semantic class or an instance number, as the author likes).
    """

    _rectangles: list = field(default_factory=list)
    _solids: dict[str, list] = field(
        default_factory=lambda: {"boxes": [], "cylinders": [], "ellipsoids": []}
    )
    _triangles: list = field(default_factory=list)
    _materials: dict[Material, int] = field(default_factory=dict)

    def add_rectangle(self, centre, u, v, half_size, texture, *, label: int = 0) -> None:
        """Add a textured rectangle; see `Rectangles`. All textures of a scene have one size."""
        axes = np.array([u, v], np.float64)
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        if abs(axes[0] @ axes[1]) > 1e-6:
            raise ValueError(f"u and v must be perpendicular, got u.v = {axes[0] @ axes[1]:.3g}")
        texture = np.asarray(texture, np.float32)
        if texture.ndim != 3 or texture.shape[2] not in (1, 4):
            expected = "[H, W, 4] (reflectance, rgb) or [H, W, 1] (grey)"
            raise ValueError(f"texture must be {expected}, got {texture.shape}")
        if self._rectangles and texture.shape != self._rectangles[0][3].shape:
            first = self._rectangles[0][3].shape
            raise ValueError(f"all textures must share one size: {texture.shape}, first {first}")
        self._rectangles.append((centre, axes, half_size, texture, label))

    def add_box(self, centre, half_size, material: Material, *, yaw=0.0, rotation=None, label=0):
        """Add a box. Either `yaw` (radians about z) or a full `rotation` world_from_body [3, 3]."""
        self._add_solid("boxes", centre, half_size, material, yaw, rotation, label)

    def add_cylinder(
        self,
        centre,
        radius: float,
        half_height: float,
        material: Material,
        *,
        rotation=None,
        label=0,
    ):
        """Add a cylinder about its body's z axis (vertical without `rotation`)."""
        size = (radius, radius, half_height)
        self._add_solid("cylinders", centre, size, material, 0.0, rotation, label)

    def add_ellipsoid(
        self, centre, half_size, material: Material, *, yaw=0.0, rotation=None, label=0
    ):
        """Add an ellipsoid with semi-axes `half_size`."""
        self._add_solid("ellipsoids", centre, half_size, material, yaw, rotation, label)

    def add_mesh(self, vertices, faces, material: Material, *, label: int = 0) -> None:
        """Add a triangle mesh: vertices [V, 3], faces [F, 3] integers."""
        corners = np.asarray(vertices, np.float32)[np.asarray(faces)]
        index = self._material(material)
        self._triangles += [(corner, index, label) for corner in corners]

    def copy(self) -> "SceneBuilder":
        """An independent builder with the same parts, to add different things to one world."""
        solids = {kind: list(parts) for kind, parts in self._solids.items()}
        return SceneBuilder(
            list(self._rectangles), solids, list(self._triangles), dict(self._materials)
        )

    def build(self, **capacity: int) -> Scene:
        """The padded scene (NumPy arrays).

        Args:
          capacity: smallest padded size of a group, e.g. `boxes=256`: scenes of different richness
            then share one compiled ray caster. Padding costs next to nothing.
        """
        table = list(self._materials) or [Material(0.0, (0.0, 0.0, 0.0))]
        # Materials are looked up, never looped over, yet their count is a shape too: pad alike.
        table += [table[-1]] * (bucket_size(len(table)) - len(table))
        materials = Materials(
            *(np.array(column, np.float32) for column in zip(*table, strict=True))
        )
        return Scene(
            rectangles=self._build_rectangles(),
            boxes=_build_solids(self._solids["boxes"], capacity.get("boxes", 0)),
            cylinders=_build_solids(self._solids["cylinders"], capacity.get("cylinders", 0)),
            ellipsoids=_build_solids(self._solids["ellipsoids"], capacity.get("ellipsoids", 0)),
            triangles=self._build_triangles(capacity.get("triangles", 0)),
            materials=materials,
        )

    def _material(self, material: Material) -> int:
        return self._materials.setdefault(Material(*material), len(self._materials))

    def _add_solid(self, kind, centre, half_size, material, yaw, rotation, label) -> None:
        half_size = np.asarray(half_size, np.float64)
        if half_size.shape != (3,) or not (half_size > 0).all():
            raise ValueError(f"half_size must be three positive lengths, got {half_size}")
        if rotation is None:
            c, s = np.cos(yaw), np.sin(yaw)
            rotation = ((c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0))
        self._solids[kind].append((centre, rotation, half_size, self._material(material), label))

    def _build_rectangles(self) -> Rectangles:
        # Textures are the one big array: no padding, the count of rectangles is part of the shape.
        parts = self._rectangles
        count = len(parts)
        size = parts[0][3].shape[:2] if parts else (1, 1)
        return Rectangles(
            np.array([p[0] for p in parts], np.float32).reshape(count, 3),
            np.array([p[1] for p in parts], np.float32).reshape(count, 2, 3),
            np.array([p[2] for p in parts], np.float32).reshape(count, 2),
            np.stack([p[3] for p in parts]) if parts else np.zeros((0, *size, 4), np.float32),
            np.array([p[4] for p in parts], np.int32).reshape(count),
        )

    def _build_triangles(self, capacity: int) -> Triangles:
        padded = bucket_size(max(len(self._triangles), capacity))
        corners = np.zeros((padded, 3, 3), np.float32)
        material, label = np.zeros((2, padded), np.int32)
        for i, part in enumerate(self._triangles):
            corners[i], material[i], label[i] = part
        return Triangles(corners, material, label)


def _build_solids(parts: list, capacity: int) -> Solids:
    padded = bucket_size(max(len(parts), capacity))
    solids = Solids(
        np.zeros((padded, 3), np.float32),
        np.tile(np.eye(3, dtype=np.float32), (padded, 1, 1)),
        np.zeros((padded, 3), np.float32),
        np.zeros(padded, np.int32),
        np.zeros(padded, np.int32),
    )
    for i, part in enumerate(parts):
        for array, value in zip(solids, part, strict=True):
            array[i] = value
    return solids
