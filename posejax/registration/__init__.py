"""Registration of an online raster in a geo raster over (x, y, yaw): pure functions on arrays."""

from posejax.registration.calibration import fit_temperature
from posejax.registration.confidence import (
    Confidence,
    Modes,
    assess,
    find_modes,
    lock_on_score,
    principal_axes,
)
from posejax.registration.correlation import translation_cost
from posejax.registration.estimate import (
    Pose2Estimate,
    argmax_pose,
    circular_mean,
    expectation_loss,
    log_probabilities,
    orientation_expectation,
    pose_errors,
    pose_in_window,
    pose_nll,
    softmax_expectation,
    translation_expectation,
)
from posejax.registration.lattice import index_to_pose, lattice_poses, pose_to_index
from posejax.registration.peak import gaussian_peak
from posejax.registration.priors import disc_prior, gaussian_prior, von_mises_prior
from posejax.registration.rotation import orientation_cost, rotate, rotate_transpose
from posejax.registration.search import SearchResult, search_pose
from posejax.registration.spectral import next_fast_length
from posejax.registration.volume import PoseVolume, pose_volume, pose_volume_with_overlap

__all__ = [
    "Confidence",
    "Modes",
    "Pose2Estimate",
    "PoseVolume",
    "SearchResult",
    "argmax_pose",
    "assess",
    "circular_mean",
    "disc_prior",
    "expectation_loss",
    "find_modes",
    "fit_temperature",
    "gaussian_peak",
    "gaussian_prior",
    "index_to_pose",
    "lattice_poses",
    "lock_on_score",
    "log_probabilities",
    "next_fast_length",
    "orientation_cost",
    "orientation_expectation",
    "pose_errors",
    "pose_in_window",
    "pose_nll",
    "pose_to_index",
    "pose_volume",
    "pose_volume_with_overlap",
    "principal_axes",
    "rotate",
    "rotate_transpose",
    "search_pose",
    "softmax_expectation",
    "translation_cost",
    "translation_expectation",
    "von_mises_prior",
]
