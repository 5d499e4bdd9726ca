"""The examples of docs/event_files.md run, in order, and give what the page says."""

import re
from pathlib import Path

import numpy as np

from posejax.data.event_files import infer_tick, read_recording, write_event_npz

PAGE = Path(__file__).resolve().parents[3] / "docs" / "event_files.md"


def test_every_example_runs_and_gives_what_it_says(tmp_path, monkeypatch, recording, capsys):
    monkeypatch.chdir(tmp_path)
    write_event_npz("mine.npz", recording)
    namespace = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 6
    for block in blocks:
        exec(block, namespace)
    assert "500 events in 0.59" in capsys.readouterr().out
    assert len(read_recording("sequences/RT000.h5")) == 500
    assert np.isclose(namespace["tick"], 1e-6) and np.isclose(infer_tick(600, 600_000), 1e-4)
    assert namespace["refused"] == ["time unit"]
    assert namespace["count"] == 1000 and namespace["per_label"].tolist() == [1000] * 5
    np.testing.assert_array_equal(namespace["same"].t, namespace["own"].t)
    np.testing.assert_array_equal(namespace["packed"][:, 1], namespace["own"].window(0.1, 0.2).t)
