"""Pictures of a spacecraft in black space, painted part by part: what the ray caster shows, faster.

Every face and every round solid that looks at the camera is met exactly (the ray of a pixel, the
plane or quadric of the part) for the pixels of its bounding box alone, and the nearest part keeps
the pixel: a z-buffer. Along a straight line of a picture the inverse depth of a plane is linear, so
a face costs some fifteen additions and products for a pixel. Shadows are met in the same way, along
the sun: a point lies in the shadow of those parts that look at the sun above it. `render_views`
casts the same picture; where it casts four rays for a pixel, four samples are painted here.
"""

import functools
import itertools
from typing import NamedTuple

import numpy as np

from posejax.sim.space_parts import Parts, convex_parts
from posejax.sim.space_shading import (
    SunView,
    affine,
    dot,
    grain_factor,
    meet_round,
    round_normal,
    sample_grey,
)
from posejax.sim.space_views import SpaceCamera, View, border_pixels, scene_blur
from posejax.sim.spacecraft import spacecraft_scene

_CAMERA = SpaceCamera()
_OFF = 0.01  # metres from a surface to where its shadow is looked for, as in `illumination`
_FOUR = np.arange(4)
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
        views.append(frame.view(ambient, smooth_edges))
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
    sun: "SunView"

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
            SunView.make(parts, rotation.T @ sun, rotation, -rotation.T @ shift),
        )

    def view(self, ambient: float, smooth_edges: bool) -> View:
        view = self.picture(ambient)
        if smooth_edges and view.surface.size:
            pixel = border_pixels(view, ambient)
            if len(pixel):
                view.luminance[pixel[:, 0], pixel[:, 1]] = self.smoothed(pixel, ambient)
        return view

    def picture(self, ambient: float) -> View:
        """One sample in the middle of every pixel of the smallest patch with a dark margin."""
        low, high = self.patch()
        u, v = self.rays(np.arange(low[1], high[1]) + 0.5, np.arange(low[0], high[0]) + 0.5)
        u, v = u[None], v[:, None]
        near = np.zeros((int(high[0] - low[0]), int(high[1] - low[1])), np.float32)
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
        row, column = hit = np.nonzero(owner >= 0)
        luminance = np.zeros(near.shape, np.float32)
        luminance[hit] = self.shade(u[0, column], v[row, 0], near[hit], owner[hit], ambient)
        # The last one is that of owner -1.
        surface = np.append(self.surfaces(), -1).astype(np.int32).take(owner, mode="wrap")
        return View(luminance, surface, (int(low[0]), int(low[1])))

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
            here = near.take(where, axis=0)
            if here.min() > self.nearest[k]:
                continue
            inverse, met = self.meet(k, u.take(where, axis=0), v.take(where, axis=0))
            met &= inverse > here
            sample = (4 * where[:, None] + _FOUR)[met]
            near.reshape(-1)[sample] = inverse[met]
            owner.reshape(-1)[sample] = k
        luminance = np.zeros(u.size, np.float32)
        hit = np.flatnonzero(owner.reshape(-1) >= 0)
        known = (a.reshape(-1)[hit] for a in (u, v, near, owner))
        luminance[hit] = self.shade(*known, ambient=ambient)
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

    # Along a face, and beside a round solid, nothing is met.
    @np.errstate(divide="ignore", over="ignore", invalid="ignore")
    def meet(self, k: int, u, v) -> tuple[np.ndarray, np.ndarray]:
        """Inverse depth of part k along rays, and whether it is met there."""
        faces = len(self.inverse)
        if k >= faces:
            inverse = 1 / self.depth_of_round(k - faces, u, v)
            return inverse, inverse > 0
        inverse = affine(self.inverse[k], u, v)
        depth = 1 / inverse
        (across, along), (first, second) = self.place[k], self.offset[k]
        met = _within(affine(across, u, v), depth, first)
        met &= _within(affine(along, u, v), depth, second)
        return inverse, met

    def depth_of_round(self, m: int, u, v) -> np.ndarray:
        """Depth of the near side of a round solid; NaN where it is missed."""
        direction = [affine(row, u, v) for row in self.unit[m]]
        near, _ = meet_round(self.start[m], direction, self.parts.rounds.cylinder[m])
        return near

    def shade(self, u, v, near, owner, ambient: float) -> np.ndarray:
        """Luminance [N] of samples whose part is known."""
        order = np.argsort(owner, kind="stable")
        u, v, depth, owner = u[order], v[order], 1 / near[order], owner[order]
        across = [depth * affine(ray, u, v) for ray in self.sun.rays[0]]
        shaded = np.empty(len(u), np.float32)
        bounds = np.searchsorted(owner, np.arange(len(self.bounds) + 1)).tolist()
        for k, (first, last) in enumerate(itertools.pairwise(bounds)):
            if first < last:
                mine = slice(first, last)
                place = [x[mine] for x in across]
                shaded[mine] = self.shade_part(k, u[mine], v[mine], depth[mine], place, ambient)
        luminance = np.empty(len(u), np.float32)
        luminance[order] = shaded
        return luminance

    def shade_part(self, k: int, u, v, depth, across, ambient: float) -> np.ndarray | np.floating:
        """Luminance [N] of samples of part k at these depths, or one for all.

        Args:
          across: their places along the sun, as seen from the camera's: see `SunView.rays`.
        """
        faces, rounds, looks = self.parts[:3]
        flat = k < len(faces.centre)
        surface = int(faces.surface[k] if flat else rounds.surface[k - len(faces.centre)])
        grainy = looks.grain[surface, 0] > 0
        point = self.body(u, v, depth) if grainy or not flat else []
        if flat:
            normal = (faces.normal[k] * self.sign[k]).tolist()
        else:
            normal = round_normal(rounds, k - len(faces.centre), point)
        reflectance = np.float32(looks.reflectance[surface])
        if flat and faces.texture[k] >= 0:
            s, t = (depth * affine(self.place[k][i], u, v) - self.offset[k][i] for i in (0, 1))
            reflectance = sample_grey(looks, int(faces.texture[k]), s, t)
        elif grainy:
            reflectance = reflectance * grain_factor(looks, surface, point, normal)
        light = dot(normal, self.sun.direction)
        if not flat:
            light = np.maximum(light, 0.0)
            lit = light.nonzero()[0]
            if len(lit):
                point, normal = ([x.take(lit) for x in xs] for xs in (point, normal))
                place = [dot(axis, point) + _OFF * dot(axis, normal) for axis in self.sun.basis]
                light[lit[self.sun.hidden(place)]] = 0
        elif light > 0:
            place = [
                x + (start + _OFF * dot(axis, normal))
                for x, axis, start in zip(across, self.sun.basis, self.sun.rays[1], strict=True)
            ]
            above = self.parts.above[k] if self.sign[k] > 0 else self.parts.below[k]
            light = np.float32(light) * ~self.sun.hidden(place, above)
        else:
            light = np.float32(0)
        return reflectance * (np.float32(ambient) + light)

    def body(self, u, v, depth) -> list[np.ndarray]:
        """3 x [N] metres: where rays (u, v, 1) end at these depths, body frame."""
        return [
            start + depth * affine(ray, u, v)
            for start, ray in zip(self.origin, self.rotation.T.tolist(), strict=True)
        ]


def _within(x, depth, offset: float) -> np.ndarray:
    """|x depth - offset| <= 1; x is overwritten."""
    x *= depth
    x -= offset
    return np.abs(x, out=x) <= 1
