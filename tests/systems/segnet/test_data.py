"""Data sets by name: what they need, and simulated drives read as nuScenes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from posejax import cli
from posejax.config import ConfigError, replace
from posejax.data.rigid import se3_inverse
from posejax.sim.driving_rigs import RIGS
from posejax.systems.segnet import VAN_CAMERAS, GridConfig, InfoFrames, NuScenes, SimulatedDrives
from posejax.systems.segnet.config import STILL
from posejax.systems.segnet.data import recalibrated
from tests.systems.segnet.made_up import make_frame

GRID = GridConfig((32, 2, 32), (-16.0, -1.0, -16.0), (16.0, 2.0, 16.0))


@pytest.mark.parametrize(
    "data, message",
    [
        (InfoFrames(), "root: not given; expected a folder with infos.json"),
        (InfoFrames(root="x", lidar=True, sweeps=3), "sweeps: 3; expected 1: infos"),
        (InfoFrames(root="x", radar=True), "radar: infos have none; .* add RADAR"),
        (NuScenes(), "root: not given; expected the folder of nuScenes"),
        (NuScenes(root="x"), "train_scenes: not given; expected a text file"),
        (SimulatedDrives(val_scenes=0), "val_scenes: 0; expected >= 1"),
    ],
)
def test_what_is_missing_is_named(data, message):
    with pytest.raises(ConfigError, match=message):
        data.check()


def test_the_official_splits_of_the_mini_set_need_no_file():
    NuScenes(root="x", version="v1.0-mini").check()


def test_an_untold_change_of_vehicle_moves_the_cameras_but_not_the_car(tmp_path):
    """The motion between the camera's time and the frame's stays; where it is mounted changes."""
    frame = make_frame(tmp_path, 0, moved=0.4)
    old, mounted = frame.cameras["FRONT"], frame.mounted["FRONT"]
    named = dataclasses.replace(
        frame, cameras={"CAM_FRONT": old, "OTHER": old}, mounted={"CAM_FRONT": mounted}
    )
    found = recalibrated(named, "van")
    mount = RIGS["van"].cameras[1]
    new = found.cameras["CAM_FRONT"]
    np.testing.assert_array_equal(found.mounted["CAM_FRONT"], mount.ego_from_camera)
    motion = old.ego_from_camera @ se3_inverse(mounted)
    np.testing.assert_allclose(new.ego_from_camera, motion @ mount.ego_from_camera, atol=1e-12)
    assert abs(motion[0, 3]) == pytest.approx(0.4)
    assert new.camera.intrinsics[0, 0] == pytest.approx(0.66 * old.camera.size[1])
    assert found.cameras["OTHER"] is old


@pytest.mark.parametrize(
    "name, text",
    [
        ("segnet_sim", "--data.hide LIDAR RADAR CAM_FRONT"),
        ("segnet_sim", "--data.no-lidar --data.no-radar --model.no-lidar --model.radar none"),
        ("segnet_sim", "--system.baseline prior"),
        ("segnet_nuscenes", "--model.bfloat16"),
        ("segnet_av2", "--data.lidar --model.lidar --data.lidar-points 100000"),
    ],
)
def test_options_that_a_config_names_are_options(name, text):
    """A switch takes no value: `--data.lidar True` is refused."""
    path = Path(__file__).resolve().parents[3] / "configs" / f"{name}.py"
    assert text in " ".join(path.read_text().split())
    (changed,) = cli.parse_train(["--config", str(path), *text.split()]).experiments
    assert changed.system != cli.load_config(str(path)).system


@pytest.mark.slow
def test_simulated_drives_have_all_sensors(tmp_path):
    """Two rigs through the same reader, with all that their sensors saw."""
    for rig, cameras in (("nuscenes", SimulatedDrives().cameras), ("van", VAN_CAMERAS)):
        data = SimulatedDrives(
            rig=rig,
            cameras=cameras,
            grid=GRID,
            size=(64, 96),
            image=(64, 96),
            train_scenes=1,
            frames_a_scene=2,
            lidar=True,
            radar=True,
            lidar_points=4000,
            augment=STILL,
            root=str(tmp_path),
        )
        assert data.simulated and "simulated" in data.title
        source = data.source("train")
        found = data.transform(source[1], np.random.default_rng(0), True)
        assert found["camera_mask"].all() and found["images"].shape == (len(cameras), 64, 96, 3)
        assert found["images"].std() > 10 and found["scene"] == 0 and len(source) == 2
        assert found["lidar_present"].sum() > 500 and found["radar_present"].any()
        assert found["radar_values"].shape == (700, 16)
        ahead = found["lidar_points"][found["lidar_present"]]
        assert np.median(ahead[:, 1]) > 0.5  # y points down: the road lies below the camera
        told = replace(data, calibrated_as=rig).transform(
            replace(data, calibrated_as=rig).source("train")[1], np.random.default_rng(0), True
        )
        for name in ("intrinsics", "camera_from_grid"):  # its own calibration again
            np.testing.assert_allclose(told[name], found[name], atol=1e-4)
        with pytest.raises(ConfigError, match="'plan' needs cameras"):
            replace(data, grid=replace(GRID, lift="plan"), augment=replace(STILL, crop=0.1)).check()
