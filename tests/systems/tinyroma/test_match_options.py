"""Options of examples/match_two_images.py that are refused before anything is computed."""

import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "match_two_images.py"


@pytest.mark.parametrize(
    "option",
    [
        ("--threshold", "-1"),
        ("--threshold", "nan"),
        ("--out", "no/folder/match.png"),
        ("--out", "match.foo"),
    ],
)
def test_unusable_options_are_named(option, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main = runpy.run_path(str(EXAMPLE))["main"]
    assert main(["a.png", "b.png", "--weights", "none.npz", *option]) == 1
    assert f"error: {option[0]}: " in capsys.readouterr().err
