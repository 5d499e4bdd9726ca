"""From heatmaps to an answer, and from an answer to what is recorded of it; pure functions."""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from posejax.geometry import matrix_to_quat_xyzw
from posejax.systems.eventpose import scores
from posejax.systems.eventpose.config import KeypointConfig
from posejax.systems.eventpose.inputs import Prepared
from posejax.systems.eventpose.keypoints import Solved, solve, spreads, twist_between
from posejax.systems.eventpose.points import used_rows

_OPTIONAL = (
    "sigma_m",
    "sigma_rad",
    "hypothesis_weight",
    "hypothesis_log_score",
    "covariance_within",
    "covariance_between",
)


def solved_poses(
    logits: Array,
    points: Array,
    prepared: Prepared,
    config: KeypointConfig,
    scale: Mapping[str, Array],
    density: Array | None = None,
) -> dict[str, Array]:
    """Outputs of heatmaps [B, h, w, P]: hypotheses of the pose, the best one, its covariance.

    Args:
      points: [P, 3] body frame, one for each heatmap; those of `config.use` are asked.
      scale: `covariance` and `sharpness`, calibrated.
      density: [B, H, W] of the events in the view, which `config.align` needs.
    """
    rows = used_rows(config)
    logits, points = logits[..., rows], points[rows]
    solver = partial(solve, points=points, config=config, sharpness=scale["sharpness"])
    if density is None:
        density = jnp.zeros((len(logits), 1, 1))
    found: Solved = jax.vmap(lambda x, view, d: solver(x, view=view, density=d))(
        logits, prepared.view, density
    )
    # A craft that the border cuts is known less well than the network can tell.
    doubt = 1 + prepared.view.cut
    within = found.within * (scale["covariance"] * doubt**2)[:, None, None]
    covariance = within + found.between
    position, rotation = spreads(covariance)
    return {
        "pose": found.hypotheses[:, 0],
        "hypotheses": found.hypotheses,
        "hypothesis_weight": found.weight,
        "hypothesis_log_score": found.log_score,
        "covariance": covariance,
        "covariance_within": within,
        "covariance_between": found.between,
        "sigma_m": position,
        "sigma_rad": rotation,
        "keypoints": found.keypoints,
        "keypoint_weight": found.keypoint_weight,
        "heatmap": jax.nn.softmax(logits, axis=(1, 2)).sum(-1),
    }


def pose_records(outputs: Mapping[str, Array], examples: Mapping[str, Array]) -> dict[str, Array]:
    """What is kept of each example of a batch: see `summary`."""
    pose, truth = outputs["pose"], outputs["truth"]
    t, q = _parts(truth)
    t_hat, q_hat = _parts(pose)
    optional = {k: outputs[k] for k in _OPTIONAL if k in outputs}
    for prefix, name in (("direct", "direct_pose"), ("hypothesis", "hypotheses")):
        if name in outputs:
            t_other, q_other = _parts(outputs[name])
            optional |= {f"{prefix}_translation_hat": t_other, f"{prefix}_quat_xyzw_hat": q_other}
    if "covariance" in outputs:
        optional["twist_error"] = jax.vmap(twist_between)(pose, truth)
    return {
        "loss": outputs["loss"],
        "error": scores.spark_2026(t, q, t_hat, q_hat),
        "translation": t,
        "quat_xyzw": q,
        "translation_hat": t_hat,
        "quat_xyzw_hat": q_hat,
        "zoom": outputs["zoom"],
        "sequence": examples["sequence"],
        "time": examples["time"],
        "light": examples["light"],
        "events": examples["found"],
        **optional,
    }


def _parts(pose: Array) -> tuple[Array, Array]:
    return pose[..., :3, 3], matrix_to_quat_xyzw(pose[..., :3, :3])
