"""Every usual mistake is named on real frames and on simulated ones; right data raise no alarm."""

import dataclasses

import numpy as np
import pytest

from posejax.data.images import read_image
from posejax.data.rgbd_check import check_rgbd, view_of
from posejax.data.rgbd_frames import list_frames, read_frame
from posejax.data.rgbd_mistakes import RgbdView
from posejax.data.sunrgbd import read_sunrgbd, read_sunrgbd_points
from tests.data.broken_rgbd import IN_PROJECTION, IN_RECORDING

#: What is tried in every run; the others are slow for their number.
QUICK_PROJECTION = ("transposed_rotation", "half_pixel", "swapped_channels", "zero_centred")
QUICK_RECORDING = (
    "inverted_pose", "transposed_rotation", "depth_in_millimetres", "intrinsics_of_half_size",
)  # fmt: skip


def seven_scenes(request):
    folder = request.getfixturevalue("data_dir")("sevenscenes_rgbd")
    return [read_frame(list_frames(folder)[k]) for k in (0, 2, 4, 8)]


def simulated(request):
    folder = request.getfixturevalue("small_scans")[1][0]
    return [read_frame(list_frames(folder)[k]) for k in (5, 6, 8, 10)]


@pytest.fixture(scope="module", params=[seven_scenes, simulated], ids=lambda make: make.__name__)
def frames(request):
    return request.param(request)


def test_right_data_raise_no_alarm(frames):
    report = check_rgbd(view_of(frame) for frame in frames)
    assert report.ok, str(report)
    assert report.valid == 1 and report.color_rmse < 1e-6 and report.agreement > 0.85
    assert report.mended == (report.valid, report.color_rmse, report.agreement)
    assert "no mistake found" in str(report)


def found(views, name: str) -> None:
    report = check_rgbd(views)
    assert report.mistakes == (name,), str(report)
    assert len(report.advice) == 1 and report.advice[0] in str(report)


@pytest.mark.parametrize("case", QUICK_PROJECTION)
def test_a_mistake_between_points_and_image_is_named(frames, case):
    name, make = IN_PROJECTION[case]
    found([make(view_of(frame)) for frame in frames], name)


@pytest.mark.parametrize("case", QUICK_RECORDING)
def test_a_mistake_in_the_recording_is_named(frames, case):
    name, make = IN_RECORDING[case]
    views = [view_of(make(frame)) for frame in frames]
    assert check_rgbd([dataclasses.replace(v, depth=None) for v in views]).ok, (
        "a frame agrees with itself whatever it was made from"
    )
    found(views, name)


@pytest.mark.slow
def test_all_mistakes_are_named(frames):
    for name, make in IN_PROJECTION.values():
        found([make(view_of(frame)) for frame in frames], name)
    for name, make in IN_RECORDING.values():
        found([view_of(make(frame)) for frame in frames], name)


def test_poses_of_another_recording_are_not_taken_for_a_usual_mistake(frames, rng):
    views = [view_of(frame) for frame in frames]
    poses = [view.camera_from_world for view in views]
    turn = np.eye(4)
    turn[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn[:3, :3] *= np.linalg.det(turn[:3, :3])
    views = [
        view_of(dataclasses.replace(frame, world_from_camera=np.linalg.inv(pose @ turn) @ turn))
        for frame, pose in zip(frames, poses[::-1], strict=True)
    ]
    assert check_rgbd(views).mistakes == ("unknown",)


def test_points_that_came_without_depth(data_dir):
    frame = read_sunrgbd(data_dir("sunrgbd_000017") / "infos.json")[0]
    points, colors = read_sunrgbd_points(frame.points)
    image = read_image(frame.image, convert="RGB")
    view = RgbdView(points, colors, image, frame.intrinsics, frame.camera_from_world)
    report = check_rgbd([view])
    assert report.ok and report.color_rmse < 0.5 and np.isnan(report.agreement)
    for case in ("one_based", "half_pixel", "swapped_channels", "opengl_axes"):
        name, make = IN_PROJECTION[case]
        found([make(view)], name)
    with pytest.raises(ValueError, match="nothing to judge by"):
        check_rgbd([])


def test_frames_that_see_nothing_of_one_another_are_no_evidence(frames):
    """Of the first frame, and of one that looks the other way from elsewhere."""
    turn = np.diag([-1.0, 1, -1, 1])
    pose = frames[1].world_from_camera @ turn
    pose[:3, 3] += 3 * pose[:3, 2]
    views = [view_of(frames[0]), view_of(dataclasses.replace(frames[1], world_from_camera=pose))]
    report = check_rgbd(views)
    assert report.ok and np.isnan(report.agreement)
