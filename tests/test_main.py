"""`python -m posejax`: commands, configs by name, demos."""

import pytest

from posejax import __main__ as door
from posejax import cli, demo


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


@pytest.mark.parametrize("command", ["train", "eval", "export"])
def test_every_command_lists_its_options(command, capsys):
    with pytest.raises(SystemExit) as ended:
        door.main([command, "--help"])
    assert ended.value.code == 0 and "usage" in capsys.readouterr().out


def test_a_demo_that_does_not_exist_names_the_others(capsys):
    with pytest.raises(SystemExit):
        demo.main(["george"])
    assert "did you mean georeg?" in capsys.readouterr().err
    assert demo.find("eventpose").is_file()


@pytest.mark.parametrize("system", ["georeg", "eventpose"])
def test_demos_start_from_weights_that_are_shipped(system):
    experiment = cli.load_config(demo.find(system))
    assert isinstance(experiment, cli.Experiment)
    assert experiment.system.data.simulated and experiment.train.init_from == f"{system}_sim"
