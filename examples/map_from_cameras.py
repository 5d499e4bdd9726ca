"""Where are the vehicles around a rig of your own? Bird's-eye maps of its frames, and a picture.

    python examples/map_from_cameras.py DIR [--weights segnet_sim] [--frame 0] [--out map.png]

DIR holds what `python -m posejax check-rig DIR` reads (run that first: a wrong calibration gives
maps that mean nothing): frames.json of CARLA, infos.json of MMDetection3D, or nuScenes' tables.
--weights is a run folder, an exported file or the name of weights that come with posejax. Cameras
need not be those of the training, nor as many: every frame's own calibration is used. --reference
names the one at which the map lies; by default it is the one that looks ahead. LiDAR or radar that
the weights know and the folder lacks are missing sensors, as in the training.

Prints the vehicles of one frame: place to the right and ahead of the reference camera (m), cells.
Those of the shipped weights have seen simulated streets alone.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.backend_bases import FigureCanvasBase

import posejax
from posejax.bev import decode_instances
from posejax.checking import read_frames
from posejax.config import ConfigError
from posejax.data.errors import DataError
from posejax.data.files import is_file
from posejax.data.rig_frame import RigFrame
from posejax.systems.segnet import STILL, Segnet
from posejax.systems.segnet.frames import LIDAR, RADAR, RigFrames
from posejax.systems.segnet.pictures import Setting, frame_figure
from posejax.train import Batch, CheckpointError


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnFrames(RigFrames):
    """Frames of a folder, whatever reader knows them."""

    folder: str = ""

    @property
    def kind(self) -> str:
        return f"frames of {self.folder}"

    def frames(self, split: str) -> tuple[Sequence[RigFrame], np.ndarray]:
        found = read_frames(Path(self.folder))
        return found, np.zeros(len(found), np.int32)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="DIR", help="of frames.json, infos.json or tables")
    parser.add_argument("--weights", default="segnet_sim", help="shipped name, file or run folder")
    parser.add_argument("--frame", type=int, default=0, help="which key frame")
    parser.add_argument("--reference", help="camera at which the map lies")
    parser.add_argument("--out", type=Path, default=Path("map.png"), help="picture to write")
    options = parser.parse_args()
    try:
        run(options)
    except (CheckpointError, ConfigError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run(options: argparse.Namespace) -> None:
    trained, predict = posejax.load(options.weights)
    if not isinstance(trained, Segnet):
        raise ConfigError(f"{options.weights}: weights of {type(trained).__name__}, not of Segnet")
    data = own_data(trained.data, options.folder, options.reference)
    if data.hide:
        print(f"without {' and '.join(data.hide)}: {options.folder} has none")
    source = data.source("val")
    if not 0 <= options.frame < len(source):
        raise ConfigError(f"--frame {options.frame}: there are {len(source)} key frames")
    example = data.transform(source[options.frame], np.random.default_rng(0), False)
    system = dataclasses.replace(trained, data=data)
    batch = Batch({name: value[None] for name, value in example.items()})
    maps = jax.jit(system.predict)(predict.params, predict.state, batch)
    shown = {k: np.asarray(v[0]) for k, v in {**batch.examples, **maps}.items()}
    for right, ahead, cells in vehicles(shown, data):
        print(f"{right:7.1f} m right {ahead:7.1f} m ahead, {cells:.0f} cells")
    low, high = data.grid.lower, data.grid.upper
    setting = Setting((low[0], low[2]), (high[0], high[2]), data.cameras, data.grid.reference)
    figure = frame_figure(shown, setting)
    FigureCanvasBase(figure)
    figure.savefig(options.out, dpi=80)
    print(f"picture: {options.out}")


def own_data(trained: RigFrames, folder: str, reference: str | None) -> OwnFrames:
    """The frames of a folder as examples of the form that a network was trained on."""
    frames = read_frames(Path(folder))
    if not len(frames):
        raise DataError(folder, "frames", "none", "at least one key frame")
    first = frames[0]
    # The third axis of a camera is where it looks, the first of the vehicle is ahead.
    ahead = max(first.cameras, key=lambda name: first.cameras[name].ego_from_camera[0, 2])
    grid = dataclasses.replace(trained.grid, reference=reference or ahead, lift="dynamic")
    no_lidar = trained.lidar and not is_file(first.lidar)
    no_radar = trained.radar and not any(frame.radar for frame in frames)
    data = OwnFrames(
        folder=folder, grid=grid, size=trained.size, cameras=tuple(first.cameras),
        hide=(LIDAR,) * no_lidar + (RADAR,) * no_radar,
        lidar=trained.lidar, radar=trained.radar, lidar_points=trained.lidar_points, augment=STILL,
    )  # fmt: skip
    data.check()
    return data


def vehicles(shown: dict[str, Any], data: RigFrames) -> np.ndarray:
    """[N, 3] of what is found: right and ahead of the reference camera (m), number of cells."""
    found = jax.device_get(
        decode_instances(shown["probability"], shown["center"], shown["offset"], count=100)
    )
    low, high = (np.array(v)[[0, 2]] for v in (data.grid.lower, data.grid.upper))
    cell = (high - low) / np.array(shown["probability"].shape)[::-1]
    rows = np.concatenate([low + found.center * cell, found.cells[:, None]], axis=1)
    return rows[found.valid]


if __name__ == "__main__":
    sys.exit(main())
