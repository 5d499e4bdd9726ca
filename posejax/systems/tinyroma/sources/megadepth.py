"""MegaDepth in LoFTR's split layout: an index file for every scene, HDF5 depth.

    ROOT/index/scene_info_0.1_0.7/0000_0.1_0.3.npz ...      to train on
    ROOT/index/scene_info_val_1500/0015_0.1_0.3.npz ...     to evaluate on
    ROOT/<image_paths of the index>, ROOT/<depth_paths>     images, and .h5 with a data set `depth`

The index files as they are distributed hold pickled Python objects. A pickle can run any program
when it is opened, so they are not opened here; convert them once, where you trust them:

    import numpy as np, sys
    for path in sys.argv[1:]:
        old = np.load(path, allow_pickle=True)
        has = np.array([p is not None for p in old["image_paths"]])
        def rows(values, shape):
            return np.array([v if v is not None else np.full(shape, np.nan) for v in values], float)
        np.savez_compressed(
            path,
            image_paths=np.array([p or "" for p in old["image_paths"]]),
            depth_paths=np.array([p or "" for p in old["depth_paths"]]),
            intrinsics=rows(old["intrinsics"], (3, 3)),
            poses=rows(old["poses"], (4, 4)),
            pairs=np.array([p[0] for p in old["pair_infos"]], int).reshape(-1, 2),
            overlaps=np.array([p[1] for p in old["pair_infos"]], float),
        )
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posejax.data.arrays import read_npz
from posejax.data.cameras import PixelConvention
from posejax.data.dataset import Source
from posejax.data.errors import DataError
from posejax.data.files import path_inside, root_folder
from posejax.data.hdf5 import H5File
from posejax.data.images import read_image
from posejax.data.raster_folder import OnError
from posejax.data.rgbd_frames import checked_intrinsics, checked_pose, known_depth
from posejax.data.rigid import se3_inverse
from posejax.systems.tinyroma.pairs import MixedSource, Pairs

#: Scenes of the benchmarks (MegaDepth-1500, IMC 2021) and those with faulty depth (LoFTR).
EXCLUDED = (
    "0015", "0022",
    "0008", "0019", "0021", "0024", "0025", "0032", "0063", "1589",
    "0121", "0133", "0168", "0178", "0229", "0349", "0412", "0430", "0443", "1001", "5014",
    "5015", "5016",
)  # fmt: skip
ARRAYS = ("image_paths", "depth_paths", "intrinsics", "poses", "pairs", "overlaps")


@dataclass(frozen=True, kw_only=True)
class MegaDepth(Pairs):
    """MegaDepth (Li and Snavely, CVPR 2018).

    Attributes:
      root: folder of the data set; images and depth maps are named relative to it.
      index: folders of the index files that train, validate and test, relative to `root`.
      overlap: bounds of the overlap that the index states.
      excluded: scenes (first four letters of an index file) that are not trained on.
      power: scenes of n pairs are drawn in proportion to n^(1 - power).
      most: pairs of an index file.
      length: training pairs; 0: as many as there are.
      pixels: convention of the intrinsics; COLMAP's, as distributed.
      on_error: "stop" at an index file that cannot be used, or "skip" and list it.
    """

    root: str = ""
    index: tuple[str, str, str] = (
        "index/scene_info_0.1_0.7", "index/scene_info_val_1500", "index/scene_info_val_1500",
    )  # fmt: skip
    overlap: tuple[float, float] = (0.01, 1.0)
    excluded: tuple[str, ...] = EXCLUDED
    power: float = 0.75
    most: int = 100_000
    length: int = 0
    pixels: PixelConvention = "posejax"
    on_error: OnError = "stop"

    @property
    def kind(self) -> str:
        return f"MegaDepth of {Path(self.root).resolve().name}"

    def source(self, split: str) -> MixedSource:
        """Raises DataError: no such folder, an unusable index file, no pair."""
        root = root_folder(self.root, "the folder of MegaDepth")
        folder = root / self.index[self.splits.index(split)]
        files = sorted(folder.glob("*.npz"))
        if split == "train":
            files = [f for f in files if f.name[:4] not in self.excluded]
        scenes, skipped = [], []
        for file in files:
            try:
                scene = MegaDepthScene(root, file, self)
                scenes += [scene] if len(scene) else []
            except DataError as error:
                if self.on_error == "stop":
                    raise
                skipped.append((file.name, str(error)))
        if not scenes:
            hint = f"the first skipped: {skipped[0][1]}" if skipped else ""
            raise DataError(folder, "*.npz", "no pair", "index files with pairs", hint)
        weights = [len(scene) ** (1 - self.power) for scene in scenes]
        mixed = split == "train"
        source = MixedSource(scenes, weights if mixed else (), self.length if mixed else 0)
        source.skipped = skipped
        return source


class MegaDepthScene(Source):
    """The pairs of an index file."""

    def __init__(self, root: Path, path: Path, options: MegaDepth):
        self.root, self.path = root, path
        self.pixels: PixelConvention = options.pixels
        arrays = read_scene_info(path)
        self.images, self.depths = arrays["image_paths"], arrays["depth_paths"]
        self.intrinsics, self.poses = arrays["intrinsics"], arrays["poses"]
        low, high = options.overlap
        overlaps = arrays["overlaps"]
        keep = np.flatnonzero((overlaps >= low) & (overlaps <= high))
        if len(keep) > options.most:
            keep = keep[np.linspace(0, len(keep) - 1, options.most).astype(int)]
        self.pairs, self.overlaps = arrays["pairs"][keep], overlaps[keep]

    def __len__(self) -> int:
        return len(self.pairs)

    def describe(self, index: int) -> str:
        a, b = self.pairs[index]
        return f"{self.images[a]} - {self.images[b]}"

    def __getitem__(self, index: int) -> dict[str, Any]:
        a, b = (self._view(int(k)) for k in self.pairs[index])
        record = {"index": index, "overlap": float(self.overlaps[index])}
        for letter, (image, depth, intrinsics, _) in (("a", a), ("b", b)):
            record |= {
                f"image_{letter}": image,
                f"depth_{letter}": depth,
                f"K_{letter}": intrinsics,
            }
        return {**record, "b_from_a": b[3] @ se3_inverse(a[3])}

    def _view(self, k: int):
        where = f"view {k}"
        intrinsics = checked_intrinsics(
            self.path, f"{where}: intrinsics", self.intrinsics[k], self.pixels
        )
        pose = checked_pose(self.path, f"{where}: poses", self.poses[k])
        image = read_image(self._file(k, "image_paths", self.images), convert="RGB")
        depth_path = self._file(k, "depth_paths", self.depths)
        file = H5File(depth_path)
        try:
            depth = file.read("depth")
        finally:
            file.close()
        if depth.shape != image.shape[:2] or depth.dtype.kind not in "fiu":
            found = f"{depth.dtype} {depth.shape}"
            raise DataError(depth_path, "depth", found, f"{image.shape[:2]}, the image's")
        return image, known_depth(depth), intrinsics, pose

    def _file(self, k: int, name: str, paths: np.ndarray) -> Path:
        path = path_inside(self.root, str(paths[k])) if paths[k] else None
        if path is None:
            found, expected = repr(str(paths[k]))[:80], "a file below the root"
            raise DataError(self.path, f"view {k}: {name}", found, expected)
        return path


def read_scene_info(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a converted index file, checked against one another.

    Raises:
      DataError: pickled objects (with the way to convert them), a missing array, another dtype or
        shape, a pair of views that are not there.
    """
    try:
        arrays = read_npz(path, ARRAYS, ())
    except DataError as error:
        pickled = "Python objects" in error.found or "pair_infos" in error.found
        if not pickled:
            raise
        hint = "convert it once, see posejax/systems/tinyroma/sources/megadepth.py"
        found = f"no plain arrays ({error.found[:120]})"
        raise DataError(path, error.field, found, f"arrays {', '.join(ARRAYS)}", hint) from None
    count, pairs = len(arrays["image_paths"]), len(arrays["pairs"])
    shapes = {
        "image_paths": ("U", (count,)), "depth_paths": ("U", (count,)),
        "intrinsics": ("f", (count, 3, 3)), "poses": ("f", (count, 4, 4)),
        "pairs": ("iu", (pairs, 2)), "overlaps": ("f", (pairs,)),
    }  # fmt: skip
    for name, (kinds, shape) in shapes.items():
        values = arrays[name]
        if values.dtype.kind not in kinds or values.shape != shape:
            found = f"{values.dtype} {values.shape}"
            raise DataError(path, f"array {name}", found, f"kind {kinds} of {shape}")
    if pairs and not ((arrays["pairs"] >= 0) & (arrays["pairs"] < count)).all():
        raise DataError(path, "array pairs", "a view that is not there", f"0 to {count - 1}")
    return arrays
