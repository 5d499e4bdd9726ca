"""georeg as the engine sees it: data, network, loss, readings and report tied together."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from posejax.config import ConfigError
from posejax.report import Report
from posejax.systems.georeg import calibration, summary
from posejax.systems.georeg.config import ModelConfig, ObjectiveConfig
from posejax.systems.georeg.model import Features, RegistrationNet, score_volume
from posejax.systems.georeg.objective import (
    judge,
    read_volume,
    registration_loss,
    registration_metrics,
)
from posejax.systems.georeg.pictures import Setting
from posejax.systems.georeg.report import make_report
from posejax.systems.georeg.sources import Av2Logs, RadishLog, RasterFolder, Streets
from posejax.train.system import Batch, LossOutput, System


@dataclass(frozen=True)
class Georeg(System):
    """Registers an online raster in a geo-referenced raster.

    Attributes:
      data: rasters, and the window of poses that is searched.
      model: network.
      objective: loss.
    """

    data: Streets | Av2Logs | RadishLog | RasterFolder = Streets()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()

    calibration: ClassVar[tuple[str, ...]] = ("calibration",)

    def check(self) -> None:
        self.data.check()
        self.model.check()
        stride, widths = self.data.search.stride, self.model.widths
        strides = [2**level for level in range(len(widths))]
        if stride not in strides:
            raise ConfigError(
                f"system.data.search.stride: {stride}; expected one of {strides} for widths "
                f"{widths}"
            )
        if any(side % stride for side in self.data.online_shape):
            raise ConfigError(
                f"system.data.online_shape: {self.data.online_shape}; expected multiples of "
                f"system.data.search.stride ({stride})"
            )

    @cached_property
    def net(self) -> RegistrationNet:
        return RegistrationNet(self.model, self.data.search.stride)

    @property
    def cell_size(self) -> float:
        """Cell of the volume in metres."""
        return self.data.cell_size * self.data.search.stride

    @property
    def radius(self) -> int:
        return self.data.search.radius(self.data.cell_size)

    @property
    def angles(self) -> jax.Array:
        return jnp.asarray(self.data.search.angles())

    def init(self, key: jax.Array, batch: Batch) -> tuple[Any, Any]:
        variables = self.net.init(key, *_rasters(batch), False)
        state = {k: v for k, v in variables.items() if k != "params"}
        return variables.get("params", {}), {**state, "calibration": calibration.identity()}

    def loss(
        self,
        params: Any,
        state: Any,
        batch: Batch,
        key: jax.Array,
        progress: jax.Array,
        train: bool,
    ) -> tuple[jax.Array, LossOutput]:
        del key, progress  # nothing in the network is random, nothing is ramped
        collections = {k: v for k, v in state.items() if k != "calibration"}
        with jax.named_scope("encode"):
            features, updated = self.net.apply(
                {"params": params, **collections},
                *_rasters(batch),
                train,
                mutable=list(collections) if train else [],
            )
        with jax.named_scope("volume"):
            volume = score_volume(features, self.model, self.angles, self.radius)
        with jax.named_scope("objective"):
            loss, scalars = registration_loss(
                volume, batch.examples["pose"], self.angles, self.cell_size, self.objective
            )
        scalars["temperature"] = features.temperature
        return loss, LossOutput({**state, **updated}, scalars)

    def predict(self, params: Any, state: Any, batch: Batch) -> dict[str, jax.Array]:
        collections = {k: v for k, v in state.items() if k != "calibration"}
        variables = {"params": params, **collections}
        features = cast(Features, self.net.apply(variables, *_rasters(batch), False))
        volume = score_volume(features, self.model, self.angles, self.radius)
        fitted = state["calibration"]
        outputs = read_volume(volume, self.angles, self.cell_size, fitted["temperature"])
        outputs = calibration.scale_covariances(outputs, fitted)
        return {
            **judge(outputs, self.data.search.abstain_sigma),
            "online_features": features.online * features.online_weight[..., None],
            "geo_features": features.geo * features.geo_weight[..., None],
        }

    def metrics(self, outputs: Mapping[str, jax.Array], batch: Batch) -> dict[str, jax.Array]:
        return registration_metrics(
            dict(outputs), dict(batch.examples), self.angles, self.cell_size, self.objective
        )

    def calibrate(self, state: Any, records: Mapping[str, np.ndarray]) -> Any:
        try:
            return {**state, "calibration": calibration.fit(records, state["calibration"])}
        except calibration.CalibrationError as error:
            warnings.warn(f"covariances stay uncalibrated: {error}", stacklevel=2)
            return state

    def summarize(self, records: Mapping[str, np.ndarray]) -> dict[str, float]:
        return summary.summarize(records)

    def report(
        self,
        records: Mapping[str, np.ndarray],
        summary: Mapping[str, float],
        examples: Sequence[Mapping[str, np.ndarray]],
    ) -> Report:
        data, angles = self.data, np.asarray(self.angles)
        setting = Setting(data.cell_size, self.cell_size, angles, self.radius, *data.channel_names)
        return make_report(
            records,
            summary,
            examples,
            setting,
            title=f"georeg on {data.title}",
            simulated=data.simulated,
        )


def _rasters(batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    rows = batch.examples
    return rows["online"], rows["online_mask"], rows["geo"], rows["geo_mask"]
