"""Order, resumption, splitting between processes, and records that cannot be read."""

import pickle
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from posejax.data import pipeline
from posejax.data.dataset import Dataset, Source
from posejax.data.errors import DataError


@dataclass(frozen=True)
class Numbers(Source):
    count: int = 37
    broken: tuple[int, ...] = ()
    kind: type = DataError

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index in self.broken:
            if self.kind is DataError:
                raise DataError("scan.bin", f"record {index}", "cut short")
            raise self.kind(f"bad {index}")
        return {"index": index}

    def describe(self, index):
        return f"scan.bin, key {index:04d}"


@dataclass(frozen=True)
class Noisy(Dataset):
    """The numbers, and noise beside them."""

    numbers: Numbers = Numbers()

    def source(self, split):
        return self.numbers

    def transform(self, record, rng, train):
        noise = rng.normal() if train else 0.0
        return {"index": np.int32(record["index"]), "x": np.float32([record["index"], noise])}


def examples(source=None, **kwargs):
    source = Numbers() if source is None else source
    return pipeline.make_examples(Noisy(source), source, "train", train=True, **kwargs)


def take(batches, count, **options):
    with pipeline.iterate(batches, **{"workers": 0, "threads": 2, "prefetch": 3, **options}) as it:
        return [{k: np.array(v) for k, v in next(it).items()} for _ in range(count)]


def same(a, b):
    for x, y in zip(a, b, strict=True):
        assert x.keys() == y.keys()
        for k in x:
            np.testing.assert_array_equal(x[k], y[k])


def test_every_pass_sees_every_record_once_in_a_new_order():
    found = take(pipeline.train_batches(examples(), seed=1, batch_size=37), 3)
    orders = [b["index"].tolist() for b in found]
    assert all(sorted(o) == list(range(37)) for o in orders)
    assert len({tuple(o) for o in orders}) == 3
    # the augmentation is new in each pass, too
    noise = [b["x"][np.argsort(b["index"]), 1] for b in found]
    assert not np.isclose(noise[0], noise[1]).any()


def test_order_is_a_function_of_seed_and_step_alone():
    make = examples()
    whole = take(pipeline.train_batches(make, seed=5, batch_size=8), 12)
    same(take(pipeline.train_batches(make, seed=5, batch_size=8), 12, threads=1), whole)
    same(take(pipeline.train_batches(make, seed=5, batch_size=8, start=7), 5), whole[7:])
    other = take(pipeline.train_batches(make, seed=6, batch_size=8), 1)
    assert not np.array_equal(other[0]["index"], whole[0]["index"])


def test_worker_processes_give_the_same_batches_and_can_resume():
    make = examples()
    whole = take(pipeline.train_batches(make, seed=5, batch_size=8), 8)
    same(take(pipeline.train_batches(make, seed=5, batch_size=8, start=3), 5, workers=2), whole[3:])


def test_processes_share_each_global_batch():
    make = examples()
    whole = take(pipeline.train_batches(make, seed=2, batch_size=8), 6)
    parts = [
        take(pipeline.train_batches(make, seed=2, batch_size=4, process=(p, 2)), 6)
        for p in range(2)
    ]
    for step in range(6):
        merged = np.stack([parts[p][step]["x"] for p in range(2)], axis=1).reshape(8, 2)
        np.testing.assert_array_equal(merged, whole[step]["x"])


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("limit", [None, 10, 100])
def test_evaluation_sees_every_example_once_in_order(processes, limit):
    make = examples()
    rows, count = [], 0
    for p in range(processes):
        batches, count = pipeline.eval_batches(
            make, batch_size=8, limit=limit, process=(p, processes)
        )
        rows.append([batches[i]["index"] for i in range(len(batches))])
    merged = [np.concatenate([r[i] for r in rows]) for i in range(len(rows[0]))]
    assert count == min(37, limit or 37)
    np.testing.assert_array_equal(np.concatenate(merged)[:count], np.arange(count))
    assert all(len(m) == 8 for m in merged)


def test_unreadable_record_stops_with_its_name():
    make = examples(Numbers(broken=(3,)))
    with pytest.raises(DataError, match=r"record 3 \(scan\.bin, key 0003\).*cut short"):
        take(pipeline.train_batches(make, seed=0, batch_size=8), 5)


@pytest.mark.parametrize("kind", [OSError, ValueError, KeyError, EOFError])
def test_what_files_raise_is_named(kind):
    make = examples(Numbers(broken=(3,), kind=kind))
    with pytest.raises(DataError, match=f"{kind.__name__}.*bad 3"):
        make(3, np.random.default_rng(0))


def test_faults_of_the_program_are_never_skipped():
    make = examples(Numbers(broken=(3,), kind=TypeError), skip=True)
    with pytest.raises(TypeError):
        make(3, np.random.default_rng(0))


@pytest.mark.parametrize("workers", [0, 2])
def test_skipping_takes_the_next_record_and_reports_each(workers):
    make = examples(Numbers(broken=(3, 4, 20)), skip=True)
    found = take(pipeline.train_batches(make, seed=0, batch_size=37), 1, workers=workers)
    batch, texts = pipeline.pop_skipped(found[0])
    assert pipeline.SKIPPED not in batch
    assert len(texts) == 3 and all("cut short" in t for t in texts)
    expected = sorted([*(set(range(37)) - {3, 4, 20}), 5, 5, 21])
    assert sorted(batch["index"].tolist()) == expected


def test_nothing_readable_is_an_error_even_when_skipping():
    with pytest.raises(DataError, match="none can be read"):
        examples(Numbers(count=5, broken=tuple(range(5))), skip=True)


def test_first_example_decides_the_shapes():
    class Ragged(Noisy):
        def transform(self, record, rng, train):
            n = 3 if record["index"] == 2 else 4
            return {"index": np.int32(record["index"]), "x": np.zeros(n, np.float32)}

    make = pipeline.make_examples(Ragged(), Numbers(), "train", train=True)
    with pytest.raises(DataError, match=r"entry 'x' is float32\[3\]; the first .* float32\[4\]"):
        make(2, np.random.default_rng(0))


def test_examples_must_be_numbers_with_an_index():
    class Fixed(Noisy):
        entry: ClassVar[dict]

        def transform(self, record, rng, train):
            return self.entry

    for entry, words in (({"x": 1.0}, "index"), ({"index": 1, "name": "a"}, "name")):
        Fixed.entry = entry
        with pytest.raises(DataError, match=words):
            pipeline.make_examples(Fixed(), Numbers(), "train", train=True)
    with pytest.raises(DataError, match="none"):
        examples(Numbers(0))


def test_examples_travel_to_workers():
    make = examples()
    copy = pickle.loads(pickle.dumps(replace(make)))
    a, b = (m(4, np.random.default_rng(1)) for m in (make, copy))
    same([a], [b])


def test_workers_see_no_accelerator(monkeypatch):
    import os

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pipeline._hidden_accelerators():
        assert os.environ["JAX_PLATFORMS"] == "cpu"
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert os.environ["JAX_PLATFORMS"] == "cuda"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_what_a_source_leaves_out_is_counted_and_named():
    class Choosy(Numbers):
        skipped = tuple((f"r{i}", "too near") for i in range(23))

    lines = pipeline.left_out(Choosy(2))
    assert lines[:2] == ["23 records left out, 2 kept", "r0: too near"]
    assert lines[-1] == "... and 3 more" and len(lines) == 22
    assert pipeline.left_out(Numbers(1)) == []


def test_a_killed_worker_is_told():
    import multiprocessing

    batches = pipeline.train_batches(examples(), seed=0, batch_size=4)
    with pipeline.iterate(batches, workers=1, threads=1, prefetch=1) as iterator:
        next(iterator)
        for worker in multiprocessing.active_children():
            worker.kill()
            worker.join()
        with pytest.raises(pipeline.WorkerError, match="a data worker process was killed"):
            for _ in range(100):
                next(iterator)
