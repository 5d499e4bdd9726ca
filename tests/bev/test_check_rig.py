"""Every usual mistake, made on purpose, is named; a right rig raises no alarm."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from posejax.bev import MISTAKES
from posejax.data.conventions import axes_matrix
from posejax.data.mmdet_infos import read_infos
from tests.bev.broken_rigs import MADE, real, rotation, simulated

# Two mistakes at once, of one kind and of two.
PAIRS = [
    ("inverse", "half_extents"),
    ("degrees_as_radians", "half_extents"),
    ("opengl_axes", "negated_yaw"),
    ("stale_ego_pose", "half_pixel"),
    ("unreal_axes", "left_handed_boxes"),
    ("swapped_cameras", "bottom_origin"),
    # The later one, undone first, is not the one that shows first.
    ("radians_as_degrees", "mirrored_camera"),
    ("translation_in_centimetres", "stale_ego_pose"),
    # What is searched for among many shows only with the other undone.
    ("camera_to_world", "degrees_as_radians"),
    ("transposed_intrinsics", "half_pixel"),
    ("half_extents", "no_translation"),
]
#: Pairs that come to no mistake, to others, or to nothing that has an inverse.
CANCELLING = [
    {"quat_wxyz_as_xyzw", "quat_xyzw_as_wxyz"},
    {"degrees_as_radians", "radians_as_degrees"},
    {"half_extents", "double_extents"},
    {"half_pixel", "one_based"},
    {"left_handed_boxes", "left_handed_ego"},
]


@pytest.fixture(scope="module")
def scene():
    return simulated(0)


@pytest.fixture(scope="module")
def sample(data_dir):
    return real(read_infos(data_dir("nuscenes_sample") / "infos.json")[0])


def test_every_mistake_is_made_here():
    assert MADE.keys() == MISTAKES.keys() | {"no_translation", "half_pixel", "one_based"}


@pytest.mark.parametrize("seed", range(6))
def test_no_alarm_on_right_rigs(seed):
    report = simulated(seed, cameras=4 + seed % 3).check()
    assert report.ok and report.score > 0.95 and "no mistake" in str(report)


@pytest.mark.parametrize("name", sorted(MADE))
def test_a_mistake_is_named(scene, name):
    report = MADE[name](scene).check()
    assert report.mistakes == (name,)
    assert name in str(report) and not report.ok
    right = scene.check()
    np.testing.assert_allclose(report.mended_score, right.score, atol=2e-3)


def test_the_mended_rig_is_the_right_one(scene):
    for name in ("inverse", "degrees_as_radians", "swapped_cameras", "stale_ego_pose"):
        mended = MADE[name](scene).check().mended
        np.testing.assert_allclose(mended.ego_from_camera, scene.poses, atol=1e-9)
        np.testing.assert_allclose(mended.intrinsics, scene.k)


def test_cameras_without_translations_are_placed(scene):
    report = MADE["no_translation"](scene).check()
    places = report.mended.ego_from_camera[:, :3, 3]
    np.testing.assert_allclose(places, scene.poses[:, :3, 3], atol=0.05)
    assert f"({places[0, 0]:.2f}, {places[0, 1]:.2f}" in report.advice[0]
    # Cameras that are all at the ego frame's origin are right there.
    here = simulated(1, spread=0)
    assert not here.poses[:, :3, 3].any() and here.check().ok
    assert MADE["half_extents"](here).check().mistakes == ("half_extents",)


@pytest.mark.parametrize("first, second", PAIRS)
def test_two_mistakes_are_named(scene, first, second):
    report = MADE[second](MADE[first](scene)).check()
    assert set(report.mistakes) == {first, second}
    assert len(report.advice) == 2 and report.mended_score > 0.95


def test_the_real_rig(sample):
    report = sample.check(reference=0)
    assert report.ok and report.score == pytest.approx(0.947, abs=0.005)
    for name in ("inverse", "stale_ego_pose", "half_pixel"):
        assert MADE[name](sample).check().mistakes == (name,)


@pytest.mark.slow
def test_every_mistake_of_the_real_rig(sample):
    wrong = {name: make(sample).check() for name, make in MADE.items()}
    assert {name: report.mistakes for name, report in wrong.items()} == {n: (n,) for n in MADE}
    # What touches few boxes, or moves them little, leaves more; all else is far off.
    fine = {"half_pixel", "one_based", "negated_yaw", "stale_ego_pose", "width_before_length"}
    fine.add("swapped_cameras")
    assert max(wrong[name].score for name in MADE.keys() - fine) < 0.54


def test_a_pitched_reference_camera(scene):
    poses = scene.poses.copy()
    poses[0, :3, :3] = rotation(0.1, np.deg2rad(15), 0) @ axes_matrix("body", "camera")
    away = replace(scene, poses=poses)
    keep = scene.camera != 0  # what camera 0 saw was seen from another pose
    away = replace(
        away, camera=scene.camera[keep], box=scene.box[keep], corners=scene.corners[keep]
    )
    assert away.check().ok and scene.check(reference=0).ok
    report = away.check(reference=0)
    assert report.mistakes == ("pitched_reference",)
    assert "15.0 degrees" in report.advice[0] and "13.4 m" in report.advice[0]


@pytest.mark.slow
def test_drawn_pairs_are_named():
    """All that two mistakes can be told by: what neither cancels the other, nor is below a pixel's
    noise, nor was made of what is no rotation."""
    rng, missed = np.random.default_rng(3), {}
    pairs = list(itertools.permutations(sorted(MADE), 2))
    for row in rng.permutation(len(pairs))[:60]:
        first, second = pairs[row]
        report = MADE[second](MADE[first](simulated(int(row)))).check()
        if set(report.mistakes) != {first, second}:
            missed[first, second] = report
    for pair, report in missed.items():
        right = report.ok and set(pair) in CANCELLING
        alike = report.mended_score > 0.96  # other names for the same rig
        hidden = pair[1] in ("half_pixel", "one_based") or "no_translation" in pair
        mirrored = {"left_handed_ego", "mirrored_camera"} & set(pair) and "quat" in str(pair)
        assert right or alike or hidden or mirrored, (pair, str(report))
    print(f"{60 - len(missed)} of 60 named; not: {missed.keys()}")
    assert len(missed) <= 3


@pytest.mark.slow
def test_what_nothing_explains(scene):
    rng = np.random.default_rng(0)
    turned = scene.poses.copy()
    turned[:, :3, :3] = [rotation(*rng.uniform(-3, 3, 3)) for _ in turned]
    mixed = replace(scene, poses=turned, box=scene.box[rng.permutation(len(scene.box))])
    assert mixed.check().mistakes == ("unknown",)


def test_what_is_refused(scene):
    with pytest.raises(ValueError, match="no annotation"):
        replace(
            scene, camera=scene.camera[:0], box=scene.box[:0], corners=scene.corners[:0]
        ).check()
    with pytest.raises(ValueError, match=r"corners is \[\d+, 4\]"):
        replace(scene, corners=scene.corners[:, :3]).check()
    with pytest.raises(ValueError, match="rows beyond"):
        replace(scene, camera=scene.camera + 1).check()
    with pytest.raises(ValueError, match="finite"):
        replace(scene, poses=scene.poses * np.nan).check()
