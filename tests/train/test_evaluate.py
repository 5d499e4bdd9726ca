"""Evaluation of runs, weights files and systems without parameters."""

import dataclasses
import json
import re
import shutil
import warnings
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest
from beacons.data import Positions, Room
from beacons.system import Beacons
from conftest_train import TOY, params_of

from posejax import cli
from posejax import evaluate as door
from posejax.config import ConfigError, Log, RunOptions, replace
from posejax.data.errors import DataError
from posejax.evaluate import EvalOptions, evaluate
from posejax.train import Batch, CheckpointError, export, load_weights, save_weights, train
from posejax.train.evaluation import pick_examples
from posejax.train.rundir import ResumeError
from posejax.train.weights import to_half


@dataclass(frozen=True)
class Centroid(Beacons):
    """Guesses the middle of the room: nothing to learn."""

    def init(self, key, batch):
        return {}, {"sigma": jnp.float32(1)}

    def predict(self, params, state, batch):
        n = batch.examples["ranges"].shape[0]
        return {"xy": jnp.full((n, 2), 2.0), "sigma": jnp.broadcast_to(state["sigma"], [n])}

    def loss(self, params, state, batch, key, progress, train):
        return jnp.mean(jnp.sum((batch.examples["xy"] - 2.0) ** 2, -1)), None


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    changes = {"train.epochs": 6, "train.ema": 0.9, "train.sharding.devices": 1}
    experiment = replace(cli.load_config(TOY / "beacons_config.py"), **changes)
    folder = tmp_path_factory.mktemp("trained") / "run"
    return train(experiment, RunOptions(folder, cache="off", log=Log(view="quiet")))


@pytest.fixture
def trained(trained_once, tmp_path):
    """The run in a folder of one's own, to write in."""
    folder = shutil.copytree(trained_once.workdir, tmp_path / "run")
    return dataclasses.replace(trained_once, workdir=folder)


def test_numbers_are_made_once_for_an_evaluation_and_its_report(trained, monkeypatch):
    calls, original = [], Beacons.summarize

    def summarize(self, records):
        calls.append(len(records["index"]))
        return original(self, records)

    monkeypatch.setattr(Beacons, "summarize", summarize)
    evaluate(trained.experiment, EvalOptions(calibrate=0, cache="off"), trained.workdir)
    assert calls == [64]


def test_run_is_evaluated_from_its_folder_alone(trained, capsys):
    assert door.main(["--workdir", str(trained.workdir), "--split", "test", "--cache", "off"]) == 0
    folder = trained.workdir / "eval" / "test"
    written = json.loads((folder / "metrics.json").read_text())
    assert written["examples"] == 64 and written["checkpoint"] == "best"
    assert written["calibrated_on"] == 256 and written["left_out"] == written["skipped"] == []
    with np.load(folder / "records.npz") as records:
        error = records["error"]
        assert records["index"].tolist() == list(range(64))
        rms = np.sqrt(np.mean(error.astype(np.float64) ** 2))
    np.testing.assert_allclose(written["metrics"]["rms"], rms, rtol=1e-6)
    np.testing.assert_allclose(written["metrics"]["loss"], rms**2, rtol=1e-5)
    facts = json.loads((folder / "report.json").read_text())
    assert facts["summary"] == written["metrics"] and "beacons on test (best)" in facts["notes"]
    assert "beacons on test (best), 64 examples" in (folder / "index.html").read_text()
    said, progress = capsys.readouterr()
    assert "beacons on test (best), 64 examples" in said and "inside_95" in said
    assert "chose this checkpoint" not in said
    for part in ("opening test", "calibrating on 256 examples of train",
                 "evaluating 64 examples of test", "writing the report"):  # fmt: skip
        assert part in progress
    assert not list(folder.glob("*.part"))


def test_many_numbers_are_printed_on_request_only(trained, monkeypatch, capsys):
    many = {f"share_{k}": float("nan") for k in range(30)}
    original = Beacons.summarize
    monkeypatch.setattr(
        Beacons, "summarize", lambda self, records: {**many, **original(self, records)}
    )
    options = EvalOptions(calibrate=0, report=False, cache="off")
    columns = {"train.columns": ("inside_95", "grad_norm"), "train.checkpoint.best_metric": "rms"}
    chosen = replace(trained.experiment, **columns)
    summary = evaluate(chosen, options, trained.workdir)
    said = capsys.readouterr().out
    names = [line.split()[0] for line in said.splitlines() if line.startswith("  ")]
    assert names == ["loss", "rms", "inside_95", "and"]
    assert f"and {len(summary) - 3} more in metrics.json; --all-numbers" in said
    assert "val chose this checkpoint; for examples that chose nothing: --split test\n" in said
    metrics = json.loads((trained.workdir / "eval/val/metrics.json").read_text())["metrics"]
    assert set(metrics) == set(summary)
    monkeypatch.setattr(Room, "splits", ("train", "val"))
    evaluate(chosen, replace(options, all_numbers=True), trained.workdir)
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in summary)
    assert re.search(r"share_29 +-\n", said)
    assert "val chose this checkpoint\n" in said  # and there is no other split


def test_warnings_of_the_calibration_are_lines(trained, monkeypatch, capsys):
    def calibrate(self, state, records):
        warnings.warn("stays as it is", stacklevel=2)
        return state

    monkeypatch.setattr(Beacons, "calibrate", calibrate)
    evaluate(trained.experiment, EvalOptions(report=False, cache="off"), trained.workdir)
    assert "note: stays as it is\n" in capsys.readouterr().err


def test_results_that_cannot_be_written_are_told_before_the_work(trained, monkeypatch):
    monkeypatch.setattr(Positions, "__getitem__", lambda self, i: 1 / 0)
    (trained.workdir / "eval").write_text("in the way")
    with pytest.raises(ResumeError, match="cannot write there"):
        evaluate(trained.experiment, EvalOptions(cache="off"), trained.workdir)


def test_evaluation_agrees_with_the_one_during_training(trained):
    options = EvalOptions(
        checkpoint="latest", calibrate=0, report=False, cache="off", batch_size=24
    )
    summary = evaluate(trained.experiment, options, trained.workdir)
    line = trained.lines("eval")[-1]
    np.testing.assert_allclose(summary["rms"], line["rms"], rtol=1e-5)
    np.testing.assert_allclose(summary["loss"], line["loss"], rtol=1e-5)


def test_calibration_is_fitted_on_train_and_used(trained):
    options = EvalOptions(calibrate=0, report=False, cache="off")
    before = evaluate(trained.experiment, options, trained.workdir)
    after = evaluate(trained.experiment, replace(options, calibrate=256), trained.workdir)
    assert before["inside_95"] == 1.0  # sigma 1 m is far too wide
    assert 0.8 < after["inside_95"] < 1.0
    assert before["rms"] == after["rms"]


def test_calibration_may_be_fitted_on_another_split(trained, monkeypatch, capsys):
    seen = []
    original = Beacons.calibrate

    def calibrate(self, state, records):
        seen.append(len(records["index"]))
        return original(self, state, records)

    monkeypatch.setattr(Beacons, "calibrate", calibrate)
    options = EvalOptions(split="test", calibrate_on="val", report=False, cache="off")
    evaluate(trained.experiment, options, trained.workdir)
    assert seen == [64, 64] and "calibrating on 64 examples of val" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="test is what is evaluated"):
        evaluate(trained.experiment, replace(options, calibrate_on="test"), trained.workdir)


def test_system_without_parameters_needs_no_checkpoint(beacons, tmp_path):
    experiment = beacons(system=Centroid())
    options = EvalOptions(out=tmp_path, report=False, cache="off", examples=10)
    summary = evaluate(experiment, options)
    source = experiment.system.data.source("val")
    truth = np.linalg.norm(source.xy[:10] - 2.0, axis=-1)
    np.testing.assert_allclose(summary["rms"], np.sqrt(np.mean(truth**2)), rtol=1e-5)
    np.testing.assert_allclose(summary["loss"], np.mean(truth**2), rtol=1e-5)


def test_system_without_parameters_is_not_trained(run):
    with pytest.raises(ValueError, match=r"no parameters.*eval_main"):
        run(system=Centroid())


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_exported_weights_predict_the_same(trained, tmp_path, suffix):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    path = export(trained.workdir, tmp_path / f"model{suffix}", which="latest")
    weights = load_weights(path)
    assert weights.experiment == trained.experiment
    saved = params_of(trained.workdir)
    np.testing.assert_array_equal(
        weights.params["encoder"]["kernel"], saved["ema/encoder/kernel"]
    )  # the moving average
    system = weights.experiment.system
    batch = Batch({"ranges": np.float32([[2.8, 2.8, 2.8, 2.8]])})
    xy = system.predict(weights.params, weights.state, batch)["xy"]
    assert np.linalg.norm(xy - 2.0) < 1.0
    options = EvalOptions(
        checkpoint=str(path), out=tmp_path, report=False, calibrate=0, cache="off"
    )
    line = trained.lines("eval")[-1]
    summary = evaluate(trained.experiment, options)
    np.testing.assert_allclose(summary["rms"], line["rms"], rtol=1e-5)


def test_weights_of_another_model_are_refused(trained, tmp_path):
    path = export(trained.workdir, tmp_path / "model.npz")
    other = replace(trained.experiment, **{"system.hidden": 3})
    with pytest.raises(CheckpointError, match=r"encoder/kernel: \(4, 16\), the model has \(4, 3\)"):
        evaluate(other, EvalOptions(checkpoint=str(path), cache="off"))


def test_weights_of_another_system_are_named_in_one_line(trained, run, tmp_path):
    """Of a file and of a run folder; up to three parameters, not all of them."""
    words = r"weights of Eventpose, not of Beacons: encoder/bias: missing[^\n]* and \d+ more$"
    with pytest.raises(CheckpointError, match=words):
        evaluate(trained.experiment, EvalOptions(checkpoint="eventpose_sim", cache="off"))
    with pytest.raises(
        ValueError, match=r"init_from eventpose_sim: weights of Eventpose, not of B"
    ):
        run(tmp_path / "x", **{"train.init_from": "eventpose_sim"})
    config = trained.workdir / "config.json"
    saved = config.read_text()
    config.write_text(saved.replace('system:Beacons"', 'gone:Pharus"'))
    try:
        with pytest.raises(CheckpointError, match="weights of Pharus, not of Beacons"):
            evaluate(
                replace(trained.experiment, **{"system.hidden": 3}),
                EvalOptions(checkpoint=str(trained.workdir), cache="off"),
            )
    finally:
        config.write_text(saved)


def test_results_given_as_a_run_are_told_from_one(trained, beacons, tmp_path, capsys):
    evaluate(
        trained.experiment,
        EvalOptions(out=tmp_path / "demo_beacons", calibrate=0, report=False, cache="off"),
        trained.workdir,
    )
    capsys.readouterr()
    with pytest.raises(SystemExit):
        door.main(["--workdir", str(tmp_path / "demo_beacons")])
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "results of an evaluation of beacons, not a run" in said and "--config beacons" in said
    inside = trained.workdir / "eval" / "test"
    shutil.copytree(tmp_path / "demo_beacons", inside)
    with pytest.raises(SystemExit):
        door.main(["--workdir", str(inside)])
    assert f"evaluate again: {cli.command('eval')} --workdir {trained.workdir}" in (
        capsys.readouterr().err)  # fmt: skip


def test_an_evaluation_that_does_not_begin_leaves_no_folder(beacons, tmp_path):
    for options in ({"split": "nonsense"}, {"checkpoint": "georeg_sim"}):
        with pytest.raises((ConfigError, CheckpointError)):
            evaluate(beacons(), EvalOptions(out=tmp_path / "out", cache="off", **options))
        assert not (tmp_path / "out").exists()


def test_parameters_must_come_from_somewhere(beacons):
    with pytest.raises(CheckpointError, match="give --workdir RUN, or --checkpoint"):
        evaluate(beacons(), EvalOptions(cache="off"))


def test_training_starts_from_given_weights(trained, run, tmp_path, capsys):
    path = export(trained.workdir, tmp_path / "model.npz", which="latest")
    again = run(tmp_path / "again", **{"train.steps": 1, "train.init_from": str(path)})
    scratch = run(tmp_path / "scratch", **{"train.steps": 1})
    assert again.lines("epoch")[0]["rms"] < 0.5 < scratch.lines("epoch")[0]["rms"]
    part = run(
        tmp_path / "part",
        {"log": Log(view="plain")},
        **{"train.steps": 1, "train.init_from": str(trained.workdir), "system.norm": "batch"},
    )
    assert part.step == 1  # what fits is taken, the normalisation starts fresh
    said = capsys.readouterr().out
    assert "4 of 6 arrays" in said and "not there, or of another shape: norm/bias" in said
    strange = save_weights(tmp_path / "strange.npz", {"other": np.ones(3)}, {})
    with pytest.raises(ValueError, match="no parameter of it fits"):
        run(tmp_path / "x", **{"train.init_from": str(strange)})


def test_a_training_leaves_the_calibration_of_its_first_weights_behind(trained, run, tmp_path):
    options = EvalOptions(report=False, cache="off", export=tmp_path / "model.npz")
    evaluate(trained.experiment, options, trained.workdir)
    given = load_weights(tmp_path / "model.npz").state["sigma"]
    assert 0 < given < 0.5  # fitted
    start = {"train.steps": 1, "train.init_from": str(options.export)}
    assert params_of(run(tmp_path / "again", **start).workdir)["model_state/sigma"] == 1


def test_what_is_exported_in_half_is_what_was_evaluated(trained, tmp_path):
    """Compared exactly: the numbers of float32 differ in their fifth digit."""
    path = tmp_path / "half.npz"
    options = EvalOptions(calibrate=0, report=False, cache="off")
    plain = evaluate(trained.experiment, options, trained.workdir)
    half = replace(options, export=path, export_half=True)
    told = evaluate(trained.experiment, half, trained.workdir)
    written = evaluate(trained.experiment, replace(options, checkpoint=str(path)))
    assert told == written and told["loss"] != plain["loss"]


def test_half_precision_errs_as_it_says_and_refuses_what_it_cannot_hold(rng):
    value = rng.normal(size=2000) * 10.0 ** rng.uniform(-9, 4, 2000)
    found = to_half({"a": value})["a"].astype(np.float64)
    error = np.abs(found - value)
    assert np.all(error <= np.where(np.abs(value) < 6.1e-5, 3e-8, 5e-4 * np.abs(value)))
    for bad in (1e5, -65520.0):
        with pytest.raises(
            ConfigError, match=rf"b/c: {bad:.6g} is beyond float16".replace("+", ".")
        ):
            to_half({"a": np.ones(2), "b": {"c": np.float32([np.nan, bad])}})
    assert np.isinf(to_half({"a": np.float32([np.inf, 65504])})["a"]).tolist() == [True, False]


def test_weights_files_hold_arrays_only(tmp_path):
    path = save_weights(tmp_path / "w.npz", {"a": {"b": np.ones(2)}}, {"s": np.float32(3)})
    found = load_weights(path)
    assert found.experiment is None and found.state["s"] == 3
    np.testing.assert_array_equal(found.params["a"]["b"], 1)
    evil = tmp_path / "evil.npz"
    np.savez(evil, **{"params/a": np.array([object()], dtype=object)})
    with pytest.raises(ValueError, match="Python objects"):
        load_weights(evil)
    with pytest.raises(ValueError, match=r"\.npz or \.safetensors"):
        save_weights(tmp_path / "w.bin", {}, {})


def test_weights_files_import_nothing(tmp_path, monkeypatch):
    (tmp_path / "intruder.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "w.npz"
    np.savez(path, __config__=np.array(json.dumps({"system": {"class": "intruder:Thing"}})))
    with pytest.raises(ConfigError, match="its config needs intruder; import it first"):
        load_weights(path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_damaged_weights_are_named(tmp_path, suffix):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    path = save_weights(tmp_path / f"w{suffix}", {"a": np.ones(99)}, {})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=rf"w\{suffix}: file: unreadable"):
        load_weights(path)
    with pytest.raises(DataError, match="file: not found"):
        load_weights(tmp_path / f"none{suffix}")


def test_command_line_mistakes(tmp_path, capsys):
    for arguments, words in (
        ([], "--workdir RUN [--split test]"),
        (["--workdir", str(tmp_path)], "expected a run folder"),
        (["--config", str(TOY / "beacons_config.py"), "--cache", "off"], "give --workdir RUN"),
    ):
        with pytest.raises(SystemExit):
            door.main(arguments)
        assert words in capsys.readouterr().err
    with pytest.raises(SystemExit):
        door.main(["--help"])
    assert "--calibrate INT" in capsys.readouterr().out


def test_worst_examples_come_first_and_not_finite_ones_before():
    records = {"error": np.array([1.0, np.nan, 5.0, 2.0, 0.5]), "index": np.array([0, 1, 3, 4, 5])}
    assert pick_examples(records, worst=3, random=0) == [1, 3, 4]
    chosen = pick_examples(records, worst=2, random=9)
    assert sorted(chosen) == [0, 1, 3, 4, 5] and chosen[:2] == [1, 3]


def test_unreadable_records_are_left_out_not_replaced(beacons, tmp_path):
    for split in ("train", "val"):
        xy = Positions(split, 12).xy
        xy[[3, 11]] = np.nan
        np.save(tmp_path / f"{split}.npy", xy)
    changes = {"system": Centroid(Room(root=str(tmp_path))), "train.data.on_error": "skip"}
    options = EvalOptions(out=tmp_path, calibrate=0, cache="off", batch_size=8)
    evaluate(beacons(**changes), options)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["examples"] == 10
    assert len(written["skipped"]) == 2 and "row 3" in written["skipped"][0]
    with np.load(tmp_path / "records.npz") as records:
        assert records["index"].tolist() == [i for i in range(12) if i not in (3, 11)]


def test_worst_examples_are_named_as_the_source_does(beacons, tmp_path, monkeypatch):
    options = EvalOptions(out=tmp_path, report=False, calibrate=0, cache="off", examples=10)
    options = replace(options, worst=3)
    evaluate(beacons(system=Centroid()), options)
    worst = json.loads((tmp_path / "metrics.json").read_text())["worst"]
    assert worst[0]["name"] == f"record {worst[0]['index']}"
    monkeypatch.setattr(Positions, "describe", lambda self, i: f"spot-{i}")
    evaluate(beacons(system=Centroid()), options)
    worst = json.loads((tmp_path / "metrics.json").read_text())["worst"]
    with np.load(tmp_path / "records.npz") as records:  # text needs no pickle
        assert records["name"].tolist() == [f"spot-{i}" for i in range(10)]
        order = np.argsort(-records["error"])[:3]
        np.testing.assert_allclose([w["error"] for w in worst], records["error"][order])
    assert [w["name"] for w in worst] == [f"spot-{i}" for i in order]


def test_numbers_stand_beside_those_of_other_evaluations(beacons, tmp_path, capsys):
    options = EvalOptions(report=False, calibrate=0, cache="off", examples=10)
    evaluate(beacons(system=Centroid()), replace(options, out=tmp_path / "a"))
    other = json.loads((tmp_path / "a" / "metrics.json").read_text())
    other |= {"experiment": "other", "examples": 7}
    other["metrics"] = {"rms": 0.125, "loss": None, "only_there": 1.0}
    (tmp_path / "b.json").write_text(json.dumps(other))
    capsys.readouterr()
    beside = ["--beside", str(tmp_path / "a"), str(tmp_path / "b.json")]
    experiment = replace(beacons(system=Centroid()), name="this")
    chosen = replace(options, out=tmp_path / "c", beside=(tmp_path / "a", tmp_path / "b.json"))
    summary = evaluate(experiment, chosen)
    said = capsys.readouterr().out
    text = (tmp_path / "c" / "beside.md").read_text()
    assert text.strip() in said
    rows = {line.split("|")[1].strip(): line.split("|")[2:5] for line in text.split("\n")[2:-3]}
    this, same, third = (cell.strip() for cell in rows["rms"])
    assert this == same == f"{summary['rms']:.4g}" and third == "0.125"
    assert rows["loss"][2].strip() == "-" and "only_there" not in rows
    assert "Not the same examples" in text and "other: 7 of val" in text
    parsed = door.parse(["--config", str(TOY / "beacons_config.py"), *beside])[1]
    assert parsed.beside == chosen.beside


def test_what_is_no_evaluation_is_named_before_anything_runs(beacons, tmp_path):
    bad = tmp_path / "metrics.json"
    for text, words in (("{", "cannot be read"), ("[]", "experiment: None; expected a str")):
        bad.write_text(text)
        with pytest.raises(DataError, match=rf"metrics.json.*{words}.*give the metrics.json"):
            evaluate(beacons(), EvalOptions(beside=(bad,), cache="off"))
