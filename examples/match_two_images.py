"""Where do the pixels of one image lie in another, and how did the camera move?

    python examples/match_two_images.py A B --weights FILE [--K FX FY CX CY] [--out match.png]
    python examples/match_two_images.py --video FOLDER --weights FILE [--out pictures]

FILE is a run folder or weights of tinyroma (tinyroma_scratch is the name of those that come with
posejax), Tiny RoMa's released weights (.safetensors, .npz, .pth), or XFeat's: its features are then
matched without training, by expectation and mutual check.
--K is that of both cameras (--K-a, --K-b for each): four numbers as OpenCV gives them, the first
pixel's centre at (0, 0), or a text file with four or nine numbers. Without it a focal length is
guessed.

Prints the pose b_from_a as an angle, a quaternion (xyzw) and the direction of the translation (two
images do not tell its length), with standard deviations, and draws the pair. Instead of the pose:
--fundamental or --homography (pixels of the images, first centre at (0.5, 0.5)), or --rectified for
a stereo pair: partners are looked for along rows alone. --video takes a folder of frames or a text
file that lists them, and matches each with the next.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.backend_bases import FigureCanvasBase

import posejax
from posejax.config import ConfigError
from posejax.data.cameras import convert_intrinsics
from posejax.data.errors import DataError
from posejax.data.files import is_file, read_text, text_number
from posejax.data.images import read_image
from posejax.geometry import matrix_to_quat_xyzw, rotation_angle
from posejax.loading import Predictor
from posejax.matching import (
    Full,
    Rows,
    chance_models,
    estimate_fundamental,
    estimate_homography,
    estimate_relative_pose,
)
from posejax.nn import load_state_dict
from posejax.systems.tinyroma import Tinyroma
from posejax.systems.tinyroma.inference import (
    match_images,
    reduced_image,
    released_network,
    searching,
)
from posejax.systems.tinyroma.pictures import matching_figure
from posejax.systems.tinyroma.poses import robust_options
from posejax.systems.tinyroma.pretrained import weights_file
from posejax.systems.tinyroma.training_free import match_by_features, xfeat_features
from posejax.train import CheckpointError
from posejax.train.weights import few

THRESHOLD = 1.5  # reduced pixels, where no trained system has its own
FOCAL = 1.2  # longer sides: a guess in the middle of what cameras have
SUFFIXES = (".png", ".jpg", ".jpeg")
ALONG_ROWS = np.array([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # F of rectified images
Matcher = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path, nargs="*", metavar="IMAGE", help="A and B")
    parser.add_argument(
        "--video", type=Path, help="folder of frames, or a text file of their names"
    )
    parser.add_argument("--weights", type=Path, help="run folder, or weights file")
    for name, whose in (("--K", "both cameras"), ("--K-a", "camera A"), ("--K-b", "camera B")):
        parser.add_argument(name, nargs="+", metavar="FX", help=f"{whose}: FX FY CX CY, or a file")
    mode = parser.add_mutually_exclusive_group()
    for name in ("rectified", "fundamental", "homography"):
        mode.add_argument(f"--{name}", dest="mode", action="store_const", const=name)
    parser.set_defaults(mode="pose")
    parser.add_argument("--longest", type=int, default=640, help="side that images are reduced to")
    parser.add_argument(
        "--threshold",
        type=float,
        help=f"of inliers, reduced pixels; by default that of the weights, else {THRESHOLD}",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="picture to write; with --video, a folder")
    try:
        run(parser.parse_args(arguments))
    except (CheckpointError, ConfigError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run(options: argparse.Namespace) -> None:
    if options.longest < 32:
        raise ConfigError(f"--longest: {options.longest}; expected at least 32 pixels")
    if options.threshold is not None and not 0 < options.threshold < np.inf:
        raise ConfigError(f"--threshold: {options.threshold:g}; expected a positive number")
    formats = FigureCanvasBase.get_supported_filetypes()
    if options.out and not options.video and options.out.suffix[1:].lower() not in formats:
        raise ConfigError(f"--out: {options.out}: no picture ends so; try .png, .jpg or .pdf")
    if options.out and not options.video and not options.out.parent.is_dir():
        raise ConfigError(f"--out: {options.out.parent} is no folder")
    pairs = list(named_pairs(options))
    cameras = [camera(options, side) for side in "ab"]
    if (cameras[0] is None) != (cameras[1] is None):
        raise ConfigError("--K-a, --K-b: give both, or --K for both")
    matcher = make_matcher(options)
    for k, (path_a, path_b) in enumerate(pairs):
        images = [read_image(path, convert="RGB") for path in (path_a, path_b)]
        for path, image in zip((path_a, path_b), images, strict=True):
            if min(image.shape[:2]) < 32:
                size = f"{image.shape[1]} x {image.shape[0]}"
                raise DataError(path, "size", f"{size} pixels", "at least 32 on each side")
        example, lines = solve(matcher, images, cameras, options)
        print(f"{path_a.name} -> {path_b.name}: " + "\n  ".join(lines), flush=True)
        out = options.out or Path("pictures" if options.video else "match.png")
        if options.video:
            out.mkdir(parents=True, exist_ok=True)
            out = out / f"{k:05d}_{path_a.stem}_{path_b.stem}.png"
        matching_figure(example).savefig(out, dpi=80)
        print(f"  picture: {out}")


def named_pairs(options: argparse.Namespace) -> Iterator[tuple[Path, Path]]:
    """(A, B), or each frame with the next."""
    if options.video is None:
        if len(options.images) != 2:
            raise ConfigError(f"IMAGE: {len(options.images)} given; expected A and B, or --video")
        yield tuple(options.images)
        return
    if options.images:
        raise ConfigError("--video: give either two images or a sequence")
    video = options.video
    if video.is_dir():
        frames = sorted(p for p in video.iterdir() if p.suffix.lower() in SUFFIXES)
    else:
        frames = listed(video)
    if len(frames) < 2:
        raise DataError(video, "frames", f"{len(frames)}", "two PNG or JPEG files or more")
    yield from itertools.pairwise(frames)


def listed(video: Path) -> list[Path]:
    """Frames that a text file names, relative to its folder."""
    expected, frames = "a folder of frames, or a text file with the name of one on each line", []
    for number, line in enumerate(read_text(video, expected).splitlines(), 1):
        if name := line.strip():
            frames.append(video.parent / name)
            if not is_file(frames[-1]):
                raise DataError(video, f"line {number}", f"no file {name[:80]!r}", expected)
    return frames


def camera(options: argparse.Namespace, side: str) -> np.ndarray | None:
    """Intrinsics [3, 3] of a camera, first centre at (0.5, 0.5); None if not given."""
    name, given = f"--K-{side}", getattr(options, f"K_{side}")
    if given is None:
        name, given = "--K", options.K
    if given is None:
        return None
    source, words = name, given
    if len(given) == 1:
        source, words = given[0], read_text(given[0], "four or nine numbers").split()
    try:
        numbers = np.array([text_number(word) for word in words])
    except ValueError as error:
        raise DataError(source, "numbers", error, "FX FY CX CY, or nine of a matrix") from error
    if len(numbers) not in (4, 9):
        raise DataError(source, "numbers", len(numbers), "FX FY CX CY, or nine of a matrix")
    if len(numbers) == 4:
        fx, fy, cx, cy = numbers
        numbers = np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1])
    k = numbers.reshape(3, 3)
    lower = np.allclose(k[[1, 2, 2, 2], [0, 0, 1, 2]], (0, 0, 0, 1))
    if not (np.isfinite(k).all() and lower and k[0, 0] > 0 and k[1, 1] > 0):
        raise DataError(source, "matrix", k.tolist(), "[[fx, s, cx], [0, fy, cy], [0, 0, 1]]")
    return convert_intrinsics(k, source="opencv", target="posejax")


def make_matcher(options: argparse.Namespace) -> Matcher:
    """Two images of sides that are multiples of 32 -> warp, certainty, matches and weights."""
    path, rectified = options.weights, options.mode == "rectified"
    if path is None:
        raise ConfigError("--weights: give a run folder, a weights file, or XFeat's weights")
    names: Sequence[str] = ()
    if path.is_dir() and any(path.glob("xfeat*")):
        path = weights_file(path)
    if path.suffix in (".npz", ".safetensors", ".pth") and path.is_file():
        try:
            names = list(load_state_dict(path))
        except DataError:
            raise
        except (ImportError, ValueError) as error:
            raise ConfigError(str(error)) from error
    if any(name.startswith("block1.") or name.startswith("net.block1.") for name in names):
        features = xfeat_features(path)
        search = Rows() if rectified else Full()
        return lambda a, b: match_by_features(features, a, b, search=search)
    if names and not any(name.startswith(("params/", "coarse_matcher.")) for name in names):
        forms = "weights of tinyroma, Tiny RoMa's released tensors, or XFeat's"
        raise DataError(path, "arrays", few(names), forms)
    predict = released_network(path) if "coarse_matcher.4.weight" in names else trained(path)
    if rectified:
        predict = searching(predict, kind="rows")
    system: Any = predict.experiment.system
    fitted = {
        "scale": np.asarray(predict.state["covariance"]["scale"]),
        "robust": robust_options(system.match),
    }

    return lambda a, b: fitted | match_images(system, predict, a, b, longest=None).outputs


def trained(path: Path) -> Predictor:
    loaded = posejax.load(path)
    if not isinstance(loaded.system, Tinyroma):
        raise ConfigError(f"{path}: not weights of tinyroma")
    return loaded.predict


def solve(
    matcher: Matcher, images: Sequence[np.ndarray], cameras: Sequence, options: argparse.Namespace
) -> tuple[dict[str, Any], list[str]]:
    """What is drawn of a pair, in reduced pixels, and what is said about it."""
    if options.mode == "rectified" and images[0].shape != images[1].shape:
        raise ConfigError("--rectified: the images are of different sizes")
    small = [reduced_image(image, options.longest) for image in images]
    to_small = [
        np.diag([*np.divide(reduced.shape[1::-1], image.shape[1::-1]), 1.0])
        for reduced, image in zip(small, images, strict=True)
    ]
    shape_b = small[1].shape[:2]
    found = matcher(*small)
    example: dict[str, Any] = {"image_a": small[0], "image_b": small[1], **found}
    a, b, weights = (jnp.asarray(found[k]) for k in ("matches_a", "matches_b", "weights"))
    key = jax.random.key(options.seed)
    own = found.get("robust", {"threshold": THRESHOLD})
    settings: dict[str, Any] = {"threshold": options.threshold or own["threshold"]}
    used = f"{int((weights > 0).sum())} matches"
    if options.mode == "rectified":
        kept = np.asarray(weights) > 0
        example |= {"inliers": kept, "fundamental": ALONG_ROWS}
        shift = np.asarray(a - b)[kept, 0] / to_small[0][0, 0]
        if not len(shift):
            return example, [f"{used}: nothing to say about the disparity"]
        low, middle, high = np.quantile(shift, [0.05, 0.5, 0.95])
        text = f"disparity x_a - x_b: median {middle:.1f} px, 90 % in {low:.1f} to {high:.1f} px"
        return example, [used, text]
    if options.mode != "pose":
        solver = estimate_homography if options.mode == "homography" else estimate_fundamental
        model = solver(key, a, b, weights=weights, **settings)
        example["inliers"] = np.asarray(model.inliers)
        if not model.valid:
            return example, [f"{used}: no {options.mode} matrix fits them"]
        matrix = np.asarray(model.matrix, np.float64)
        if options.mode == "homography":
            matrix = np.linalg.inv(to_small[1]) @ matrix @ to_small[0]
            matrix /= matrix[2, 2]
        else:
            example["fundamental"] = matrix
            matrix = to_small[1].T @ matrix @ to_small[0]
            matrix /= np.linalg.norm(matrix)
        rows = [" ".join(f"{x:13.6g}" for x in row) for row in matrix]
        doubt = doubts(
            options.mode, settings["threshold"], model.inliers, weights, small[1].shape[:2]
        )
        return example, [f"{used}, {int(model.inliers.sum())} inliers", *doubt, *rows]
    lines = []
    if cameras[0] is None:
        cameras = [guessed(image) for image in images]
        focal = ", ".join(f"{k[0, 0]:.0f}" for k in cameras)
        lines = [
            f"no --K: guessed focal lengths {focal} px ({FOCAL:g} longer sides); the pose is only "
            "as right as they are"
        ]
    k_a, k_b = (t @ k for t, k in zip(to_small, cameras, strict=True))
    scale = float(found.get("scale", 1.0))
    if options.threshold is None:
        settings = own
    elif scale != 1:  # it holds for the estimate that it was fitted with
        scale = 1.0
        lines.append("--threshold is not that of the calibration: sigma as the matches alone say")
    pose = estimate_relative_pose(
        key, a, b, k_a.astype(np.float32), k_b.astype(np.float32), weights=weights, **settings
    )
    covariance = np.asarray(pose.covariance, np.float64) * scale
    example |= {"inliers": np.asarray(pose.inliers), "K_a": k_a, "K_b": k_b}
    if not pose.valid:
        return example, [f"{used}: no pose fits them", *lines]
    example["b_from_a"] = np.asarray(pose.b_from_a)
    lines = [
        *doubts("pose", settings["threshold"], pose.inliers, weights, shape_b),
        *lines,
    ]
    return example, [
        f"{used}, {int(pose.inliers.sum())} inliers", *lines, *said(pose.b_from_a, covariance)
    ]  # fmt: skip


def doubts(
    kind: Any, threshold: float, inliers: Any, weights: Any, shape_b: tuple[int, int]
) -> list[str]:
    """A warning where unrelated images could have as many inliers; one in 100 pairs of them may."""
    few, matches = int(inliers.sum()), int((weights > 0).sum())
    expected = chance_models(kind, few, matches, threshold=threshold, shape_b=shape_b)
    if expected < 0.01:
        return []
    return [
        f"warning: {few} of {matches} matches agree, and as many would if all were wrong "
        f"({expected:.1g} such models expected by chance): do not trust what follows"
    ]


def said(b_from_a: Any, covariance: np.ndarray) -> list[str]:
    """The pose in words; sigma is the standard deviation along the worst axis."""
    rotation, t = b_from_a[:3, :3], np.asarray(b_from_a[:3, 3])
    angle = float(jnp.rad2deg(rotation_angle(rotation, jnp.eye(3))))
    x, y, z, w = np.asarray(matrix_to_quat_xyzw(rotation))
    worst = [np.linalg.eigvalsh(part)[-1] for part in (covariance[:2, :2], covariance[2:, 2:])]
    direction, turn = np.rad2deg(np.sqrt(np.maximum(worst, 0)))
    return [
        f"rotation {angle:.2f} deg (sigma {turn:.2f}), quat_xyzw {x:.5f} {y:.5f} {z:.5f} {w:.5f}",
        f"direction of translation {t[0]:.4f} {t[1]:.4f} {t[2]:.4f} (sigma {direction:.2f} deg)",
    ]


def guessed(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    focal = FOCAL * max(height, width)
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])


if __name__ == "__main__":
    sys.exit(main())
