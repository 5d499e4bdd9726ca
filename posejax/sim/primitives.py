"""The primitives of a `Scene`: where a ray meets each kind, and how that spot looks.

A `Group` is one kind of primitive, ready for the ray caster: parameters by which the caster culls
and intersects. A `Look` tells what hit points show. The intersection tests are the textbook ones:
slabs (Kay & Kajiya 1986) for boxes, quadratics for cylinders and ellipsoids, Moeller & Trumbore
(1997) for triangles. Quadratics use the discriminant |d|^2 - |o x d|^2 of the unit sphere, which
does not cancel for thin far poles as b^2 - ac does.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from posejax.sim.scene import Rectangles, Scene, Solids, Textures, Triangles
from posejax.sim.surface import look_of_material, sample_texture

_EPS = 1e-4


class Group(NamedTuple):
    """One kind of primitive, N of them (padding counted).

    Attributes:
      parts: arrays [N, ...], the centre [N, 3] first.
      radius: [N] of a bounding sphere around the centre; 0 for padding.
      extent: [N, 3, 3] three vectors e_k: the primitive lies within centre + [-1, 1]-combinations
        of them.
      intersect: (origin 3 x [R], direction 3 x [R], *one row of each part) -> distance [R], inf
        for a miss.
    """

    parts: tuple[jax.Array, ...]
    radius: jax.Array
    extent: jax.Array
    intersect: Callable


class Look(NamedTuple):
    """How the surfaces of `count` consecutive primitives look.

    Attributes:
      count: primitives, padding counted.
      function: (point [3, R], index [R] below `count`, footprint [R] metres that the ray's pixel
        covers) -> label [R], instance [R], normal [3, R], reflectance [R], colour [3, R]. Rays lie
        along the vector lanes: gathers of short vectors are slow.
    """

    count: int
    function: Callable


def primitive_groups(scene: Scene) -> list[Group]:
    """The groups in the order in which `Hits.surface` counts."""
    solids = (
        _solid_group(scene.boxes, _hit_box),
        _solid_group(scene.cylinders, _hit_cylinder),
        _solid_group(scene.ellipsoids, _hit_ellipsoid),
    )
    return [_rectangle_group(scene.rectangles), *solids, _triangle_group(scene.triangles)]


def primitive_looks(scene: Scene) -> list[Look]:
    """The looks in the order in which `Hits.surface` counts; all solids share one."""
    return [
        _rectangle_look(scene.rectangles, scene.textures),
        _solid_look(scene),
        _triangle_look(scene),
    ]


def _dot(a, b):
    # Three fused multiply-adds over the lanes; a matmul would leave the fused loop.
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a, b):
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )


def _rectangle_group(rectangles: Rectangles) -> Group:
    centre, axes, half_size = map(jnp.asarray, rectangles[:3])
    normal = jnp.cross(axes[:, 0], axes[:, 1])

    def intersect(origin, direction, centre, axes, half_size, normal):
        offset = [origin[k] - centre[k] for k in range(3)]
        slope = _dot(direction, normal)
        distance = -_dot(offset, normal) / jnp.where(slope == 0, 1.0, slope)
        hit = [offset[k] + distance * direction[k] for k in range(3)]
        inside = (jnp.abs(_dot(hit, axes[0])) <= half_size[0]) & (
            jnp.abs(_dot(hit, axes[1])) <= half_size[1]
        )
        return jnp.where(inside & (slope != 0) & (distance > _EPS), distance, jnp.inf)

    radius = jnp.linalg.norm(half_size, axis=1)
    extent = axes * half_size[:, :, None]
    extent = jnp.concatenate([extent, jnp.zeros_like(extent[:, :1])], axis=1)
    return Group((centre, axes, half_size, normal), radius, extent, intersect)


def _rectangle_look(rectangles: Rectangles, textures: Textures) -> Look:
    centre, axes, half_size, texture, label, instance = map(jnp.asarray, rectangles)
    normal = jnp.cross(axes[:, 0], axes[:, 1])

    size = jnp.asarray(textures.size)[:, 0, ::-1][texture].astype(jnp.float32).T  # (u, v)
    half_size = jnp.maximum(half_size.T, 1e-9)

    def look(point, index, footprint):
        offset = point - centre.T[:, index]
        u, v = (
            (_dot(axes[:, k].T[:, index], offset) / half[index] + 1.0) * (0.5 * size[k, index])
            for k, half in enumerate(half_size)
        )
        blur = footprint * (0.5 * size[0] / half_size[0])[index]
        value = sample_texture(textures, texture[index], u, v, blur)
        # One channel is a grey: the same for every colour.
        colour = value[1:] if len(value) > 1 else jnp.tile(value, (3, 1))
        return label[index], instance[index], normal.T[:, index], value[0], colour

    return Look(len(label), look)


def _solid_group(solids: Solids, hit_unit) -> Group:
    centre, half_size = jnp.asarray(solids.centre), jnp.asarray(solids.half_size)

    def intersect(origin, direction, centre, to_unit):
        offset = [origin[k] - centre[k] for k in range(3)]
        o = [_dot(to_unit[k], offset) for k in range(3)]
        d = [_dot(to_unit[k], direction) for k in range(3)]
        near, far = hit_unit(o, d)
        distance = jnp.where(near > _EPS, near, far)
        return jnp.where((near <= far) & (distance > _EPS), distance, jnp.inf)

    # The circumscribed sphere: exact for boxes, generous for the round ones.
    radius = jnp.linalg.norm(half_size, axis=1)
    extent = jnp.swapaxes(jnp.asarray(solids.rotation), 1, 2) * half_size[:, :, None]
    return Group((centre, _to_unit(solids)), radius, extent, intersect)


def _to_unit(solids: Solids):
    """[N, 3, 3] unit_from_world without the translation."""
    half_size = jnp.asarray(solids.half_size)
    # Padding has no size; it is never reached.
    inverse = 1.0 / jnp.where(half_size > 0, half_size, 1.0)
    return inverse[:, :, None] * jnp.swapaxes(jnp.asarray(solids.rotation), 1, 2)


def _solid_look(scene: Scene) -> Look:
    boxes, cylinders, ellipsoids = scene.boxes, scene.cylinders, scene.ellipsoids
    # One look-up for the three kinds: a tile often meets all of them.
    together = Solids(*map(jnp.concatenate, zip(boxes, cylinders, ellipsoids, strict=True)))
    centre, _, half_size, material, label, instance = map(jnp.asarray, together)
    to_unit = _to_unit(together)
    first_cylinder, first_ellipsoid = len(boxes.label), len(boxes.label) + len(cylinders.label)

    def look(point, index, footprint):
        offset = point - centre.T[:, index]
        matrix = to_unit.reshape(-1, 9).T[:, index].reshape(3, 3, -1)
        unit = jnp.stack([_dot(matrix[k], offset) for k in range(3)])
        n = jnp.where((index < first_ellipsoid)[None], _normal_cylinder(unit), unit)
        n = jnp.where((index < first_cylinder)[None], _normal_box(unit), n)
        # Normals go with the transposed inverse map; to_unit^T n is that, up to length.
        normal = _unit(jnp.stack([_dot(matrix[:, k], n) for k in range(3)]))
        body = unit * half_size.T[:, index]
        seen = look_of_material(
            scene.materials, scene.textures, material[index], body, n, index, footprint
        )
        return label[index], instance[index], normal, *seen

    return Look(len(label), look)


def _hit_box(o, d):
    # A zero component never divides: IEEE infinities with the right sign do the slab's work.
    inverse = [jnp.where(jnp.abs(x) < 1e-12, jnp.copysign(1e12, x), 1.0 / x) for x in d]
    one = [(-1.0 - o[k]) * inverse[k] for k in range(3)]
    two = [(1.0 - o[k]) * inverse[k] for k in range(3)]
    near = functools.reduce(jnp.maximum, map(jnp.minimum, one, two))
    far = functools.reduce(jnp.minimum, map(jnp.maximum, one, two))
    return near, far


def _hit_ellipsoid(o, d):
    square = _dot(d, d)
    cross = _cross(o, d)
    discriminant = square - _dot(cross, cross)
    root = jnp.sqrt(jnp.maximum(discriminant, 0.0))
    middle = -_dot(o, d)
    square = jnp.maximum(square, 1e-20)
    near, far = (middle - root) / square, (middle + root) / square
    return jnp.where(discriminant > 0, near, jnp.inf), jnp.where(discriminant > 0, far, -jnp.inf)


def _hit_cylinder(o, d):
    """The infinite tube cut by the slab |z| <= 1."""
    square = d[0] * d[0] + d[1] * d[1]
    cross = o[0] * d[1] - o[1] * d[0]
    discriminant = square - cross * cross
    root = jnp.sqrt(jnp.maximum(discriminant, 0.0))
    middle = -(o[0] * d[0] + o[1] * d[1])
    # Along the axis the tube gives no bound: everywhere inside it, nowhere outside.
    along = square < 1e-12
    inside = o[0] * o[0] + o[1] * o[1] <= 1.0
    safe = jnp.where(along, 1.0, square)
    hit = jnp.where(along, inside, discriminant > 0)
    tube_near = jnp.where(along, -jnp.inf, (middle - root) / safe)
    tube_far = jnp.where(along, jnp.inf, (middle + root) / safe)
    slope = jnp.where(jnp.abs(d[2]) < 1e-12, jnp.copysign(1e12, d[2]), 1.0 / d[2])
    one, two = (-1.0 - o[2]) * slope, (1.0 - o[2]) * slope
    near = jnp.maximum(tube_near, jnp.minimum(one, two))
    far = jnp.minimum(tube_far, jnp.maximum(one, two))
    return jnp.where(hit, near, jnp.inf), jnp.where(hit, far, -jnp.inf)


def _normal_box(unit):
    size = jnp.abs(unit)
    # The largest component, the first one in a tie.
    x = (size[0] >= size[1]) & (size[0] >= size[2])
    y = ~x & (size[1] >= size[2])
    return jnp.sign(unit) * jnp.stack([x, y, ~(x | y)])


def _normal_cylinder(unit):
    cap = unit[2] ** 2 > unit[0] ** 2 + unit[1] ** 2
    side = unit * jnp.array([[1.0], [1.0], [0.0]])
    top = jnp.sign(unit) * jnp.array([[0.0], [0.0], [1.0]])
    return jnp.where(cap[None], top, side)


def _unit(vector):
    return vector / jnp.maximum(jnp.sqrt(_dot(vector, vector)), 1e-20)[None]


def _triangle_group(triangles: Triangles) -> Group:
    corners = jnp.asarray(triangles.corners)
    centre = jnp.mean(corners, axis=1)
    edge1, edge2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]

    def intersect(origin, direction, centre, corner, edge1, edge2):
        del centre
        p = _cross(direction, edge2)
        det = _dot(edge1, p)
        inverse = 1.0 / jnp.where(det == 0, 1.0, det)
        s = [origin[k] - corner[k] for k in range(3)]
        u = _dot(s, p) * inverse
        q = _cross(s, edge1)
        v = _dot(direction, q) * inverse
        distance = _dot(edge2, q) * inverse
        hit = (det != 0) & (u >= 0) & (v >= 0) & (u + v <= 1) & (distance > _EPS)
        return jnp.where(hit, distance, jnp.inf)

    extent = corners - centre[:, None]
    radius = jnp.max(jnp.linalg.norm(extent, axis=2), axis=1)
    return Group((centre, corners[:, 0], edge1, edge2), radius, extent, intersect)


def _triangle_look(scene: Scene) -> Look:
    corners, material, label, instance = map(jnp.asarray, scene.triangles)
    cross = jnp.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])

    def look(point, index, footprint):
        normal = _unit(cross.T)[:, index]
        seen = look_of_material(
            scene.materials, scene.textures, material[index], point, normal, 0, footprint
        )
        return label[index], instance[index], normal, *seen

    return Look(len(label), look)
