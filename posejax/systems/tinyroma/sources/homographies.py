"""Two looks at one picture: planar scenes from any side, with turns and zooms that rooms lack."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from posejax.data.dataset import SPLITS, Source
from posejax.data.errors import DataError
from posejax.data.files import root_folder
from posejax.data.images import read_image, resize_image
from posejax.systems.tinyroma.pairs import Pairs
from posejax.systems.tinyroma.sources.rgbd_folder import divide
from posejax.systems.tinyroma.warp_targets import cell_centers, homography_targets

#: Raise it whenever the same settings would give other pictures: old caches are then left alone.
VERSION = 1
_PICTURE = (480, 600)  # (H, W) of a drawn picture, and about that of a photograph
_LEAST = 0.25  # share of A that B sees, where a few draws find it


@dataclass(frozen=True, kw_only=True)
class HomographyPairs(Pairs):
    """Pictures seen through random homographies; every pair is a function of its index.

    Attributes:
      root: folder of PNG and JPEG images, also in folders below it, divided among the splits in
        name order; drawn pictures if empty.
      split: shares of the images that train, validate and test.
      pictures: number of drawn pictures for train, val and test.
      length: pairs of train, val and test.
      angle_deg: most that B is turned against A.
      zoom: B's scale is within a factor of this of A's.
      tilt: most that a corner is moved by perspective, in parts of a side.
      seed: of pictures and homographies.
      cache: folder of all generated data sets; the user's cache folder if empty.
    """

    root: str = ""
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)
    pictures: tuple[int, int, int] = (120, 12, 12)
    length: tuple[int, int, int] = (2000, 100, 100)
    angle_deg: float = 60.0
    zoom: float = 1.8
    tilt: float = 0.2
    seed: int = 0
    cache: str = ""

    @property
    def kind(self) -> str:
        what = f"images of {Path(self.root).name}" if self.root else "drawn pictures"
        return f"homographies of {what}"

    @property
    def simulated(self) -> bool:  # type: ignore[override]
        return not self.root

    def source(self, split: str) -> "HomographySource":
        """Raises DataError: no such folder, or too few images in it."""
        if self.root:
            root = root_folder(self.root, "a folder of images")
            found = sorted(p for p in root.rglob("*") if p.suffix.lower() in _SUFFIXES)
            images = divide(found, self.split, split)
            if not images:
                found = f"{len(found)} images, none of them for split {split!r}"
                raise DataError(root, "images", found, "*.png, *.jpg", "see --data.split")
        else:
            images = ensure_pictures(self.cache or None, self, split)
        return HomographySource(self, split, images)


_SUFFIXES = (".png", ".jpg", ".jpeg")


class HomographySource(Source):
    """Pairs of a list of images."""

    def __init__(self, data: HomographyPairs, split: str, images: list[Path]):
        self.data, self.images = data, images
        self.number = SPLITS.index(split)

    def __len__(self) -> int:
        return self.data.length[self.number]

    def describe(self, index: int) -> str:
        image = self.images[index % len(self.images)]
        return f"{image.parent.name}/{image.name}, homography {index}"

    def __getitem__(self, index: int) -> dict[str, Any]:
        data, size = self.data, self.data.size
        rng = np.random.default_rng([data.seed, self.number, index])
        picture = _fitted(read_image(self.images[index % len(self.images)], convert="RGB"))
        centers = cell_centers(size, 16)
        for _ in range(8):
            maps = [look(rng, data, picture.shape[:2], size, k) for k in (False, True)]
            b_from_a = np.linalg.inv(maps[1]) @ maps[0]
            share = float(homography_targets(centers, size, b_from_a).visible.mean())
            if share >= _LEAST:
                break
        nominal = np.array([[size[1], 0, size[1] / 2], [0, size[1], size[0] / 2], [0, 0, 1.0]])
        return {
            "index": index,
            "image_a": warped(picture, maps[0], size),
            "image_b": warped(picture, maps[1], size),
            "K_a": nominal,
            "K_b": nominal,
            "b_from_a": np.full((4, 4), np.nan),
            "homography": b_from_a,
            "overlap": share,
        }


def look(
    rng: np.random.Generator, data: HomographyPairs, picture: tuple[int, int], size, second: bool
) -> np.ndarray:
    """picture_from_image [3, 3]: an image of `size` that shows nothing but the picture."""
    turn = np.deg2rad(data.angle_deg * rng.uniform(-1, 1)) if second else 0.0
    scale = data.zoom ** rng.uniform(-0.5, 0.5) if second else 1.0
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1.0]])
    quad = corners + 2 * data.tilt * rng.uniform(-1, 1, (4, 2)) * (1.0 if second else 0.4)
    quad = quad * (size[1] / size[0], 1) * (0.3 * min(picture) * scale)
    c, s = np.cos(turn), np.sin(turn)
    quad = quad @ np.array([[c, s], [-s, c]])
    room = np.array(picture[::-1])
    quad = quad * min(1.0, *(0.98 * room / np.ptp(quad, axis=0)))
    place = rng.uniform(0.25, 0.75, 2) * room
    place = np.clip(place, 1 - quad.min(0), room - 1 - quad.max(0))
    return homography_of((corners + 1) / 2 * size[::-1], quad + place)


def homography_of(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[3, 3] that takes four points [4, 2] to four others; its last entry is 1."""
    rows = []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    return np.append(np.linalg.solve(np.array(rows), target.reshape(-1)), 1.0).reshape(3, 3)


def warped(picture: np.ndarray, picture_from_image: np.ndarray, size) -> np.ndarray:
    """The image [H, W, 3] whose pixel centres lie there in the picture, four samples a pixel."""
    fine = picture_from_image @ np.diag([0.5, 0.5, 1.0])
    fine = fine / fine[2, 2]
    # Pillow takes pixel centres at halves, as the library does.
    image = Image.fromarray(picture).transform(
        (2 * size[1], 2 * size[0]),
        Image.Transform.PERSPECTIVE,
        fine.reshape(-1)[:8].tolist(),
        Image.Resampling.BILINEAR,
    )
    return np.asarray(image.reduce(2))


def _fitted(picture: np.ndarray) -> np.ndarray:
    """At about the size of a drawn picture: a view of it then has about its own resolution."""
    scale = np.sqrt(_PICTURE[0] * _PICTURE[1] / (picture.shape[0] * picture.shape[1]))
    if abs(scale - 1) < 0.05:
        return picture
    high, wide = (max(round(side * scale), 8) for side in picture.shape[:2])
    return resize_image(picture, (high, wide))


def ensure_pictures(root: str | Path | None, data: HomographyPairs, split: str) -> list[Path]:
    """Make sure that the drawn pictures of a split are on disk; their files."""
    from posejax.sim.factory import ensure_items, open_dataset, world_seed

    def make(number: int, place: Path) -> None:
        rng = np.random.default_rng([*world_seed(data.seed, split, number), 2])
        Image.fromarray(draw(rng)).save(place.with_suffix(".png"), compress_level=4)

    text = json.dumps({"version": VERSION, "seed": data.seed, "size": _PICTURE})
    count = data.pictures[SPLITS.index(split)]
    return ensure_items(
        open_dataset(root, "pictures", text),
        split,
        [f"picture-{number:04d}" for number in range(count)],
        make,
        parts=(".png",),
        files=1,
        title=f"drawing {split} pictures",
    )


def draw(rng: np.random.Generator) -> np.ndarray:
    """A picture [H, W, 3] uint8: a ground of some material with patches of others on it."""
    from posejax.sim import textures

    def material(size):
        colour, other = rng.uniform(0.1, 0.9, (2, 3))
        kind = rng.integers(8)
        if kind == 0:
            return textures.plaster(rng, size, colour, strength=0.15)
        if kind == 1:
            return textures.carpet(rng, size, colour, accent=other)
        if kind == 2:
            return textures.wood(rng, size, colour, planks=int(rng.integers(1, 6)))
        if kind == 3:
            courses, per_course = (int(n) for n in rng.integers(3, 12, 2))
            return textures.bricks(rng, size, colour, courses=courses, per_course=per_course)
        if kind == 4:
            return textures.fabric(rng, size, colour, stripes=int(rng.integers(0, 9)), accent=other)
        if kind == 5 and min(size) > 60:
            return textures.marks(rng, size, 0.5 + colour / 2, other / 2)
        if kind == 6:
            shade = 0.5 + 0.2 * textures.noise(rng, size, octaves=7, slope=1.2)
            return np.clip(shade[..., None] * (colour + 0.4), 0, 1)
        return textures.poster(rng, size) if min(size) > 60 else np.ones((*size, 3)) * colour

    picture = np.array(material(_PICTURE), np.float32)
    for _ in range(int(rng.integers(8, 24))):
        high, wide = (int(n) for n in np.exp(rng.uniform(np.log(24), np.log(300), 2)))
        high, wide = high // 8 * 8, wide // 8 * 8  # the noise is made by FFT
        y, x = rng.integers(0, _PICTURE[0] - high + 1), rng.integers(0, _PICTURE[1] - wide + 1)
        picture[y : y + high, x : x + wide] = material((high, wide))
    encoded = np.clip(picture, 0, 1) ** (1 / 2.2)
    return np.rint(255 * encoded).astype(np.uint8)
