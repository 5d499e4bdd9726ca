"""`python -m posejax map`: from weights and a folder of frames to a labelled map and its page."""

import json

import numpy as np
import pytest

from posejax import __main__ as door
from posejax.config import Experiment, replace
from posejax.data.ply import read_ply
from posejax.data.scannet import NYU40, read_cloud
from posejax.systems.bifusion import Bifusion, ScanNet
from posejax.systems.bifusion.data import SIMULATED_CLASSES
from posejax.systems.bifusion.query import read_query
from posejax.train import weights
from tests.systems.bifusion.made_up import TINY
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
    figures = json.loads((out / "figures.json").read_text())[name]
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
        (["--weights", "FILE", "--recording", "nowhere"], "nowhere: frames: none"),
        (["--weights", "FILE", "--capacity", "0"], "--capacity: 0"),
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


def test_options_of_the_data_are_overrides_as_everywhere(given):
    experiment = weights.load(given[0]).experiment
    assert experiment is not None
    assert len(replace(experiment.system, **{"data.every": 3}).data.source("val")) == 4
