"""examples/label_rgbd_frame.py: a folder of one's own to clouds, and one line for bad input."""

import importlib.util
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from posejax.config import Experiment, TrainConfig
from posejax.data.ply import read_ply
from posejax.data.rigid import se3_apply, se3_inverse, so3_exp
from posejax.data.scannet import NYU40
from posejax.systems.bifusion import Bifusion, OwnFrames, SimulatedRooms
from posejax.systems.bifusion.data import SIMULATED_CLASSES
from posejax.systems.bifusion.frames import moved, upright_from_world
from posejax.train import save_weights
from tests.systems.bifusion.made_up import SIZE, TINY, K, corner

SCRIPT = Path(__file__).resolve().parents[3] / "examples" / "label_rgbd_frame.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("label_rgbd_frame", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_corner(folder: Path) -> np.ndarray:
    """A frame in 7-Scenes' names, in a world whose z axis lies; its points."""
    frame, stem = corner(0), folder / "frame-000000"
    pose = frame["camera_from_world"].astype(np.float64)
    depth = (frame["points"] @ pose[:3, :3].T + pose[:3, 3])[:, 2].reshape(SIZE)
    lying = np.eye(4)
    lying[:3, :3] = so3_exp([0, 0.6, 0]) @ so3_exp([1.2, 0, 0])
    pose = pose @ se3_inverse(lying)
    folder.mkdir()
    np.savetxt(folder / "gravity-direction.txt", -lying[:3, 2:3])
    Image.fromarray(frame["image"]).save(f"{stem}.color.png")
    Image.fromarray(np.rint(1000 * depth).astype(np.uint16)).save(f"{stem}.depth.png")
    np.savetxt(f"{stem}.pose.txt", se3_inverse(pose))
    return se3_apply(lying, frame["points"])


def test_a_folder_of_frames(script, tmp_path, monkeypatch, capsys):
    """By weights as they are saved; nothing was trained, so any class will do."""
    system = Bifusion(SimulatedRooms(size=SIZE, points=400), TINY)
    shapes = jax.eval_shape(system._variables, jax.random.key(0))
    params, state = jax.tree.map(lambda s: np.full(s.shape, 0.01, s.dtype), shapes)
    experiment = Experiment("made_up", system, TrainConfig(steps=1))
    path = save_weights(tmp_path / "made_up.npz", params, state, experiment)
    points = write_corner(tmp_path / "own")
    out = tmp_path / "of" / "mine" / "frame.ply"  # folders that are not there yet
    # As OpenCV gives them: the first pixel's centre at (0, 0).
    camera = float(K[0, 0]), float(K[1, 1]), float(K[0, 2] - 0.5), float(K[1, 2] - 0.5)
    call = ["label", str(tmp_path / "own"), "--weights", str(path), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [*call, "--K", *map(str, camera)])
    assert script.main() == 0 and "400 points" in capsys.readouterr().out
    cloud = read_ply(out, needs=("x", "y", "z", "red", "label", "probability", "gate"))
    found = cloud.columns("x", "y", "z")
    away = np.linalg.norm(found[:, None] - points[None], axis=-1).min(1)
    assert len(found) == 400 and away.max() < 2e-3
    data = OwnFrames(folder=call[1], intrinsics=camera, size=SIZE)
    record = data.source("val")[0]
    lying = record["frame"]
    # Without the file, the level camera tells the same.
    (tmp_path / "own" / "gravity-direction.txt").unlink()
    np.testing.assert_allclose(data.source("val")[0]["frame"].up, lying.up, atol=1e-6)
    standing = {**record, "frame": moved(lying, upright_from_world(lying.up))}
    seen = data.transform(standing, np.random.default_rng(0), False)
    floor = seen["points"][seen["mask"]][-100:]  # the image's last rows
    assert np.ptp(floor[:, 2]) < 0.01 < 0.3 < np.ptp(record["frame"].points[-100:, 2])
    with np.load(out.with_suffix(".npz")) as features:
        numbers = [NYU40.index(name) + 1 for name in SIMULATED_CLASSES]
        np.testing.assert_array_equal(np.array(numbers)[features["class"]], cloud.vertices["label"])
        np.testing.assert_allclose(np.linalg.norm(features["features"], axis=1), 1, rtol=1e-5)
    assert out.with_suffix(".png").stat().st_size > 10_000
    for more, message in (
        (["--frame", "1"], "--frame 1: there are 1 frames"),
        (["--out", "cloud.png"], "--out cloud.png: expected a name that ends in .ply"),
        (["--points", "0"], "system.data.points"),
        (["--weights", "georeg_sim"], "georeg_sim: weights of Georeg, not Bifusion"),
        (["--points", "-1"], "system.data.points"),
        (["--out", str(path / "frame.ply"), "--frame", "1"], "choose another with --out"),
    ):
        monkeypatch.setattr(sys, "argv", [*call, *more])
        assert script.main() == 1 and message in capsys.readouterr().err
