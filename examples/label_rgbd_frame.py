"""What is in an RGB-D frame of your own? A class and features for each of its points.

    python examples/label_rgbd_frame.py DIR [--weights bifusion_sim] [--frame 0] [--out frame.ply]

DIR holds frames in 7-Scenes' names or as ScanNet's exporter writes them, see
posejax/data/rgbd_frames.py: image, depth in millimetres, pose, intrinsics. Run
`python -m posejax check-rig DIR` first: a wrong pose gives classes that mean nothing. --K FX FY CX
CY are the intrinsics where no file has them (by default those of 7-Scenes), as OpenCV gives them.
gravity-direction.txt beside the poses (3 numbers, in their frame) tells which way is down; without
it the z axis is up in ScanNet's layout, and in 7-Scenes' names the mean of the cameras' own does.
--weights is a run folder, an exported file or the name of weights that come with posejax.

Prints how many points are of each class, and writes them as a cloud (metres, in the frame of the
pose) coloured by class, with the class's number in NYU40, its probability and the gate's weight of
the image; beside it a picture (.png) and the features, a row a point (.npz). --points 20000 has
more of them than the shipped weights learnt from: 3,000 a frame, in simulated rooms alone.
"""

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.backend_bases import FigureCanvasBase

import posejax
from posejax.config import ConfigError, replace
from posejax.data.errors import DataError
from posejax.data.ply import write_ply
from posejax.data.scannet import NYU40
from posejax.data.sevenscenes import INTRINSICS
from posejax.systems.bifusion import Bifusion, OwnFrames
from posejax.systems.bifusion.frames import moved, upright_from_world
from posejax.systems.bifusion.pictures import class_colors, frame_figure
from posejax.train import Batch, CheckpointError, rundir


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="DIR", help="of RGB-D frames")
    parser.add_argument("--weights", default="bifusion_sim", help="shipped name, file, run folder")
    parser.add_argument("--frame", type=int, default=0, help="which of the folder's")
    parser.add_argument("--points", type=int, help="of the frame; by default as in the training")
    parser.add_argument("--K", type=float, nargs=4, default=INTRINSICS, metavar="PIXELS")
    parser.add_argument("--out", type=Path, default=Path("frame.ply"), help="cloud to write")
    options = parser.parse_args()
    try:
        run(options)
    except (CheckpointError, ConfigError, DataError, rundir.ResumeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run(options: argparse.Namespace) -> None:
    if options.out.suffix != ".ply":
        raise ConfigError(f"--out {options.out}: expected a name that ends in .ply")
    rundir.check_writable(options.out.parent, "--out")
    trained, predict = posejax.load(options.weights)
    if not isinstance(trained, Bifusion):
        raise ConfigError(f"{options.weights}: weights of {type(trained).__name__}, not Bifusion")
    data = OwnFrames(
        folder=options.folder, intrinsics=tuple(options.K), size=trained.data.size,
        points=trained.data.points if options.points is None else options.points,
        classes=trained.classes,
    )  # fmt: skip
    data.check()
    source = data.source("val")
    if not 0 <= options.frame < len(source):
        raise ConfigError(f"--frame {options.frame}: there are {len(source)} frames")
    record, still = source[options.frame], np.random.default_rng(0)
    frame = record["frame"]
    standing = moved(frame, upright_from_world(frame.up))
    example = data.transform({**record, "frame": standing}, still, False)
    # One frame alone may fill a level more than a batch does: room for all of its points.
    rows = (1.0,) * len(trained.model.points.rows)
    system = replace(dataclasses.replace(trained, data=data), **{"model.points.rows": rows})
    batch = Batch({name: value[None] for name, value in example.items()})
    found = jax.jit(system.predict)(predict.params, predict.state, batch)
    shown = {k: np.asarray(v[0]) for k, v in {**batch.examples, **found}.items()}
    # As they were given, whichever way is up there.
    own = data.transform(record, still, False)["points"]
    rundir.make(options.out.parent, "--out")
    write(shown, own, trained.classes, options.out)


def write(
    shown: Mapping[str, Any], points: np.ndarray, classes: tuple[str, ...], out: Path
) -> None:
    """The cloud, the features and the picture of a frame; what is found, on the screen."""
    there = shown["mask"]
    of_points = {name: shown[name][there] for name in ("class", "probability", "gate")}
    of_points["points"] = points[there]
    number = of_points["class"]
    for row in np.argsort(-np.bincount(number, minlength=len(classes)), kind="stable"):
        if count := int(np.sum(number == row)):
            print(f"{NYU40.index(classes[row]) + 1:3d} {classes[row]:16s} {count:6d} points")
    colors = np.rint(255 * class_colors(len(classes))[number]).astype(np.uint8)
    cloud = dict(zip("xyz", of_points["points"].T, strict=True))
    cloud |= dict(zip(("red", "green", "blue"), colors.T, strict=True))
    labels = np.array([NYU40.index(name) + 1 for name in classes], np.uint8)
    cloud |= {"label": labels[number]}
    write_ply(out, cloud | {name: of_points[name] for name in ("probability", "gate")})
    np.savez(out.with_suffix(".npz"), features=shown["fused"][there], **of_points)
    figure = frame_figure(shown, classes)
    FigureCanvasBase(figure)
    figure.savefig(out.with_suffix(".png"), dpi=80)
    print(f"cloud: {out}; features: {out.with_suffix('.npz')}; picture: {out.with_suffix('.png')}")


if __name__ == "__main__":
    sys.exit(main())
