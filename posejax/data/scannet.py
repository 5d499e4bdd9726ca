"""ScanNet's labels and clouds (Dai et al. 2017): NYU40 classes, the table of raw names, .ply files.

SCENE/color/0.jpg, depth/0.png, pose/0.txt, intrinsic/...      read by `posejax.data.rgbd_frames`
SCENE/label-filt/0.png            raw numbers of `scannetv2-labels.combined.tsv`, or NYU40's
SCENE/SCENE_vh_clean_2.ply        vertices with colours
SCENE/SCENE_vh_clean_2.labels.ply the same vertices with a property `label` (NYU40)
"""

from pathlib import Path

import numpy as np

from posejax.data.errors import DataError
from posejax.data.files import is_file
from posejax.data.ply import read_ply
from posejax.data.tables import read_csv

#: Number in NYU40 (Silberman et al. 2012; Gupta et al. 2013) is the place in this list plus one.
NYU40 = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf",
    "picture", "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror",
    "floor mat", "clothes", "ceiling", "books", "refrigerator", "television", "paper", "towel",
    "shower curtain", "box", "whiteboard", "person", "night stand", "toilet", "sink", "lamp",
    "bathtub", "bag", "other structure", "other furniture", "other prop",
)  # fmt: skip
#: The classes of ScanNet's own benchmark.
SCANNET20 = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf",
    "picture", "counter", "desk", "curtain", "refrigerator", "shower curtain", "toilet", "sink",
    "bathtub", "other furniture",
)  # fmt: skip
_MOST = 1 << 16  # numbers of 16-bit pictures


def class_numbers(classes: tuple[str, ...], table: np.ndarray | None = None) -> np.ndarray:
    """[65536] int32: from a number in a picture of labels to its place in `classes`, else -1.

    Args:
      classes: names of `NYU40`.
      table: from `read_label_table`, for pictures of raw numbers; None: they have NYU40's.

    Raises:
      ValueError: a name that is not one of NYU40's.
    """
    for name in classes:
        if name not in NYU40:
            raise ValueError(f"no class {name!r} in NYU40; there are {', '.join(NYU40)}")
    place = np.full(_MOST, -1, np.int32)
    place[[NYU40.index(name) + 1 for name in classes]] = np.arange(len(classes))
    return place if table is None else place[table]


def read_label_table(path: str | Path) -> np.ndarray:
    """[65536] int32: the NYU40 number of ScanNet's raw ones, 0 where there is none.

    Args:
      path: scannetv2-labels.combined.tsv; its columns `id` and `nyu40id` are used.

    Raises:
      DataError: missing file or column, another kind of number.
    """
    names, rows = read_csv(path, ("id", "nyu40id"), delimiter="\t")
    columns = names.index("id"), names.index("nyu40id")
    table = np.zeros(_MOST, np.int32)
    for line, words in rows:
        if len(words) <= max(columns):
            raise DataError(path, f"line {line}", f"{len(words)} words", f"{len(names)}")
        raw, number = (words[column].strip() for column in columns)
        if not (raw.isascii() and raw.isdigit() and 0 < int(raw) < _MOST):
            raise DataError(path, f"line {line}: id", repr(raw[:40]), f"1 to {_MOST - 1}")
        if not (number.isascii() and number.isdigit() and int(number) <= len(NYU40)):
            raise DataError(path, f"line {line}: nyu40id", repr(number[:40]), f"0 to {len(NYU40)}")
        table[int(raw)] = int(number)
    return table


def read_cloud(path: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A scene's points [N, 3] float32 metres, colours [N, 3] float32 in 0..1, NYU40 numbers [N]
    int32 (0: unlabelled).

    Args:
      path: SCENE_vh_clean_2.ply; labels come from the file of the same name in .labels.ply, if it
        is there, or the property `label` of this one.

    Raises:
      DataError: see `read_ply`; 8-bit colours missing, labels of other vertices or beyond NYU40.
    """
    path = Path(path)
    cloud = read_ply(path, ("x", "y", "z", "red", "green", "blue"))
    colours = [cloud.vertices[name] for name in ("red", "green", "blue")]
    if any(colour.dtype != np.uint8 for colour in colours):
        raise DataError(path, "property red", str(colours[0].dtype), "uchar")
    points = cloud.columns("x", "y", "z").astype(np.float32)
    labels = np.zeros(len(points), np.int32)
    beside = path.with_suffix(".labels.ply")
    if is_file(beside):
        found = read_ply(beside, ("x", "y", "z", "label"))
        same = found.columns("x", "y", "z").astype(np.float32)
        if same.shape != points.shape or np.abs(same - points).max(initial=0) > 1e-3:
            raise DataError(beside, "vertices", f"{len(same)}", f"those of {path.name}")
        labels = _labels(beside, found.vertices["label"])
    elif "label" in cloud.vertices:
        labels = _labels(path, cloud.vertices["label"])
    return points, (np.stack(colours, -1) / np.float32(255)).astype(np.float32), labels


def _labels(path: Path, values: np.ndarray) -> np.ndarray:
    good = (values == np.rint(values)) & (values >= 0) & (values <= len(NYU40))
    if not good.all():
        row = int(np.argmin(good))
        raise DataError(path, f"vertex {row}: label", values[row], f"0 to {len(NYU40)}")
    return values.astype(np.int32)
