"""Readers of frames of a vehicle's rig."""

from collections.abc import Callable
from pathlib import Path

from posejax.data.mmdet_infos import read_infos, read_nuscenes_points
from posejax.data.nuscenes import read_names, read_nuscenes
from posejax.data.radar_pcd import read_radar
from posejax.data.rig_frame import RigFrame
from tests.data import nuscenes_tree
from tests.data.test_mmdet_infos import write_sample
from tests.fuzz.cases import Case, finite


def check_frame(frame: RigFrame) -> None:
    """What a damaged file may at most change are the numbers, not that they are some."""
    boxes = frame.boxes
    finite(boxes.size, boxes.ego_from_box, frame.ego_from_lidar, frame.world_from_ego)
    columns = boxes.label, boxes.points, boxes.visibility, boxes.instance, boxes.ego_from_box
    assert {len(column) for column in columns} == {len(boxes)}
    assert set(boxes.visibility.tolist()) <= {1, 2, 3, 4}
    for name, rig in frame.cameras.items():
        finite(rig.camera.intrinsics, rig.ego_from_camera, frame.mounted[name], frame.times[name])
        assert min(rig.camera.size) > 0
    for radar in frame.radar.values():
        finite(radar.ego_from_radar, radar.time)
    for seen in frame.image_boxes.values():
        finite(seen.corners)
        assert len(seen.corners) == len(seen.box) and (seen.box < len(boxes)).all()


def read_tables(path: Path) -> None:
    for frame in read_nuscenes(path.parents[1], sweeps=2):
        check_frame(frame)


def table(name: str) -> Case:
    return Case(lambda folder: nuscenes_tree.write(folder) / f"{name}.json", read_tables)


def recording(pattern: str, read: Callable[[Path], object]) -> Case:
    def write(folder: Path) -> Path:
        nuscenes_tree.write(folder)
        return next(folder.glob(pattern))

    return Case(write, read)


def write_names(folder: Path) -> Path:
    (folder / "val.txt").write_text("scene-0003\nscene-0012  # rain\n")
    return folder / "val.txt"


def read_all(path: Path) -> None:
    for frame in read_infos(path):
        check_frame(frame)


RIG_CASES: dict[str, Case] = {
    "mmdet_infos": Case(write_sample, read_all),
    **{
        f"nuscenes_{name}": table(name)
        for name in ("scene", "sample", "sample_data", "calibrated_sensor", "ego_pose",
                     "sample_annotation")
    },
    "nuscenes_names": Case(write_names, read_names),
    "nuscenes_radar": recording("samples/*.pcd", lambda path: finite(read_radar(path))),
    "nuscenes_points": recording("samples/*.bin", lambda path: finite(read_nuscenes_points(path))),
}  # fmt: skip
