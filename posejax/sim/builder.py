"""Collecting the parts of a world in NumPy, and padding them to a `Scene`.

Every group is padded to a bucket size, so that similar worlds share one compiled ray caster.
"""

from dataclasses import dataclass, field

import numpy as np

from posejax.sim.objects import ObjectBox, enclosing_box
from posejax.sim.scene import (
    Array,
    Material,
    Materials,
    Rectangles,
    Scene,
    Solids,
    Textures,
    Triangles,
)


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

    Every `add_*` takes an integer `label` (the semantic class), or the `instance` of the object it
    is part of (from `new_object`), which has the label. Both come back in `Hits`.
    """

    _textures: list = field(default_factory=list)
    _objects: list[tuple[int, float]] = field(default_factory=list)
    _rectangles: list = field(default_factory=list)
    _solids: dict[str, list] = field(
        default_factory=lambda: {"boxes": [], "cylinders": [], "ellipsoids": []}
    )
    _triangles: list = field(default_factory=list)
    _materials: dict[Material, int] = field(default_factory=dict)

    def new_object(self, label: int, *, yaw: float = 0.0) -> int:
        """Start an object of a class; its instance number, from 1 on, for its parts.

        Args:
          yaw: direction of its box's x axis, radians about z.
        """
        self._objects.append((label, yaw))
        return len(self._objects)

    def count(self, kind: str) -> int:
        """Number of "boxes", "cylinders" or "ellipsoids" so far: the row that the next one gets."""
        return len(self._solids[kind])

    def objects(self) -> list[ObjectBox]:
        """The box of every object: the smallest one of its yaw that holds all its parts."""
        parts: dict[int, list] = {number + 1: [] for number in range(len(self._objects))}
        for centre, axes, half, *_, instance in self._rectangles:
            parts.get(instance, []).append(("boxes", centre, axes.T, np.asarray(half)))
        for kind, solids in self._solids.items():
            for centre, rotation, half, *_, instance in solids:
                parts.get(instance, []).append((kind, centre, np.asarray(rotation), half))
        for corners, *_, instance in self._triangles:
            parts.get(instance, []).append(("points", corners, None, None))
        return [
            enclosing_box(parts[number], yaw, label, number)
            for number, (label, yaw) in enumerate(self._objects, 1)
            if parts[number]
        ]

    def add_texture(self, texture) -> int:
        """Keep a texture [H, W, 4] or [H, W, 1], see `Textures`; its number for `Material`s."""
        texture = np.asarray(texture)
        if texture.dtype != np.uint8:
            texture = texture.astype(np.float32)
        if texture.ndim != 3 or texture.shape[2] not in (1, 4):
            expected = "[H, W, 4] (reflectance, rgb) or [H, W, 1] (grey)"
            raise ValueError(f"texture must be {expected}, got {texture.shape}")
        self._textures.append(texture)
        return len(self._textures) - 1

    def add_rectangle(
        self, centre, u, v, half_size, texture, *, label: int = 0, instance: int = 0
    ) -> None:
        """Add a textured rectangle; see `Rectangles`.

        Args:
          texture: pixels as for `add_texture`, or the number of one that was added.
        """
        axes = np.array([u, v], np.float64)
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        if abs(axes[0] @ axes[1]) > 1e-6:
            raise ValueError(f"u and v must be perpendicular, got u.v = {axes[0] @ axes[1]:.3g}")
        number = texture if isinstance(texture, int) else self.add_texture(texture)
        label = self._label(label, instance)
        self._rectangles.append((centre, axes, half_size, number, label, instance))

    def add_box(
        self, centre, half_size, material: Material, *, yaw=0.0, rotation=None, label=0, instance=0
    ):
        """Add a box. Either `yaw` (radians about z) or a full `rotation` world_from_body [3, 3]."""
        self._add_solid("boxes", centre, half_size, material, yaw, rotation, label, instance)

    def add_cylinder(
        self,
        centre,
        radius: float,
        half_height: float,
        material: Material,
        *,
        rotation=None,
        label=0,
        instance=0,
    ):
        """Add a cylinder about its body's z axis (vertical without `rotation`)."""
        size = (radius, radius, half_height)
        self._add_solid("cylinders", centre, size, material, 0.0, rotation, label, instance)

    def add_ellipsoid(
        self, centre, half_size, material: Material, *, yaw=0.0, rotation=None, label=0, instance=0
    ):
        """Add an ellipsoid with semi-axes `half_size`."""
        self._add_solid("ellipsoids", centre, half_size, material, yaw, rotation, label, instance)

    def add_mesh(
        self, vertices, faces, material: Material, *, label: int = 0, instance: int = 0
    ) -> None:
        """Add a triangle mesh: vertices [V, 3], faces [F, 3] integers."""
        corners = np.asarray(vertices, np.float32)[np.asarray(faces)]
        index, label = self._material(material), self._label(label, instance)
        self._triangles += [(corner, index, label, instance) for corner in corners]

    def copy(self) -> "SceneBuilder":
        """An independent builder with the same parts, to add different things to one world."""
        solids = {kind: list(parts) for kind, parts in self._solids.items()}
        return SceneBuilder(
            list(self._textures),
            list(self._objects),
            list(self._rectangles),
            solids,
            list(self._triangles),
            dict(self._materials),
        )

    def build(self, *, mip_levels: int = 1, **capacity: int) -> Scene:
        """The padded scene (NumPy arrays).

        Args:
          mip_levels: 1, or how many times textures are halved for far pixels, plus one.
          capacity: smallest padded size of a group, e.g. `boxes=256`: scenes of different richness
            then share one compiled ray caster. Padding costs next to nothing. Rectangles are
            padded, and texels counted up to a power of two, only if asked for by a number.
        """
        table = list(self._materials) or [Material(0.0, (0.0, 0.0, 0.0))]
        # Materials are looked up, never looped over, yet their count is a shape too: pad alike.
        count = bucket_size(max(len(table), capacity.get("materials", 0)))
        table += [table[-1]] * (count - len(table))
        *looks, texture, texel = (
            np.array(column, np.float32) for column in zip(*table, strict=True)
        )
        textured = (texture >= 0).any() or "texels" in capacity
        texture, texel = (column if textured else column[:0] for column in (texture, texel))
        return Scene(
            rectangles=self._build_rectangles(capacity.get("rectangles", 0)),
            boxes=_build_solids(self._solids["boxes"], capacity.get("boxes", 0)),
            cylinders=_build_solids(self._solids["cylinders"], capacity.get("cylinders", 0)),
            ellipsoids=_build_solids(self._solids["ellipsoids"], capacity.get("ellipsoids", 0)),
            triangles=self._build_triangles(capacity.get("triangles", 0)),
            materials=Materials._make([*looks, texture.astype(np.int32), texel]),
            textures=_build_textures(
                self._textures, mip_levels, capacity.get("textures", 0), capacity.get("texels", 0)
            ),
        )

    def _material(self, material: Material) -> int:
        return self._materials.setdefault(Material(*material), len(self._materials))

    def _label(self, label: int, instance: int) -> int:
        return self._objects[instance - 1][0] if instance else label

    def _add_solid(self, kind, centre, half_size, material, yaw, rotation, label, instance) -> None:
        half_size = np.asarray(half_size, np.float64)
        if half_size.shape != (3,) or not (half_size > 0).all():
            raise ValueError(f"half_size must be three positive lengths, got {half_size}")
        if rotation is None:
            c, s = np.cos(yaw), np.sin(yaw)
            rotation = ((c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0))
        material, label = self._material(material), self._label(label, instance)
        self._solids[kind].append((centre, rotation, half_size, material, label, instance))

    def _build_rectangles(self, capacity: int) -> Rectangles:
        count = max(len(self._rectangles), capacity)
        rectangles = Rectangles(
            np.zeros((count, 3), np.float32),
            np.tile(np.eye(2, 3, dtype=np.float32), (count, 1, 1)),
            np.zeros((count, 2), np.float32),
            *np.zeros((3, count), np.int32),
        )
        return _fill(rectangles, self._rectangles)

    def _build_triangles(self, capacity: int) -> Triangles:
        padded = bucket_size(max(len(self._triangles), capacity))
        triangles = Triangles(
            np.zeros((padded, 3, 3), np.float32), *np.zeros((3, padded), np.int32)
        )
        return _fill(triangles, self._triangles)


def _build_solids(parts: list, capacity: int) -> Solids:
    padded = bucket_size(max(len(parts), capacity))
    solids = Solids(
        np.zeros((padded, 3), np.float32),
        np.tile(np.eye(3, dtype=np.float32), (padded, 1, 1)),
        np.zeros((padded, 3), np.float32),
        *np.zeros((3, padded), np.int32),
    )
    return _fill(solids, parts)


def _fill(arrays, parts: list):
    for i, part in enumerate(parts):
        for array, value in zip(arrays, part, strict=True):
            array[i] = value
    return arrays


def _build_textures(textures: list[Array], levels: int, count: int, texels: int) -> Textures:
    """One flat array of all levels; at least `count` textures and `texels` texels."""
    if any(t.dtype != np.uint8 for t in textures):
        textures = [t if t.dtype != np.uint8 else t.astype(np.float32) / 255 for t in textures]
    channels = max((t.shape[2] for t in textures), default=4)
    start = np.zeros((max(len(textures), count, 1), levels), np.int32)
    size = np.ones((*start.shape, 2), np.int32)
    pieces, used = [], 0
    for i, texture in enumerate(textures):
        level = np.broadcast_to(texture, (*texture.shape[:2], channels))
        for k in range(levels):
            if k and not (level.shape[0] % 2 or level.shape[1] % 2):
                level = _halve(level)
            elif k:  # the smallest one stands for those that follow
                start[i, k], size[i, k] = start[i, k - 1], size[i, k - 1]
                continue
            start[i, k], size[i, k] = used, level.shape[:2]
            pieces.append(level.reshape(-1, channels))
            used += len(pieces[-1])
    dtype = pieces[0].dtype if pieces else np.float32
    pieces.append(np.zeros((max(texels - used, int(not used)), channels), dtype))
    return Textures(np.concatenate(pieces), start, size)


def _halve(texture: np.ndarray) -> np.ndarray:
    """Mean over 2 x 2 texels."""
    high, wide, channels = texture.shape
    blocks = texture.reshape(high // 2, 2, wide // 2, 2, channels)
    if texture.dtype == np.uint8:
        return ((blocks.astype(np.uint16).sum((1, 3)) + 2) // 4).astype(np.uint8)
    return blocks.mean((1, 3))
