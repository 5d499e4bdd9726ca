"""Configs as values: replacing, saving, comparing."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posejax import config_io
from posejax.config import (
    Checkpoint,
    ConfigError,
    Experiment,
    Group,
    Optimizer,
    RunResult,
    Schedule,
    TrainConfig,
    replace,
)

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class ToySystem:
    width: int = 3
    folder: Path | None = None
    sizes: tuple[int, ...] = (1, 2)
    pairs: tuple[tuple[str, float], ...] = ()


def experiment(**changes) -> Experiment:
    return replace(Experiment("toy", ToySystem()), **changes)


def test_replace_reaches_inside_and_leaves_the_rest():
    old = experiment()
    new = replace(old, **{"train.optimizer.schedule.peak": 0.5, "system.width": 7})
    assert new.train.optimizer.schedule.peak == 0.5
    assert new.system.width == 7
    assert old.train.optimizer.schedule.peak == Schedule().peak
    assert new.train.checkpoint == old.train.checkpoint


def test_replace_suggests_the_field_that_was_meant():
    with pytest.raises(KeyError, match="did you mean steps"):
        experiment(**{"train.stesp": 3})


@given(
    steps=st.none() | st.integers(1, 10**6),
    peak=st.floats(0, 10, allow_nan=False),
    milestones=st.lists(st.floats(0, 1), max_size=3).map(tuple),
    groups=st.lists(st.sampled_from(["a", "b/c"]), max_size=2, unique=True),
    folder=st.none() | st.just(Path("/data/x")),
    pairs=st.lists(st.tuples(st.text(max_size=3), st.floats(-1, 1)), max_size=2).map(tuple),
)
def test_json_gives_back_an_equal_config(steps, peak, milestones, groups, folder, pairs):
    schedule = Schedule(peak=peak, milestones=milestones)
    optimizer = Optimizer(groups=tuple(Group(g, schedule=schedule) for g in groups))
    system = ToySystem(folder=folder, pairs=pairs)
    old = Experiment("e", system, TrainConfig(steps=steps, optimizer=optimizer))
    text = json.dumps(config_io.to_json(old))
    assert config_io.from_json(json.loads(text)) == old
    assert config_io.diff(old, config_io.from_json(json.loads(text))) == []


def test_diff_names_what_can_change_a_result():
    old = experiment()
    new = replace(old, **{"train.steps": 5, "train.data.workers": 4, "train.sharding.fsdp": 2})
    assert config_io.diff(old, new) == ["train.steps: None -> 5"]


def test_diff_sees_groups_come_and_go():
    new = experiment(**{"train.optimizer.groups": (Group("a"),)})
    lines = config_io.diff(experiment(), new)
    assert any(line.startswith("train.optimizer.groups.0.pattern: (absent) -> a") for line in lines)
    assert config_io.diff(new, experiment())


def test_unknown_saved_field_names_the_closest():
    saved = config_io.to_json(experiment())
    saved["system"]["widht"] = 4
    with pytest.raises(ValueError, match="did you mean width"):
        config_io.from_json(saved)


def test_saved_class_must_exist_and_be_a_dataclass():
    with pytest.raises(ValueError, match=r"no class posejax\.config:Gone"):
        config_io.from_json({"class": "posejax.config:Gone"})
    with pytest.raises(ValueError, match="not a dataclass"):
        config_io.from_json({"class": "subprocess:Popen", "args": "true"})


def test_arrays_are_refused():
    import numpy as np

    with pytest.raises(TypeError, match="numbers, strings"):
        config_io.to_json(experiment(**{"system.sizes": np.zeros(2)}))


def test_load_names_the_file(tmp_path):
    with pytest.raises(ConfigError, match="run folder"):
        config_io.load(tmp_path / "config.json")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: not JSON"):
        config_io.load(tmp_path / "config.json")


@pytest.mark.parametrize(("mode", "best"), [("min", 20), ("max", 10)])
def test_best_line_of_a_result(mode, best):
    log = [
        {"kind": "eval", "step": 10, "rms": 3.0},
        {"kind": "eval", "step": 20, "rms": 1.0},
        {"kind": "eval", "step": 30, "rms": None},  # was not finite
        {"kind": "train", "step": 30, "rms": 0.0},
    ]
    rule = Checkpoint(best_metric="rms", best_mode=mode)
    result = RunResult(experiment(**{"train.checkpoint": rule}), Path("."), 30, False, log)
    assert result.best()["step"] == best
    assert len(result.lines("eval")) == 3


def test_classes_of_a_config_file_are_found_again_in_another_process(tmp_path):
    """A run stays readable without its config file on the path: by its copy and noted folder."""
    home, run = tmp_path / "home", tmp_path / "run"
    home.mkdir()
    run.mkdir()
    (home / "sibling.py").write_text("WIDTH = 5\n")
    (home / "own.py").write_text(
        "from dataclasses import dataclass\nfrom sibling import WIDTH\n"
        "@dataclass(frozen=True)\nclass Own:\n    width: int = WIDTH\n"
        "def get_config():\n    return Own()\n"
    )
    config_io.save(config_io.import_config_file(home / "own.py").get_config(), run / "config.json")
    code = f"""
from pathlib import Path
from posejax import config_io
print(config_io.load(Path({str(run / "config.json")!r})))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "Own(width=5)", done.stderr


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    config_io.write_json(path, {"a": 1})
    with pytest.raises(RuntimeError, match="power"), config_io.whole(path) as temporary:
        temporary.write_text("{")
        raise RuntimeError("power failure")
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
