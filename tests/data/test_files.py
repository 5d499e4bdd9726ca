"""Bytes, JSON and names of others: used, or refused."""

import os

import pytest

from posejax.data.errors import DataError
from posejax.data.files import (
    json_number,
    path_inside,
    read_bytes,
    read_json,
    root_folder,
    whole,
)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"{", r"a\.json: file: no JSON"),
        (b"[1]", "top level: list; expected a JSON object"),
        (b'{"a": 1, "a": 2}', "'a' twice"),
        (b'{"a": NaN}', "NaN is no JSON"),
        (b'{"a": "\xff"}', "no text"),
        (b'{"a": ' + b"[" * 200_000, "no JSON"),
        (b'{"a": ' + b"1" * 5000 + b"}", "no JSON"),
        (b'{"a": "\0"}', "NUL"),
    ],
)
def test_json_that_is_none(tmp_path, raw, message):
    (tmp_path / "a.json").write_bytes(raw)
    with pytest.raises(DataError, match=message):
        read_json(tmp_path / "a.json")


def test_numbers_of_json(tmp_path):
    (tmp_path / "a.json").write_text('\ufeff{"a": 1, "b": 1e400}', encoding="utf-8")
    found = read_json(tmp_path / "a.json")
    assert json_number("a.json", "a", found["a"]) == 1.0
    for value in (found["b"], True, "1", None, [1], 10**400):
        with pytest.raises(DataError, match=r"a\.json: x: .*; expected a finite number"):
            json_number("a.json", "x", value)


def test_names_stay_in_their_folder(tmp_path):
    folder, outside = tmp_path / "data", tmp_path / "outside"
    (folder / "sub").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret").write_text("x")
    os.symlink(outside / "secret", folder / "link")
    os.symlink(outside, folder / "folder")
    os.symlink(folder / "sub", folder / "within")
    os.symlink("circle", folder / "circle")
    for name in ("a", "sub/a", "within/a", "./a"):
        assert path_inside(folder, name) == folder / name
    for name in (
        "../outside/secret", "sub/../../x", str(outside / "secret"), "C:\\x", "..\\x", "\\x",
        "link", "folder/secret", "a\0b", "//host/x", "C:x",
    ):  # fmt: skip
        assert path_inside(folder, name) is None, name
    os.symlink(folder, tmp_path / "alias")  # the folder itself may be reached through a link
    assert path_inside(tmp_path / "alias", "sub/a") == tmp_path / "alias" / "sub/a"


def test_the_root_folder_is_one_that_was_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    assert root_folder("~/data", "logs") == tmp_path / "data"
    hint = "expected logs; set it with --data.root FOLDER"
    for root, found in (("", "not given"), ("no", "no such folder")):
        with pytest.raises(DataError, match=f"root: {found}; {hint}"):
            root_folder(root, "logs")


def test_a_file_is_written_whole_and_synced_before_it_has_its_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("posejax.data.files.os.fsync", lambda fd: synced.append(path.exists()))
    path = tmp_path / "a.h5"
    with whole(path) as temporary:
        temporary.write_text("1")
        assert not list(tmp_path.glob("*.h5"))
    assert synced == [False, True] and path.read_text() == "1"  # the file, then the folder
    with pytest.raises(RuntimeError), whole(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"] and path.read_text() == "1"


def test_files_beyond_the_limit_and_pipes_are_refused(tmp_path):
    (tmp_path / "a").write_bytes(bytes(100))
    with pytest.raises(DataError, match="size: 100 bytes; expected at most 99"):
        read_bytes(tmp_path / "a", "bytes", limit=99)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="not a regular file"):
        read_bytes(tmp_path / "pipe", "bytes")
