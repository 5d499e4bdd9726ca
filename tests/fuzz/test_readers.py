"""No damaged file ends a reader in anything but its own error: a short run of `make fuzz`."""

import argparse

import pytest

from tests.fuzz.__main__ import BAD, batch, table
from tests.fuzz.readers import CASES
from tests.fuzz.trial import Bench


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_file_is_a_data_error_or_valid(tmp_path, name):
    bench = Bench(name, seed=1, folder=tmp_path, real=False)
    outcomes = [bench.run(index) for index in range(10)]
    assert [outcome for outcome in outcomes if outcome[0] in BAD] == []
    assert {kind for kind, _ in outcomes} & {"refused"}, "the mutations damage nothing"


def test_other_exceptions_and_claims_of_memory_are_noticed(tmp_path):
    outcomes = []
    for name in ("broken_type", "broken_memory"):
        bench = Bench(name, seed=0, folder=tmp_path / name, real=False)
        outcomes.append({bench.run(index)[0] for index in range(20)})
    assert outcomes == [{"other", "valid"}, {"other", "valid"}]
    _, message = next(r for r in map(bench.run, range(20)) if r[0] == "other")
    assert "MemoryError" in message


def test_mutations_come_again(tmp_path):
    runs = [Bench("raster_npz", 5, tmp_path / str(i), real=False) for i in range(2)]
    kinds = [[bench.run(index)[0] for index in range(30)] for bench in runs]
    assert kinds[0] == kinds[1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["crash", "hang"])
def test_crashes_and_hangs_are_survived_and_counted(kind):
    options = argparse.Namespace(seed=0, seconds=1.0, memory=1.0)
    counts = batch(options, f"broken_{kind}", 0, 4)
    assert counts.total() == 4 and counts[kind] >= 1
    assert set(counts) <= {kind, "valid"}
    assert table({"a": counts}).count("\n") == 3
