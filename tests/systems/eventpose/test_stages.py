"""All stages of the config for real sequences, on simulated ones of the same layout."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

import posejax
from posejax import cli, config
from posejax.config import Log, RunOptions
from posejax.data.event_files import read_recording
from posejax.evaluate import EvalOptions, evaluate
from posejax.systems.eventpose.inference import predict_recording, query_times
from posejax.systems.eventpose.submission import pose_ids, read_submission, write_submission
from posejax.train import train

CONFIG = Path(__file__).parents[3] / "configs" / "eventpose_spades_keypoints.py"


@pytest.mark.slow
@pytest.mark.parametrize("resident", [False, True])
def test_training_evaluation_and_submission(tmp_path, resident):
    from posejax.sim import SpacecraftSettings, ensure_sequences

    settings = SpacecraftSettings(duration_s=1.0, seed=5)
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        made = ensure_sequences(tmp_path / "made", settings, split, count, workers=1, quiet=True)
        for path in made:
            place = tmp_path / "data" / split / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
    experiment = config.replace(
        cli.load_config(CONFIG),
        **{
            "system.data.root": str(tmp_path / "data"),
            "system.data.rule.resident": resident,
            "system.input.size": (64, 64),
            "system.model.widths": (8, 16),
            "system.model.pool": "mean",
            "system.keypoints.grid": 256,
            "system.keypoints.hypotheses": 2,
            "train.epochs": None,
            "train.steps": 4,
            "train.batch_size": 4,
            "train.sharding.devices": 1,
            "train.evaluation.every_epochs": 0,
            "train.evaluation.batch_size": 4,
        },
    )
    run = tmp_path / "run"
    train(experiment, RunOptions(workdir=run, cache="off", log=Log(view="quiet")))
    options = EvalOptions(split="test", checkpoint="latest", calibrate=4, cache="off")
    numbers = evaluate(experiment, dataclasses.replace(options, calibrate_on="val"), run)
    assert {"coverage_95", "direct/score", "tracked/score"} <= set(numbers)
    assert (run / "eval" / "test" / "index.html").is_file()

    path = next((tmp_path / "data" / "test").glob("*.h5"))
    recording = dataclasses.replace(read_recording(path), labels=None)
    system, predict = posejax.load(run, "latest")
    times = query_times(recording, system.data.rule.window, 0.1)
    assert len(times) >= 8
    table = predict_recording(system, predict, recording, times)
    assert table.outputs["hypotheses"].shape == (len(times), 2, 4, 4)
    ids = pose_ids("RT003", len(times))
    ahead = table.translation * np.sign(table.translation[:, 2:])  # four steps teach no depth
    write_submission(tmp_path / "poses.csv", ids, ahead, table.quat_xyzw)
    assert read_submission(tmp_path / "poses.csv").ids == tuple(ids)
