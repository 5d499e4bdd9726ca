"""The System that the engine drives: a frozen dataclass of its options, and pure functions."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from beacons.data import CORNERS, Room
from beacons.model import RangeNet
from beacons.objective import spread, squared_distance
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from posejax.report import Card, Plot, Report, error_cdf, pictures
from posejax.train.system import LossOutput, System


@dataclass(frozen=True)
class Beacons(System):
    """Position from noisy ranges to four beacons: the smallest system that uses the whole engine.

    Attributes:
      data: ranges in a room.
      hidden: width of the hidden layer.
      norm: normalisation of the hidden layer.
    """

    data: Room = Room()
    hidden: int = 16
    norm: Literal["none", "batch"] = "none"

    calibration: ClassVar[tuple[str, ...]] = ("sigma",)

    @property
    def net(self):
        return RangeNet(self.hidden, self.norm)

    def init(self, key, batch):
        variables = dict(self.net.init(key, batch.examples["ranges"], train=False))
        return variables.pop("params"), {**variables, "sigma": jnp.float32(1)}

    def loss(self, params, state, batch, key, progress, train):
        variables = {"params": params, **{k: v for k, v in state.items() if k != "sigma"}}
        mutable = ["batch_stats"] if train and "batch_stats" in state else []
        xy, changed = self.net.apply(variables, batch.examples["ranges"], train, mutable=mutable)
        loss = jnp.mean(squared_distance(xy, batch.examples["xy"]))
        return loss, LossOutput({**state, **changed}, {"rms": jnp.sqrt(loss)})

    def predict(self, params, state, batch):
        variables = {"params": params, **{k: v for k, v in state.items() if k != "sigma"}}
        xy = self.net.apply(variables, batch.examples["ranges"], False)
        return {"xy": xy, "sigma": jnp.broadcast_to(state["sigma"], xy.shape[:1])}

    def metrics(self, outputs, batch):
        distance = jnp.sqrt(squared_distance(outputs["xy"], batch.examples["xy"]))
        return {"error": distance, "inside": distance < 2.45 * outputs["sigma"]}

    def calibrate(self, state, records):
        return {**state, "sigma": jax.device_put(spread(records["error"]))}

    def summarize(self, records):
        return {
            "rms": np.sqrt(np.mean(records["error"] ** 2, dtype=np.float64)),
            "inside_95": np.mean(records["inside"]),
        }

    def report(self, records, summary, examples):
        worst = np.argsort(-records["error"], kind="stable")
        distances = {"network": records["error"]}
        return Report(
            title="Beacons in a room",
            simulated=self.data.simulated,
            summary=summary,
            count=len(worst),
            cards={"": [Card(f"{summary['rms']:.3f} m", "RMS position")]},
            accuracy=[Plot("distance", lambda: error_cdf(distances, unit="m"), "All examples.")],
            worst=[{k: records[k][i].item() for k in ("index", "error")} for i in worst[:10]],
            gallery=pictures(examples, records, worst, lambda row, e: str(e["xy"]), room),
        )


def room(example):
    """The distances measured from the beacons, as circles, and the estimate."""
    figure = Figure(figsize=(3, 3))
    axes = figure.subplots()
    for corner, distance in zip(CORNERS, example["ranges"], strict=True):
        axes.add_patch(Circle(corner, distance, fill=False))
    axes.plot(*example["xy"], "rx")
    axes.set(xlim=(0, 4), ylim=(0, 4), aspect="equal")
    return figure
