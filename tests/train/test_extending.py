"""docs/extending.md shows the files that these tests train, word for word, and they are enough."""

import re
import shutil
import subprocess
import sys

import pytest
from conftest_train import TOY

from posejax.train.system import System

ROOT = TOY.parents[2]
DOC = ROOT / "docs" / "extending.md"


def blocks() -> dict[str, str]:
    """File name -> text of each Python block that follows a line with the name."""
    found = re.findall(r"^`([\w/]+\.py)`\n\n```python\n(.*?)^```$", DOC.read_text(), re.M | re.S)
    return dict(found)


def test_the_page_shows_every_file_as_it_is():
    shown = blocks()
    files = {str(p.relative_to(TOY)) for p in TOY.rglob("*.py")}
    assert set(shown) == files and len(files) == 5
    for name, text in shown.items():
        assert text == (TOY / name).read_text(), f"docs/extending.md: {name} differs"


def test_the_page_alone_makes_a_system_that_trains(tmp_path):
    """From a folder that nothing points to: the config file's own folder is enough."""
    for name, text in blocks().items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}

    def program(*arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, *map(str, arguments)], capture_output=True, text=True,
            cwd=tmp_path, env=environment, timeout=200,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "leaked" not in done.stderr  # shared memory of the worker
        return done.stdout

    said = program(
        ROOT / "train_main.py", "--config", "mine/beacons_config.py", "--train.epochs", "4",
        "--system.norm", "batch", "--train.data.workers", "1",
    )  # fmt: skip
    assert "complete, 64 steps" in said and "examples/s" in said
    assert "\x1b" not in said  # not a terminal: plain lines
    said = program(ROOT / "eval_main.py", "--workdir", "runs/beacons", "--split", "test")
    assert "beacons on test (best)" in said
    assert (tmp_path / "runs/beacons/eval/test/index.html").is_file()
    shutil.rmtree(tmp_path / "runs")


def test_the_toy_is_a_system(beacons):
    assert isinstance(beacons().system, System)


@pytest.mark.parametrize("name", ["data.source", "data.transform", "loss", "predict", "calibrate"])
def test_the_page_explains_every_method(name):
    assert f"`{name}`" in DOC.read_text()
