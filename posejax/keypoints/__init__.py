"""Keypoint heatmaps: their targets and loss, their modes, and the poses that explain them."""

from posejax.keypoints.align import Edges, align_pose, edges_of
from posejax.keypoints.heatmaps import heatmap_nll, heatmap_targets
from posejax.keypoints.hypotheses import Hypotheses, pose_hypotheses
from posejax.keypoints.peaks import Peaks, local_peaks
from posejax.keypoints.refine import refine_pose, solve_pnp
from posejax.keypoints.rotations import rotation_grid

__all__ = [
    "Edges",
    "Hypotheses",
    "Peaks",
    "align_pose",
    "edges_of",
    "heatmap_nll",
    "heatmap_targets",
    "local_peaks",
    "pose_hypotheses",
    "refine_pose",
    "rotation_grid",
    "solve_pnp",
]
