"""What every data set of image pairs shares: the way from a record to an example."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from posejax.config import ConfigError, check_range
from posejax.data.dataset import Dataset, Source
from posejax.data.rigid import rotation_angle
from posejax.systems.tinyroma.augment import Augment, Pair, View, augmented
from posejax.systems.tinyroma.warp_targets import (
    Targets,
    cell_centers,
    depth_targets,
    homography_targets,
)

STRIDES = (8, 4)
_BACK = {"target": "xy", "visible": "visible", "known": "known"}
_LEAST_KNOWN = 0.02  # share of known cells from which on the overlap is counted


@dataclass(frozen=True, kw_only=True)
class Pairs(Dataset):
    """Pairs of images, wherever they come from.

    A record of a source is a dict:
      index: position in the source;
      image_a, image_b: [H, W, 3] uint8, of any sizes;
      K_a, K_b: [3, 3] for those images, the first pixel's centre at (0.5, 0.5);
      b_from_a: [4, 4], NaN where unknown;
      depth_a, depth_b: float32 along the optical axis, of the images' sizes, 0 where unknown;
        optional: without them a pair can be evaluated, not trained on;
      homography: [3, 3] pixels of B from pixels of A, instead of depths;
      overlap: share of A's pixels that B sees; NaN where unknown.

    Attributes:
      size: (H, W) of all examples, multiples of 32.
      augment: random changes of training pairs.
      both_ways: examples also tell where B's cells lie in A, which teaches a symmetric network its
        way back.
    """

    size: tuple[int, int] = (256, 320)
    augment: Augment = field(default_factory=Augment)
    both_ways: bool = False

    simulated: ClassVar[bool] = False

    @property
    @abstractmethod
    def kind(self) -> str:
        """What the pairs are, in a few words; says so when they are simulated."""

    def check(self) -> None:
        """Raise ConfigError for a setting out of range."""
        for side in self.size:
            check_range("system.data.size", side, 32)
            if side % 32:
                raise ConfigError(f"system.data.size: {self.size}; expected multiples of 32")
        self.augment.check()

    @property
    def title(self) -> str:
        return f"{self.kind}; {self.size[1]} x {self.size[0]} pixels"

    def transform(
        self, record: dict[str, Any], rng: np.random.Generator, train: bool
    ) -> dict[str, np.ndarray]:
        """One example: the images at `size`, where A's cells lie in B, the true pose.

        Returns:
          image_a, image_b [H, W, 3] uint8; for the strides s = 8 and 4 target_s [H/s, W/s, 2]
          pixels of B, visible_s and known_s [H/s, W/s]; with both_ways the same from B to A as
          back_target_s and so on; K_a, K_b [3, 3]; b_from_a [4, 4] (identity where unknown) and
          has_pose; overlap and rotation_deg (NaN where unknown); index. All float32, but for the
          images and `index` (int32).
        """
        pair = pair_of(record)
        if train:
            pair = augmented(pair, self.size, rng, self.augment)
        else:
            pair = replace(pair, a=pair.a.resized(self.size), b=pair.b.resized(self.size))
        example = {
            "image_a": np.ascontiguousarray(pair.a.image),
            "image_b": np.ascontiguousarray(pair.b.image),
            "K_a": pair.a.intrinsics.astype(np.float32),
            "K_b": pair.b.intrinsics.astype(np.float32),
            "index": np.array(record["index"], np.int32),
        }
        overlap = pair.overlap
        for stride in STRIDES:
            xy, visible, known = pair_targets(pair, stride)
            example[f"target_{stride}"] = xy
            example[f"visible_{stride}"], example[f"known_{stride}"] = visible, known
            if known.mean() > _LEAST_KNOWN:
                overlap = visible.sum() / known.sum()
            if self.both_ways:
                back = pair_targets(pair.swapped(), stride)
                example |= {f"back_{k}_{stride}": getattr(back, v) for k, v in _BACK.items()}
        has_pose = bool(np.isfinite(pair.b_from_a).all())
        pose = pair.b_from_a if has_pose else np.eye(4)
        angle = np.rad2deg(rotation_angle(np.eye(3), pose[:3, :3])) if has_pose else np.nan
        example["b_from_a"] = pose.astype(np.float32)
        example["has_pose"] = np.array(has_pose, np.float32)
        example["overlap"] = np.array(overlap, np.float32)
        example["rotation_deg"] = np.array(angle, np.float32)
        return example


def pair_of(record: dict[str, Any]) -> Pair:
    """The views of a record."""
    a, b = (View.of(record[f"image_{c}"], record[f"K_{c}"], record.get(f"depth_{c}")) for c in "ab")
    pose = np.asarray(record["b_from_a"], np.float64)
    return Pair(a, b, pose, record.get("homography"), float(record.get("overlap", np.nan)))


def pair_targets(pair: Pair, stride: int) -> Targets:
    """`Targets` of the cells of a stride; nothing is known without depths or a homography."""
    a, b = pair.a, pair.b
    centers = cell_centers(a.size, stride)
    maps = a.source_from_image, b.source_from_image
    if pair.homography is not None:
        sizes = a.source_size, b.source_size
        return homography_targets(centers, b.size, pair.image_homography(), sizes, maps)
    if a.depth is None or b.depth is None or not np.isfinite(pair.b_from_a).all():
        nothing = np.zeros(centers.shape[:2], np.float32)
        return Targets(np.zeros((*nothing.shape, 2), np.float32), nothing, nothing)
    cameras = a.intrinsics, b.intrinsics
    return depth_targets(centers, b.size, cameras, pair.b_from_a, (a.depth, b.depth), maps)


@dataclass(frozen=True, kw_only=True)
class MixedPairs(Pairs):
    """Several data sets as one.

    Attributes:
      parts: the data sets; their examples take `size` and `augment` of the mixture.
      weights: how often a training pair comes from each; equal if empty.
      length: number of training pairs; 0: as many as the parts have together. What is drawn is a
        function of the index alone, and every part is gone through in whole rounds.
    """

    parts: tuple[Pairs, ...] = ()
    weights: tuple[float, ...] = ()
    length: int = 0

    def __post_init__(self):
        if not self.parts:
            raise ValueError("a mixture needs at least one data set in `parts`")
        if self.weights and (len(self.weights) != len(self.parts) or min(self.weights) <= 0):
            raise ValueError(f"weights must be {len(self.parts)} above 0, got {self.weights}")

    @property
    def kind(self) -> str:
        return " + ".join(part.kind for part in self.parts)

    @property
    def simulated(self) -> bool:  # type: ignore[override]
        return all(part.simulated for part in self.parts)

    def source(self, split: str) -> "MixedSource":
        parts = [replace(part, size=self.size) for part in self.parts if split in part.splits]
        sources = [part.source(split) for part in parts]
        return MixedSource(sources, *(self._training() if split == "train" else ((), 0)))

    def _training(self):
        shares = zip(self.weights or (1.0,) * len(self.parts), self.parts, strict=True)
        return tuple(w for w, part in shares if "train" in part.splits), self.length


class MixedSource(Source):
    """Records of several sources: one after the other, or mixed by weights."""

    def __init__(self, sources: Sequence[Source], weights: Sequence[float], length: int):
        self.sources = tuple(sources)
        self.skipped = [item for source in sources for item in source.skipped]
        counts = np.array([len(source) for source in sources])
        total = length or int(counts.sum())
        if not len(weights):
            self.part = np.repeat(np.arange(len(counts)), counts)
        else:
            # Fractions of multiples of the golden ratio: any stretch has its shares.
            place = np.arange(total) * ((np.sqrt(5) - 1) / 2) % 1
            bounds = np.cumsum(weights) / np.sum(weights)
            self.part = np.minimum(np.searchsorted(bounds, place, "right"), len(counts) - 1)
        self.inner = np.zeros(len(self.part), np.int64)
        for k, count in enumerate(counts):
            here = np.flatnonzero(self.part == k)
            self.inner[here] = np.arange(len(here)) % count

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.sources[self.part[index]][int(self.inner[index])]
        return {**record, "index": index}

    def describe(self, index: int) -> str:
        return self.sources[self.part[index]].describe(int(self.inner[index]))
