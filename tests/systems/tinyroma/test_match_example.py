"""examples/match_two_images.py: geometry in the pixels of the files, and one line for bad input."""

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from posejax.systems.tinyroma import MatchConfig

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "examples" / "match_two_images.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("match_two_images", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def images(tmp_path, rng):
    for name in ("a.png", "b.png"):
        pixels = rng.integers(0, 255, (96, 128, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    return tmp_path / "a.png", tmp_path / "b.png"


def options(**changes):
    plain = {"K": None, "K_a": None, "K_b": None, "mode": "pose", "longest": 64, "seed": 0}
    return argparse.Namespace(**{**plain, "threshold": 0.5, **changes})


def test_a_homography_is_that_of_the_files_pixels(script, rng):
    """Matched at half the size of A and a quarter of B's: x_b = 2 x_a + (40, -20) comes back."""
    images = [np.zeros((64, 128, 3), np.uint8), np.zeros((128, 256, 3), np.uint8)]
    small_a = rng.uniform(0, 32, (60, 2)).astype(np.float32)

    def matcher(a, b):
        assert a.shape == b.shape == (32, 64, 3)
        matches_b = (2 * (2 * small_a) + (40, -20)) / 4
        return {"matches_a": small_a, "matches_b": matches_b, "weights": np.ones(60)}

    example, lines = script.solve(matcher, images, [None, None], options(mode="homography"))
    assert lines[0] == "60 matches, 60 inliers" and example["inliers"].all()
    matrix = np.array([[float(x) for x in line.split()] for line in lines[1:]])
    np.testing.assert_allclose(matrix, [[2, 0, 40], [0, 2, -20], [0, 0, 1]], atol=0.02)


@pytest.mark.parametrize(("inliers", "warned"), [(7, True), (40, False)])
def test_few_inliers_are_doubted(script, inliers, warned):
    lines = script.doubts("fundamental", 1.5, np.arange(60) < inliers, np.ones(60), (32, 64))
    assert len(lines) == warned and all("7 of 60 matches" in line for line in lines)


def test_a_rectified_pair_is_told_by_its_disparity(script, rng):
    images = [np.zeros((64, 128, 3), np.uint8)] * 2
    a = rng.uniform(10, 30, (20, 2))

    def matcher(_a, _b):
        return {"matches_a": a, "matches_b": a - (4, 0), "weights": np.arange(20) % 2}

    example, lines = script.solve(matcher, images, [None, None], options(mode="rectified"))
    assert lines[0] == "10 matches" and example["inliers"].sum() == 10
    assert "median 8.0 px, 90 % in 8.0 to 8.0 px" in lines[1]  # in pixels of the file


def test_a_pose_in_words(script):
    pose = np.eye(4)
    pose[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]  # 90 degrees about z
    pose[:3, 3] = [0, 0, 1]
    covariance = np.diag(np.deg2rad([1.0, 2, 0.1, 0.5, 0.2]) ** 2)
    rotation, translation = script.said(pose, covariance)
    assert rotation.startswith("rotation 90.00 deg (sigma 0.50), quat_xyzw 0.00000 0.00000 0.70711")
    assert translation == "direction of translation 0.0000 0.0000 1.0000 (sigma 2.00 deg)"


def test_sigmas_are_scaled_for_the_estimate_that_the_factor_was_fitted_with(script, monkeypatch):
    images, used = [np.zeros((64, 128, 3), np.uint8)] * 2, {}

    def estimate(key, a, b, k_a, k_b, *, weights, **settings):
        used.clear()
        used.update(settings)
        pose = np.eye(4)
        pose[:3, 3] = (0, 0, 1)
        covariance = np.deg2rad(1.0) ** 2 * np.eye(5)
        return types.SimpleNamespace(
            b_from_a=pose, covariance=covariance, inliers=np.ones(9, bool), valid=True
        )

    monkeypatch.setattr(script, "estimate_relative_pose", estimate)
    own = script.robust_options(MatchConfig(threshold=0.8))
    points = {"matches_a": np.ones((9, 2)), "matches_b": np.ones((9, 2)), "weights": np.ones(9)}

    def said(threshold, **fitted):
        given = options(K=["1", "1", "0", "0"], threshold=threshold)
        cameras = [script.camera(given, side) for side in "ab"]
        matcher = lambda a, b: points | fitted  # noqa: E731
        return "\n".join(script.solve(matcher, images, cameras, given)[1])

    text = said(None, scale=np.float32(4), robust=own)
    assert used == own and used["score"] == "truncated" and "(sigma 2.00)" in text
    text = said(3.0, scale=np.float32(4), robust=own)
    assert used == {"threshold": 3.0} and "(sigma 1.00)" in text
    assert "not that of the calibration" in text
    text = said(None)
    assert used == {"threshold": 1.5} and "(sigma 1.00)" in text and "calibration" not in text


@pytest.mark.parametrize("mode", ["fundamental", "homography"])
def test_every_estimate_takes_the_threshold_of_the_weights(script, monkeypatch, mode):
    images, used = [np.zeros((64, 128, 3), np.uint8)] * 2, []

    def estimate(key, a, b, *, weights, threshold):
        used.append(threshold)
        return types.SimpleNamespace(inliers=np.zeros(9, bool), valid=False)

    monkeypatch.setattr(script, f"estimate_{mode}", estimate)
    points = {"matches_a": np.ones((9, 2)), "matches_b": np.ones((9, 2)), "weights": np.ones(9)}
    own = {"robust": script.robust_options(MatchConfig(threshold=0.8))}
    for threshold, found in ((None, points | own), (3.0, points | own), (None, points)):
        given = options(mode=mode, threshold=threshold)
        script.solve(lambda a, b, found=found: found, images, [None, None], given)
    assert used == [0.8, 3.0, script.THRESHOLD]


def test_intrinsics_are_read_in_every_form(script, tmp_path):
    expected = [[500, 0, 320.5], [0, 510, 240.5], [0, 0, 1]]  # the first centre is at (0.5, 0.5)
    file = tmp_path / "K.txt"
    file.write_text("500 0 320\n0 510 240\n0 0 1\n")
    for given in (["500", "510", "320", "240"], [str(file)]):
        np.testing.assert_allclose(script.camera(options(K=given), "a"), expected)
    assert script.camera(options(), "a") is None
    other = options(K=["1", "1", "0", "0"], K_b=[str(file)])
    np.testing.assert_allclose(script.camera(other, "b"), expected)


def test_bad_input_is_one_line_with_file_and_field(script, images, tmp_path, capsys):
    a, b = images
    (tmp_path / "small.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "tiny.png")
    (tmp_path / "K.txt").write_text("1 2 three 4")
    np.savez(tmp_path / "other.npz", **{"block1.0.layer.0.weight": np.zeros((4, 1, 3, 3))})
    np.savez(tmp_path / "parity.npz", stem=np.ones(3), block1=np.ones(3))
    (tmp_path / "video.json").write_text('{\n "frames": ["a.png", "b.png"]\n}\n')
    (tmp_path / "one.txt").write_text("a.png\n\n")
    features = tmp_path / "other.npz"
    for arguments, words in (
        ((a,), "IMAGE: 1 given; expected A and B"),
        ((a, b), "--weights: give"),
        ((a, b, "--weights", "none.npz"), "none.npz"),
        ((a, b, "--weights", features), "other.npz: tensors: skip1.1.weight: in the table but not"),
        (
            (a, b, "--weights", tmp_path / "parity.npz"),
            "parity.npz: arrays: stem, block1; expected weights of tinyroma, Tiny RoMa's",
        ),
        ((a, b, "--weights", features, "--K", "1", "2", "3"), "--K: numbers: 3; expected FX FY"),
        ((a, b, "--weights", features, "--K", tmp_path / "K.txt"), "K.txt: numbers: no number: 't"),
        ((a, b, "--weights", features, "--K", "-1", "1", "0", "0"), "--K: matrix: [["),
        ((a, b, "--weights", features, "--K-a", "1", "1", "0", "0"), "--K-a, --K-b: give both"),
        ((a, b, "--weights", features, "--longest", "8"), "--longest: 8"),
        (("--video", tmp_path / "no.txt"), "no.txt: file: "),
        (("--video", tmp_path / "one.txt"), "one.txt: frames: 1; expected"),
        (
            ("--video", tmp_path / "video.json"),
            "video.json: line 1: no file '{'; expected a folder of frames, or a text file",
        ),
        ((a, b, "--video", tmp_path), "--video: give either"),
    ):
        assert script.main([str(x) for x in arguments]) == 1
        said = capsys.readouterr().err
        assert words in said and len(said.splitlines()) == 1, said


def test_bad_images_are_named(script, images, tmp_path, capsys, monkeypatch):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "tiny.png")
    monkeypatch.setattr(script, "make_matcher", lambda options: None)
    for name, words in (
        ("bad.png", "bad.png: file: unreadable (it begins with b'no picture')"),
        ("tiny.png", "tiny.png: size: 8 x 8 pixels; expected at least 32"),
        ("none.png", "none.png: file: not found"),
    ):
        assert script.main([str(images[0]), str(tmp_path / name)]) == 1
        said = capsys.readouterr().err
        assert words in said and len(said.splitlines()) == 1, said


@pytest.mark.slow
def test_a_real_pair_and_a_sequence(data_dir, tmp_path):
    """The published features, without training, as a person runs it."""
    weights = data_dir("xfeat_weights") / "xfeat_folded.npz"
    folder = data_dir("sacre_coeur")
    pair = [folder / f"sacre_coeur_{side}.jpg" for side in "AB"]

    def run(*arguments):
        command = [sys.executable, SCRIPT, "--weights", weights, *arguments]
        done = subprocess.run(
            [str(x) for x in command], capture_output=True, text=True, timeout=600, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = run(*pair, "--out", tmp_path / "match.png")
    assert "guessed focal lengths 768, 768 px" in said
    angle = float(re.findall(r"rotation (\S+) deg", said)[0])
    inliers = int(re.findall(r"(\d+) inliers", said)[0])
    assert angle < 15 and inliers > 300
    assert (tmp_path / "match.png").stat().st_size > 100_000
    names = tmp_path / "frames.txt"
    names.write_text("\n".join(str(p) for p in (*pair, pair[0])))
    said = run("--video", names, "--fundamental", "--out", tmp_path / "pictures")
    assert said.count("inliers") == 2 and len(list((tmp_path / "pictures").glob("*.png"))) == 2
