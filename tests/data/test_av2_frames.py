"""Frames of Argoverse 2: the nearest images, their own times, and the boxes of the real log."""

import numpy as np
import pytest
from PIL import Image

from posejax.data import av2
from posejax.data.av2_frames import read_av2_frames
from posejax.data.cameras import Camera
from posejax.data.errors import DataError

TIME = 315_970_000_000_000_000
NAMES = ("ring_front_center", "ring_rear_left", "ring_side_left")


@pytest.fixture
def log(tmp_path):
    """Three sweeps, of which two have boxes; the vehicle drives ten metres per second along x."""
    times = TIME + np.arange(3) * 100_000_000
    stamps = np.sort(np.concatenate([times, times + 20_000_000]))
    poses = np.tile(np.eye(4), (len(stamps), 1, 1))
    poses[:, 0, 3] = (stamps - TIME) * 1e-8
    av2.write_poses(tmp_path, stamps, poses)
    mount = np.eye(4)
    mount[:3, 3] = 1.5, 0, 1.4
    camera = Camera(np.array([[50.0, 0, 32], [0, 50.0, 24], [0, 0, 1]]), (48, 64))
    av2.write_cameras(tmp_path, {name: av2.RigCamera(name, camera, mount) for name in NAMES})
    ones = np.ones(5, np.uint8)
    for time in times:
        sweep = av2.Sweep(np.ones((5, 3), np.float32), ones, ones, np.zeros(5, np.int32))
        av2.write_sweep(tmp_path / f"sensors/lidar/{time}.feather", sweep)
    for name, own in ((NAMES[0], times + 20_000_000), (NAMES[1], times[:1] + 20_000_000)):
        folder = tmp_path / "sensors/cameras" / name
        folder.mkdir(parents=True)
        for time in own:
            Image.new("RGB", (64, 48)).save(folder / f"{time}.jpg")
    box = np.eye(4)
    box[:3, 3] = 20, 2, 1
    text = np.array(["BUS", "BUS"], object)
    tracks = np.array(["a", "b"], object)
    size, both = np.tile([4.0, 2.0, 1.5], (2, 1)), np.stack([box, box])
    boxes = av2.Annotations(times[[0, 2]], tracks, text, size, both, np.array([5, 6]))
    av2.write_annotations(tmp_path, boxes)
    return tmp_path


def test_frames(log):
    frames = read_av2_frames(log)
    assert [list(frame.cameras) for frame in frames] == [list(NAMES[:2]), [NAMES[0]]]
    first, last = frames
    assert last.time - first.time == pytest.approx(0.2, abs=1e-6)
    # The image was taken 20 ms, 0.2 m, after the sweep.
    np.testing.assert_allclose(last.cameras[NAMES[0]].ego_from_camera[:3, 3], (1.7, 0, 1.4))
    np.testing.assert_allclose(last.mounted[NAMES[0]][:3, 3], (1.5, 0, 1.4))
    assert last.times[NAMES[0]] - last.time == pytest.approx(0.02, abs=1e-6)
    np.testing.assert_allclose(last.world_from_ego[:3, 3], (2, 0, 0))
    boxes = last.boxes
    told = boxes.label, boxes.instance, boxes.points, boxes.visibility
    assert [values.tolist() for values in told] == [["BUS"], ["b"], [6], [4]]
    assert last.lidar.name == f"{TIME + 200_000_000}.feather"
    with pytest.raises(DataError, match="ring_none"):
        read_av2_frames(log, ["ring_none"])
    with pytest.raises(DataError, match="images"):
        read_av2_frames(log, [NAMES[2]])


def test_returns_lie_in_the_boxes_of_the_real_log(data_dir, tmp_path):
    """The real log has neither images nor calibration: its boxes and sweeps alone."""
    log = data_dir("av2_adcf7d18")
    for name in ("annotations.feather", "city_SE3_egovehicle.feather", "sensors"):
        (tmp_path / name).symlink_to(log / name)
    camera = Camera(np.eye(3) * [[50.0], [50.0], [1.0]], (48, 64))
    av2.write_cameras(tmp_path, {"none": av2.RigCamera("none", camera, np.eye(4))})
    frames = read_av2_frames(tmp_path)
    assert frames and not frames[0].cameras
    frame = frames[0]
    points = av2.read_sweep(frame.lidar).xyz.astype(np.float64)
    counts = []
    for pose, size in zip(frame.boxes.ego_from_box, frame.boxes.size, strict=True):
        local = (points - pose[:3, 3]) @ pose[:3, :3]
        counts.append((np.abs(local) <= size / 2 + 0.05).all(-1).sum())
    assert np.median(np.abs(counts - frame.boxes.points)) <= 2
