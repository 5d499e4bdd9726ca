"""Scans of rooms: read as ScanNet is, right in depth, pose and labels; nothing is made twice."""

import dataclasses

import numpy as np
import pytest

from posejax.data.rgbd_frames import list_frames, read_frame
from posejax.data.rgbd_points import back_project, depth_agreement, into_image
from posejax.data.rigid import se3_inverse
from posejax.sim.room_scans import ensure_scans
from posejax.sim.rooms import CLASSES, RoomSettings, build_room, room_of_split
from tests.sim.scans import SMALL_SCANS


def test_scans_are_read_as_scannet_and_agree_with_the_room(small_scans):
    shares = []
    for number, folder in enumerate(small_scans[1]):
        room = room_of_split("val", number, settings=SMALL_SCANS.room)
        boxes = {box.instance: box for box in room.boxes}
        frames = [read_frame(files) for files in list_frames(folder)]
        assert len(frames) == 12
        clouds = []
        for frame in frames:
            assert frame.image.shape == (48, 64, 3) and frame.image.std() > 5
            np.testing.assert_allclose(frame.intrinsics[:2, 2], (32, 24), atol=1e-9)
            points, pixels = back_project(frame.depth, frame.intrinsics, frame.world_from_camera)
            own = se3_inverse(frame.world_from_camera)
            assert into_image(points, frame.intrinsics, own, (48, 64)).valid.mean() == 1
            assert (np.abs(points[:, :2]) < room.size[:2] / 2 + 0.01).all()
            assert frame.semantic is not None and frame.instance is not None
            label, thing = (x.reshape(-1)[pixels] for x in (frame.semantic, frame.instance))
            assert set(np.unique(frame.semantic)) <= set(CLASSES.values())
            for instance in np.unique(thing[thing > 0]):
                box, mask = boxes[instance], thing == instance
                assert (label[mask] == box.label).all()
                local = (points[mask] - box.centre) @ box.world_from_box[:3, :3]
                within = (np.abs(local) <= box.size / 2 + 0.01).all(-1)
                shares.append(within.mean())
            clouds.append(points)
        for a, b in zip(clouds, frames[1:], strict=False):
            pose = se3_inverse(b.world_from_camera)
            found = depth_agreement(a, b.depth, b.intrinsics, pose, hidden=0.05)
            assert found.overlap < 0.3 or found.agreeing > 0.8, found
    assert np.min(shares) == 1 and len(shares) > 15


def test_a_scan_is_made_once_and_more_rooms_add_to_them(small_scans):
    root, folders = small_scans
    before = [(path, path.stat().st_mtime_ns) for path in sorted(root.rglob("*.png"))]
    again = ensure_scans(root, "val", 1, SMALL_SCANS, threads=1, quiet=True)
    assert again == folders[:1]
    assert before == [(path, path.stat().st_mtime_ns) for path in sorted(root.rglob("*.png"))]
    other = dataclasses.replace(SMALL_SCANS, frames=1)
    assert ensure_scans(root, "val", 1, other, threads=1, quiet=True)[0] not in folders
    with pytest.raises(ValueError, match="at least 1"):
        ensure_scans(root, "val", 0, SMALL_SCANS)


def test_lookalikes_are_added_to_a_room_that_stays_as_it_is():
    plain, more = (build_room(5, RoomSettings(texel=0.05, lookalikes=n)) for n in (0, 6))
    added = len(more.boxes) - len(plain.boxes)
    assert 1 <= added <= 6
    for a, b in zip(plain.boxes, more.boxes, strict=False):
        np.testing.assert_array_equal(a.centre, b.centre)
        np.testing.assert_array_equal(a.size, b.size)
        same = CLASSES["picture"], CLASSES["whiteboard"]
        assert a.label == b.label or (a.label, b.label) == same
    new = [box.label for box in more.boxes[-added:]]
    assert set(new) <= {CLASSES[name] for name in ("box", "night stand", "bag")}
    whiteboards = [
        sum(box.label == CLASSES["whiteboard"] for box in build_room(k, RoomSettings(
            texel=0.05, lookalikes=1)).boxes)
        for k in range(4)
    ]  # fmt: skip
    assert sum(whiteboards) >= 1
