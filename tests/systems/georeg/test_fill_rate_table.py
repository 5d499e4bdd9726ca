"""The fill-rate tool on raster pairs whose fill is known, and on a folder without real data."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from posejax.data.raster_folder import write_folder
from posejax.systems.georeg import RasterFolder

# By its path: the benchmarks are no installed package.
_spec = importlib.util.spec_from_file_location(
    "fill_rate", Path(__file__).parents[3] / "benchmarks" / "fill_rate.py"
)
assert _spec and _spec.loader
fill_rate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fill_rate)


@pytest.fixture
def pairs(tmp_path):
    """Twenty pairs of 10 x 10 cells; pair k has 5 (k + 1) valid online cells, shuffled in order."""

    def sample(k):
        mask = np.arange(100).reshape(10, 10) < 5 * (k + 1)
        values = np.ones((10, 10, 1), np.float32)
        return f"pair{k}", values, mask, values, np.ones((10, 10), bool), np.zeros(3)

    order = np.random.default_rng(0).permutation(20).tolist()
    write_folder(tmp_path / "pairs", map(sample, order), cell_size=0.2, split="val")
    return fill_rate.DataSet("pairs", RasterFolder(root=str(tmp_path / "pairs")), "val")


def test_distribution_and_edge_cases_by_id(pairs):
    (row,) = fill_rate.measure(pairs, [fill_rate.Resolution(0.2, 10)])
    shares = 0.05 * np.arange(1, 21)
    assert row["samples"] == row["of"] == 20
    np.testing.assert_allclose(row["mean"], shares.mean())
    np.testing.assert_allclose(row["min"], 0.05)
    np.testing.assert_allclose(row["p5"], np.percentile(shares, 5))
    np.testing.assert_allclose(row["p50"], np.median(shares))
    assert [case["id"] for case in row["least_filled"]] == [f"pair{k}" for k in range(5)]
    text = fill_rate.table([row])
    assert "| pairs | 0.2 " in text and "| pair4 | 25.0 %" in text


def test_a_limit_takes_samples_from_the_whole_split(pairs):
    (row,) = fill_rate.measure(pairs, [fill_rate.Resolution(0.2, 10)], limit=2)
    source = pairs.config.source("val")
    assert (row["samples"], row["of"]) == (2, 20)
    ends = {source.describe(0), source.describe(19)}
    assert {case["id"] for case in row["least_filled"]} == ends


def test_command_line_writes_what_it_measured(pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fill_rate, "data_sets", lambda folder: [pairs])
    monkeypatch.setattr(fill_rate, "RESOLUTIONS", [fill_rate.Resolution(0.2, 10)])
    rows = fill_rate.main(["--out", str(tmp_path / "out" / "fill.json")])
    assert json.loads((tmp_path / "out" / "fill.json").read_text()) == rows
    assert str(tmp_path) not in json.dumps(rows)
    assert "| pairs | 0.2 " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        fill_rate.main(["--data", str(tmp_path / "nowhere")])


def test_results_on_real_data_are_not_replaced_by_less(pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(fill_rate, "data_sets", lambda folder: [pairs])
    monkeypatch.setattr(fill_rate, "RESOLUTIONS", [fill_rate.Resolution(0.2, 10)])
    monkeypatch.setattr(fill_rate, "OUT", tmp_path / "kept.json")
    monkeypatch.delenv("POSEJAX_DATA", raising=False)
    fill_rate.main([])
    assert not (tmp_path / "kept.json").exists()
    fill_rate.main(["--data", str(tmp_path)])
    assert (tmp_path / "kept.json").is_file()


def test_real_data_are_found_below_a_folder(tmp_path):
    names = [d.name for d in fill_rate.data_sets(None)]
    assert names == ["simulated streets"]
    (tmp_path / "aces").mkdir()
    (tmp_path / "aces" / "aces.relations").touch()
    (tmp_path / "val" / "log").mkdir(parents=True)
    (tmp_path / "val" / "log" / "city_SE3_egovehicle.feather").touch()
    found = list(fill_rate.data_sets(tmp_path))
    assert [d.name for d in found[1:]] == ["Radish aces", "Argoverse 2 val"]
    assert found[2].config.root == str(tmp_path / "val")
