"""Examples: the label is the pose at which the two rasters agree, in every source and mirror."""

import concurrent.futures
import dataclasses
import pickle
import subprocess
import sys

import numpy as np
import pytest

from posejax.config import ConfigError, replace
from posejax.data import av2, carmen, se2
from posejax.data.errors import DataError
from posejax.data.raster_folder import write_folder
from posejax.systems.georeg import (
    Augment,
    Av2Logs,
    Georeg,
    RadishLog,
    RasterFolder,
    SearchConfig,
    Streets,
)
from posejax.systems.georeg.data import flip
from posejax.systems.georeg.sources.base import MapCache

WINDOW = SearchConfig(max_offset=3.0, max_yaw_deg=10.0, margin=1.0)  # 16 cells of 0.25 m
KEYS = {"online", "online_mask", "geo", "geo_mask", "pose", "index", "fill_rate", "overlap"}


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Two small logs whose photograph is bright exactly where the sweep's intensity is high."""
    root = tmp_path_factory.mktemp("logs")
    rng = np.random.default_rng(3)
    for n in range(2):
        log = root / "train" / f"log{n}"
        coarse = rng.integers(0, 256, (30, 30), np.uint8)
        rgb = coarse.repeat(8, 0).repeat(8, 1)[..., None].repeat(3, 2)  # patches of 2 m
        av2.write_orthophoto(log, av2.Orthophoto(rgb, 0.25, 100.0, 200.0))
        pose = np.eye(4)
        yaw = rng.uniform(-np.pi, np.pi)
        pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
        pose[:2, 3] = rng.uniform([126, 226], [134, 234])
        av2.write_poses(log, np.array([10]), pose[None])
        xy = rng.uniform(-9, 9, (30000, 2))
        city = se2.apply(se2.from_se3(pose), xy)
        cell = np.floor((city - [100, 200]) / 2).astype(int)
        sweep = av2.Sweep(
            xyz=np.column_stack([xy, np.zeros(len(xy))]).astype(np.float32),
            intensity=coarse[cell[:, 1], cell[:, 0]],
            laser_number=(np.arange(len(xy)) % 32).astype(np.uint8),
            offset_ns=np.zeros(len(xy), np.int32),
        )
        av2.write_sweep(log / "sensors" / "lidar" / "10.feather", sweep)
    return root


@pytest.fixture
def data(logs):
    return Av2Logs(
        root=str(logs), channels=("intensity", "density"), layers=("gray",), repeats=4,
        cell_size=0.25, online_shape=(48, 56), search=WINDOW,
    )  # fmt: skip


def _agreement(example, pose, cell_size=0.25):
    """Correlation of online values with the geo raster looked up at `pose`."""
    rows, columns = np.nonzero(example["online_mask"])
    height, width = example["online_mask"].shape
    xy = np.stack([columns + 0.5 - width / 2, rows + 0.5 - height / 2], 1) * cell_size
    uv = se2.apply(np.asarray(pose, np.float64), xy) / cell_size
    j = np.floor(uv[:, 0] + example["geo"].shape[1] / 2).astype(int)
    i = np.floor(uv[:, 1] + example["geo"].shape[0] / 2).astype(int)
    inside = (i >= 0) & (j >= 0) & (i < example["geo"].shape[0]) & (j < example["geo"].shape[1])
    values = example["online"][rows, columns, 0][inside]
    return np.corrcoef(values, example["geo"][i[inside], j[inside], 0])[0, 1]


@pytest.mark.parametrize("train", [False, True])
def test_label_is_where_the_rasters_agree(data, train):
    source = data.source("train")
    assert len(source) == 8 and source.describe(5) == "log1/10#1"
    for index in range(8):  # with training: turned, mirrored either way, thinned out, recoloured
        example = data.transform(source[index], np.random.default_rng(index), train)
        assert set(example) == KEYS
        assert example["online"].shape == (48, 56, 2) and example["geo"].shape == (80, 88, 1)
        assert all(v.dtype == np.float32 for k, v in example.items() if k != "index")
        assert example["index"] == index and example["index"].dtype == np.int32
        pose = example["pose"].astype(np.float64)
        assert (np.abs(pose) <= [3, 3, np.deg2rad(10)]).all()
        true = _agreement(example, pose)
        assert true > 0.9
        for delta in np.diag([1.0, 1.0, 0.12]):
            for sign in (-1, 1):
                assert _agreement(example, pose + sign * delta) < true - 0.02
        assert example["fill_rate"] > 0.5 and example["overlap"] > 0.99


def test_evaluation_is_fixed_by_seed_and_index_and_training_by_its_generator(data):
    source, transform = data.source("train"), data.transform
    again = pickle.loads(pickle.dumps(source)), pickle.loads(pickle.dumps(data)).transform

    def same(a, b):
        return all(np.array_equal(a[k], b[k]) for k in KEYS)

    a = transform(source[3], np.random.default_rng(1), False)
    assert same(a, again[1](again[0][3], np.random.default_rng(2), False))
    other = dataclasses.replace(data, pose_seed=1).transform
    assert not np.array_equal(a["pose"], other(source[3], np.random.default_rng(1), False)["pose"])
    assert not np.array_equal(a["pose"], transform(source[2], None, False)["pose"])
    b = transform(source[3], np.random.default_rng(1), True)
    assert same(b, again[1](again[0][3], np.random.default_rng(1), True))
    assert not np.array_equal(
        b["pose"], transform(source[3], np.random.default_rng(2), True)["pose"]
    )


def test_workers_need_no_jax():
    code = "import sys, posejax.systems.georeg.sources; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize("axis", [0, 1])
def test_mirrors_commute_with_moving_a_point(rng, axis):
    pose, point = rng.normal(size=3), rng.normal(size=2)
    mirror = np.array([-1, 1]) if axis == 0 else np.array([1, -1])
    (raster,), mirrored = flip((np.arange(12.0).reshape(3, 4),), pose, axis)
    np.testing.assert_allclose(
        se2.apply(mirrored, mirror * point), mirror * se2.apply(pose, point), atol=1e-12
    )
    assert raster[0, 0] == (3 if axis == 0 else 8)


def test_a_folder_without_splits_is_no_other_split(tmp_path):
    (tmp_path / "some_log").mkdir()
    with pytest.raises(DataError, match="split 'nonsense': no such folder; expected val or test"):
        Av2Logs(root=str(tmp_path)).source("nonsense")


@pytest.mark.parametrize("kind", [Av2Logs, RadishLog, RasterFolder])
def test_missing_root_names_the_option(tmp_path, monkeypatch, kind):
    option = "set it with --data.root"
    with pytest.raises(DataError, match=f"root: no such folder; expected .*; {option}"):
        kind(root=str(tmp_path / "no")).source("val")
    # Even where the current folder would do.
    (tmp_path / "a.clf").touch()
    (tmp_path / "poses.csv").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"root: not given; expected .*; {option}"):
        kind().source("val")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (Av2Logs(layers=("arial",)), r"data\.layers: 'arial'; did you mean aerial"),
        (Streets(layers=()), r"data\.layers: empty; expected some of aerial, gray"),
        (Streets(channels=("hight",)), r"data\.channels: 'hight'; did you mean height"),
        (Streets(repeats=0), r"data\.repeats: 0; expected >= 1"),
        (Streets(mark_width=float("nan")), r"data\.mark_width: nan; expected more than 0"),
        (Streets(val_worlds=0), r"data\.val_worlds: 0; expected >= 1"),
    ],
)
def test_data_settings_are_checked_before_anything_is_made(data, words):
    with pytest.raises(ConfigError, match=words):
        Georeg(data).check()


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("data.cell_size", 0.0, "0.0; expected more than 0"),
        ("data.online_shape", (64, 0), "0; expected >= 1"),
        ("data.search.max_offset", float("nan"), "nan; expected >= 0"),
        ("data.search.yaw_step_deg", 0.0, "0.0; expected more than 0"),
        ("data.search.stride", 0, "0; expected >= 1"),
        ("model.widths", (), "0; expected >= 1"),
    ],
)
def test_settings_out_of_range_are_named(path, value, words):
    with pytest.raises(ConfigError, match=rf"system\.{path}: {words}"):
        replace(Georeg(), **{path: value}).check()


def test_logs_that_are_validated_on_are_not_trained_on(logs):
    """A folder of logs without splits evaluates whole, says so, and cannot be trained on."""
    whole = Av2Logs(root=str(logs / "train"), layers=("gray",))
    assert len(whole.source("val")) == len(whole.source("test")) == 2
    assert "no splits: all logs" in whole.title
    with pytest.raises(DataError, match=r"split 'train': no such folder.*val/.*--calibrate 0"):
        whole.source("train")
    split = Av2Logs(root=str(logs), layers=("gray",))
    assert len(split.source("train")) == 2 and "no splits" not in split.title
    with pytest.raises(DataError, match="split 'val': no such folder; expected train"):
        split.source("val")


def test_folder_pairs_are_recut_or_taken_as_they_are(tmp_path, rng):
    pose = np.array([0.6, -0.4, 0.1])
    geo = rng.random((20, 20)).repeat(5, 0).repeat(5, 1)[..., None]
    i, j = np.mgrid[:40, :40]
    xy = se2.apply(pose, np.stack([j + 0.5 - 20, i + 0.5 - 20], -1) * 0.25) / 0.25 + 50
    online = geo[xy[..., 1].astype(int), xy[..., 0].astype(int)]
    ones = np.ones((40, 40)), np.ones((100, 100))
    write_folder(
        tmp_path, [("a", online, ones[0], geo, ones[1], pose)], cell_size=0.25, split="val"
    )
    for redraw in (True, False):
        data = RasterFolder(
            root=str(tmp_path), redraw=redraw, cell_size=0.25, online_shape=(40, 40),
            search=WINDOW, augment=Augment(flip=True),
        )  # fmt: skip
        example = data.transform(data.source("val")[0], np.random.default_rng(0), False)
        assert np.allclose(example["pose"], pose) is not redraw
        assert _agreement(example, example["pose"]) > (0.9 if redraw else 0.999)
    with pytest.raises(ValueError, match=r"outside the search window .* --data.search.max-offset"):
        narrow = replace(data, **{"search.max_offset": 0.5})
        narrow.transform(data.source("val")[0], rng, False)
    with pytest.raises(DataError, match=r"cell_size: 0.25; expected 0.2; --data.cell-size 0.25"):
        dataclasses.replace(data, cell_size=0.2).source("val")
    with pytest.raises(DataError, match=r"expected \(30, 30\) cells; --data.online-shape 40 40"):
        dataclasses.replace(data, online_shape=(30, 30)).source("val")[0]


@pytest.fixture(scope="module")
def laser(tmp_path_factory):
    """A robot walks round a rectangular room with a pillar; exact relations."""
    folder = tmp_path_factory.mktemp("laser")
    angles, n = carmen.beam_angles(180), 60
    walls = [((-6, -4), (6, -4)), ((6, -4), (6, 4)), ((6, 4), (-6, 4)), ((-6, 4), (-6, -4))]
    walls += [((1, 0), (2, 0)), ((2, 0), (2, 1)), ((2, 1), (1, 1)), ((1, 1), (1, 0))]
    turn = np.linspace(0, 2 * np.pi, n, endpoint=False)
    poses = np.stack([4 * np.cos(turn), 2.5 * np.sin(turn), turn + np.pi / 2], 1)
    ranges = np.full((n, 180), 50.0)
    for k, (x, y, yaw) in enumerate(poses):
        ray = np.stack([np.cos(angles + yaw), np.sin(angles + yaw)], 1)
        for a, b in np.array(walls, float):
            along = b - a
            det = ray[:, 0] * along[1] - ray[:, 1] * along[0] + 1e-12  # parallel: far away
            d = a - [x, y]
            t = (d[0] * along[1] - d[1] * along[0]) / det
            s = (d[0] * ray[:, 1] - d[1] * ray[:, 0]) / det
            hit = (t > 0) & (s >= 0) & (s <= 1)
            ranges[k, hit] = np.minimum(ranges[k, hit], t[hit])
    log = carmen.LaserLog(ranges.astype(np.float32), angles, poses, poses, np.arange(n) / 4)
    carmen.write_npz(folder / "room.npz", log)
    first, second = np.arange(0, 56), np.arange(2, 58)
    relative = [
        se2.compose(se2.inverse(poses[a]), poses[b]) for a, b in zip(first, second, strict=True)
    ]
    carmen.write_relations(
        folder / "room.relations",
        carmen.Relations(log.time[first], log.time[second], np.array(relative)),
    )
    return folder


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("history", [0.0, 2.0])
def test_scan_and_map_agree_at_the_label(laser, history, train):
    search = SearchConfig(max_offset=1.0, margin=0.2)  # 12 cells
    data = RadishLog(
        root=str(laser), history=history, cell_size=0.1, online_shape=(120, 120), search=search
    )
    source = data.source("all")
    for index in (0, 20, 50):
        example = data.transform(source[index], np.random.default_rng(index), train)
        rows, columns = np.nonzero(example["online"][..., 0])
        assert len(rows) > 60

        def hits(pose, example=example, rows=rows, columns=columns):
            xy = np.stack([columns + 0.5 - 60, rows + 0.5 - 60], 1) * 0.1
            uv = np.floor(se2.apply(np.asarray(pose, np.float64), xy) / 0.1 + 72).astype(int)
            inside = ((uv >= 0) & (uv < 144)).all(1)
            return example["geo"][uv[inside, 1], uv[inside, 0], 0].mean()

        true = hits(example["pose"])
        assert true > 0.5
        for delta in np.diag([0.4, 0.4, 0.15]):
            assert max(hits(example["pose"] + delta), hits(example["pose"] - delta)) < true
        free, hit = example["online"][..., 1], example["online"][..., 0]
        assert free.mean() > 0.1 and (free[hit > 0] < 0.5).mean() > 0.9


def test_places_are_not_shared_between_splits(laser):
    data = RadishLog(
        root=str(laser), places=8, val_share=0.2, test_share=0.1, gap=1.5, cell_size=0.1,
        online_shape=(120, 120),
    )  # fmt: skip
    parts = {s: data.source(s) for s in ("train", "val", "test")}
    total = sum(len(p) for p in parts.values()) + len(parts["train"].skipped)
    assert total == len(data.source("all")) == 56
    assert len(parts["val"]) >= 11 and len(parts["train"]) > 10 and parts["train"].skipped
    position = parts["train"].log.laser_pose[:, :2]
    train = position[parts["train"].ends.ravel()]
    for other in ("val", "test"):
        gap = train[:, None] - position[parts[other].ends.ravel()]
        assert np.hypot(*gap.transpose(2, 0, 1)).min() >= 1.5


def test_map_cache_is_bounded_and_pickles_empty(rng):
    from posejax.data.rasters import MapRaster

    reads = []

    def read(k):
        return lambda: reads.append(k) or MapRaster(np.zeros((10, 10, 1)), None, 0, 0, 1)

    cache = MapCache(2000)
    for k in (0, 1, 0, 2, 0, 1):
        cache.get(k, read(k))
    assert reads == [0, 1, 2, 1] and cache.nbytes <= 2000
    assert pickle.loads(pickle.dumps(cache)).nbytes == 0


def test_map_cache_is_shared_by_reader_threads():
    """Two threads that evict each other's maps: without the lock this fails at once."""
    from posejax.data.rasters import MapRaster

    cache = MapCache(1000)
    map_of = [MapRaster(np.full((10, 10, 1), k, np.uint8), None, 0, 0, 1) for k in range(30)]

    def read_many(seed):
        for k in np.random.default_rng(seed).integers(0, 30, 5000).tolist():
            assert cache.get(k, lambda k=k: map_of[k]) is map_of[k]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(read_many, range(4)))
    finally:
        sys.setswitchinterval(interval)
    assert cache.nbytes <= 1000
