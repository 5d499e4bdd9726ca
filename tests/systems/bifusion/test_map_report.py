"""Pages of maps: upright however the world lies, and whole when there is nothing to show."""

import numpy as np
import pytest

from posejax.report import write
from posejax.sparse import empty_map
from posejax.systems.bifusion.map_report import camera_axes, make_map_report, map_points, write_map
from posejax.systems.bifusion.online import OnlineConfig
from posejax.systems.bifusion.walk import Walk, scores
from tests.systems.bifusion.made_up import CLASSES
from tests.systems.bifusion.recordings import Corner


def test_a_level_map_stands_upright_in_its_pictures():
    """What is up is -y of the picture, what is ahead its depth; handedness stays."""
    turn = camera_axes(np.eye(3))
    np.testing.assert_array_equal(turn, [[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    assert np.linalg.det(turn) == pytest.approx(1)


def test_a_map_without_voxels_is_a_page_too(tmp_path):
    """Of a recording whose frames were all lost; the page says why."""
    names = {"fused": 4, "log_probability": 3, "color": 3, "gate": 1, "center": 3}
    shapes = {k: np.zeros((1, n)) for k, n in names.items()}
    tables = {k: np.zeros((4, 4), np.int64) for k in ("alone", "online", "map")}
    figures = {"frames": 2, "skipped": 0, "lost": 2, "evicted": 0, "voxels": 0, **scores(tables)}
    world = empty_map(shapes, voxel_size=0.1, capacity=8)
    votes, none = np.zeros((8, 3), np.int64), np.full(8, -1, np.int32)
    done = Walk("walk", world, np.eye(4), tables, votes, none, figures)
    points, more = map_points(done, CLASSES)
    assert more == {"things": 0} and len(points.points) == 0
    write_map(tmp_path / "map.ply", points, CLASSES, {"a": np.zeros(0)})
    config = OnlineConfig(voxel_size=0.1)
    report = make_map_report(done, points, Corner(), config, {"a": np.zeros(0)})
    page = write(report, tmp_path).read_text()
    assert "Voxels of 2 frames did not fit" in page and "mean IoU" not in page
