"""Arrays that live on the devices: the same run as with examples that carry the data themselves."""

import dataclasses

import jax
import numpy as np
import pytest
from beacons.data import Room
from beacons.system import Beacons

from posejax import config
from posejax.data.dataset import Source
from posejax.train import Batch, setup, sharding
from posejax.train.evaluation import pick_examples


class Rows(Source):
    """Examples that are row numbers of one resident table."""

    def __init__(self, room: Room, split: str):
        positions, zero = room.source(split), np.random.default_rng(0)
        rows = [room.transform(positions[i], zero, False) for i in range(len(positions))]
        self.table = {k: np.stack([r[k] for r in rows]) for k in ("ranges", "xy")}

    def __len__(self):
        return len(self.table["xy"])

    def __getitem__(self, index):
        return {"index": np.int32(index)}

    def resident(self):
        return self.table


@dataclasses.dataclass(frozen=True)
class Table(Room):
    def source(self, split):
        return Rows(Room(self.root, self.examples, 0.0), split)

    def transform(self, record, rng, train):
        return record


def looked_up(batch):
    """The batch that carries its data, from one that names rows of the table."""
    rows = {k: v[batch.examples["index"]] for k, v in batch.resident.items()}
    return Batch({**batch.examples, **rows})


@dataclasses.dataclass(frozen=True)
class Resident(Beacons):
    data: Room = Table(noise=0.0)

    def init(self, key, batch):
        return super().init(key, looked_up(batch))

    def loss(self, params, state, batch, key, progress, train):
        return super().loss(params, state, looked_up(batch), key, progress, train)

    def predict(self, params, state, batch):
        return super().predict(params, state, looked_up(batch))

    def metrics(self, outputs, batch):
        return super().metrics(outputs, looked_up(batch))


@pytest.mark.parametrize("changes", [{}, {"train.accumulate": 2}, {"train.sharding.devices": 8}])
def test_resident_rows_train_as_examples_do(run, beacons, tmp_path, changes):
    changes = {
        "train.steps": 24, "system.data.noise": 0.0, "train.sharding.devices": 1, **changes
    }  # fmt: skip
    whole = run(tmp_path / "whole", **changes)
    experiment = config.replace(beacons(**changes), system=Resident())
    resident = run(tmp_path / "resident", experiment=experiment)
    for kind in ("train", "eval"):
        for a, b in zip(whole.lines(kind), resident.lines(kind), strict=True):
            np.testing.assert_allclose(b["loss"], a["loss"], rtol=1e-6, err_msg=kind)


def test_resident_arrays_are_shown_and_measured_once(beacons):
    experiment = config.replace(beacons(**{"train.sharding.devices": 8}), system=Resident())
    parts = setup.assemble(experiment)
    assert parts.resident["xy"].sharding.is_fully_replicated
    assert parts.batch.resident["xy"].shape == (256, 2)
    assert parts.batch.examples["index"].shape == (16,)
    state = parts.init()
    val = parts.eval_examples("val")
    evaluator = parts.evaluator()
    result = evaluator.run(state.params, state.model_state, val)
    assert len(result.records["error"]) == len(val.source)
    shown = evaluator.show(
        state.params, state.model_state, val, pick_examples(result.records, 2, 1)
    )
    assert [set(s) for s in shown] == [{"index", "xy", "sigma"}] * 3


def test_a_source_without_resident_arrays_places_none():
    mesh = jax.make_mesh((1, 1), ("data", "fsdp"))
    assert sharding.place_resident(Room().source("val"), mesh) == {}
