"""The stereo pair `stereo_motorcycle` at 736 x 480, with the truth of its cells of 8 pixels."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from posejax.data.images import read_image
from posejax.image import resize
from posejax.matching import Band, Rows, expected_correspondence
from posejax.matching.streaming import cell_centers
from posejax.matching.views import Features

DATA = Path(os.environ.get("POSEJAX_DATA", Path(__file__).parents[2] / "shared" / "data"))
CELLS = (60, 92)


class Pair(NamedTuple):
    """images: left, right [480, 736, 3] in [0, 1]. target: [60, 92, 2] pixels of the right one.
    known: [60, 92]."""

    images: tuple[Any, Any]
    target: np.ndarray
    known: np.ndarray


def motorcycle() -> Pair:
    folder, shape = DATA / "stereo_motorcycle", (8 * CELLS[0], 8 * CELLS[1])
    disparity = np.load(folder / "motorcycle_disp.npz")["arr_0"]
    left, right = (
        read_image(folder / f"motorcycle_{side}.png").astype(np.float32) / 255
        for side in ("left", "right")
    )
    high, wide = disparity.shape
    xy = np.asarray(cell_centers(CELLS)).reshape(*CELLS, 2) * 8
    row = np.clip((xy[..., 1] * high / shape[0]).astype(int), 0, high - 1)
    column = np.clip((xy[..., 0] * wide / shape[1]).astype(int), 0, wide - 1)
    truth = disparity[row, column] * shape[1] / wide
    known = np.isfinite(truth)
    target = xy - np.stack([np.where(known, truth, 0), np.zeros_like(truth)], axis=-1)
    images = resize(left, shape, antialias=False), resize(right, shape, antialias=False)
    return Pair(images, target, known & (target[..., 0] > 0))


def by_search(features: Features) -> dict[str, Any]:
    """Share of the known cells within 8 px, by search and expectation."""
    images, target, known = motorcycle()
    pair = [features(image) for image in images]
    found: dict[str, Any] = {"cells": int(known.sum())}
    cases: dict[str, dict] = {
        "full": {},
        "full, refine=2": {"refine": 2},
        "full, refine=1": {"refine": 1},
        "rows": {"search": Rows()},
        "rows, disparity 0..9 cells": {"search": Rows((0, 9))},
        "rows, refine=2": {"search": Rows(), "refine": 2},
        "band +-1, refine=2": {"search": Band(1), "refine": 2},
    }
    for name, settings in cases.items():
        coords = np.asarray(expected_correspondence(*pair, **settings).coords) * 8
        away = np.linalg.norm(coords - target, axis=-1)[known]
        found[name] = {
            "within_8_px": float(np.mean(away < 8)),
            "median_px": float(np.median(away)),
        }
        print(f"{name:32s} {100 * np.mean(away < 8):5.1f} %  {np.median(away):6.2f} px")
    return found
