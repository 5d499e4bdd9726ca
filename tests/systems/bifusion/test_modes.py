"""Modes compared by room: a difference that all rooms share is known, whatever rooms differ in."""

import json

import numpy as np

from benchmarks.bifusion_modes import MODES, compare, read_runs


def test_paired_differences_by_room(tmp_path):
    rng = np.random.default_rng(0)
    rooms, hard = np.repeat(np.arange(12), 3), rng.uniform(0.2, 0.7, 12)
    for mode, gain in zip(MODES, (0.1, 0.0, 0.1), strict=True):
        for seed in range(2):
            right = 1000 * (hard[rooms] + gain)
            wrong = 1000 - right
            confusion = np.stack([[right, wrong], [wrong, right]]).transpose(2, 0, 1)[:, None]
            folder = tmp_path / f"{mode}_{seed}" / "eval" / "test"
            folder.mkdir(parents=True)
            np.savez(folder / "records.npz", confusion=confusion, sequence=rooms)
    found, read = read_runs(tmp_path, "test")
    assert found["image"].shape == (2, 36, 2, 2) and (read == rooms).all()
    rows = {row["what"]: row for row in compare(found, read)}
    low, high = json.loads(rows["fused"]["95 % by room"])
    assert high - low > 5  # rooms differ
    low, high = json.loads(rows["fused - image"]["95 % by room"])
    assert 0 < low <= float(rows["fused - image"]["mIoU, %"]) <= high and high - low < 5
    assert json.loads(rows["fused - points"]["95 % by room"]) == [0, 0]
    assert rows["image"]["sd"] == "0.0" and len(rows) == 5
