"""Boxes and LiDAR: each mistake made by hand is named; real and simulated frames raise no alarm."""

import numpy as np
import pytest

from posejax.bev import check_lidar
from posejax.data.mmdet_infos import read_infos, read_nuscenes_points
from posejax.data.rigid import se3_exp, se3_inverse


@pytest.fixture(scope="module")
def scene():
    """Twenty boxes around the vehicle with returns on their sides, a LiDAR with x to the right."""
    rng = np.random.default_rng(0)
    away, around = rng.uniform(6, 30, 20), np.linspace(0, 2 * np.pi, 20, endpoint=False)
    size = np.stack([rng.uniform(3.5, 9, 20), rng.uniform(1.6, 2.4, 20), np.full(20, 1.6)], 1)
    boxes = np.stack([se3_exp([0, 0, 0, 0, 0, yaw]) for yaw in rng.uniform(-3, 3, 20)])
    boxes[:, :3, 3] = np.stack([away * np.cos(around), away * np.sin(around), np.full(20, 0.8)], 1)
    inner = rng.uniform(-0.48, 0.48, (20, 40, 3))
    axis = rng.integers(0, 2, (20, 40))
    np.put_along_axis(inner, axis[..., None], np.sign(inner[..., :1]) * 0.49, axis=2)
    ego = np.einsum("nij,npj->npi", boxes[:, :3, :3], inner * size[:, None])
    ego = ego + boxes[:, None, :3, 3]
    ground = np.concatenate([rng.uniform(-40, 40, (6000, 2)), rng.normal(-0.2, 0.05, (6000, 1))], 1)
    pose = se3_exp([0, 0, 0, 0.01, 0.02, -1.55])
    pose[:3, 3] = 0.9, 0.1, 1.8
    points = np.concatenate([ego.reshape(-1, 3), ground]) - pose[:3, 3]
    return points @ pose[:3, :3], pose, size, boxes, np.full(20, 40)


def turned_yaw(boxes):
    out = boxes.copy()
    out[:, [0, 1], [1, 0]] *= -1
    return out


QUARTER = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # x forward, y left -> x right, y forward
BROKEN = {
    "inverse": lambda p, t, s, b: (p, se3_inverse(t), s, b),
    "left_handed_points": lambda p, t, s, b: (p * [1, -1, 1], t, s, b),
    "right_forward_points": lambda p, t, s, b: (p @ QUARTER.T, t, s, b),
    "forward_left_points": lambda p, t, s, b: (p @ QUARTER, t, s, b),
    "points_in_ego": lambda p, t, s, b: (p @ t[:3, :3].T + t[:3, 3], t, s, b),
    "half_extents": lambda p, t, s, b: (p, t, s / 2, b),
    "width_before_length": lambda p, t, s, b: (p, t, s[:, [1, 0, 2]], b),
    "negated_yaw": lambda p, t, s, b: (p, t, s, turned_yaw(b)),
    "left_handed_boxes": lambda p, t, s, b: (
        p, t, s, np.diag([1.0, -1, 1, 1]) @ b @ np.diag([1.0, -1, 1, 1]),
    ),
}  # fmt: skip


def test_a_right_one(scene):
    report = check_lidar(*scene)
    assert report.ok and report.score > 0.95 and report.boxes == 20
    assert "no mistake found" in str(report)


@pytest.mark.parametrize("name", BROKEN)
def test_each_mistake_is_named(scene, name):
    *given, counts = scene
    report = check_lidar(*BROKEN[name](*given), counts)
    assert report.mistakes == (name,) and report.mended_score > 0.95
    assert name in str(report)


def test_two_mistakes(scene):
    *given, counts = scene
    report = check_lidar(*BROKEN["half_extents"](*BROKEN["left_handed_points"](*given)), counts)
    assert set(report.mistakes) == {"half_extents", "left_handed_points"}


def test_what_no_mistake_explains(scene):
    points, pose, size, boxes, counts = scene
    assert check_lidar(points + np.full(3, 9.0), pose, size, boxes, counts).mistakes == ("unknown",)
    with pytest.raises(ValueError, match="nothing to judge by"):
        check_lidar(points, pose, size, boxes, np.zeros(20, int))
    with pytest.raises(ValueError, match="points"):
        check_lidar(points, pose, size[1:], boxes, counts)


def test_the_real_sample(data_dir):
    (frame,) = read_infos(data_dir("nuscenes_sample") / "infos.json")
    points = read_nuscenes_points(frame.lidar)[:, :3].astype(np.float64)
    boxes = frame.boxes
    given = frame.ego_from_lidar, boxes.size, boxes.ego_from_box, boxes.points
    report = check_lidar(points, *given)
    assert report.ok and report.score > 0.9, report
    mirrored = check_lidar(points * [1, -1, 1], *given)
    assert mirrored.mistakes == ("left_handed_points",)
