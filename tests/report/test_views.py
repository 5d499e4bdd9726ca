"""Poses drawn into pictures: pixels by hand, and what cannot be seen is said."""

import numpy as np
from scipy.spatial.transform import Rotation

from posejax.report.views import Drawn, View, closer, pose_panels, project


def pose_of(t, q):
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = Rotation.from_quat(q).as_matrix(), t
    return pose


def test_projection_is_that_of_a_pinhole_camera():
    """By hand: a quarter turn about z takes body x to camera y; the view looks to the right."""
    pose = pose_of([0, 0, 4], [0, 0, np.sqrt(0.5), np.sqrt(0.5)])
    k = np.array([[100.0, 0, 64], [0, 200, 32], [0, 0, 1]])
    np.testing.assert_allclose(project(np.zeros((1, 3)), pose, np.eye(3), k), [[64, 32]])
    np.testing.assert_allclose(
        project(np.array([[0.4, 0.2, 0]]), pose, np.eye(3), k), [[59, 52]], atol=1e-12
    )  # X_camera = (-0.2, 0.4, 4)
    right = np.array([[0, 0, -1.0], [0, 1, 0], [1, 0, 0]])
    aside = pose_of([5, 1, 0], [0, 0, 0, 1])
    np.testing.assert_allclose(project(np.zeros((1, 3)), aside, right, k), [[64, 72]])
    assert np.isnan(project(np.zeros((1, 3)), aside, -right, k)).all()  # behind
    assert np.isnan(project(np.zeros((1, 3)), np.full((4, 4), np.nan), right, k)).all()


def test_the_window_is_close_around_small_things_and_whole_around_large_ones():
    small = np.array([[100.0, 20.0], [110.0, 30.0], [np.nan, 0.0]])
    left, right, top, bottom = closer(small, [], (128, 64))
    assert (left, right, top, bottom) == (97, 113, 17, 33)
    inside, outside = np.array([[90.0, 20.0]]), np.array([[200.0, 20.0], [90.0, 20.0]])
    assert closer(small, [inside], (128, 64))[0] < 90
    assert closer(small, [outside], (128, 64)) == (97, 113, 17, 33)
    assert closer(np.array([[0.0, 0.0], [100.0, 60.0]]), [], (128, 64)) == (0, 128, 0, 64)
    assert closer(np.full((2, 2), np.nan), [], (128, 64)) == (0, 128, 0, 64)


def test_poses_that_cannot_be_seen_are_said():
    view = View(np.eye(3), np.array([[100.0, 0, 32], [0, 100, 32], [0, 0, 1]]))
    upright, picture = [0, 0, 0, 1], np.ones((64, 64, 3))
    poses = [
        Drawn("truth", pose_of([0, 0, 5], upright), "#000000"),
        Drawn("behind", pose_of([0, 0, -5], upright), "#ff0000"),
        Drawn("lost", np.full((4, 4), np.nan), "#00ff00"),
    ]
    figure = pose_panels(picture, picture, view, poses, title="seen", kinds={})
    assert [a.get_title(loc="left") for a in figure.axes] == ["seen", "body axes, 0.5 m long"]
    labels = [t.get_text() for t in figure.axes[-1].get_legend().get_texts()]
    assert labels[3:] == ["truth", "behind (behind the camera)", "lost (not finite)"]
