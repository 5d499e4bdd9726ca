"""The data-set factory: names that stay, whole items only, damage that is noticed."""

import concurrent.futures
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from posejax.sim import spacecraft_sequences
from posejax.sim.factory import ensure_items, open_dataset, world_seed
from posejax.sim.generate import ensure_streets
from posejax.sim.spacecraft_sequences import SpacecraftSettings, ensure_sequences


def make(number, place):
    place.mkdir()
    for k in range(3):
        (place / f"{k}.txt").write_text(f"{number} {k}")


def items(root, count, make=make, **options):
    dataset = open_dataset(root, "things", '{"a": 1}')
    names = [f"thing-{k}" for k in range(count)]
    options = {"files": 3, "title": "making things", "quiet": True} | options
    return ensure_items(dataset, "val", names, make, **options)


def snapshot(paths):
    return [{p.name: p.read_text() for p in sorted(path.iterdir())} for path in paths]


def test_an_emptied_or_cut_item_is_noticed_and_made_again(tmp_path):
    made = []

    def counted(number, place):
        made.append(number)
        make(number, place)

    paths = items(tmp_path, 4, counted)
    before = snapshot(paths)
    for file in paths[1].iterdir():
        file.unlink()
    (paths[2] / "0.txt").write_text("")  # as many files, fewer bytes
    (paths[3] / "2.txt").unlink()
    items(tmp_path, 4, counted)
    assert made == [0, 1, 2, 3, 1, 2, 3] and snapshot(paths) == before
    items(tmp_path, 4, counted)
    assert len(made) == 7
    index = (tmp_path / paths[0].parents[1] / "index-val.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in index[:4]] == [f"thing-{k}" for k in range(4)]


def test_an_old_data_set_without_an_index_is_kept_but_not_when_emptied(tmp_path):
    paths = items(tmp_path, 2)
    (paths[0].parents[1] / "index-val.jsonl").unlink()
    (paths[1] / "1.txt").unlink()
    made = []
    counted = lambda k, place: (made.append(k), make(k, place))  # noqa: E731
    items(tmp_path, 2, counted)
    assert made == [1]
    items(tmp_path, 2, counted)  # both have a line now
    assert made == [1]


def test_an_item_without_its_line_is_made_again(tmp_path):
    """As a power failure leaves it: files of the right number and name, their bytes lost."""
    paths = items(tmp_path, 3)
    before, index = snapshot(paths), paths[0].parents[1] / "index-val.jsonl"
    index.write_text(index.read_text()[:-9])
    for file in paths[2].iterdir():
        file.write_text("other bytes")
    made = []
    items(tmp_path, 3, lambda k, place: (made.append(k), make(k, place)))
    assert made == [2] and snapshot(paths) == before
    lines = [json.loads(line)["name"] for line in index.read_text().splitlines()]
    assert lines == ["thing-0", "thing-1", "thing-2"]


def test_empty_files_are_none(tmp_path):
    paths = items(tmp_path, 2)
    (paths[0].parents[1] / "index-val.jsonl").unlink()
    (paths[1] / "1.txt").write_text("")
    made = []
    items(tmp_path, 2, lambda k, place: (made.append(k), make(k, place)))
    assert made == [1]

    def hollow(number, place):
        make(number, place)
        (place / "0.txt").write_text("")

    with pytest.raises(ValueError, match="2 files were made, expected 3"):
        items(tmp_path / "other", 1, hollow)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the names of open files from /proc")
def test_an_item_is_on_the_disk_before_it_has_its_place_and_its_line_after(tmp_path, monkeypatch):
    synced = []

    def fsync(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        synced.append((path.name, (folder / "val" / "thing-0").exists()))

    folder = open_dataset(tmp_path, "things", '{"a": 1}').folder
    monkeypatch.setattr("posejax.data.files.os.fsync", fsync)
    items(tmp_path, 1)
    first = synced.index(("thing-0", False))
    assert {(f"{k}.txt", False) for k in range(3)} <= set(synced[:first])
    assert synced[first + 1 :] == [("val", True), ("index-val.jsonl", True)]


def test_an_error_keeps_what_was_finished(tmp_path):
    def failing(number, place):
        if number == 2:
            place.mkdir()
            raise OSError(28, "No space left on device")
        make(number, place)

    with pytest.raises(OSError, match="No space"):
        items(tmp_path, 4, failing)
    paths = items(tmp_path, 2, lambda *_: pytest.fail("these were finished"))
    assert not (paths[0].parent / "thing-2").exists()
    threads = lambda missing: concurrent.futures.ThreadPoolExecutor(2)  # noqa: E731
    assert len(snapshot(items(tmp_path, 4, executor=threads, first_alone=True))) == 4
    with pytest.raises(ValueError, match="3 files were made, expected 5"):
        items(tmp_path / "other", 1, files=5)


def test_data_sets_keep_their_names(tmp_path, monkeypatch):
    """Folders of the first release are found again: the hash of a settings text never moves."""
    monkeypatch.setattr("posejax.sim.generate.ensure_items", lambda *a, **k: [])
    assert ensure_streets(tmp_path, "train", 48).parent.name == "streets-a16e2af7f1c2"
    monkeypatch.setattr(
        spacecraft_sequences, "ensure_items", lambda dataset, *a, **k: [dataset.folder]
    )
    (folder,) = ensure_sequences(tmp_path, SpacecraftSettings(), "val", 1)
    assert folder.name == "spacecraft-ea71b2b4398f"


def test_seeds_of_splits_are_disjoint():
    seeds = {world_seed(7, split, k) for split in ("train", "val", "test") for k in range(50)}
    states = {tuple(np.random.SeedSequence(seed).generate_state(2)) for seed in seeds}
    assert len(states) == 150
    with pytest.raises(ValueError, match="split must be one of train, val, test"):
        world_seed(0, "all", 0)
