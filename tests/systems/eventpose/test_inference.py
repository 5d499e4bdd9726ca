"""From a run folder and a recording without labels to a table of poses."""

import dataclasses
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import posejax
from posejax.config import (
    ConfigError,
    Experiment,
    Log,
    RunOptions,
    Schedule,
    Sharding,
    TrainConfig,
)
from posejax.config import Optimizer as OptimizerConfig
from posejax.data.event_files import EventRecording, PoseTrack, write_spark
from posejax.events import Window
from posejax.systems.eventpose import (
    Eventpose,
    InputConfig,
    ModelConfig,
    Recordings,
    TrajectoryConfig,
    WindowRule,
)
from posejax.systems.eventpose.inference import predict_recording, query_times
from posejax.systems.eventpose.submission import read_submission
from posejax.train import train

ROOT = Path(__file__).resolve().parents[3]


def recording(seed: int) -> EventRecording:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 10_000, 3000))
    x, y = rng.integers(500, 800, 3000), rng.integers(300, 450, 3000)
    label_t = np.arange(11) / 10
    track = PoseTrack(
        label_t,
        np.stack([0 * label_t, 0 * label_t, 5 + label_t], 1),
        np.tile([0, 0, 0, 1.0], (11, 1)),
    )
    return EventRecording(x, y, t, rng.integers(0, 2, 3000), 1e-4, (720, 1280), track, f"RT{seed}")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    for split in ("train", "val"):
        write_spark(folder / "data" / split / "RT000.h5", recording(0))
    experiment = Experiment(
        name="tiny",
        system=Eventpose(
            data=Recordings(root=str(folder / "data"), rule=WindowRule(capacity=512)),
            input=InputConfig(size=(32, 32), bins=2),
            model=ModelConfig(widths=(8, 8), hidden=16),
            trajectory=TrajectoryConfig(method="none"),
        ),
        train=TrainConfig(
            steps=2,
            batch_size=8,
            optimizer=OptimizerConfig(schedule=Schedule(peak=1e-3)),
            sharding=Sharding(devices=1),  # compiles faster than for eight
        ),
    )
    options = RunOptions(workdir=folder / "run", cache="off", log=Log(view="quiet"))
    train(experiment, options)
    return folder / "run"


def test_poses_of_a_recording_without_labels(run):
    system, predict = posejax.load(run)
    bare = dataclasses.replace(recording(1), labels=None)
    t = query_times(bare, system.data.rule.window, 0.1)
    np.testing.assert_allclose(t, np.arange(10) / 10)
    raw = predict_recording(system, predict, bare, t, smooth=False)
    assert raw.translation.shape == (10, 3) and raw.quat_xyzw.shape == (10, 4)
    np.testing.assert_allclose(np.linalg.norm(raw.quat_xyzw, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(raw.events, [((bare.t // 1000) == k).sum() for k in range(10)])
    # The same windows through the source that evaluation uses.
    source = system.data.source("val")
    example = system.data.transform(source[3], np.random.default_rng(0), False)
    one = predict({k: np.asarray(v)[None] for k, v in example.items()})
    again = predict_recording(system, predict, recording(0), np.array([0.3]), smooth=False)
    np.testing.assert_allclose(again.translation[0], one["pose"][0, :3, 3], atol=1e-4)


@pytest.mark.slow
def test_poses_are_smoothed_unless_told_otherwise(run):
    system, predict = posejax.load(run)
    system = dataclasses.replace(system, trajectory=TrajectoryConfig(method="spline"))
    t = np.arange(10) / 10
    raw = predict_recording(system, predict, recording(1), t, smooth=False)
    smooth = predict_recording(system, predict, recording(1), t)
    bends = [np.abs(np.diff(x.translation, 2, axis=0)).sum() for x in (smooth, raw)]
    assert bends[0] < bends[1]


def test_another_sensor_is_refused(run):
    system, predict = posejax.load(run)
    small = dataclasses.replace(recording(1), x=recording(1).x // 4, sensor_size=(720, 640))
    with pytest.raises(ConfigError, match="sensor of \\(720, 640\\)"):
        predict_recording(system, predict, small, np.array([0.1]))


def test_query_times_need_a_whole_window():
    assert len(query_times(recording(0), Window("after", 2.0), 0.1)) == 0
    before = query_times(recording(0), Window("before", 0.1), 0.1)
    np.testing.assert_allclose(before, np.arange(1, 11) / 10)


def test_the_example_writes_a_valid_table(run, tmp_path):
    path = tmp_path / "recording_2026-05-01.h5"
    write_spark(path, recording(2))
    out, picture = tmp_path / "poses.csv", tmp_path / "seen.png"
    command = [sys.executable, ROOT / "examples" / "pose_from_events.py", path, "--run", run]
    done = subprocess.run(
        [*map(str, command), "--out", str(out), "--picture", str(picture)],
        cwd=ROOT, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert read_submission(out).ids[0] == "recording_2026_05_01_001"
    assert picture.stat().st_size > 100


@pytest.mark.parametrize("missing", ["none.h5", "checkpoint"])
def test_the_example_answers_what_is_missing_in_one_line(
    run, tmp_path, monkeypatch, capsys, missing
):
    if missing == "checkpoint":
        found = shutil.ignore_patterns("checkpoints")
        run = shutil.copytree(run, tmp_path / "run", ignore=found)
    example = str(ROOT / "examples" / "pose_from_events.py")
    monkeypatch.setattr(sys, "argv", [example, str(tmp_path / "none.h5"), "--run", str(run)])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(example, run_name="__main__")
    said = capsys.readouterr().err
    assert done.value.code == 1 and said.count("\n") == 1, said
    assert said.startswith("error: ") and missing in said
