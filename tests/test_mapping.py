"""`python -m posejax map`: from weights and a folder of frames to a labelled map and its page."""

import json
import shutil

import numpy as np
import pytest

from posejax import __main__ as door
from posejax import cli
from posejax.config import Experiment, replace
from posejax.data.ply import read_ply
from posejax.data.rigid import so3_exp
from posejax.data.scannet import NYU40, read_cloud
from posejax.systems.bifusion import Bifusion, OwnFrames, ScanNet, SevenScenes, mapping
from posejax.systems.bifusion.data import SIMULATED_CLASSES
from posejax.systems.bifusion.online import Mapper
from posejax.systems.bifusion.query import read_query
from posejax.train import weights
from tests.systems.bifusion.made_up import TINY
from tests.systems.bifusion.recordings import noisy
from tests.systems.bifusion.test_system import started


@pytest.fixture(scope="module")
def given(small_scans, tmp_path_factory):
    """A weights file of a network that has learnt nothing, and a scan of 12 frames."""
    folder = small_scans[1][0]
    data = ScanNet(root=str(folder), every=1, points=400, size=(48, 64), classes=SIMULATED_CLASSES)
    system = Bifusion(data, TINY)
    path = tmp_path_factory.mktemp("weights") / "tiny.npz"
    params, state = started(system)
    return weights.save_weights(path, params, state, Experiment("tiny", system)), folder


@pytest.fixture(scope="module")
def made(given, tmp_path_factory):
    out = tmp_path_factory.mktemp("map")
    path, folder = given
    query = out / "query.npz"
    vectors = np.random.default_rng(0).standard_normal((2, TINY.features))
    np.savez(query, query=vectors, names=["chair", "a thing to sit on"])
    arguments = ["map", "--weights", str(path), "--recording", str(folder), "--out", str(out)]
    assert door.main([*arguments, "--capacity", "8192", "--query", str(query)]) == 0
    return out, folder.name


def test_a_folder_of_frames_becomes_a_labelled_map(made):
    out, name = made
    figures = json.loads((out / "figures.json").read_text())["recordings"][name]
    assert figures["frames"] == 12 and figures["lost"] == 0 and figures["evicted"] == 0
    assert figures["compilations"] == 2 and figures["read_back"] == 1
    assert figures["things"] >= 0 and 0 <= figures["pq/map"] <= 1
    assert {"miou/alone", "miou/online", "miou/map", "ms_per_frame"} <= figures.keys()
    points, colours, labels = read_cloud(out / name / "map.ply")
    assert len(points) == figures["voxels"] and np.ptp(points, axis=0).max() < 20
    assert colours.min() >= 0 and 0.2 < colours.mean() < 0.9
    assert {NYU40[n - 1] for n in labels.tolist()} <= set(SIMULATED_CLASSES)
    ply = read_ply(out / name / "map.ply", ("x", "instance", "weight", "seen"))
    assert ply.vertices["seen"].max() == 11 and ply.vertices["weight"].sum() == 12 * 400
    assert ((ply.vertices["probability"] > 0) & (ply.vertices["probability"] <= 1)).all()


def test_the_page_turns_and_needs_no_network(made):
    out, name = made
    page = (out / name / "index.html").read_text()
    assert f"bifusion&#x27;s map of {name}" in page and 'class="cloud"' in page
    assert "http://" not in page and "https://" not in page and "<option>truth" in page
    assert json.loads((out / name / "report.json").read_text())["summary"]["frames"] == 12
    assert "<option>like a thing to sit on" in page and "average precision" in page


def test_a_map_gives_queries_of_its_classes_and_answers_those_of_a_file(made):
    out, name = made
    query = read_query(out / name / "classes.npz", TINY.features, len(SIMULATED_CLASSES))
    assert query.names == SIMULATED_CLASSES and query.projection is query.classes is None
    ply = read_ply(out / name / "map.ply", ("similarity0", "similarity1"))
    score = ply.vertices["similarity0"]
    assert -1 <= score.min() < score.max() <= 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "usage: "),
        (["--weights", "georeg_sim"], "weights of Georeg, which makes no maps"),
        (["--weights", "FILE", "--recording", "nowhere"], "nowhere: frames: no such folder"),
        (["--weights", "FILE", "--capacity", "0"], "--capacity: 0"),
        (["--weights", "FILE", "--capacty", "5"], "did you mean --capacity"),
        (["--weights", "FILE", "--capacity", "2147483648"], "--capacity: 2147483648"),
        (["--weights", "FILE", "--every", "2"], "--every 2: it is for a --recording"),
        (["--weights", "FILE", "--recording", ".", "--split", "val"], "--split val: a --recording"),
        (["--weights", "FILE", "--recording", ".", "--every", "0"], "--every: 0"),
        (["--weights", "FILE", "--split", "valid"], "--split: 'valid'; did you mean val?"),
        (["--weights", "FILE", "--recordings", "0"], "--recordings: 0"),
        (["--weights", "FILE", "--system.baseline", "prior"], "--system.baseline prior"),
        (["--weights", "FILE", "--model.features", "32"], "(32, 64) for (64, 64), fusion/gate/"),
        (["--weights", "FILE", "--data.classes", "wall", "floor"], "--data.classes as they were"),
        (["--weights", "FILE", "--model.mode", "image"], "for nothing"),
        (["--weights", "FILE", "--model.mode", "points", "--weight", "gate"], "--weight gate: "),
        (["--weights", "FILE", "--query", "q.npy"], "q.npy: file: not found"),
        (["--weights", "FILE", "--text", "a chair"], "--text: needs --clip FILE and --vocabulary"),
        (["--weights", "FILE", "--text", "a", "a"], "--text: a sentence twice"),
        (["--weights", "FILE", "--text", "a", "--query", "q.npy"], "--text: there is a --query"),
        (["--weights", "FILE", "--halflife", "3"], "--halflife: no such option; did you mean"),
    ],
)
def test_mistakes_are_answered_in_one_line(given, capsys, monkeypatch, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        door.main(["map", *(str(given[0]) if a == "FILE" else a for a in arguments)])
    said = capsys.readouterr().err
    assert said.startswith("error: ") and words in said and said.count("\n") == 1


def quick(system, params, state, config, size):
    """A mapper whose system guesses what is true, or what is in the features, in no time."""
    return Mapper(noisy(system.data, 0.5), {}, np.int32(-1), config, size)  # type: ignore[arg-type]


def figures_of(monkeypatch, out, *arguments):
    monkeypatch.setattr(mapping, "Mapper", quick)
    assert door.main(["map", "--capacity", "4096", "--out", str(out), *arguments]) == 0
    return json.loads((out / "figures.json").read_text())


def saved(given, tmp_path, data):
    """Weights of the same network that learnt from `data`."""
    found = weights.load(given[0])
    experiment = Experiment("tiny", Bifusion(data, TINY))
    path = tmp_path / "weights.npz"
    return str(weights.save_weights(path, found.params, found.state, experiment))


def test_recordings_of_the_weights_own_data(given, small_scans, monkeypatch, tmp_path, capsys):
    """Each has a folder and figures of its own; options of the data are overrides as everywhere."""
    folders = small_scans[1]
    (tmp_path / "val.txt").write_text("".join(f"{folder.name}\n" for folder in folders))
    data = ScanNet(
        root=str(folders[0].parent), val_scenes=str(tmp_path / "val.txt"), every=1, points=200,
        size=(48, 64), classes=SIMULATED_CLASSES,
    )  # fmt: skip
    arguments = ["--weights", saved(given, tmp_path, data), "--recordings", "2"]
    found = figures_of(monkeypatch, tmp_path, *arguments, "--data.every", "4")
    assert list(found["recordings"]) == [folder.name for folder in folders]
    for name, figures in found["recordings"].items():
        assert figures["frames"] == 3 and figures["skipped"] == 0
        assert (tmp_path / name / "map.ply").is_file() and (
            tmp_path / name / "index.html"
        ).is_file()
    assert 0.5 < found["all"]["accuracy/map"] <= 1
    assert f"all {len(folders)} recordings" in capsys.readouterr().out


def test_sequences_of_7_scenes_that_lie_and_were_lost_for_a_while(
    given, small_scans, monkeypatch, tmp_path, capsys
):
    """As they come: no file of intrinsics, a slash in their names, no labels, z not up."""
    scene = tmp_path / "chess"
    turn = np.eye(4)
    turn[:3, :3] = so3_exp([1.3, 0.4, 0])
    for number, scan in enumerate(small_scans[1], 1):
        folder = scene / f"seq-{number:02d}"
        folder.mkdir(parents=True)
        for k in range(3):
            stem = folder / f"frame-{k:06d}"
            (color,) = (scan / "color").glob(f"{k}.*")
            shutil.copy(color, f"{stem}.color{color.suffix}")
            shutil.copy(scan / f"depth/{k}.png", f"{stem}.depth.png")
            np.savetxt(f"{stem}.pose.txt", turn @ np.loadtxt(scan / f"pose/{k}.txt"))
        (folder / "frame-000001.pose.txt").write_text("nan nan nan nan\n" * 4)
    (scene / "TestSplit.txt").write_text("sequence1\nsequence2\n")
    data = SevenScenes(root=str(scene), points=200, size=(48, 64), classes=SIMULATED_CLASSES)
    path = saved(given, tmp_path, data)
    found = figures_of(monkeypatch, tmp_path, "--weights", path, "--recordings", "2")
    assert list(found["recordings"]) == ["chess/seq-01", "chess/seq-02"]
    for name, figures in found["recordings"].items():
        assert figures["frames"] == 2 and figures["skipped"] == 1
        page = (tmp_path / name / "index.html").read_text()
        assert "1 frames have no pose" in page and "<option>truth" not in page
    one, two = (tmp_path / name / "map.ply" for name in found["recordings"])
    assert one.read_bytes() != two.read_bytes()
    # Stood upright, seen, and turned back: the map lies where the points do.
    source = data.source("test")
    points = np.concatenate([source.frame(k).points[::7] for k in range(2)])
    centers = read_ply(one, ("x", "y", "z")).columns("x", "y", "z")
    away = np.linalg.norm(centers[:, None] - points[None], axis=-1).min(1)
    assert np.abs(source.frame(0).up[2]) < 0.5 and len(centers) > 50 and np.median(away) < 0.1
    # One of them as a recording of one's own.
    capsys.readouterr()
    own = ["--weights", path, "--recording", str(scene / "seq-01"), "--every", "2"]
    found = figures_of(monkeypatch, tmp_path / "own", *own)
    said = capsys.readouterr().err
    assert found["recordings"]["seq-01"]["frames"] == 2 and "those of 7-Scenes are taken" in said
    assert (tmp_path / "own" / "seq-01" / "map.ply").read_bytes() == one.read_bytes()


def test_a_recording_of_ones_own_obeys_options_of_its_own(given):
    """Not those of the files that the network learnt from."""
    experiment = weights.load(given[0]).experiment
    assert experiment is not None
    learnt = replace(experiment, **{"system.data.every": 20, "system.data.table": "raw.tsv"})
    arguments = ["--recording", "own", "--pixels", "posejax", "--data.points", "77"]
    data = mapping.told(*parsed(learnt, arguments))[0].data
    assert isinstance(data, OwnFrames) and data.points == 77 and data.every == 1
    assert data.pixels == "posejax" and data.table == "raw.tsv" and not data.simulated
    data = mapping.told(*parsed(learnt, [*arguments, "--every", "3", "--table", "b.tsv"]))[0].data
    assert isinstance(data, OwnFrames) and data.every == 3 and data.table == "b.tsv"


def parsed(experiment, arguments):
    experiment, options = cli.parse_with(
        experiment, mapping.MapOptions(), arguments, program="map", about=""
    )
    return experiment.system, options
