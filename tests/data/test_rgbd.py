"""RGB-D frames: what the readers hand on agrees between frames, on real ones too."""

import numpy as np
import pytest
from PIL import Image

from posejax.data.errors import DataError
from posejax.data.rgbd_frames import list_frames, read_frame
from posejax.data.rgbd_points import back_project, depth_agreement, into_image, sample_colors
from posejax.data.rigid import nearest_rigid, se3_inverse
from posejax.data.sevenscenes import INTRINSICS, list_sequences
from tests.systems.tinyroma.pair_data import write_scannet_export, write_seven_scenes


@pytest.fixture(scope="module")
def real(data_dir):
    """Frames 0 and 50 of a 7-Scenes recording."""
    files = {f.name: f for f in list_frames(data_dir("sevenscenes_rgbd"))}
    return [read_frame(files[f"frame-{number:06d}"]) for number in (0, 50)]


def test_a_real_frame_is_whole_in_its_own_camera(real):
    frame = real[0]
    world_from_camera = nearest_rigid(frame.world_from_camera)
    np.testing.assert_allclose(world_from_camera, frame.world_from_camera, atol=3e-4)
    points, pixels = back_project(frame.depth, frame.intrinsics, world_from_camera)
    assert len(points) == 273_943
    camera_from_world = se3_inverse(world_from_camera)
    seen = into_image(points, frame.intrinsics, camera_from_world, frame.depth.shape)
    assert seen.valid.mean() == 1.0
    np.testing.assert_allclose(seen.z, frame.depth.reshape(-1)[pixels], atol=1e-9)
    colors = frame.image.reshape(-1, 3)[pixels]
    np.testing.assert_allclose(sample_colors(frame.image, seen.xy), colors, atol=1e-6)

    def ratio(pose, points=points):
        return into_image(points, frame.intrinsics, pose, frame.depth.shape).valid.mean()

    np.testing.assert_allclose(ratio(frame.world_from_camera), 0.061, atol=1e-3)
    np.testing.assert_allclose(ratio(camera_from_world, points - points.mean(0)), 0.009, atol=1e-3)


def test_real_frames_agree_in_depth(real):
    a, b = real
    points, _ = back_project(a.depth, a.intrinsics, a.world_from_camera)
    right = depth_agreement(points, b.depth, b.intrinsics, se3_inverse(b.world_from_camera))
    assert right.agreeing >= 0.95 and right.overlap > 0.7 and right.median < 0.01
    wrong = depth_agreement(points, b.depth, b.intrinsics, b.world_from_camera)
    assert wrong.agreeing < 0.05
    seen = depth_agreement(
        points, b.depth, b.intrinsics, se3_inverse(b.world_from_camera), hidden=0.05
    )
    assert right.agreeing < seen.agreeing


def test_no_depth_is_written_in_two_ways(tmp_path):
    write_seven_scenes(tmp_path)
    depth = np.array(Image.open(tmp_path / "frame-000000.depth.png"))
    depth[0, :2] = 0, 65535
    Image.fromarray(depth).save(tmp_path / "frame-000000.depth.png")
    frame = read_frame(list_frames(tmp_path)[0])
    assert (frame.depth[0, :2] == 0).all() and (frame.depth.reshape(-1)[2:] > 0).all()
    assert frame.semantic is None and frame.instance is None


def test_labels_follow_the_image(tmp_path):
    write_scannet_export(tmp_path)
    for kind in ("label-filt", "instance-filt"):
        (tmp_path / kind).mkdir()
    labels = np.arange(96 * 128, dtype=np.uint16).reshape(96, 128)
    Image.fromarray(labels).save(tmp_path / "label-filt/1.png")
    things = np.arange(48 * 64).reshape(48, 64).astype(np.uint8)
    Image.fromarray(things).save(tmp_path / "instance-filt/1.png")
    files = list_frames(tmp_path)
    assert files[0].semantic is None
    frame = read_frame(files[1])
    np.testing.assert_array_equal(frame.semantic, labels)
    np.testing.assert_array_equal(frame.instance, things.repeat(2, 0).repeat(2, 1))
    for bad, message in (
        (np.zeros((96, 128, 3), np.uint8), "colour mode"),
        (np.zeros((96, 96), np.uint8), "aspect ratio"),
    ):
        Image.fromarray(bad).save(tmp_path / "label-filt/1.png")
        with pytest.raises(DataError, match=f"1.png: .*{message}"):
            read_frame(files[1])


def test_sequences_of_a_seven_scenes_split(tmp_path):
    scene = tmp_path / "chess"
    for number in (1, 2):
        (scene / f"seq-{number:02d}").mkdir(parents=True)
        write_seven_scenes(scene / f"seq-{number:02d}")
        (scene / f"seq-{number:02d}/camera-intrinsics.txt").unlink()
    (scene / "TrainSplit.txt").write_text("sequence1\nsequence2\n")
    (scene / "TestSplit.txt").write_text("seq3\n")
    found = list_sequences(scene, "train")
    assert [name for name, _ in found] == ["chess/seq-01", "chess/seq-02"]
    k = read_frame(found[0][1][0]).intrinsics
    np.testing.assert_allclose([k[0, 0], k[1, 1], k[0, 2] - 0.5, k[1, 2] - 0.5], INTRINSICS)
    with pytest.raises(DataError, match=r"TestSplit.txt: line 1: 'seq3'"):
        list_sequences(scene, "test")
    assert len(list_sequences(scene / "seq-01", "train")[0][1]) == 3
    with pytest.raises(DataError, match=r"TrainSplit.txt: file: not found"):
        list_sequences(tmp_path, "train")
