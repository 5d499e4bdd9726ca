"""Radish 2-D laser logs: a scan against the map made of earlier scans, truth from relations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from posejax.config import ConfigError
from posejax.data import carmen, se2
from posejax.data.dataset import Source
from posejax.data.drawing import polygon_coverage
from posejax.data.errors import DataError
from posejax.data.files import root_folder
from posejax.data.rasters import MapRaster, blur
from posejax.systems.georeg.data import Draw, RegistrationData
from posejax.systems.georeg.sources.base import MapCache

_HALF_BEAM = np.deg2rad(0.5)


@dataclass(frozen=True)
class RadishLog(RegistrationData):
    """A 2-D laser log with verified relations.

    A relation says where scan t2 is in the frame of scan t1. Scan t2 is the online raster, the
    map is made in the frame of t1 from t1 and, going back in time, from the scans taken within
    `history` metres of it by odometry; t2 is later and never part of it.

    Channels of both rasters, style "planes": hits, free space. Style "evidence" is made for the
    raw dot product and needs no learning: online (hits, -miss * free) against
    (map hits - clash * map free, map hits), so that each wall seen in the other's free space
    counts against a pose.

    The split is by place. Scans are clustered by position along the odometry; whole clusters go
    to validation and test, and a training relation with a scan within `gap` of one of theirs
    (more than the odometry drifts over the whole log) is left out and listed in `skipped`.

    Attributes:
      root: folder with one .npz or .clf log and one .relations table.
      history: see above (m); 0 registers scan to scan.
      style: see above.
      sigma: blur of the map's hits (cells).
      max_range: readings beyond are ignored (m).
      miss: weight of style "evidence" for free space where the map has hits.
      clash: weight of style "evidence" for hits where the map has free space.
      places: number of clusters.
      val_share: least share of the relations in the val split.
      test_share: least share of the relations in the test split.
      gap: see above (m).
      beam_dropout: greatest share of beams dropped, drawn per example; training only.
    """

    root: str = ""
    history: float = 3.0
    style: Literal["planes", "evidence"] = "planes"
    sigma: float = 1.0
    max_range: float = 15.0
    miss: float = 0.05
    clash: float = 0.3
    places: int = 12
    val_share: float = 0.15
    test_share: float = 0.0
    gap: float = 5.0
    beam_dropout: float = 0.2

    @property
    def kind(self) -> str:
        return "Radish laser scans against " + ("earlier scans" if self.history else "one scan")

    @property
    def channel_names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if self.style == "planes":
            return ("hits", "free"), ("hits", "free")
        return ("hits", "-free"), ("hits - clash", "hits")

    def source(self, split: str) -> "RadishSource":
        """`split` may also be "all". Raises DataError: see `read_npz` and `read_relations`."""
        return RadishSource(self, split)

    def online(self, record: dict[str, Any], draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        """Scan raster in the turned frame."""
        shape, cell_size = self.online_shape, self.cell_size
        ranges, angles = record["ranges"], record["angles"]
        if draw.rng is not None:
            keep = draw.rng.random(len(ranges)) >= self.beam_dropout * draw.rng.random()
            ranges, angles = ranges[keep], angles[keep]
        frame = MapRaster(
            np.zeros((*shape, 0)),
            None,
            -shape[1] / 2 * cell_size,
            -shape[0] / 2 * cell_size,
            cell_size,
        )
        pose = np.array([0.0, 0.0, draw.turn])
        hits, free = scan_raster([(pose, ranges, angles)], frame, self.max_range)
        seen = np.maximum(free, np.minimum(blur(hits, 1.0) * 6, 1))
        free = free * (1 - np.minimum(blur(hits, 1.0) * 6, 1))
        first, second = (hits, free) if self.style == "planes" else (hits, -self.miss * free)
        return np.stack([first, second], axis=-1), seen


class RadishSource(Source):
    """Relations of one split, as records."""

    def __init__(self, config: RadishLog, split: str):
        root = root_folder(config.root, "a folder with a log (.npz or .clf) and its .relations")
        self.config, self.cell_size = config, config.cell_size
        self.log = _read_log(root)
        table = _only(root, "*.relations")
        relations = carmen.read_relations(table)
        ends = []
        for t1, t2 in zip(relations.t1, relations.t2, strict=True):
            pair = self.log.index_at(t1), self.log.index_at(t2)
            if None in pair:
                lost = t1 if pair[0] is None else t2
                raise DataError(table, "time", f"{lost:.6f} is no scan's time", "times of the log")
            ends.append(pair)
        ends = np.array(ends)
        chosen, self.skipped = split_by_place(self.log, ends, config, split)
        self.index = chosen
        self.ends, self.poses = ends[chosen], relations.pose[chosen]
        self._maps = MapCache(64 << 20)

    def __len__(self) -> int:
        return len(self.ends)

    def describe(self, index: int) -> str:
        first, second = self.ends[index]
        return f"{self.log.time[first]:.6f}->{self.log.time[second]:.6f}"

    def __getitem__(self, index: int) -> dict[str, Any]:
        first, second = (int(i) for i in self.ends[index])
        ranges, angles = _beams(self.log, second)
        return {
            "index": index,
            "ranges": ranges,
            "angles": angles,
            "map": self._maps.get(first, lambda: self._map(first)),
            "map_from_sensor": self.poses[index],
        }

    def _map(self, scan: int) -> MapRaster:
        config = self.config
        half = int(np.ceil((config.max_range + 5) / self.cell_size))
        corner = -half * self.cell_size
        frame = MapRaster(np.zeros((2 * half, 2 * half, 0)), None, corner, corner, self.cell_size)
        world_from_scan = self.log.laser_pose[scan]
        scans = [
            (
                se2.compose(se2.inverse(world_from_scan), self.log.laser_pose[k]),
                *_beams(self.log, k),
            )
            for k in history(self.log.laser_pose, scan, config.history)
        ]
        hits, free = scan_raster(scans, frame, config.max_range)
        # A wall along a row has the blurred height of one line of ones: about 1 after this scale.
        hits = blur(hits, config.sigma) * (2 * np.pi * config.sigma**2 if config.sigma > 0 else 1)
        hits = np.minimum(hits, 3)
        mask = np.maximum(free, np.minimum(hits, 1))
        free = free * np.clip(1 - hits, 0, 1)
        if config.style == "planes":
            values = np.stack([np.minimum(hits, 1), free], axis=-1)
        else:
            values = np.stack([hits - config.clash * free, np.minimum(hits, 1)], axis=-1)
            mask = np.ones_like(mask)
        return frame._replace(values=values, mask=mask)


def scan_raster(
    scans: list[tuple[np.ndarray, np.ndarray, np.ndarray]], frame: MapRaster, max_range: float
) -> tuple[np.ndarray, np.ndarray]:
    """Hits {0, 1} and free space [0, 1], both [H, W] float32, of scans on the cells of `frame`.

    Every beam clears a sector of one degree up to 0.1 m before its hit; a beam without return
    clears nothing, as it may have missed something dark.

    Args:
      scans: (frame_from_scan [3], ranges [B] (m, inf: no return), angles [B]) of each.
    """
    height, width = frame.values.shape[:2]
    hits = np.zeros(height * width, np.float32)
    sectors = []
    for pose, ranges, angles in scans:
        hit = ranges < max_range
        xy = np.stack([ranges[hit] * np.cos(angles[hit]), ranges[hit] * np.sin(angles[hit])], 1)
        u, v = ((se2.apply(pose, xy) - (frame.x_min, frame.y_min)) / frame.cell_size).T
        inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
        hits[v[inside].astype(np.intp) * width + u[inside].astype(np.intp)] = 1
        clear = np.where(np.isfinite(ranges), np.clip(ranges - 0.1, 0, max_range), 0)
        fan = (angles[:, None] + np.array([-_HALF_BEAM, _HALF_BEAM])).ravel()
        clear = np.repeat(clear, 2)
        polygon = np.stack([clear * np.cos(fan), clear * np.sin(fan)], axis=1)
        sectors.append(se2.apply(pose, np.concatenate([[[0.0, 0.0]], polygon])))
    free = polygon_coverage(
        sectors,
        shape=(height, width),
        x_min=frame.x_min,
        y_min=frame.y_min,
        cell_size=frame.cell_size,
        supersample=2,
    )
    return hits.reshape(height, width), free


def history(
    poses: np.ndarray, scan: int, distance: float, step: float = 0.1, limit: int = 30
) -> list[int]:
    """`scan` and earlier scans, newest first, until the robot was `distance` away; one per `step`
    metres or 0.1 rad, at most `limit`."""
    chosen = [scan]
    for k in range(scan - 1, -1, -1):
        if np.hypot(*(poses[k, :2] - poses[scan, :2])) > distance or len(chosen) == limit:
            break
        moved = poses[k] - poses[chosen[-1]]
        if np.hypot(*moved[:2]) > step or abs(se2.wrap_angle(moved[2])) > 0.1:
            chosen.append(k)
    return chosen if distance > 0 else [scan]


def split_by_place(
    log: carmen.LaserLog, ends: np.ndarray, config: RadishLog, split: str
) -> tuple[np.ndarray, tuple[tuple[str, str], ...]]:
    """Rows of `ends` [M, 2] (scan indices) that belong to a split, and (id, reason) of rows of
    the training places that were left out because they are too near to another split's."""
    if split == "all":
        return np.arange(len(ends)), ()
    if split not in ("train", "val", "test"):
        raise DataError(config.root, "split", repr(split), "train, val, test or all")
    if min(config.val_share, config.test_share) < 0 or config.val_share + config.test_share > 0.8:
        raise ConfigError(
            f"system.data.val_share, test_share: {config.val_share:g}, "
            f"{config.test_share:g}; expected >= 0, and at most 0.8 together"
        )
    position = log.laser_pose[:, :2]
    place = _clusters(position[ends[:, 0]], config.places)
    # A fixed shuffle: it depends on nothing but the number of places.
    order = sorted(range(config.places), key=lambda p: ((p * 5 + 1) % config.places, p))
    names, taken = np.full(len(ends), "train", dtype="<U5"), iter(order)
    for name, share in (("val", config.val_share), ("test", config.test_share)):
        while np.mean(names == name) < share:
            names[place == next(taken)] = name
    chosen = np.flatnonzero(names == split)
    if split != "train":
        return chosen, ()
    held = position[np.unique(ends[names != "train"])]
    near = np.array(
        [np.hypot(*(held[:, None] - position[ends[i]]).transpose(2, 0, 1)).min() for i in chosen]
    )
    skipped = tuple(
        (f"{log.time[a]:.6f}->{log.time[b]:.6f}", f"within {config.gap:g} m of another split")
        for a, b in ends[chosen[near < config.gap]]
    )
    return chosen[near >= config.gap], skipped


def _clusters(xy: np.ndarray, count: int) -> np.ndarray:
    """Cluster [N] of points: farthest-point centres, then ten rounds of k-means."""
    centers = [xy[0]]
    for _ in range(count - 1):
        distance = np.min([np.hypot(*(xy - c).T) for c in centers], axis=0)
        centers.append(xy[distance.argmax()])
    centers = np.array(centers)
    label = np.zeros(len(xy), np.intp)
    for _ in range(10):
        label = np.hypot(*(xy[:, None] - centers).transpose(2, 0, 1)).argmin(1)
        centers = np.array(
            [xy[label == k].mean(0) if (label == k).any() else c for k, c in enumerate(centers)]
        )
    return label


def _beams(log: carmen.LaserLog, scan: int) -> tuple[np.ndarray, np.ndarray]:
    ranges = log.ranges[scan].astype(np.float64)
    return np.where(ranges < log.no_return, ranges, np.inf), log.angles


def _read_log(root: Path) -> carmen.LaserLog:
    if list(root.glob("*.npz")):
        return carmen.read_npz(_only(root, "*.npz"))
    return carmen.read_clf(_only(root, "*.clf", "a log, .npz or .clf"))


def _only(root: Path, pattern: str, what: str = "") -> Path:
    files = sorted(root.glob(pattern))
    if len(files) != 1:
        found = "not found" if not files else f"{len(files)} files"
        hint = "is it the right folder? --data.root"
        raise DataError(root, what or pattern, found, "exactly one", hint)
    return files[0]
