"""Arrays that live on the devices: the same run as with examples that carry the data themselves."""

import dataclasses

import jax
import numpy as np
import pytest
from beacons.config import Beacons
from beacons.data import Positions, example
from beacons.system import BeaconSystem

from posejax import config
from posejax.train import setup, sharding
from posejax.train.evaluation import pick_examples


class Rows:
    """Examples that are row numbers of one resident table."""

    def __init__(self, positions: Positions):
        zero = np.random.default_rng(0)
        rows = [example(positions[i], zero, 0.0) for i in range(len(positions))]
        self.table = {k: np.stack([r[k] for r in rows]) for k in ("ranges", "xy")}

    def __len__(self):
        return len(self.table["xy"])

    def __getitem__(self, index):
        return {"index": np.int32(index)}

    def resident(self):
        return self.table


def looked_up(batch):
    if "resident" not in batch:
        return {**batch, "ranges": np.zeros((1, 4), np.float32)}  # shapes for `init`
    return {**batch, **{k: v[batch["index"]] for k, v in batch["resident"].items()}}


class ResidentSystem(BeaconSystem):
    def source(self, split):
        return Rows(super().source(split))

    def transform(self, record, rng, train):
        return record

    def init(self, key, batch):
        return super().init(key, looked_up(batch))

    def loss(self, params, state, batch, key, train):
        return super().loss(params, state, looked_up(batch), key, train)

    def predict(self, params, state, batch):
        return super().predict(params, state, looked_up(batch))

    def metrics(self, outputs, batch):
        return super().metrics(outputs, looked_up(batch))


@dataclasses.dataclass(frozen=True)
class ResidentBeacons(Beacons):
    def build(self):
        return ResidentSystem(self)


@pytest.mark.parametrize("changes", [{}, {"train.accumulate": 2}, {"train.sharding.devices": 8}])
def test_resident_rows_train_as_examples_do(run, beacons, tmp_path, changes):
    changes = {"train.steps": 24, "system.noise": 0.0, "train.sharding.devices": 1, **changes}
    whole = run(tmp_path / "whole", **changes)
    experiment = config.replace(beacons(**changes), system=ResidentBeacons(noise=0.0))
    resident = run(tmp_path / "resident", experiment=experiment)
    for kind in ("train", "eval"):
        for a, b in zip(whole.lines(kind), resident.lines(kind), strict=True):
            np.testing.assert_allclose(b["loss"], a["loss"], rtol=1e-6, err_msg=kind)


def test_resident_arrays_are_shown_and_measured_once(beacons):
    experiment = config.replace(
        beacons(**{"train.sharding.devices": 8}), system=ResidentBeacons(noise=0.0)
    )
    parts = setup.assemble(experiment)
    assert parts.resident["resident"]["xy"].sharding.is_fully_replicated
    assert parts.batch["resident"]["xy"].shape == (256, 2)
    assert parts.batch["index"].shape == (16,)
    state = parts.init()
    val = parts.eval_examples("val")
    evaluator = parts.evaluator()
    result = evaluator.run(state.params, state.model_state, val)
    assert len(result.records["error"]) == len(val.source)
    shown = evaluator.show(
        state.params, state.model_state, val, pick_examples(result.records, 2, 1)
    )
    assert [set(s) for s in shown] == [{"index", "xy", "sigma"}] * 3


def test_examples_and_resident_arrays_part():
    batch = {"index": 1, "resident": {"a": 2}}
    assert sharding.split_resident(batch) == ({"index": 1}, {"resident": {"a": 2}})
    assert sharding.split_resident({"index": 1}) == ({"index": 1}, {})
    assert sharding.place_resident(object(), jax.make_mesh((1, 1), ("data", "fsdp"))) == {}
