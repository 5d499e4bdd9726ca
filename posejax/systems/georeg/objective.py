"""Loss and per-example metrics of a batch of pose volumes; pure functions of (volume, truth)."""

import jax
import jax.numpy as jnp

from posejax.registration import (
    argmax_pose,
    assess,
    expectation_loss,
    gaussian_peak,
    lock_on_score,
    log_probabilities,
    pose_errors,
    pose_nll,
    principal_axes,
    softmax_expectation,
)
from posejax.systems.georeg.config import ObjectiveConfig

# Temperatures at which the NLL is recorded, so that calibration is a choice among columns; the
# factor between neighbours, 1.15, is finer than the sampling error of a few hundred examples.
TEMPERATURES = tuple(2.0 ** (i / 5) for i in range(-15, 21))


def registration_loss(
    volume: jax.Array,
    pose: jax.Array,
    angles: jax.Array,
    cell_size: float,
    objective: ObjectiveConfig,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean loss over a batch and its parts.

    Args:
      volume: [B, K, 2r+1, 2r+1] logits.
      pose: [B, 3] true geo_from_online (m, m, rad).
      angles: [K] radians.
      cell_size: of the volume, metres.

    Returns:
      The scalar loss; scalars `nll` (nats per lattice cell) and the user's monitors `xy_m` (mean
      of |x| and |y| error) and `yaw_deg` (mean absolute error) of the softmax expectation.
    """
    parts = example_losses(volume, pose, angles, cell_size, objective)
    means = {name: part.mean() for name, part in parts.items()}
    return means.pop("loss"), means


def example_losses(
    volume: jax.Array,
    pose: jax.Array,
    angles: jax.Array,
    cell_size: float,
    objective: ObjectiveConfig,
) -> dict[str, jax.Array]:
    """`loss`, `nll`, `expectation`, `xy_m`, `yaw_deg` of each example [B]; see
    `registration_loss`, which takes the means."""
    estimate = jax.vmap(lambda v: softmax_expectation(v, angles, cell_size).pose)(volume)
    errors = jnp.abs(pose_errors(estimate, pose))
    nll = jax.vmap(lambda v, p: pose_nll(v, p, angles, cell_size))(volume, pose)
    expectation = expectation_loss(
        estimate, pose, xy_weight=objective.xy_weight, yaw_weight=objective.yaw_weight
    )
    return {
        "loss": objective.nll_weight * nll + expectation,
        "nll": nll,
        "expectation": expectation,
        "xy_m": errors[:, :2].mean(1),
        "yaw_deg": jnp.rad2deg(errors[:, 2]),
    }


def read_volume(
    volume: jax.Array,
    angles: jax.Array,
    cell_size: float,
    temperature: jax.Array,
) -> dict[str, jax.Array]:
    """All readings of a batch of volumes [B, K, 2r+1, 2r+1].

    Returns:
      log_prob: the normalised log-volume at the given (calibrated) temperature.
      raw_volume: the logits before calibration.
      softmax, gaussian, argmax: [B, 3] poses; covariance, gaussian_covariance: [B, 3, 3].
      entropy, peak_ratio: see `posejax.registration.assess`.
      abstain: what the shape of the distribution says, a rival mode or no mode at all; `judge`
        adds what the calibrated covariance says.
    """

    def read(logits):
        scaled = logits / temperature
        expected = softmax_expectation(scaled, angles, cell_size)
        peak = gaussian_peak(scaled, angles, cell_size)
        confidence = assess(scaled, angles, cell_size)
        return {
            "log_prob": log_probabilities(scaled),
            "raw_volume": logits,
            "softmax": expected.pose,
            "covariance": expected.covariance,
            "gaussian": peak.pose,
            "gaussian_covariance": peak.covariance,
            "argmax": argmax_pose(scaled, angles, cell_size),
            "entropy": confidence.entropy,
            "peak_ratio": confidence.peak_ratio,
            "abstain": confidence.abstain,
        }

    return jax.vmap(read)(volume)


def judge(outputs: dict[str, jax.Array], abstain_sigma: float) -> dict[str, jax.Array]:
    """`outputs` with what their softmax `covariance` says; call it on the calibrated one.

    Returns:
      outputs and weak_direction [B, 2] (unit vector along which the position is known least well),
      sigma_major and sigma_minor [B] (m, along and across it); `abstain` is also true where
      sigma_major exceeds `abstain_sigma` (m) or is not a number.
    """
    major, minor, direction = jax.vmap(principal_axes)(outputs["covariance"][:, :2, :2])
    sigma_major, sigma_minor = jnp.sqrt(major), jnp.sqrt(minor)
    return {
        **outputs,
        "weak_direction": direction,
        "sigma_major": sigma_major,
        "sigma_minor": sigma_minor,
        "abstain": outputs["abstain"] | ~(sigma_major <= abstain_sigma),
    }


def registration_metrics(
    outputs: dict[str, jax.Array],
    batch: dict[str, jax.Array],
    angles: jax.Array,
    cell_size: float,
    objective: ObjectiveConfig,
) -> dict[str, jax.Array]:
    """Per-example records [B, ...] of a batch: what `summary.summarize` reads.

    `loss` is that of training, on the volume before calibration.
    """
    pose, raw = batch["pose"], outputs["raw_volume"]

    def nlls(logits, truth):
        at = lambda t: pose_nll(logits, truth, angles, cell_size, temperature=t)  # noqa: E731
        return jax.lax.map(at, jnp.array(TEMPERATURES))

    nll = jax.vmap(lambda v, p: pose_nll(v, p, angles, cell_size))(outputs["log_prob"], pose)
    errors = pose_errors(outputs["softmax"], pose)
    # One number to rank the worst by: a degree counts as much as 0.2 m, the two sides of the
    # strictest recall threshold.
    error = jnp.hypot(jnp.hypot(errors[:, 0], errors[:, 1]), 0.2 * jnp.rad2deg(errors[:, 2]))
    pictures = ("log_prob", "raw_volume", "online_features", "geo_features")
    kept = {name: value for name, value in outputs.items() if name not in pictures}
    return {
        **kept,
        "pose": pose,
        "loss": example_losses(raw, pose, angles, cell_size, objective)["loss"],
        "nll": nll,
        "lock_on": jax.vmap(lambda v, p: lock_on_score(v, angles, cell_size, p))(raw, pose),
        "nll_temperature": jax.vmap(nlls)(raw, pose),
        "error": error,
        "index": batch["index"],
        "fill_rate": batch["fill_rate"],
        "overlap": batch["overlap"],
    }
