"""georeg as the engine sees it: data, network, loss, readings and report tied together."""

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from posejax.report import Report
from posejax.systems.georeg import calibration, summary
from posejax.systems.georeg.config import GeoregConfig
from posejax.systems.georeg.data import make_source, make_transform
from posejax.systems.georeg.model import Features, RegistrationNet, score_volume
from posejax.systems.georeg.objective import (
    judge,
    read_volume,
    registration_loss,
    registration_metrics,
)
from posejax.systems.georeg.pictures import Setting
from posejax.systems.georeg.report import make_report
from posejax.train.system import Batch, LossOutput


class GeoregSystem:
    """Registers an online raster in a geo-referenced raster (see `GeoregConfig`)."""

    def __init__(self, config: GeoregConfig):
        self.config = config
        # A picklable object that knows the data only: workers need not import jax for it.
        self.transform = make_transform(
            config.data,
            max_offset=config.search.max_offset,
            max_yaw_deg=config.search.max_yaw_deg,
            geo_margin=self.radius * config.model.stride,
        )

    @cached_property
    def net(self) -> RegistrationNet:
        return RegistrationNet(self.config.model)

    @property
    def cell_size(self) -> float:
        """Cell of the volume in metres."""
        return self.config.data.cell_size * self.config.model.stride

    @property
    def radius(self) -> int:
        return self.config.search.radius(self.cell_size)

    @property
    def angles(self) -> jax.Array:
        return jnp.asarray(self.config.search.angles())

    def source(self, split: str):
        return make_source(self.config.data, split)

    def init(self, key: jax.Array, batch: Batch) -> tuple[Any, Any]:
        variables = self.net.init(key, *_rasters(batch), False)
        state = {k: v for k, v in variables.items() if k != "params"}
        return variables.get("params", {}), {**state, "calibration": calibration.identity()}

    def loss(
        self, params: Any, state: Any, batch: Batch, key: jax.Array, train: bool
    ) -> tuple[jax.Array, LossOutput]:
        del key  # nothing in the network is random
        collections = {k: v for k, v in state.items() if k != "calibration"}
        with jax.named_scope("encode"):
            features, updated = self.net.apply(
                {"params": params, **collections},
                *_rasters(batch),
                train,
                mutable=list(collections) if train else [],
            )
        with jax.named_scope("volume"):
            volume = score_volume(features, self.config.model, self.angles, self.radius)
        with jax.named_scope("objective"):
            loss, scalars = registration_loss(
                volume, batch["pose"], self.angles, self.cell_size, self.config.objective
            )
        scalars["temperature"] = features.temperature
        return loss, LossOutput({**state, **updated}, scalars)

    def predict(self, params: Any, state: Any, batch: Batch) -> dict[str, jax.Array]:
        collections = {k: v for k, v in state.items() if k != "calibration"}
        variables = {"params": params, **collections}
        features = cast(Features, self.net.apply(variables, *_rasters(batch), False))
        volume = score_volume(features, self.config.model, self.angles, self.radius)
        fitted = state["calibration"]
        outputs = read_volume(volume, self.angles, self.cell_size, fitted["temperature"])
        outputs = calibration.scale_covariances(outputs, fitted)
        return {
            **judge(outputs, self.config.search.abstain_sigma),
            "online_features": features.online * features.online_weight[..., None],
            "geo_features": features.geo * features.geo_weight[..., None],
        }

    def metrics(self, outputs: Mapping[str, jax.Array], batch: Batch) -> dict[str, jax.Array]:
        return registration_metrics(
            dict(outputs), dict(batch), self.angles, self.cell_size, self.config.objective
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
        data, angles = self.config.data, np.asarray(self.angles)
        setting = Setting(
            data.cell_size, self.cell_size, angles, self.radius, *data.source.channel_names
        )
        return make_report(
            records,
            summary,
            examples,
            setting,
            title=f"georeg on {data.describe()}",
            simulated=data.source.simulated,
        )


def _rasters(batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    return batch["online"], batch["online_mask"], batch["geo"], batch["geo_mask"]
