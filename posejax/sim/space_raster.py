"""Pictures of a spacecraft in black space, painted part by part: what the ray caster shows, faster.

Every face and every round solid that looks at the camera is met exactly (the ray of a pixel, the
plane or quadric of the part) for the pixels of its bounding box alone, and the nearest part keeps
the pixel: a z-buffer. Along a straight line of a picture the inverse depth of a plane is linear, so
a face costs some fifteen additions and products for a pixel. Shadows are met in the same way, along
the sun: a point lies in the shadow of those parts that look at the sun above it. `render_views`
casts the same picture; where it casts four rays for a pixel, four samples are painted here.
"""

import functools
from typing import NamedTuple

import numpy as np

from posejax.sim.space_parts import Parts, Rounds, convex_parts
from posejax.sim.space_views import SpaceCamera, View, border_pixels, scene_blur
from posejax.sim.spacecraft import spacecraft_scene

_CAMERA = SpaceCamera()
_OFF = 0.01  # metres from a surface to where its shadow is looked for, as in `illumination`
_SAMPLES = np.array([(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)], np.float32)


def paint_views(
    poses: np.ndarray,
    sun: np.ndarray,
    camera: SpaceCamera = _CAMERA,
    *,
    ambient: float = 0.05,
    smooth_edges: bool = True,
) -> list[View]:
    """Paint the spacecraft at neighbouring poses: arguments and result of `render_views`.

    The same pictures, but for rounding (which moves borders by some 1e-4 pixels) and for the place
    of the patch. Of one core, without compiling.

    Raises:
      ValueError: a part lies beside or behind the camera.
    """
    parts = _parts(scene_blur(poses, camera))
    views = []
    for pose in np.asarray(poses, np.float64):
        frame = _Frame.make(parts, pose, np.asarray(sun, np.float64), camera)
        view = frame.picture(ambient)
        if smooth_edges and view.surface.size:
            pixel = border_pixels(view, ambient)
            if len(pixel):
                view.luminance[pixel[:, 0], pixel[:, 1]] = frame.smoothed(pixel, ambient)
        views.append(view)
    return views


@functools.lru_cache(maxsize=16)
def _parts(blur: float) -> Parts:
    return convex_parts(spacecraft_scene(blur))


class _Frame(NamedTuple):
    """Parts seen from one pose: all numbers are coefficients of (u, v, 1) = ray of depth 1.

    Attributes:
      inverse: [Q, 3] inverse depth of faces.
      place: [Q, 2, 3] and offset [Q, 2]: place / inverse - offset is where the face is met, from
        -1 to 1 along its two directions.
      unit: [M, 3, 3] and start [M, 3]: direction of the ray and the camera in the unit solid.
      seen: numbers of faces, and of round solids after them, that may be seen, the nearest first.
      bounds: [Q + M, 4] first row and column, last row and column, on the sensor.
      sign: [Q] 1 for faces whose outer side is seen, -1 for the others.
      nearest: [Q + M] inverse depth that no point of the part exceeds.
      origin: [3] the camera in the body frame.
      sun: the parts seen along the sun.
    """

    parts: Parts
    camera: SpaceCamera
    rotation: np.ndarray
    inverse: list
    place: list
    offset: list
    unit: list
    start: list
    sign: list
    seen: list
    bounds: np.ndarray
    nearest: list
    origin: list
    sun: "_Sun"

    @classmethod
    def make(cls, parts: Parts, pose, sun, camera: SpaceCamera) -> "_Frame":
        faces, rounds = parts.faces, parts.rounds
        rotation, shift = pose[:3, :3], pose[:3, 3]
        centre = faces.centre @ rotation.T + shift
        along = faces.along @ rotation.T
        normal = faces.normal @ rotation.T
        distance = (normal * centre).sum(1)
        inverse = normal / np.where(distance == 0, 1, distance)[:, None]
        length = (along**2).sum(2, keepdims=True)
        place = along / length
        offset = (place * centre[:, None]).sum(2)
        front = (distance < 0) | (faces.both & (distance > 0))
        seen = np.flatnonzero(np.concatenate([front, np.ones(len(rounds.centre), bool)]))
        corners = parts.corners @ rotation.T + shift
        nearest = corners[..., 2].min(1)
        if nearest.min() <= 0:
            raise ValueError("a part of the spacecraft lies beside or behind the camera")
        pixel = camera.project(corners)
        low, high = np.floor(pixel.min(1)).astype(int), np.ceil(pixel.max(1)).astype(int)
        return cls(
            parts,
            camera,
            rotation,
            inverse.tolist(),
            place.tolist(),
            offset.tolist(),
            (rounds.to_unit @ rotation.T).tolist(),
            np.einsum("mij,mj->mi", rounds.to_unit, -rotation.T @ shift - rounds.centre).tolist(),
            np.where(distance < 0, 1.0, -1.0).tolist(),
            seen[np.argsort(nearest[seen])].tolist(),
            np.clip(np.concatenate([low[:, ::-1], high[:, ::-1]], axis=1), 0, camera.size * 2),
            (1 / nearest).tolist(),
            (-rotation.T @ shift).tolist(),
            _Sun.make(parts, rotation.T @ sun, rotation, -rotation.T @ shift),
        )

    def picture(self, ambient: float) -> View:
        """One sample in the middle of every pixel of the smallest patch with a dark margin."""
        low, high = self.patch()
        u, v = self.rays(np.arange(low[1], high[1]) + 0.5, np.arange(low[0], high[0]) + 0.5)
        u, v = u[None], v[:, None]
        near = np.zeros((high - low), np.float32)
        owner = np.full(near.shape, -1, np.int16)
        boxes = np.clip(self.bounds - np.tile(low, 2), 0, np.tile(high - low, 2)).tolist()
        for k in self.seen:
            top, left, bottom, right = boxes[k]
            here = near[top:bottom, left:right]
            if not here.size or here.min() > self.nearest[k]:  # behind what is there
                continue
            inverse, met = self.meet(k, u[:, left:right], v[top:bottom])
            met &= inverse > here
            np.copyto(here, inverse, where=met)
            np.copyto(owner[top:bottom, left:right], k, where=met)
        hit = np.flatnonzero(owner >= 0)
        row, column = np.divmod(hit, near.shape[1])
        luminance = np.zeros(near.size, np.float32)
        luminance[hit] = self.shade(
            u[0, column], v[row, 0], near.reshape(-1)[hit], owner.reshape(-1)[hit], ambient
        )
        surface = np.full(near.size, -1, np.int32)
        surface[hit] = self.surfaces()[owner.reshape(-1)[hit]]
        place = int(low[0]), int(low[1])
        return View(luminance.reshape(near.shape), surface.reshape(near.shape), place)

    def smoothed(self, pixel: np.ndarray, ambient: float) -> np.ndarray:
        """Mean luminance of four samples of pixels [N, 2] = (row, column) of the patch."""
        pixel = pixel + self.patch()[0]
        u, v = self.rays(pixel[:, 1:] + _SAMPLES[:, 0], pixel[:, :1] + _SAMPLES[:, 1])
        near = np.zeros(u.shape, np.float32)
        owner = np.full(u.shape, -1, np.int16)
        row, column = np.ascontiguousarray(pixel.T.astype(np.int16))  # row by row
        boxes = self.bounds.tolist()
        starts = np.searchsorted(row, np.arange(self.camera.size[0] + 2)).tolist()
        for k in self.seen:
            top, left, bottom, right = boxes[k]
            first, last = starts[top], starts[bottom + 1]
            inside = (column[first:last] >= left) & (column[first:last] <= right)
            where = first + inside.nonzero()[0]
            if not len(where):
                continue
            here = near[where]
            if here.min() > self.nearest[k]:
                continue
            inverse, met = self.meet(k, u[where], v[where])
            met &= inverse > here
            near[where] = np.where(met, inverse, here)
            owner[where] = np.where(met, np.int16(k), owner[where])
        luminance = np.zeros(u.size, np.float32)
        hit = np.flatnonzero(owner.reshape(-1) >= 0)
        luminance[hit] = self.shade(*(a.reshape(-1)[hit] for a in (u, v, near, owner)), ambient)
        return luminance.reshape(-1, 4).mean(1)

    def patch(self) -> tuple[np.ndarray, np.ndarray]:
        """First (row, column) of the picture and the one after its last, a margin included."""
        bounds = self.bounds[self.seen]
        low = np.maximum(bounds[:, :2].min(0) - 1, 0)
        return low, np.minimum(bounds[:, 2:].max(0) + 1, self.camera.size)

    def rays(self, x, y) -> tuple[np.ndarray, np.ndarray]:
        cx, cy = self.camera.centre
        f = self.camera.focal
        return ((x - cx) / f).astype(np.float32), ((y - cy) / f).astype(np.float32)

    def surfaces(self) -> np.ndarray:
        return np.concatenate([self.parts.faces.surface, self.parts.rounds.surface])

    def meet(self, k: int, u, v) -> tuple[np.ndarray, np.ndarray]:
        """Inverse depth of part k along rays, and whether it is met there."""
        faces = len(self.inverse)
        with np.errstate(all="ignore"):  # along a face nothing is met
            if k >= faces:
                inverse = 1 / self.depth_of_round(k - faces, u, v)
                return inverse, inverse > 0
            inverse = _affine(self.inverse[k], u, v)
            depth = 1 / inverse
            (across, along), (first, second) = self.place[k], self.offset[k]
            met = np.abs(_affine(across, u, v) * depth - first) <= 1
            met &= np.abs(_affine(along, u, v) * depth - second) <= 1
            return inverse, met

    def depth_of_round(self, m: int, u, v) -> np.ndarray:
        """Depth of the near side of a round solid; NaN where it is missed."""
        direction = [_affine(row, u, v) for row in self.unit[m]]
        near, _ = _meet_round(self.start[m], direction, self.parts.rounds.cylinder[m])
        return near

    def shade(self, u, v, near, owner, ambient: float) -> np.ndarray:
        """Luminance [N] of samples whose part is known."""
        order = np.argsort(owner, kind="stable")
        luminance = np.empty(len(u), np.float32)
        bounds = np.searchsorted(owner[order], np.arange(len(self.bounds) + 1))
        for k in np.flatnonzero(np.diff(bounds)):
            mine = order[bounds[k] : bounds[k + 1]]
            luminance[mine] = self.shade_part(int(k), u[mine], v[mine], 1 / near[mine], ambient)
        return luminance

    def shade_part(self, k: int, u, v, depth, ambient: float):
        faces, rounds, looks = self.parts[:3]
        flat = k < len(faces.centre)
        surface = int(faces.surface[k] if flat else rounds.surface[k - len(faces.centre)])

        def body():
            return [
                o + depth * _affine(ray, u, v)
                for o, ray in zip(self.origin, self.rotation.T.tolist(), strict=True)
            ]

        point = None
        if flat:
            normal = (faces.normal[k] * self.sign[k]).tolist()
        else:
            point = body()
            normal = _round_normal(rounds, k - len(faces.centre), point)
        reflectance = looks.reflectance[surface]
        if flat and faces.texture[k] >= 0:
            s, t = (depth * _affine(self.place[k][i], u, v) - self.offset[k][i] for i in (0, 1))
            reflectance = _sample(looks, faces.texture[k], s, t)
        elif looks.grain[surface, 0] > 0:
            point = point or body()
            reflectance = reflectance * _grain(looks, surface, point, normal)
        towards = self.sun.direction
        light = _dot(normal, towards)
        if flat and light <= 0:
            return np.float32(ambient) * reflectance
        if flat:
            place = [
                depth * _affine(ray, u, v) + (start + _OFF * _dot(axis, normal))
                for axis, ray, start in zip(self.sun.basis, *self.sun.rays, strict=True)
            ]
            above = self.parts.above[k] if self.sign[k] > 0 else self.parts.below[k]
            return reflectance * np.where(
                self.sun.hidden(place, above), np.float32(ambient), np.float32(ambient + light)
            )
        point = [p + _OFF * n for p, n in zip(point, normal, strict=True)]
        hidden = self.sun.hidden([_dot(axis, point) for axis in self.sun.basis])
        return reflectance * (np.float32(ambient) + np.maximum(light, 0.0) * ~hidden)


class _Sun(NamedTuple):
    """Parts seen along the sun: coordinates (a, b) across it, h towards it.

    Attributes:
      direction: [3] body frame, towards the sun, as floats.
      basis: [3, 3] rows a, b, h.
      height: [Q, 3] height of faces as a function of (a, b, 1).
      place: [Q, 2, 3] where on the face, -1 to 1, as functions of (a, b, 1).
      casts: [Q + M] bool: faces that look at the sun, and all round solids.
      low, high: [Q + M, 3] bounds in (a, b, h).
      rays: [3, 3] and [3]: (a, b, h) of the point of depth 1 on the ray (u, v, 1) less that of the
        camera, and that of the camera.
      unit: [M, 3] and [M, 3, 3]: (a, b, h) to the unit solid.
    """

    parts: Parts
    direction: list
    basis: list
    height: list
    place: list
    casts: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rays: tuple[list, list]
    unit: tuple[list, list]

    @classmethod
    def make(cls, parts: Parts, direction: np.ndarray, rotation, origin) -> "_Sun":
        faces, rounds = parts.faces, parts.rounds
        direction = direction / np.linalg.norm(direction)
        across = np.cross(direction, np.eye(3)[np.argmin(np.abs(direction))])
        across /= np.linalg.norm(across)
        basis = np.stack([across, np.cross(direction, across), direction])
        towards = faces.normal @ direction
        casts = np.where(faces.both, np.abs(towards), towards) > 1e-4
        seen = parts.corners @ basis.T
        centre, along = faces.centre @ basis.T, faces.along @ basis.T
        with np.errstate(all="ignore"):
            determinant = along[:, 0, 0] * along[:, 1, 1] - along[:, 0, 1] * along[:, 1, 0]
            s = np.stack([along[:, 1, 1], -along[:, 1, 0]], 1) / determinant[:, None]
            t = np.stack([-along[:, 0, 1], along[:, 0, 0]], 1) / determinant[:, None]
            place = np.stack([s, t], axis=1)
            start = -(place * centre[:, None, :2]).sum(2, keepdims=True)
            place = np.concatenate([place, start], axis=2)
            height = (place * along[:, :, 2:]).sum(1)
            height[:, 2] += centre[:, 2]
        casts = np.concatenate([casts, np.ones(len(rounds.centre), bool)])
        return cls(
            parts,
            direction.tolist(),
            basis.tolist(),
            height.tolist(),
            place.tolist(),
            casts,
            seen.min(1),
            seen.max(1),
            ((basis @ rotation.T).tolist(), (basis @ origin).tolist()),
            (
                (-np.einsum("mij,mj->mi", rounds.to_unit, rounds.centre)).tolist(),
                (rounds.to_unit @ basis.T).tolist(),
            ),
        )

    def hidden(self, place: list[np.ndarray], among: np.ndarray | None = None) -> np.ndarray:
        """[N] bool: whether something is between places (a, b, h: 3 x [N]) and the sun.

        Args:
          among: [Q + M] bool: parts that can be; the others are behind the plane of all places.
        """
        a, b, h = place
        low, high = [float(x.min()) for x in place], [float(x.max()) for x in place]
        may = (self.low[:, 0] < high[0]) & (self.high[:, 0] > low[0]) & self.casts
        may &= (self.low[:, 1] < high[1]) & (self.high[:, 1] > low[1])
        may &= self.high[:, 2] > low[2] + 1e-4
        if among is not None:
            may &= among
        hidden, level = np.zeros(len(a), bool), h + np.float32(1e-4)
        flat = len(self.height)
        for k in may.nonzero()[0].tolist():
            if k < flat:
                met = np.abs(_affine(self.place[k][0], a, b)) <= 1
                met &= np.abs(_affine(self.place[k][1], a, b)) <= 1
                met &= _affine(self.height[k], a, b) > level
                hidden |= met
                continue
            (left, low_b, _), (right, high_b, _) = self.low[k].tolist(), self.high[k].tolist()
            near = ((a > left) & (a < right) & (b > low_b) & (b < high_b)).nonzero()[0]
            if len(near):
                hidden[near] |= self.behind_round(k - flat, a[near], b[near], h[near])
        return hidden

    def behind_round(self, m: int, a, b, h) -> np.ndarray:
        (start, matrix), rounds = self.unit, self.parts.rounds
        origin = [s + _dot(row, (a, b, h)) for s, row in zip(start[m], matrix[m], strict=True)]
        with np.errstate(all="ignore"):
            _, far = _meet_round(origin, [row[2] for row in matrix[m]], rounds.cylinder[m])
            return far > 1e-4


def _affine(coefficients, u, v):
    a, b, c = coefficients  # floats: arrays stay float32
    return a * u + (b * v + c)


def _dot(p, q):
    return p[0] * q[0] + p[1] * q[1] + p[2] * q[2]


def _meet_round(o, d, cylinder: bool):
    """Where the line o + t d enters and leaves the unit cylinder or ball; NaN if it does not.

    The same formulas as `posejax.sim.primitives`; either of o and d may be numbers.
    """
    if not cylinder:
        square = _dot(d, d)
        cross = (
            o[1] * d[2] - o[2] * d[1],
            o[2] * d[0] - o[0] * d[2],
            o[0] * d[1] - o[1] * d[0],
        )
        root, middle = np.sqrt(square - _dot(cross, cross)), -_dot(o, d)
        return (middle - root) / square, (middle + root) / square
    square = d[0] * d[0] + d[1] * d[1]
    cross = o[0] * d[1] - o[1] * d[0]
    root, middle = np.sqrt(square - cross * cross), -(o[0] * d[0] + o[1] * d[1])
    one, two = (-1 - o[2]) / d[2], (1 - o[2]) / d[2]
    near = np.maximum((middle - root) / square, np.minimum(one, two))
    far = np.minimum((middle + root) / square, np.maximum(one, two))
    missed = ~(near <= far)
    return np.where(missed, np.nan, near), np.where(missed, np.nan, far)


def _round_normal(rounds: Rounds, m: int, point) -> list[np.ndarray]:
    offset = [p - c for p, c in zip(point, rounds.centre[m].tolist(), strict=True)]
    matrix = rounds.to_unit[m].tolist()
    x, y, z = (_dot(row, offset) for row in matrix)
    if rounds.cylinder[m]:
        cap = z * z > x * x + y * y
        x, y, z = np.where(cap, 0, x), np.where(cap, 0, y), np.where(cap, np.sign(z), 0)
    normal = [_dot(column, (x, y, z)) for column in zip(*matrix, strict=True)]
    length = np.sqrt(_dot(normal, normal))
    return [n / length for n in normal]


def _sample(looks, texture: int, s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Bilinear samples at places from -1 to 1 along columns and rows."""
    high, wide = (int(n) for n in looks.size[texture])
    x = (s + 1) * np.float32(0.5 * wide) - np.float32(0.5)
    y = (t + 1) * np.float32(0.5 * high) - np.float32(0.5)
    left, top = np.floor(x), np.floor(y)
    wx, wy = x - left, y - top
    left, top = left.astype(np.int32), top.astype(np.int32)
    c0, c1 = np.clip(left, 0, wide - 1), np.clip(left + 1, 0, wide - 1)
    r0, r1 = np.clip(top, 0, high - 1) * wide, np.clip(top + 1, 0, high - 1) * wide
    texels = looks.texels[looks.start[texture] :]
    upper = texels[r0 + c0] * (1 - wx) + texels[r0 + c1] * wx
    lower = texels[r1 + c0] * (1 - wx) + texels[r1 + c1] * wx
    return upper * (1 - wy) + lower * wy


def _grain(looks, surface: int, point, normal) -> np.ndarray:
    """Factor of blocky noise: `posejax.sim.surface.pattern` in NumPy."""
    cell, strength = looks.grain[surface]
    x = np.stack(point, axis=-1) - looks.centre[surface].astype(np.float32)
    inner = (
        x - np.float32(0.01) * np.stack(np.broadcast_arrays(*normal), axis=-1)
    ) @ looks.rotation[surface].astype(np.float32)
    index = np.floor(inner / np.float32(cell)).astype(np.int64).astype(np.uint32)
    seed = np.uint32((int(looks.material[surface]) * 2654435761) & 0xFFFFFFFF)
    mixed = index[..., 0] * np.uint32(73856093) ^ index[..., 1] * np.uint32(19349663)
    mixed = mixed ^ index[..., 2] * np.uint32(83492791) ^ seed
    for _ in range(2):
        mixed = (mixed ^ (mixed >> np.uint32(16))) * np.uint32(0x45D9F3B)
    noise = (mixed >> np.uint32(8)).astype(np.float32) / np.float32(1 << 24) - np.float32(0.5)
    return np.clip(1 + np.float32(2 * strength) * noise, 0, None)
