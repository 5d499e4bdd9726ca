"""Post-hoc calibration: what a softmax over scores says about its own error, made true on train.

Fitted on records of the training split:

* `temperature` divides the scores before the softmax; it minimises the mean NLL, so it makes the
  *distribution* as informative as it can be without being overconfident.
* `softmax_scale`, `gaussian_scale` [3] multiply the standard deviations of x, y and yaw in the two
  covariances. A lattice of poses cannot be sharper than its cells: a truth that is known to 0.02 m
  between two cells of 0.2 m still gives two heavy cells and a standard deviation near 0.1 m. The
  scales remove this, and any other over- or underconfidence, by matching the 95 % ellipse of the
  position and the 95 % interval of the yaw.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posejax.report.statistics import chi_square_quantile, squared_mahalanobis
from posejax.systems.georeg.objective import TEMPERATURES
from posejax.systems.georeg.summary import COVARIANCES, pose_errors

LEVEL = 0.95
MIN_RECORDS = 50  # below this the 95 % quantile rests on the largest two or three errors


class CalibrationError(ValueError):
    """Records from which nothing can be fitted."""


def identity() -> dict[str, jax.Array]:
    """Calibration that changes nothing."""
    return {
        "temperature": jnp.ones(()),
        "softmax_scale": jnp.ones(3),
        "gaussian_scale": jnp.ones(3),
    }


def scale_covariances(
    outputs: dict[str, jax.Array], calibration: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """`outputs` of `read_volume` with D covariance D, D = diag(scale), for both covariances."""
    scaled = {
        name: outputs[name] * jnp.outer(scale, scale)[None]
        for name, scale in (
            (covariance, calibration[f"{estimator}_scale"])
            for estimator, covariance in COVARIANCES.items()
        )
    }
    return {**outputs, **scaled}


def fit(records: Mapping[str, np.ndarray], current: Mapping[str, Any]) -> dict[str, jax.Array]:
    """New calibration from records that were made with the calibration `current`.

    The temperature does not depend on `current`; the scales belong to the temperature of the
    records. So the engine evaluates and fits twice; the second fit changes the scales only.

    Raises:
      CalibrationError: fewer than 50 records, or a temperature at the end of the recorded range.
    """
    count = len(records["pose"])
    if count < MIN_RECORDS:
        raise CalibrationError(f"calibration needs at least {MIN_RECORDS} records, got {count}")
    curve = np.asarray(records["nll_temperature"], np.float64).mean(0)
    best = int(np.argmin(curve))
    if best in (0, len(TEMPERATURES) - 1):
        raise CalibrationError(
            f"the NLL is least at the end of the recorded temperatures ({TEMPERATURES[best]:.3g}): "
            "the scores carry no usable probability; train longer or change model.temperature"
        )
    scales = {
        f"{estimator}_scale": np.asarray(current[f"{estimator}_scale"])
        * _coverage_scale(records, estimator)
        for estimator in COVARIANCES
    }
    return {
        "temperature": jnp.float32(TEMPERATURES[best]),
        **{name: jnp.asarray(value, jnp.float32) for name, value in scales.items()},
    }


def _coverage_scale(records: Mapping[str, np.ndarray], estimator: str) -> np.ndarray:
    """[3] factors on the standard deviations for which 95 % of the records are covered."""
    errors = pose_errors(records[estimator], records["pose"])
    covariance = np.asarray(records[COVARIANCES[estimator]], np.float64)
    position = squared_mahalanobis(np.stack([errors.x, errors.y], 1), covariance[:, :2, :2])
    yaw = np.deg2rad(errors.yaw) ** 2 / covariance[:, 2, 2]
    xy_scale = np.nanquantile(position, LEVEL) / chi_square_quantile(LEVEL, 2)
    yaw_scale = np.nanquantile(yaw, LEVEL) / chi_square_quantile(LEVEL, 1)
    return np.sqrt([xy_scale, xy_scale, yaw_scale])
