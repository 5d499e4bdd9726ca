"""Simulated pairs: what the examples promise holds in the pictures, worlds are made once."""

import numpy as np
import pytest

from posejax.systems.tinyroma.data import Augment, SimulatedPairs, Worlds

TINY = Worlds((1, 0, 0), (0, 1, 0), frames=4, pairs=6, size=(64, 96), overlap=(0.05, 1.0))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return str(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def data(root):
    return SimulatedPairs(worlds=TINY, root=root, size=(64, 96))


@pytest.fixture(scope="module")
def rooms(data):
    return data.source("train")


def looks_alike(example):
    """Correlation of A's cells with what lies at their targets in B, over the visible ones."""
    high, wide = example["image_a"].shape[:2]
    cells = example["image_a"].mean(-1).reshape(high // 4, 4, wide // 4, 4).mean((1, 3))
    seen = example["visible_4"] > 0
    x, y = np.clip(example["target_4"][seen].astype(int), 0, [wide - 1, high - 1]).T
    return np.corrcoef(cells[seen], example["image_b"].mean(-1)[y, x])[0, 1]


def test_targets_point_to_what_looks_the_same(data, rooms):
    assert 2 <= len(rooms) <= 6 and data.simulated and "simulated" in data.title
    dull = Augment(grey=0, noise=0, blur=0, gain=0, contrast=0, gamma=0)
    alike = []
    for index in range(len(rooms)):
        record = rooms[index]
        rng = np.random.default_rng(index)
        plain = data.transform(record, rng, train=False)
        assert plain["rotation_deg"] <= 55 and plain["has_pose"] == 1
        assert abs(plain["overlap"] - record["overlap"]) < 0.2
        train = SimulatedPairs(size=(64, 96), augment=dull).transform(record, rng, train=True)
        alike += [looks_alike(e) for e in (plain, train) if e["visible_4"].sum() > 40]
    assert len(alike) > 3 and np.median(alike) > 0.5


def test_worlds_are_found_again_and_more_of_them_leave_the_first(data, rooms, root, monkeypatch):
    def never(*args):
        raise AssertionError("made again")

    monkeypatch.setattr("posejax.systems.tinyroma.sources.simulated._make", never)
    again = data.source("train")
    np.testing.assert_array_equal(again[0]["image_a"], rooms[0]["image_a"])
    with pytest.raises(AssertionError, match="made again"):
        SimulatedPairs(worlds=Worlds((2, 0, 0), (0, 0, 0), 4, 6, (0.05, 1.0), size=(64, 96)),
                       root=root).source("train")  # fmt: skip
    with pytest.raises(ValueError, match="no world in split 'test'"):
        data.source("test")


@pytest.mark.slow
def test_streets_are_seen_too(data):
    source = data.source("val")
    examples = [
        data.transform(source[k], np.random.default_rng(0), train=False) for k in range(len(source))
    ]
    assert all(e["known_4"].mean() > 0.2 for e in examples)
    assert np.median([looks_alike(e) for e in examples]) > 0.4
