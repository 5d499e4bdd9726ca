"""How painted parts look: shadows along the sun, textures, grain. NumPy.

The counterpart of `posejax.sim.surface` and `posejax.sim.light` for `posejax.sim.space_raster`: the
same numbers, for the samples of one part at a time.
"""

from typing import NamedTuple

import numpy as np

from posejax.sim.space_parts import Looks, Parts, Rounds

_BLOCK = 1 << 16  # pairs of a place and a part that are looked at together


def affine(coefficients, u, v):
    """a u + b v + c; coefficients are Python floats, so that arrays stay float32."""
    a, b, c = coefficients
    return a * u + (b * v + c)


def dot(p, q):
    """Of three numbers or arrays each."""
    return p[0] * q[0] + p[1] * q[1] + p[2] * q[2]


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def meet_round(o, d, cylinder: bool):
    """Where the line o + t d enters and leaves the unit cylinder or ball; NaN if it does not.

    The same formulas as `posejax.sim.primitives`; either of o and d may be numbers.
    """
    if not cylinder:
        square = dot(d, d)
        cross = (
            o[1] * d[2] - o[2] * d[1],
            o[2] * d[0] - o[0] * d[2],
            o[0] * d[1] - o[1] * d[0],
        )
        root, middle = np.sqrt(square - dot(cross, cross)), -dot(o, d)
        return (middle - root) / square, (middle + root) / square
    square = d[0] * d[0] + d[1] * d[1]
    cross = o[0] * d[1] - o[1] * d[0]
    root, middle = np.sqrt(square - cross * cross), -(o[0] * d[0] + o[1] * d[1])
    one, two = (-1 - o[2]) / d[2], (1 - o[2]) / d[2]
    near = np.maximum((middle - root) / square, np.minimum(one, two))
    far = np.minimum((middle + root) / square, np.maximum(one, two))
    missed = ~(near <= far)
    return np.where(missed, np.nan, near), np.where(missed, np.nan, far)


def round_normal(rounds: Rounds, m: int, point) -> list[np.ndarray]:
    """Outer unit normals (3 x [N]) of a round solid at points of its surface, body frame."""
    offset = [p - c for p, c in zip(point, rounds.centre[m].tolist(), strict=True)]
    matrix = rounds.to_unit[m].tolist()
    x, y, z = (dot(row, offset) for row in matrix)
    if rounds.cylinder[m]:
        cap = z * z > x * x + y * y
        x, y, z = np.where(cap, 0, x), np.where(cap, 0, y), np.where(cap, np.sign(z), 0)
    normal = [dot(column, (x, y, z)) for column in zip(*matrix, strict=True)]
    length = np.sqrt(dot(normal, normal))
    return [n / length for n in normal]


def sample_grey(looks: Looks, texture: int, s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Bilinear samples at places from -1 to 1 along columns and rows."""
    high, wide = (int(n) for n in looks.size[texture])
    x = (s + 1) * np.float32(0.5 * wide) - np.float32(0.5)
    y = (t + 1) * np.float32(0.5 * high) - np.float32(0.5)
    left, top = np.floor(x), np.floor(y)
    wx, wy = x - left, y - top
    ox, oy = 1 - wx, 1 - wy
    left, top = left.astype(np.intp), top.astype(np.intp)  # what look-ups take as it is
    c0, c1 = (np.minimum(np.maximum(c, 0), wide - 1) for c in (left, left + 1))
    r0, r1 = (np.minimum(np.maximum(r, 0), high - 1) * wide for r in (top, top + 1))
    texels = looks.texels[looks.start[texture] :]
    upper = texels.take(r0 + c0) * ox + texels.take(r0 + c1) * wx
    lower = texels.take(r1 + c0) * ox + texels.take(r1 + c1) * wx
    return upper * oy + lower * wy


def grain_factor(looks: Looks, surface: int, point, normal) -> np.ndarray:
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


class SunView(NamedTuple):
    """Parts seen along the sun: coordinates (a, b) across it, h towards it.

    Attributes:
      direction: [3] body frame, towards the sun, as floats.
      basis: [3, 3] rows a, b, h.
      over: [3, 3, Q] float32: coefficients of a, b and one by which a place across the sun is on a
        face: along its first and its second direction, -1 to 1, and at what height.
      casts: [Q + M] bool: faces that look at the sun, and all round solids.
      low, high: [Q + M, 3] bounds in (a, b, h).
      rays: [3, 3] and [3]: (a, b, h) of the point of depth 1 on the ray (u, v, 1) less that of the
        camera, and that of the camera.
      unit: [M, 3] and [M, 3, 3]: (a, b, h) to the unit solid.
    """

    parts: Parts
    direction: list
    basis: list
    over: np.ndarray
    casts: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rays: tuple[list, list]
    unit: tuple[list, list]

    @classmethod
    def make(cls, parts: Parts, direction: np.ndarray, rotation, origin) -> "SunView":
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
            np.concatenate([place, height[:, None]], axis=1).T.astype(np.float32),
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
        faces = may[: self.over.shape[2]]
        hidden = self.behind_faces(faces.nonzero()[0], a, b, h + np.float32(1e-4))
        for m in may[len(faces) :].nonzero()[0].tolist():
            k = len(faces) + m
            (left, low_b, _), (right, high_b, _) = self.low[k].tolist(), self.high[k].tolist()
            near = ((a > left) & (a < right) & (b > low_b) & (b < high_b)).nonzero()[0]
            if len(near):
                hidden[near] |= self.behind_round(m, a[near], b[near], h[near])
        return hidden

    def behind_faces(self, which: np.ndarray, a, b, level) -> np.ndarray:
        """[N] bool: between which places and the sun one of K faces is; pairs block by block."""
        hidden, count = np.zeros(len(a), bool), len(which)
        if not count:
            return hidden
        by_a, by_b, by_one = self.over[:, :, which].reshape(3, 3 * count, 1)
        step = -(-_BLOCK // count)
        for start in range(0, len(a), step):
            here = slice(start, start + step)
            seen = b[here] * by_b  # as `affine`, in place
            seen += by_one
            seen += a[here] * by_a
            inside = np.abs(seen[: 2 * count]) <= 1
            met = inside[:count] & inside[count:]
            met &= seen[2 * count :] > level[here]
            np.logical_or.reduce(met, axis=0, out=hidden[here])
        return hidden

    def behind_round(self, m: int, a, b, h) -> np.ndarray:
        (start, matrix), rounds = self.unit, self.parts.rounds
        origin = [s + dot(row, (a, b, h)) for s, row in zip(start[m], matrix[m], strict=True)]
        _, far = meet_round(origin, [row[2] for row in matrix[m]], rounds.cylinder[m])
        return far > 1e-4
