"""The package itself: lazy subpackages, a version, a docstring in every room."""

import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import posejax

ROOT = Path(__file__).resolve().parents[1]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_subpackages_load_on_first_use_and_not_before():
    code = (
        "import sys, posejax; print('jax' in sys.modules); "
        "print(posejax.registration.pose_volume.__name__, 'jax' in sys.modules)"
    )
    assert run(code).split() == ["False", "pose_volume", "True"]


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="registratoin"):
        posejax.registratoin  # noqa: B018


def test_dir_lists_the_rooms():
    assert {"geometry", "registration", "events", "systems"} <= set(dir(posejax))


def test_the_installed_version_is_that_of_the_package():
    parts = posejax.__version__.split(".")
    assert len(parts) == 3 and all(p.isdigit() for p in parts)


PACKAGES = [m.name for m in pkgutil.walk_packages(posejax.__path__, "posejax.") if m.ispkg]


@pytest.mark.parametrize("name", ["posejax", *PACKAGES])
def test_every_package_says_what_is_in_it(name):
    text = import_module(name).__doc__ or ""
    assert len(text.split()) >= 5, f"{name} has no docstring worth the name"
