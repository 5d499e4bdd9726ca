"""Bird's-eye views: lifting camera features into a volume, targets, losses, metrics of maps."""

from posejax.bev.frames import FrameError, Points, Transform, transform
from posejax.bev.lift import lift
from posejax.bev.lift_dynamic import lift_dynamic
from posejax.bev.plan import LiftPlan, make_lift_plan
from posejax.bev.voxels import VoxelGrid, level_frame

__all__ = [
    "FrameError",
    "LiftPlan",
    "Points",
    "Transform",
    "VoxelGrid",
    "level_frame",
    "lift",
    "lift_dynamic",
    "make_lift_plan",
    "transform",
]
