"""Modes compared by room: a difference that all rooms share is known, whatever rooms differ in."""

import json

import numpy as np
import pytest

from benchmarks.bifusion_modes import MODES, compare, main, read_runs

ROOMS = np.repeat(np.arange(12), 3)


def write_run(folder, share, rooms=ROOMS):
    """An evaluation whose frames have that share of right points, in two classes."""
    right = 1000 * np.asarray(share)
    wrong = 1000 - right
    confusion = np.stack([[right, wrong], [wrong, right]]).transpose(2, 0, 1)[:, None]
    folder = folder / "eval" / "test"
    folder.mkdir(parents=True)
    np.savez(folder / "records.npz", confusion=confusion, sequence=rooms)


def test_paired_differences_by_room(tmp_path):
    rng = np.random.default_rng(0)
    hard = rng.uniform(0.2, 0.7, 12)[ROOMS]
    for mode, gain in zip(MODES, (0.1, 0.0, 0.1), strict=True):
        for seed in range(2):
            write_run(tmp_path / f"{mode}_{seed}", hard + gain)
    found, read = read_runs(tmp_path, "test")
    assert list(found["image"]) == [0, 1] and (read == ROOMS).all()
    assert found["image"][0].shape == (36, 2, 2)
    rows = {row["what"]: row for row in compare(found, read)}
    low, high = rows["fused"]["interval"]
    assert high - low > 5  # rooms differ
    low, high = rows["fused - image"]["interval"]
    assert 0 < low <= rows["fused - image"]["miou"] <= high and high - low < 5
    assert rows["fused - points"]["interval"] == [0, 0]
    assert rows["image"]["sd"] == 0 and len(rows) == 5


def test_trainings_are_paired_by_their_seeds(tmp_path):
    """Seed 1 of image is missing and 10 sorts after 2: each seed is worth its own number."""
    worth = {0: 0.5, 1: 0.9, 2: 0.6, 10: 0.7}
    for mode, gain in zip(MODES, (0.1, 0.0, 0.0), strict=True):
        for seed, share in worth.items():
            if (mode, seed) != ("image", 1):
                write_run(tmp_path / f"{mode}_{seed}", np.full(36, share + gain))
    write_run(tmp_path / "image_old", np.zeros(36))  # no seed
    out = tmp_path / "modes.json"
    rows = main([str(tmp_path), "--out", str(out)])
    rows = {row["what"]: row for row in rows}
    assert rows["fused"]["seeds"] == [0, 1, 2, 10] and rows["image"]["seeds"] == [0, 2, 10]
    assert rows["fused - image"]["seeds"] == [0, 2, 10]
    wanted = [(s + 0.1) / (2 - (s + 0.1)) - s / (2 - s) for s in (0.5, 0.6, 0.7)]
    np.testing.assert_allclose(rows["fused - image"]["each"], 100 * np.array(wanted))
    told = json.loads(out.read_text())
    assert told["comparison"] == list(rows.values()) and told["machine"]["cores"] > 0
    assert (told["benchmark"], told["rooms"], told["frames"]) == ("bifusion_modes", 12, 36)


def test_runs_of_other_frames_or_without_a_common_seed_are_refused(tmp_path):
    for mode in MODES:
        write_run(tmp_path / "a" / f"{mode}_0", np.full(36, 0.5))
        write_run(tmp_path / "b" / f"{mode}_{len(mode)}", np.full(36, 0.5))
    write_run(tmp_path / "a" / "points_1", np.full(36, 0.5), ROOMS[::-1])
    with pytest.raises(SystemExit, match=r"points_1.*: frames of other rooms than in .*fused_0"):
        read_runs(tmp_path / "a", "test")
    write_run(tmp_path / "c" / "fused_0", np.full(35, 0.5), ROOMS[:35])
    write_run(tmp_path / "c" / "fused_1", np.full(36, 0.5))
    with pytest.raises(SystemExit, match="frames of other rooms"):
        read_runs(tmp_path / "c", "test")
    with pytest.raises(SystemExit, match="no seed of both fused and points"):
        compare(*read_runs(tmp_path / "b", "test"))
