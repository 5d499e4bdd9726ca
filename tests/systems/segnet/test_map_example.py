"""examples/map_from_cameras.py: maps of a folder of one's own, and one line for bad input."""

import importlib.util
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from posejax.bev import VoxelGrid, box_targets
from posejax.config import Experiment, TrainConfig, replace
from posejax.systems.segnet import Segnet, SimulatedDrives
from posejax.systems.segnet.boxes import padded_boxes
from posejax.train import save_weights
from tests.systems.segnet.made_up import GRID, boxes_of
from tests.systems.segnet.test_drives import write_carla
from tests.systems.segnet.test_system import MODEL

SCRIPT = Path(__file__).resolve().parents[3] / "examples" / "map_from_cameras.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("map_from_cameras", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_folder_of_carla(script, tmp_path, monkeypatch, capsys):
    """By weights of another rig that has radar, as they are saved; nothing was trained, so any map
    will do. The folder has no radar, and then no LiDAR either: sensors that are missing."""
    data = SimulatedDrives(grid=GRID, size=(32, 48), lidar=True, lidar_points=64, radar=True)
    system = Segnet(data, replace(MODEL, radar="occupancy"))
    shapes = jax.eval_shape(system._variables, jax.random.key(0))
    params, state = jax.tree.map(lambda s: np.full(s.shape, 0.01, s.dtype), shapes)
    experiment = Experiment("made_up", system, TrainConfig(steps=1))
    path = save_weights(tmp_path / "made_up.npz", params, state, experiment)
    write_carla(tmp_path / "own", drives=1)
    call = ["map", str(tmp_path / "own" / "drive0"), "--weights", str(path)]
    monkeypatch.setattr(sys, "argv", [*call, "--frame", "1", "--out", str(tmp_path / "map.png")])
    assert script.main() == 0 and (tmp_path / "map.png").stat().st_size > 10_000
    out = capsys.readouterr().out
    assert "picture" in out and "without RADAR: " in out
    (tmp_path / "own" / "drive0" / "sweep.npy").unlink()
    assert script.main() == 0 and "without LIDAR and RADAR: " in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "frames.json").write_text('{"cameras": {}, "frames": []}')
    monkeypatch.setattr(sys, "argv", ["map", str(tmp_path / "empty"), *call[2:]])
    assert script.main() == 1 and "expected at least one key frame" in capsys.readouterr().err
    for more, message in (
        (["--frame", "2"], "--frame 2: there are 2 key frames"),
        (["--reference", "TOP"], "no TOP; the frame has FRONT, RIGHT"),
        (["--weights", "georeg_sim"], "georeg_sim: weights of Georeg, not of Segnet"),
    ):
        monkeypatch.setattr(sys, "argv", [*call, *more])
        assert script.main() == 1 and message in capsys.readouterr().err


def test_vehicles_are_where_the_boxes_are(script):
    """From the maps that a perfect network would make."""
    grid = replace(GRID, shape=(64, 2, 64))
    boxes, up = boxes_of(2), np.eye(4)
    up[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    entries = padded_boxes(boxes, ("vehicle.*",), up, 4)
    voxels = VoxelGrid(grid.shape, grid.lower, grid.upper)
    maps = box_targets(
        entries["box_size"], entries["grid_from_box"], entries["box_visible"],
        entries["box_present"], grid=voxels, sigma=3.0,
    )  # fmt: skip
    shown = {"probability": maps.segmentation, "center": maps.center, "offset": maps.offset}
    shown = {name: np.asarray(value) for name, value in shown.items()}
    found = script.vehicles(shown, SimulatedDrives(grid=grid))
    true = entries["grid_from_box"][:3, [0, 2], 3]
    away = np.linalg.norm(found[:, None, :2] - true, axis=-1)
    assert len(found) == 3 and away.min(0).max() < 0.5
    np.testing.assert_allclose(found[:, 2] / 16, 6.0, rtol=0.2)  # 3 m x 2 m of quarter-metre cells
