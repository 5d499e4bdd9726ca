"""`python -m posejax`: commands, configs by name, demos."""

import importlib
import re
from pathlib import Path

import pytest

from posejax import __main__ as door
from posejax import cli, demo, systems
from posejax.train import weights
from posejax.train.system import System


def test_configs_are_found_by_name_from_anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.find_config("georeg_sim").name == "georeg_sim.py"
    assert cli.load_config("demo_georeg").name == "demo_georeg"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.py").write_text("")
    assert cli.find_config("mine").is_file()
    with pytest.raises(cli.ConfigError, match=r"georeg_simm: no such config"):
        cli.load_config("georeg_simm")


def test_commands_that_do_not_exist_are_told_with_those_that_do(capsys):
    with pytest.raises(SystemExit):
        door.main(["trian"])
    assert "did you mean train?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        door.main([])
    assert door.main(["--help"]) == 0
    assert "demo" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["train", "eval", "export", "check-rig", "map"])
def test_every_command_lists_its_options(command, capsys):
    with pytest.raises(SystemExit) as ended:
        door.main([command, "--help"])
    assert ended.value.code == 0 and "usage" in capsys.readouterr().out


def test_a_demo_that_does_not_exist_names_the_others(capsys):
    with pytest.raises(SystemExit):
        demo.main(["george"])
    assert "did you mean georeg" in capsys.readouterr().err
    assert demo.find("eventpose").is_file()


def test_help_of_a_demo_shows_its_own_name_and_defaults(capsys):
    with pytest.raises(SystemExit):
        demo.main(["georeg", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "-m posejax demo georeg [-h]" in said or "demo_main" in said
    assert "0 for none. │ │ (default: 0)" in said or "0 for none. (default: 0)" in said
    assert "runs/demo_georeg)" in said


def test_export_answers_mistakes_in_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for arguments, words in (
        (["runs/none", "x.npz"], "runs/none: no such weights file or run folder (a training"),
        (["runs/none", "x.npz", "--halff"], "--halff: no such option; did you mean --half?"),
        ([], "RUN run folder"),
    ):
        with pytest.raises(SystemExit):
            door.main(["export", *arguments])
        said = capsys.readouterr().err
        assert said.startswith("error: ") and words in said and said.count("\n") == 1


def test_help_of_export_names_the_programs_of_every_system(capsys):
    with pytest.raises(SystemExit):
        door.main(["export", "--help"])
    said = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    told = said.partition("--program")[2].partition("(default")[0]
    folders = [path.parent.name for path in Path(systems.__path__[0]).glob("*/system.py")]
    assert {"georeg", "eventpose", "tinyroma"} <= set(folders)
    for folder in folders:
        found = vars(importlib.import_module(f"posejax.systems.{folder}.system")).values()
        kinds = [x for x in found if isinstance(x, type) and issubclass(x, System)]
        (kind,) = [x for x in kinds if x is not System]
        for name in kind().programs({}, {"batch_stats": {}}, pytest.fail):
            assert re.search(rf"\b{name}\b", told), f"{folder} has {name}; the help: {told}"


@pytest.mark.parametrize(
    "system, name",
    [
        ("georeg", "georeg_sim"),
        ("eventpose", "eventpose_sim"),
        ("tinyroma", "tinyroma_scratch"),
        ("segnet", "segnet_sim"),
        ("bifusion", "bifusion_sim"),
    ],
)
def test_demos_start_from_weights_that_are_shipped(system, name):
    experiment = cli.load_config(demo.find(system))
    assert isinstance(experiment, cli.Experiment)
    assert experiment.system.data.simulated and experiment.train.init_from == name
    assert name in weights.shipped()
