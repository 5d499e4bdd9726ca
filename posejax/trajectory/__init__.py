"""Measured 6-DoF trajectories: choice of hypotheses, screw fit, SE(3) spline, RTS smoother."""

from posejax.trajectory.hypotheses import choose_hypotheses
from posejax.trajectory.robust import Kernel, pose_residual
from posejax.trajectory.rts import RtsTrack, rts_smooth
from posejax.trajectory.spline import SplineFit, spline_poses, spline_smooth
from posejax.trajectory.twist import (
    ScrewResidual,
    TwistFit,
    fit_constant_twist,
    screw_residual,
    twist_poses,
)

__all__ = [
    "Kernel",
    "RtsTrack",
    "ScrewResidual",
    "SplineFit",
    "TwistFit",
    "choose_hypotheses",
    "fit_constant_twist",
    "pose_residual",
    "rts_smooth",
    "screw_residual",
    "spline_poses",
    "spline_smooth",
    "twist_poses",
]
