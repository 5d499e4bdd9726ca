"""Simulated streets on disk: determinism, disjoint splits, caching, crashes, one common truth."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from posejax.data import av2
from posejax.sim import Aerial, Drive, Lidar, StreetSettings, build_street_world, ensure_streets
from posejax.sim import generate as generate_module
from posejax.sim.paint import Canvas, disc, rectangle
from posejax.sim.roads import make_roads

SMALL = {
    "street": StreetSettings(half_extent=40.0, ground_margin=4.0, ground_cell=0.2),
    "lidar": Lidar(azimuths=180),
    "aerial": Aerial(cell_size=0.4),
    "drive": Drive(margin=15.0),
    "quiet": True,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("streets")
    return root, ensure_streets(root, "train", 2, 3, seed=5, **SMALL)


def snapshot(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_layout_is_complete_and_readable(dataset):
    _, folder = dataset
    logs = av2.list_logs(folder)
    assert [log.name for log in logs] == ["sim-train-5-0000", "sim-train-5-0001"]
    for log in logs:
        times, poses = av2.read_poses(log)
        assert [av2.sweep_timestamp(p) for p in av2.list_sweeps(log)] == times.tolist()
        photo, ground = av2.read_orthophoto(log), av2.read_ground_height(log)
        assert photo.rgb.shape == (200, 200, 3) and photo.cell_size == 0.4
        for time_ns, pose in zip(times, poses, strict=True):
            sweep = av2.read_sweep(log / "sensors" / "lidar" / f"{time_ns}.feather")
            assert len(sweep) > 0.4 * 180 * 64
            # The ground under the LiDAR's points is where the map says, whatever the tilt.
            city = sweep.xyz @ pose[:3, :3].T + pose[:3, 3]
            height = city[:, 2] - ground.at(city[:, :2])
            assert np.nanpercentile(height, 5) > -0.15 and abs(np.nanmedian(height)) < 0.5
            # Inside the photo by the margin.
            inside = pose[:2, 3] - (photo.x_min, photo.y_min)
            assert (inside > 14.9).all() and (inside < 65.1).all()
        assert len(av2.read_vector_map(log).lane_segments) >= 2


def test_second_call_writes_nothing_and_another_setting_is_another_folder(dataset, monkeypatch):
    root, folder = dataset
    monkeypatch.setattr(generate_module, "write_log", None)  # would raise if it were called
    assert ensure_streets(root, "train", 2, 3, seed=5, **SMALL) == folder
    settings = json.loads((folder.parent / "settings.json").read_text())
    assert settings["street"]["half_extent"] == 40.0
    monkeypatch.setattr(generate_module, "ensure_items", lambda *a, **k: None)
    others = [
        ensure_streets(root, "train", 2, 3, seed=6, **SMALL),
        ensure_streets(root, "train", 2, 4, seed=5, **SMALL),
        ensure_streets(root, "val", 2, 3, seed=5, **SMALL),
        ensure_streets(root, "train", 2, 3, seed=5, **SMALL | {"lidar": Lidar(azimuths=181)}),
        ensure_streets(root, "train", 2, 3, seed=5, **SMALL | {"aerial": Aerial(cell_size=0.41)}),
    ]
    monkeypatch.setattr(generate_module, "VERSION", -1)
    others.append(ensure_streets(root, "train", 2, 3, seed=5, **SMALL))
    assert len({folder, *others}) == 7


def test_interrupted_run_leaves_whole_worlds_and_resumes_to_the_same_bytes(
    dataset, tmp_path, monkeypatch
):
    _, folder = dataset
    write_map = av2.write_vector_map
    calls = []

    def fail_in_the_second_world(log_dir, vector_map):
        calls.append(log_dir)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return write_map(log_dir, vector_map)

    monkeypatch.setattr(generate_module.av2, "write_vector_map", fail_in_the_second_world)
    with pytest.raises(OSError, match="No space"):
        ensure_streets(tmp_path, "train", 2, 3, seed=5, **SMALL)
    (half,) = tmp_path.glob("streets-*/train")
    assert [p.name for p in half.iterdir()] == ["sim-train-5-0000"]
    monkeypatch.undo()
    done = ensure_streets(tmp_path, "train", 2, 3, seed=5, **SMALL)
    assert snapshot(done) == snapshot(folder)
    assert not (done.parent / ".scratch").exists()


@pytest.mark.slow
def test_killed_process_leaves_whole_worlds_only(dataset, tmp_path):
    _, folder = dataset
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); import test_streets_sim as t\n"
        "t.ensure_streets(sys.argv[1], 'train', 2, 3, seed=5, **t.SMALL)"
    )
    here = tmp_path / "code"
    here.mkdir()
    with open(__file__) as source:
        (here / "test_streets_sim.py").write_text(source.read())
    for delay in (0.0, 0.4):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "out"), str(here)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        deadline = time.time() + 200
        while not list(tmp_path.glob("out/*/.scratch/*/sensors")) and process.poll() is None:
            assert time.time() < deadline, "no world was ever started"
            time.sleep(0.02)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for log in tmp_path.glob("out/streets-*/train/*"):
            assert snapshot(log) == snapshot(folder / log.name)
    done = ensure_streets(tmp_path / "out", "train", 2, 3, seed=5, **SMALL)
    assert snapshot(done) == snapshot(folder)


def test_world_is_a_pure_function_of_its_seed():
    settings = SMALL["street"]
    one, same, other = (build_street_world(s, settings) for s in ((1, 0, 2), (1, 0, 2), (1, 0, 3)))
    for a, b in zip(jax.tree.leaves(one.scene), jax.tree.leaves(same.scene), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (np.asarray(one.scene.textures.texels) != other.scene.textures.texels).any()
    # The permanent things are common to both scenes; the cars are not.
    assert (one.scene.ellipsoids.centre == one.aerial_scene.ellipsoids.centre).all()
    assert (one.scene.boxes.centre != one.aerial_scene.boxes.centre).any()


def test_splits_never_share_a_world():
    seen = {}
    for split in range(3):
        for world in range(40):
            rng = np.random.default_rng(np.random.SeedSequence((0, split, world)).spawn(7)[0])
            roads = make_roads(rng, 72.0)
            seen[roads[0].points.tobytes()] = (split, world)
    assert len(seen) == 120


def mark_offsets(value_at, vector_map):
    """Offset to the left (metres) at which solid yellow centre lines are brightest."""
    points, sides = [], []
    for lane in vector_map.lane_segments:
        # The lanes of one direction only: the others see a shift with the opposite sign.
        if has_solid_centre(lane) and lane.left[-1, 0] > lane.left[0, 0] and len(lane.left) > 3:
            step = np.gradient(lane.left[:, :2], axis=0)
            step /= np.linalg.norm(step, axis=1, keepdims=True)
            points.append(lane.left[1:-1, :2])
            sides.append(np.stack([-step[:, 1], step[:, 0]], 1)[1:-1])
    points, sides = np.concatenate(points), np.concatenate(sides)
    offsets = np.arange(-0.6, 0.601, 0.05)
    values = np.array([np.nanmean(value_at(points + d * sides)) for d in offsets])
    weight = np.clip(values - np.median(values) - 0.3 * np.ptp(values), 0, None)
    return (weight * offsets).sum() / weight.sum()


@pytest.mark.slow
def test_photo_sweeps_and_map_agree_on_where_the_marks_are(tmp_path):
    """Sub-decimetre truth: both sensors put the painted lines where the vector map has them."""
    settings = StreetSettings(half_extent=50.0)
    worlds = (build_street_world((seed,), settings) for seed in range(60))
    world = next(w for w in worlds if any(map(has_solid_centre, w.vector_map.lane_segments)))
    aerial, drive = Aerial(registration_sigma=0.0), Drive(margin=20.0)
    lidar = Lidar(azimuths=2000)
    log = tmp_path / "log"
    generate_module.write_log(log, world, (0,), 4, lidar, aerial, drive)
    photo, vector_map = av2.read_orthophoto(log), av2.read_vector_map(log)

    def photo_at(xy):
        pixel = np.floor((xy - (photo.x_min, photo.y_min)) / photo.cell_size).astype(int)
        ok = ((pixel >= 0) & (pixel < len(photo.rgb))).all(1)
        return photo.rgb[pixel[ok, 1], pixel[ok, 0], 0].astype(float)

    assert abs(mark_offsets(photo_at, vector_map)) < 0.05
    points, intensity = [], []
    for path in av2.list_sweeps(log):
        pose, sweep = av2.pose_at(log, av2.sweep_timestamp(path)), av2.read_sweep(path)
        city = sweep.xyz @ pose[:3, :3].T + pose[:3, 3]
        low = np.abs(city[:, 2] - world.city_offset[2]) < 0.1
        points.append(city[low, :2])
        intensity.append(sweep.intensity[low])
    points, intensity = np.concatenate(points), np.concatenate(intensity)
    corner, cell = points.min(0), 0.1
    index = ((points - corner) / cell).astype(int)
    total, count = np.zeros((2, *(index.max(0) + 1)))
    np.add.at(total, tuple(index.T), intensity)
    np.add.at(count, tuple(index.T), 1)
    raster = np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def sweep_at(xy):
        pixel = np.floor((xy - corner) / cell).astype(int)
        ok = ((pixel >= 0) & (pixel < raster.shape)).all(1)
        return raster[tuple(pixel[ok].T)]

    assert abs(mark_offsets(sweep_at, vector_map)) < 0.06


def has_solid_centre(lane) -> bool:
    return lane.left_mark_type in ("SOLID_YELLOW", "DOUBLE_SOLID_YELLOW")


def test_lanes_chain_up_and_lie_inside_the_map():
    for seed in range(4):
        world = build_street_world((9, seed), SMALL["street"])
        lanes = {lane.id: lane for lane in world.vector_map.lane_segments}
        assert len(lanes) == len(world.vector_map.lane_segments)
        for lane in lanes.values():
            span = np.abs(lane.left[:, :2] - world.city_offset[:2])
            assert span.max() < world.half_extent + 8.0
            # The left boundary is on the left of the driving direction.
            ahead = lane.right[-1] - lane.right[0]
            across = lane.left[0] - lane.right[0]
            assert ahead[0] * across[1] - ahead[1] * across[0] > 0
            for follower in lane.successors:
                np.testing.assert_allclose(lanes[follower].left[0], lane.left[-1], atol=1e-6)
                assert lane.id in lanes[follower].predecessors


def test_painted_area_is_the_polygon_area(rng):
    canvas = Canvas(10.0, 0.1)
    for _ in range(20):
        length, width = rng.uniform(0.1, 6.0, 2)
        polygon = rectangle(rng.uniform(-5, 5, 2), length, width, rng.uniform(-3, 3))
        share = canvas.patch(polygon)[1].sum() * 0.01
        assert share == pytest.approx(length * width, rel=0.02, abs=0.01)
    assert canvas.patch(disc((1.0, 2.0), 2.0))[1].sum() * 0.01 == pytest.approx(np.pi * 4, rel=0.01)
    window, share = canvas.patch(rectangle((1.0, -2.0), 0.4, 0.2, 0.0))
    layer = np.zeros((200, 200))
    layer[window] = share
    assert layer.sum() == pytest.approx(8) and layer[79:81, 108:112].min() == pytest.approx(1)


def test_adjacent_quads_leave_no_seam():
    canvas = Canvas(5.0, 0.1)
    halves = [rectangle((-1.0, 0.03), 2.0, 1.0, 0.0), rectangle((1.0, 0.03), 2.0, 1.0, 0.0)]
    layer = canvas.coverage(halves)
    assert layer[47:53, 35:65].min() == 255


def test_bad_arguments():
    with pytest.raises(ValueError, match="split must be one of train, val, test"):
        ensure_streets("/nowhere", "training", 1)
    with pytest.raises(ValueError, match="at least 1 world"):
        ensure_streets("/nowhere", "train", 0)
