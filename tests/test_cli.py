"""The command line: config files, typed overrides, and errors that suggest the fix."""

import ast
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from posejax import cli
from posejax.config import Experiment, Sweep

ROOT = Path(__file__).resolve().parents[1]
TEXT = """
from dataclasses import dataclass
from posejax.config import Experiment, Optimizer, Group, Sweep, TrainConfig

@dataclass(frozen=True)
class Local:
    norm: str = "batch"
    \"\"\"Normalisation of every layer.\"\"\"
    window: tuple[float, float] = (4.0, 4.0)

def get_config():
    one = Experiment("one", Local(), TrainConfig(steps=9, optimizer=Optimizer(groups=(
        Group("enc", lr=0.1), Group("dec")))))
    return one
"""


@pytest.fixture
def config_file(tmp_path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(TEXT)
    return path


def parse(path, *arguments) -> cli.Request:
    return cli.parse_train(["--config", str(path), *arguments])


def test_overrides_are_typed_and_reach_everything(config_file):
    request = parse(
        config_file, "--train.steps", "100", "--system.norm", "group", "--seed", "3",
        "--train.optimizer.groups.0.lr", "0.5", "--train.ema", "0.99", "--system.window", "2", "3",
        "--workdir", "/tmp/x", "--profile.steps", "5", "--resume.allow-config-change",
        "--debug.nans", "--log.every", "1", "--train.optimizer.schedule.kind", "one_cycle",
    )  # fmt: skip
    (e,) = request.experiments
    assert (e.train.steps, e.system.norm, e.seed, e.train.ema) == (100, "group", 3, 0.99)
    assert e.system.window == (2.0, 3.0)
    assert e.train.optimizer.schedule.kind == "one_cycle"
    assert [g.lr for g in e.train.optimizer.groups] == [0.5, 1.0]
    assert request.run.workdir == Path("/tmp/x")
    assert (request.run.profile.steps, request.run.log.every) == (5, 1)
    assert request.run.resume.allow_config_change and request.run.debug.nans


def test_without_overrides_the_file_stands(config_file):
    (e,) = parse(config_file).experiments
    found = cli.load_config(config_file)
    assert isinstance(found, Experiment)
    assert cli.describe(e) == cli.describe(found)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--train.stesp", "3"], "--train.stesp: no such option; did you mean --train.steps"),
        (["--batch-size=3"], "--batch-size: no such option; did you mean --train.batch-size"),
        (["--train.steps", "many"], r"--train.steps: .*INT .*'many'\]"),
        (["--train.steps"], "Missing value for argument '--train.steps'"),
        (["--train.optimizer.kind", "adam"], "'adam'.*--train.optimizer.kind.*adamw.*sgd.*lion"),
        (["four"], "'four' belongs to no option"),
    ],
)
def test_mistakes_are_answered_in_one_line_with_what_exists(config_file, capsys, arguments, words):
    with pytest.raises(cli.ConfigError, match=words) as error:
        parse(config_file, *arguments)
    assert str(error.value).endswith("--help") and "\n" not in str(error.value)
    said = capsys.readouterr()
    assert said.out + said.err == ""


def test_help_of_a_sweep_says_what_its_options_reach(capsys):
    with pytest.raises(SystemExit):
        parse(ROOT / "configs" / "georeg_norm_ablation.py", "--help")
    said = " ".join(capsys.readouterr().out.split())
    assert "Sweep georeg_norm_ablation: trains georeg_norm_bn, georeg_norm_in," in said
    assert "holds for all of them" in said


def test_help_lists_every_option_with_default_and_text(config_file, capsys):
    with pytest.raises(SystemExit):
        parse(config_file, "--help")
    text = capsys.readouterr().out
    for part in ("--system.norm", "Normalisation of every layer", "(default: batch)",
                 "--train.steps", "(default: 9)", "--resume.allow-config-change", "--profile.start",
                 "--train.nonfinite.stop-after", "--log.view"):  # fmt: skip
        assert part in text, part


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "configs").glob("*.py")))
def test_every_option_of_every_config_has_help(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        parse(ROOT / "configs" / name, "--help")
    text = capsys.readouterr().out
    about = ast.get_docstring(ast.parse((ROOT / "configs" / name).read_text()))
    assert about and (about.split()[:4] == text.split("\n\n")[1].split()[:4] or "Sweep" in text)
    lines = [x.strip("│ ") for x in text.splitlines()]
    pairs = [(a, b) for a, b in pairwise(lines) if a.startswith("--")]
    assert len(pairs) > 60
    silent = [option for option, text in pairs if text.startswith(("(default", "╰"))]
    assert not silent


def test_config_file_problems(tmp_path, config_file, monkeypatch):
    with pytest.raises(cli.ConfigError, match=r"did you mean .*mine\.py"):
        parse(tmp_path / "mien.py")
    with pytest.raises(cli.ConfigError, match="--config is missing"):
        cli.parse_train(["--train.steps", "3"])
    with pytest.raises(cli.ConfigError, match="needs a value"):
        cli.parse_train(["--config"])
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(cli.ConfigError, match="no get_config"):
        parse(tmp_path / "empty.py")
    (tmp_path / "wrong.py").write_text("def get_config():\n    return 3\n")
    with pytest.raises(cli.ConfigError, match="returned int"):
        parse(tmp_path / "wrong.py")


def test_sweep_overrides_reach_every_experiment(tmp_path):
    sweep = "Sweep('both', (one, replace(one, name='two', **{'system.norm': 'group'})))"
    text = TEXT.replace("return one", f"return {sweep}").replace("Sweep, Tr", "Sweep, replace, Tr")
    (tmp_path / "sweep.py").write_text(text)
    request = parse(tmp_path / "sweep.py", "--train.steps", "4")
    assert isinstance(request.sweep, Sweep)
    assert [e.train.steps for e in request.experiments] == [4, 4]
    assert [e.system.norm for e in request.experiments] == ["batch", "group"]
    options = cli.sweep_options(request.run, request.sweep, request.experiments[1])
    assert options.workdir == Path("runs/both/two")
    with pytest.raises(cli.ConfigError, match="different names"):
        parse(tmp_path / "sweep.py", "--name", "same")


def test_take_option_understands_both_forms():
    assert cli.take_option(["--a", "1", "--config=x.py", "-b"], "--config") == (
        "x.py",
        ["--a", "1", "-b"],
    )
    assert cli.take_option(["--config", "y", "c"], "--config") == ("y", ["c"])


def test_describe_has_one_line_per_setting(config_file):
    found = cli.load_config(config_file)
    assert isinstance(found, Experiment)
    lines = cli.describe(found).splitlines()
    assert "train.steps = 9" in lines
    assert "system.norm = 'batch'" in lines
    assert "train.optimizer.groups.0.lr = 0.1" in lines


def test_doors_answer_mistakes_in_one_line():
    for script in ("train_main.py", "eval_main.py"):
        done = subprocess.run(
            [sys.executable, str(ROOT / script), "--config", "nowhere.py"],
            capture_output=True, text=True, cwd=ROOT, timeout=120,
        )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr.startswith("error: nowhere.py: no such config file")
        assert "Traceback" not in done.stderr


def test_training_nothing_names_the_evaluation():
    done = subprocess.run(
        [sys.executable, str(ROOT / "train_main.py"), "--config", "configs/georeg_zncc.py"],
        capture_output=True, text=True, cwd=ROOT, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "nothing to train" in done.stderr
    assert "python eval_main.py --config configs/georeg_zncc.py" in done.stderr


def test_programs_are_called_as_they_can_be_here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.shutil, "which", lambda name: sys.executable)
    assert cli.command("eval") == "python -m posejax eval"
    with pytest.raises(SystemExit):
        cli.parse_train(["--help"])
    said = capsys.readouterr().out
    assert "usage: python -m posejax train --config" in said and ".py" not in said
    (tmp_path / "eval_main.py").touch()
    assert cli.command("eval") == "python eval_main.py"
    monkeypatch.setattr(sys, "argv", ["/lib/posejax/__main__.py", "eval"])
    assert cli.command("eval") == "python -m posejax eval"
    monkeypatch.setattr(cli.shutil, "which", lambda name: "/usr/bin/python")
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    assert cli.command("demo") == ".venv/bin/python -m posejax demo"


@pytest.mark.parametrize("swallow", [False, True])
def test_interrupt_ends_the_program_in_one_line(swallow):
    # As an exception it would be lost where a callback swallows everything.
    wait = "try:\n    time.sleep(60)\n  except BaseException: time.sleep(60)" if swallow else (
        "time.sleep(60)")  # fmt: skip
    text = "import time\nfrom posejax import program\ndef main(arguments):\n"
    text += f"  print('ready', flush=True)\n  {wait}\nprogram.run(main)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", text], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "interrupted\n")


def test_a_reader_that_stops_reading_is_no_error(config_file):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, str(ROOT / "train_main.py"), "--config", str(config_file), "--help"],
        stdout=write, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=120,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_options_of_the_system_may_be_named_without_it():
    found = cli.load_config(Path(__file__).parents[1] / "configs" / "georeg_radish.py")
    short = cli.override(found, ["--data.cell-size", "0.3", "--train.data.threads", "1"])
    assert short.experiment.system.data.cell_size == 0.3
    assert short.experiment.train.data.threads == 1
    assert (
        short.experiment
        == cli.override(
            found, ["--system.data.cell-size=0.3", "--train.data.threads", "1"]
        ).experiment
    )
