"""How well the boxes of a rig, projected, agree with those annotated in its images."""

from dataclasses import dataclass, replace

import numpy as np

from posejax.bev.mistakes import Evidence, Mistake, Rig

_FEW = 12  # variants of a pose that are judged by the whole boxes
_NEAR = 1e-2  # metres
_FEWEST = 4  # annotations that tell where a camera is
_STEP = 1e-3  # metres
#: What moves a pose not at all, and by a step along each axis.
_SHIFTED = np.zeros((4, 4, 4))
_SHIFTED[[1, 2, 3], [0, 1, 2], 3] = _STEP
_UNIT = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])


@dataclass(frozen=True, eq=False)
class BoxEvidence:
    """Boxes annotated in images; attributes as the arguments of `check_rig`."""

    camera: np.ndarray
    box: np.ndarray
    corners: np.ndarray
    image_size: tuple[int, int]

    def scores(self, rig: Rig) -> np.ndarray:
        """IoU [M] of projected and annotated boxes."""
        poses = rig.ego_from_camera[None, self.camera]
        return self._overlap(rig, poses, rig.intrinsics[self.camera])[0]

    def by_camera(self, rig: Rig, poses: np.ndarray) -> np.ndarray:
        rows = np.arange(len(rig.intrinsics))  # poses may have variants
        member = (self.camera[:, None] == rows).astype(np.float64)
        member /= np.maximum(member.sum(0), 1)
        if len(poses) > _FEW:  # of many, those that show the centres in place are looked at
            rough = self._centred(rig, poses[:, self.camera]) @ member
            best = np.argsort(-rough, axis=0, kind="stable")[:_FEW]
            scores = np.full(rough.shape, -1.0)
            scores[best, rows] = self.by_camera(rig, poses[best, rows])
            return scores
        return self._overlap(rig, poses[:, self.camera], rig.intrinsics[self.camera]) @ member

    def exchanged(self, rig: Rig) -> np.ndarray:
        scores = [
            self.by_camera(
                replace(rig, intrinsics=np.broadcast_to(k, rig.intrinsics.shape)),
                np.broadcast_to(pose, (1, *rig.ego_from_camera.shape)),
            )[0]
            for k, pose in zip(rig.intrinsics, rig.ego_from_camera, strict=True)
        ]
        return np.stack(scores, axis=1)

    def pixel_shift(self, rig: Rig) -> float:
        """Multiple of half a pixel by which projections lie beside the annotations, right and
        down alike; 0 if that is not sure."""
        poses = rig.ego_from_camera[None, self.camera]
        projected, whole = self._project(rig, poses, rig.intrinsics[self.camera])
        free = whole[0, :, None] & self._inside(projected[0]) & self._inside(self.corners)
        off = np.where(free, projected[0] - self.corners, np.nan)
        off = off[np.isfinite(off).all(1)]
        if len(off) < 10:
            return 0.0
        # A box that is annotated too tightly is off on both sides: their mean is not.
        moved = np.stack([off[:, [0, 2]].mean(1), off[:, [1, 3]].mean(1)], axis=1)
        shift = np.median(moved, axis=0)
        spread = 1.4826 * np.median(np.abs(moved - shift), axis=0) * 1.25 / np.sqrt(len(moved))
        alike = shift[0] * shift[1] > 0 and np.abs(shift).min() > 0.2
        if not alike or np.abs(shift).mean() < 0.3 or (np.abs(shift) < 2 * spread).any():
            return 0.0
        return float(np.clip(np.round(2 * shift.mean()) / 2, -1, 1))

    def _inside(self, corners: np.ndarray) -> np.ndarray:
        """Which borders [..., 4] are not those of the image."""
        height, width = self.image_size
        return (corners > 2) & (corners < np.array([width, height, width, height]) - 2.0)

    def _centred(self, rig: Rig, poses: np.ndarray) -> np.ndarray:
        """Whether boxes' centres project into the annotations, [n, M]."""
        offset = rig.ego_from_box[self.box, :3, 3] - poses[..., :3, 3]
        local = np.einsum("nmji,nmj->nmi", poses[..., :3, :3], offset)
        u, v, depth = np.moveaxis(
            np.einsum("mij,nmj->nmi", rig.intrinsics[self.camera], local), -1, 0
        )
        ahead = depth > _NEAR
        u, v = u / np.where(ahead, depth, 1), v / np.where(ahead, depth, 1)
        left, top, right, bottom = self.corners.T
        return (ahead & (u > left) & (u < right) & (v > top) & (v < bottom)).astype(np.float64)

    def _project(self, rig: Rig, poses: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes around the projections [n, M, 4] by ego_from_camera [n, M, 4, 4], and whether all
        of a box is ahead; NaN where nothing is."""
        cubes = _UNIT[None] * rig.size[self.box][:, None]
        boxes = rig.ego_from_box[self.box]
        ego = cubes @ np.swapaxes(boxes[:, :3, :3], 1, 2) + boxes[:, None, :3, 3]
        inverse = np.linalg.inv(poses)
        local = ego[None] @ np.swapaxes(inverse[..., :3, :3], -1, -2)
        local = (local + inverse[..., None, :3, 3]) @ np.swapaxes(k, -1, -2)[None]
        ahead = local[..., 2] > _NEAR
        xy = local[..., :2] / np.where(ahead, local[..., 2], 1)[..., None]
        low = np.where(ahead[..., None], xy, np.inf).min(-2)
        high = np.where(ahead[..., None], xy, -np.inf).max(-2)
        around = np.concatenate([low, high], axis=-1)
        around[~ahead.any(-1)] = np.nan
        return around, np.asarray(ahead.all(-1))

    def _overlap(self, rig: Rig, poses: np.ndarray, k: np.ndarray) -> np.ndarray:
        """IoU [n, M] on the image."""
        around, _ = self._project(rig, poses, k)
        height, width = self.image_size
        limit = np.array([width, height, width, height])
        a = np.clip(around, 0, limit)
        b = np.clip(self.corners, 0, limit)
        common = np.minimum(a[..., 2:], b[:, 2:]) - np.maximum(a[..., :2], b[:, :2])
        both = np.maximum(common, 0).prod(-1)
        either = (a[..., 2:] - a[..., :2]).prod(-1) + (b[:, 2:] - b[:, :2]).prod(-1) - both
        return np.nan_to_num(both / np.where(either > 0, either, 1))


class PlacedEvidence(BoxEvidence):
    """The same of a rig whose cameras are where the boxes put them, not where it has them."""

    def scores(self, rig: Rig) -> np.ndarray:
        return super().scores(self.placed(rig))

    def by_camera(self, rig: Rig, poses: np.ndarray) -> np.ndarray:
        return super().by_camera(rig, self._place(rig, poses))

    def placed(self, rig: Rig) -> Rig:
        """The rig with its cameras at those places."""
        return replace(rig, ego_from_camera=self._place(rig, rig.ego_from_camera[None])[0])

    def _place(self, rig: Rig, poses: np.ndarray) -> np.ndarray:
        """Poses [n, C, 4, 4] of those rotations, at the places that the boxes tell; at zero with
        fewer than four boxes wholly in the image.

        First where the lines of sight through the boxes' centres meet best; of a few poses, then
        where the projected borders fit best (Gauss and Newton), whose distances tell more.
        """
        k, centre = rig.intrinsics[self.camera], rig.ego_from_box[self.box, :3, 3]
        whole = self._inside(self.corners).all(-1)
        member = (np.arange(len(rig.intrinsics))[:, None] == self.camera) & whole
        known = member.sum(1) >= _FEWEST
        middle = (self.corners[:, :2] + self.corners[:, 2:]) / 2
        rays = np.concatenate([middle, np.ones_like(middle[:, :1])], axis=-1)
        rays = np.einsum("mij,mj->mi", np.linalg.pinv(k), rays)
        rays = np.einsum("nmij,mj->nmi", poses[:, self.camera, :3, :3], rays)
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        across = np.eye(3) - rays[..., :, None] * rays[..., None, :]
        across /= np.maximum((centre**2).sum(-1), 1.0)[:, None, None]  # angles count, not metres
        out = poses.copy()
        out[..., :3, 3] = known[:, None] * _least_squares(
            np.einsum("cm,nmij->ncij", member, across),
            np.einsum("cm,nmij,mj->nci", member, across, centre),
        )
        for _ in range(5 if len(poses) <= _FEW else 0):
            off, *moved = (
                self._project(rig, (out + shift)[:, self.camera], k)[0] - self.corners
                for shift in _SHIFTED
            )
            slope = (np.stack(moved, axis=-1) - off[..., None]) / _STEP  # [n, M, 4, 3]
            near = np.isfinite(slope).all((-1, -2)) & (np.abs(off) < 30).all(-1)
            near = np.expand_dims(near, -1)
            off, slope = np.where(near, off, 0), np.where(near[..., None], slope, 0)
            out[..., :3, 3] -= known[:, None] * _least_squares(
                np.einsum("cm,nmbi,nmbj->ncij", member, slope, slope),
                np.einsum("cm,nmbi,nmb->nci", member, slope, off),
            )
        return out


def _least_squares(sides: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """x [..., 3] of normal equations; small where they tell nothing."""
    scale = np.trace(sides, axis1=-2, axis2=-1)[..., None, None] + 1e-12
    return np.linalg.solve(sides + 1e-9 * scale * np.eye(3), sums[..., None])[..., 0]


@dataclass(frozen=True, eq=False)
class Through:
    """Evidence of a rig that is looked at with another mistake undone as well."""

    mistake: Mistake
    evidence: Evidence

    def by_camera(self, rig: Rig, poses: np.ndarray) -> np.ndarray:
        one = self.mistake.mend(replace(rig, ego_from_camera=poses), self.evidence)
        return self.evidence.by_camera(one, one.ego_from_camera)

    def exchanged(self, rig: Rig) -> np.ndarray:
        return self.evidence.exchanged(self.mistake.mend(rig, self.evidence))
