"""From frames to examples: calibration that follows the pixels, what is missing or refused."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from posejax import bev
from posejax.config import ConfigError, replace
from posejax.data.cameras import project
from posejax.data.errors import DataError
from posejax.data.rig_frame import Boxes, LidarSweep
from posejax.data.rigid import se3_apply, se3_inverse, so3_exp
from posejax.systems.segnet.config import Augment
from posejax.systems.segnet.data import InfoFrames
from posejax.systems.segnet.views import grid_frame
from tests.systems.segnet.made_up import IMAGE, NAMES, MadeUp, camera, make_frame, pose_of


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return MadeUp(folder=str(tmp_path_factory.mktemp("frames")), count=2)


@pytest.fixture(scope="module")
def frame(data):
    return data.source("train").frames[0]


def example_of(data, frame, seed=0, train=False, **more):
    rng = np.random.default_rng(seed)
    return data.transform({"frame": frame, "index": 3, "scene": 1, **more}, rng, train)


def raise_by(height):
    pose = np.eye(4)
    pose[2, 3] = height
    return pose


def test_the_frame_of_the_grid_is_that_of_the_library():
    for yaw, pitch in ((0.3, 0.26), (2.0, -0.1)):
        pose = pose_of(yaw)
        pose[:3, :3] = pose[:3, :3] @ so3_exp(np.array([pitch, 0.0, 0.0]))
        np.testing.assert_allclose(grid_frame(pose, "level"), bev.level_frame(pose), atol=1e-6)
        np.testing.assert_array_equal(grid_frame(pose, "camera"), pose)
        ground = grid_frame(pose, "ground")
        np.testing.assert_allclose(ground[:2], bev.level_frame(pose)[:2], atol=1e-6)
        assert ground[2, 3] == 0


def test_a_volume_on_the_ground_does_not_rise_with_the_camera(data, frame):
    """The same car at the same height of the volume, whether the rig's cameras sit high or low."""
    raised = {
        name: dataclasses.replace(rig, ego_from_camera=raise_by(0.7) @ rig.ego_from_camera)
        for name, rig in frame.cameras.items()
    }
    higher = dataclasses.replace(frame, cameras=raised)

    def heights(frame, kind):
        grid = replace(data.grid, frame=kind)
        found = example_of(replace(data, grid=grid), frame)
        return found["grid_from_box"][found["box_present"], 1, 3]

    np.testing.assert_allclose(heights(higher, "ground"), heights(frame, "ground"), atol=1e-6)
    np.testing.assert_allclose(heights(higher, "level"), heights(frame, "level") + 0.7, atol=1e-6)


def test_entries_of_an_example(data, frame):
    found = example_of(data, frame)
    assert found["images"].shape == (4, *IMAGE, 3) and found["images"].dtype == np.uint8
    assert found["camera_mask"].all() and found["index"] == 3 and found["scene"] == 1
    np.testing.assert_allclose(found["intrinsics"], np.tile(camera().intrinsics, (4, 1, 1)))
    assert found["box_present"].tolist() == [True, True, True, False]
    ego = found["ego_from_grid"] @ found["grid_from_box"][:3]
    np.testing.assert_allclose(ego, frame.boxes.ego_from_box, atol=1e-6)
    assert not any(name.startswith(("lidar", "radar")) for name in found)


@pytest.mark.parametrize("seed", range(3))
def test_pixels_and_calibration_move_together(data, frame, tmp_path, seed):
    """A point of the world is seen where the augmented calibration projects it."""
    rng = np.random.default_rng(seed)
    point = se3_apply(pose_of(0.0), np.array([0.4, 0.2, 5.0]) + rng.uniform(-0.5, 0.5, 3))
    images = {}
    for name, rig in frame.cameras.items():
        xy, valid = project(se3_apply(se3_inverse(rig.ego_from_camera), point), camera().intrinsics)
        picture = np.zeros((*IMAGE, 3), np.uint8)
        if valid and camera().contains(xy):
            x, y = (int(v) for v in xy)
            picture[y - 1 : y + 2, x - 1 : x + 2] = 255
        images[name] = tmp_path / f"{name}.png"
        Image.fromarray(picture).save(images[name])
    dotted = dataclasses.replace(frame, images=images)
    moving = replace(data, augment=Augment((0.9, 1.4), 0.3, True))
    found = example_of(moving, dotted, seed, train=True)
    plain = example_of(data, dotted)
    assert not np.allclose(found["intrinsics"], plain["intrinsics"])
    local = se3_apply(se3_inverse(found["ego_from_grid"]), point)
    front = NAMES.index("FRONT")
    at, _ = project(se3_apply(found["camera_from_grid"][front], local), found["intrinsics"][front])
    weight = found["images"][front, ..., 0].astype(float)
    y, x = np.mgrid[0.5 : IMAGE[0], 0.5 : IMAGE[1]]
    seen = (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()
    np.testing.assert_allclose(seen, at, atol=1.0)


def test_the_reference_is_any_camera_but_the_first(data, frame):
    moving = replace(data, augment=Augment((1.0, 1.0), 0.0, True))
    yaws = set()
    for seed in range(20):
        pose = example_of(moving, frame, seed, train=True)["ego_from_grid"]
        yaws.add(round(float(np.rad2deg(np.arctan2(pose[1, 2], pose[0, 2])))) % 360)
    assert yaws == {0, 270, 180}
    assert np.allclose(example_of(moving, frame)["ego_from_grid"][:3, 2], [1, 0, 0])


@pytest.mark.parametrize("extrinsics", ["timed", "mounted"])
def test_the_reference_is_a_camera_that_is_there(data, frame, extrinsics):
    def yaws(*there):
        fewer = {
            field: {n: v for n, v in getattr(frame, field).items() if n in there}
            for field in ("cameras", "mounted", "images")
        }
        few = dataclasses.replace(frame, **fewer)
        moving = replace(data, extrinsics=extrinsics, augment=Augment((1.0, 1.0), 0.0, True))
        poses = [example_of(moving, few, s, train=True)["ego_from_grid"] for s in range(12)]
        return {round(float(np.rad2deg(np.arctan2(p[1, 2], p[0, 2])))) % 360 for p in poses}

    assert yaws("LEFT", "FRONT", "BACK") == {0, 180}
    # The first alone is never drawn: it is the reference of the grid if that names it, or none.
    with pytest.raises(DataError, match="no FRONT; the frame has LEFT"):
        yaws("LEFT")


def test_the_motion_between_two_times_counts_unless_it_is_ignored(data, tmp_path):
    moved = make_frame(tmp_path, 0, moved=0.4)
    timed = example_of(data, moved)
    mounted = example_of(replace(data, extrinsics="mounted"), moved)
    np.testing.assert_allclose(timed["ego_from_grid"][:3, 3], [0.4, 0, 1.5], atol=1e-6)
    np.testing.assert_allclose(mounted["ego_from_grid"][:3, 3], [0, 0, 1.5], atol=1e-6)


def test_what_is_missing_is_masked(data, frame):
    hidden = example_of(replace(data, hide=("LEFT",)), frame)
    assert hidden["camera_mask"].tolist() == [False, True, True, True]
    assert not hidden["images"][0].any()
    images = {k: v for k, v in frame.images.items() if k != "BACK"}
    assert not example_of(data, dataclasses.replace(frame, images=images))["camera_mask"][3]
    dropping = replace(data, augment=Augment((1.0, 1.0), 0.0, False, drop_camera=0.95))
    counts = {
        int(example_of(dropping, frame, s, train=True)["camera_mask"].sum()) for s in range(30)
    }
    assert min(counts) == 1
    with pytest.raises(ConfigError, match=r"system\.data\.hide: 'LEFTT'; did you mean LEFT"):
        replace(data, hide=("LEFTT",)).check()


def test_boxes_of_vehicles_the_nearest_ones(data, frame):
    old = frame.boxes
    label = np.array(["vehicle.car", "human.pedestrian.adult", "truck"])
    boxes = Boxes(old.size, old.ego_from_box, label, old.points, np.array([1, 4, 2]))
    found = example_of(data, dataclasses.replace(frame, boxes=boxes))
    assert found["box_present"].sum() == 2
    assert found["box_visible"].tolist() == [False, True, False, False]
    few = example_of(replace(data, most_boxes=1), dataclasses.replace(frame, boxes=boxes))
    far = np.linalg.norm(found["grid_from_box"][:2, :3, 3], axis=1)
    np.testing.assert_array_equal(few["grid_from_box"][0], found["grid_from_box"][far.argmin()])


def test_a_hidden_lidar_has_no_points(data, frame):
    hidden = example_of(replace(data, lidar=True, hide=("LIDAR",)), frame)
    assert not hidden["lidar_present"].any() and hidden["camera_mask"].all()
    with pytest.raises(ConfigError, match=r"system\.data\.hide: 'LIDAR'"):
        replace(data, hide=("LIDAR",)).check()  # examples have none


def test_points_are_thinned_padded_and_dropped(data, frame):
    points = example_of(replace(data, lidar=True), frame)
    assert points["lidar_points"].shape == (40, 3) and points["lidar_present"].all()
    ego = se3_apply(points["ego_from_grid"], points["lidar_points"])
    away = np.linalg.norm(ego[:, None] - frame.boxes.ego_from_box[None, :, :3, 3], axis=-1)
    assert away.min(1).max() < 1
    roomy = example_of(replace(data, lidar=True, lidar_points=64), frame)
    assert roomy["lidar_present"].sum() == 50
    off = replace(data, lidar=True, augment=Augment((1.0, 1.0), 0.0, False, drop_lidar=1.0))
    assert not example_of(off, frame, train=True)["lidar_present"].any()
    deaf = replace(data, radar=True)
    assert not example_of(deaf, frame)["radar_present"].any()  # of one frame, nothing is wrong
    with pytest.raises(ConfigError, match=r"system\.data\.radar: a made-up rig have none"):
        deaf.source("train")
    known = replace(deaf, lidar=True, hide=("RADAR", data.cameras[0]))
    assert len(known.source("train")) and not example_of(known, frame)["radar_present"].any()
    known.check_single("infos")  # it has none, which is what was said
    assert known.title == "a made-up rig; 3 cameras of 96 x 64 pixels, LiDAR"


def test_sweeps_of_other_data_sets_are_read(data, frame, tmp_path):
    """CARLA's files hold y to the right; of the past, as many sweeps as are asked for."""
    rows = np.array([[5.0, 1, 0, 0], [1.0, 1, 0, 0]], np.float32)  # the second is the vehicle
    np.save(tmp_path / "now.npy", rows)
    before = np.eye(4)
    before[0, 3] = 3.0
    past = tuple(LidarSweep(tmp_path / "now.npy", before, -0.05 * n) for n in (1, 2))
    driven = dataclasses.replace(frame, lidar=tmp_path / "now.npy", sweeps=past)
    for sweeps, places in ((1, [[5, -1, 0]]), (2, [[5, -1, 0], [8, -1, 0]])):
        found = replace(data, lidar=True, sweeps=sweeps).lidar_of(driven)
        np.testing.assert_allclose(found, places, atol=1e-6)


def test_a_plan_is_of_one_calibration(data, frame, tmp_path):
    planned = replace(data, **{"grid.lift": "plan"})
    source = planned.source("train")
    found = planned.transform(source[0], np.random.default_rng(0), False)
    np.testing.assert_allclose(found["camera_from_grid"], source.shared[1], atol=1e-6)
    moved = make_frame(tmp_path, 0, moved=0.4)
    moved.cameras["BACK"] = frame.cameras["BACK"]
    with pytest.raises(DataError, match=r"off the plan's by .*lift to dynamic"):
        example_of(planned, moved, calibration=source.shared)
    with pytest.raises(ConfigError, match="'plan' needs cameras that stay"):
        replace(planned, augment=Augment()).check()
    with pytest.raises(DataError, match="no SIDE"):
        replace(planned, cameras=("FRONT", "SIDE")).source("train")


def test_images_and_cameras_that_do_not_fit_are_refused(data, frame, tmp_path):
    Image.new("RGB", (10, 10)).save(tmp_path / "small.png")
    images = {**frame.images, "FRONT": tmp_path / "small.png"}
    with pytest.raises(DataError, match="10 x 10 pixels; expected 96 x 64"):
        example_of(data, dataclasses.replace(frame, images=images))
    lens = dataclasses.replace(camera(), distortion=np.array([0.1, 0, 0, 0, 0]))
    cameras = {**frame.cameras}
    cameras["FRONT"] = dataclasses.replace(cameras["FRONT"], camera=lens)
    with pytest.raises(DataError, match="undistorted"):
        example_of(data, dataclasses.replace(frame, cameras=cameras))
    with pytest.raises(DataError, match="no TOP"):
        example_of(replace(data, **{"grid.reference": "TOP"}), frame)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"size": (60, 96)}, "multiples of 16"),
        ({"grid.shape": (20, 2, 16)}, "multiples of 8"),
        ({"grid.lower": (9.0, 0.0, 0.0)}, "less than"),
        ({"augment.resize": (1.2, 0.8)}, "smaller factor first"),
        ({"augment.drop_camera": 2.0}, "drop_camera: 2.0"),
        ({"vehicles": ("car", "tru(ck")}, r"vehicles: 'tru\(ck', missing \)"),
        ({"cameras": ()}, "none; expected at least one"),
    ],
)
def test_settings_that_cannot_work_are_refused(data, changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(data, **changes).check()


def test_the_real_sample(data_dir):
    """13 vehicles, six cameras, the sweep, 0.33 m of motion at the front camera."""
    root = str(data_dir("nuscenes_sample"))
    data = InfoFrames(root=root, size=(112, 208), lidar=True)
    source = data.source("val")
    found = data.transform(source[0], np.random.default_rng(0), False)
    assert found["camera_mask"].all() and found["lidar_present"].sum() > 20_000
    assert found["box_present"].sum() == 13
    mounted = replace(data, extrinsics="mounted").transform(
        source[0], np.random.default_rng(0), False
    )
    motion = np.linalg.norm(mounted["ego_from_grid"][:3, 3] - found["ego_from_grid"][:3, 3])
    assert motion == pytest.approx(0.33, abs=0.01)
