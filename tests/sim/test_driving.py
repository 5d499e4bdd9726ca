"""Simulated drives, as the reader of nuScenes' layout gives them back."""

from dataclasses import replace

import numpy as np
import pytest

from posejax.checking import check, lidar_report
from posejax.data.images import read_image
from posejax.data.mmdet_infos import read_nuscenes_points
from posejax.data.nuscenes import read_nuscenes
from posejax.data.radar_pcd import RADAR_FIELDS, read_radar, usable_returns
from posejax.data.rigid import rotation_angle, se3_apply, se3_inverse
from posejax.sim.driving_rigs import RIGS
from posejax.sim.driving_scenes import TABLES, DrivingSettings, ensure_driving
from posejax.sim.driving_towns import TownSettings, build_town
from posejax.sim.sensors import Lidar
from posejax.sim.streets import StreetSettings
from posejax.sim.traffic import boxes_at

# Pictures and sweeps of as many rays share a compiled caster.
SETTINGS = DrivingSettings(
    image_size=(64, 112),
    frames=2,
    sweeps=1,
    town=TownSettings(
        StreetSettings(ground_cell=0.5, parked_share=0.9, traffic_spacing=10.0), margin=25.0
    ),
    lidar=Lidar(tuple(np.linspace(-25.0, 5.0, 64).tolist()), azimuths=112, max_range=75.0),
)
SPEED = {name: i for i, name in enumerate(RADAR_FIELDS)}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("driving")


@pytest.fixture(scope="module")
def folder(root):
    return ensure_driving(root, "val", 2, SETTINGS, threads=1, quiet=True)


@pytest.fixture(scope="module")
def frames(folder):
    return list(read_nuscenes(folder, TABLES, sweeps=3))


def test_frames_are_whole(frames):
    assert len(frames) == 4
    assert len({f.world_from_ego[0, 3] // 100 for f in frames}) > 1  # each scene in its own town
    rig = RIGS["nuscenes"]
    for frame in frames:
        assert list(frame.cameras) == [mount.name for mount in rig.cameras]
        assert set(frame.radar) == {mount.name for mount in rig.radars}
        for mount in rig.cameras:
            assert read_image(frame.images[mount.name]).shape == (64, 112, 3)
            assert frame.times[mount.name] - frame.time == pytest.approx(mount.lag_s, abs=2e-6)
            given = frame.mounted[mount.name]
            np.testing.assert_allclose(given, mount.ego_from_camera, atol=1e-9)
            # What the vehicle drove in between: at most 11 m/s for 43 ms.
            moved = frame.cameras[mount.name].ego_from_camera
            assert 0 < np.linalg.norm(moved[:3, 3] - given[:3, 3]) < 0.55
            assert rotation_angle(moved[:3, :3], given[:3, :3]) < 0.01
        assert set(frame.boxes.label.tolist()) <= {"vehicle.car", "vehicle.truck"}
    assert [len(frame.sweeps) for frame in frames] == [1, 3, 1, 3]
    labels = np.concatenate([frame.boxes.label for frame in frames])
    levels = np.concatenate([frame.boxes.visibility for frame in frames])
    assert len(set(labels)) == 2 and set(levels) == {1, 2, 3, 4}


def test_boxes_sit_on_the_painted_vehicles(frames):
    """The borders of painted pixels are what the projected boxes say; stale poses are noticed."""
    reports = [check(frame) for frame in frames]
    assert [report.mistakes for report in reports] == [()] * len(frames)
    assert np.mean([report.score for report in reports]) > 0.8
    assert check(frames[1], mounted=True).score < reports[1].score


def test_an_inverted_pose_is_named(frames):
    frame = max(frames, key=lambda f: sum(len(seen.box) for seen in f.image_boxes.values()))
    turned = {
        name: replace(rig, ego_from_camera=se3_inverse(rig.ego_from_camera))
        for name, rig in frame.cameras.items()
    }
    assert check(replace(frame, cameras=turned)).mistakes[0] == "inverse"


def test_returns_of_the_lidar_lie_in_their_boxes(frames):
    for frame in frames:
        points = se3_apply(frame.ego_from_lidar, read_nuscenes_points(frame.lidar)[:, :3])
        assert len(points) > 3000
        for size, pose, count in zip(
            frame.boxes.size, frame.boxes.ego_from_box, frame.boxes.points, strict=True
        ):
            local = se3_apply(se3_inverse(pose), points)
            # The range's noise takes some out of the box; what stands beside it may lean in.
            inside = (np.abs(local) < size / 2 + 0.08).all(-1).sum()
            assert abs(inside - count) <= 2 + 0.1 * count
    assert sum(frame.boxes.points.sum() for frame in frames) > 100
    reports = [lidar_report(frame) for frame in frames if (frame.boxes.points >= 5).any()]
    assert reports and all(report.ok and report.score > 0.7 for report in reports)


def test_past_sweeps_fit_the_present_one(frames):
    """Walls stay where they are once the motion of the vehicle is taken out."""
    frame = frames[1]
    now = se3_apply(frame.ego_from_lidar, read_nuscenes_points(frame.lidar)[:, :3])
    assert frame.sweeps[2].time - frame.time == pytest.approx(-0.55, abs=1e-6)
    past = frame.sweeps[2]
    points = read_nuscenes_points(past.file)[:, :3]

    def off(ego_from_lidar):
        before = se3_apply(ego_from_lidar, points)
        high = before[before[:, 2] > 1.0][::5]
        return np.median(np.linalg.norm(high[:, None] - now[None], axis=-1).min(1))

    assert off(past.ego_from_lidar) < 0.75 * off(frame.ego_from_lidar)


def test_doppler_is_that_of_the_drive(frames):
    """Of what stands still, radars measure their own speed; moving cars are among the rest."""
    for frame, after in ((frames[0], frames[1]), (frames[2], frames[3])):
        ego_from_after = se3_inverse(frame.world_from_ego) @ after.world_from_ego
        speed = np.linalg.norm(ego_from_after[:3, 3]) / (after.time - frame.time)
        for radar in frame.radar.values():
            returns = read_radar(radar.file)
            assert len(returns) > 3 and usable_returns(returns).all()
            still = returns[returns[:, SPEED["dyn_prop"]] == 1]
            direction = still[:, :2] / np.linalg.norm(still[:, :2], axis=1, keepdims=True)
            forward = radar.ego_from_radar[:2, :2].T @ [1.0, 0.0]
            relative = (still[:, SPEED["vx"] : SPEED["vy"] + 1] * direction).sum(1)
            error = np.abs(relative + speed * (direction @ forward))
            assert np.median(error) < 0.8  # the mean speed of half a second, a little turning


def test_a_scene_is_a_function_of_seed_and_number(root, folder, tmp_path):
    again = ensure_driving(tmp_path, "val", 1, SETTINGS, threads=1, quiet=True)
    scene = "sim-val-0-0000"
    names = [p.relative_to(folder) for p in (folder / scene).rglob("*") if p.is_file()]
    assert len(names) == 2 * (6 + 5 + 2) + 14
    assert all((again / name).read_bytes() == (folder / name).read_bytes() for name in names)
    with pytest.raises(ValueError, match="no rig"):
        ensure_driving(root, "val", 1, replace(SETTINGS, rig="bicycle"))


def test_tables_that_an_interrupted_run_left_out_are_written(root, folder):
    tables = {path: path.read_bytes() for path in (folder / TABLES).iterdir()}
    assert len(tables) == 14
    for name in ("image_annotations", "ego_pose"):
        (folder / TABLES / f"{name}.json").unlink()
    assert ensure_driving(root, "val", 2, SETTINGS, threads=1, quiet=True) == folder
    assert {path: path.read_bytes() for path in (folder / TABLES).iterdir()} == tables


def test_trucks_grow_from_the_ground_and_no_two_vehicles_share_a_place():
    town = build_town((0, 1, 0), SETTINGS.town, 1.0)
    for seconds in (0.0, 0.7):
        boxes = boxes_at(town.world, seconds)
        assert min(box.centre[2] - box.size[2] / 2 for box in boxes) > 0.2
        centres = np.array([box.centre[:2] for box in boxes])
        away = np.linalg.norm(centres[:, None] - centres[None], axis=-1) + 99 * np.eye(len(boxes))
        assert away.min() > 1.9
        ego = town.drive.pose(seconds)[:2, 3]
        assert np.linalg.norm(centres - ego, axis=1).min() > 1.9
    trucks = [b for b in boxes_at(town.world, 0.0) if town.category[b.instance] == "vehicle.truck"]
    assert trucks and min(box.size[2] for box in trucks) > 1.8
