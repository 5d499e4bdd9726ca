"""Bird's-eye views: lifting features into a volume; targets, losses, metrics; checks of rigs."""

from posejax.bev.check_lidar import LidarReport, check_lidar
from posejax.bev.check_rig import RigReport, check_rig
from posejax.bev.frames import FrameError, Points, Transform, transform
from posejax.bev.instances import Instances, Panoptic, decode_instances, panoptic_quality
from posejax.bev.lift import lift
from posejax.bev.lift_dynamic import lift_dynamic
from posejax.bev.losses import (
    center_loss,
    masked_mean,
    offset_loss,
    segmentation_loss,
    uncertainty_weighting,
)
from posejax.bev.metrics import Overlap, Reliability, distance_overlap, map_overlap, reliability
from posejax.bev.mistakes import MISTAKES, Rig
from posejax.bev.plan import LiftPlan, make_lift_plan
from posejax.bev.rasterize import rasterize_points
from posejax.bev.targets import BoxTargets, box_targets
from posejax.bev.voxels import VoxelGrid, level_frame

__all__ = [
    "MISTAKES",
    "BoxTargets",
    "FrameError",
    "Instances",
    "LidarReport",
    "LiftPlan",
    "Overlap",
    "Panoptic",
    "Points",
    "Reliability",
    "Rig",
    "RigReport",
    "Transform",
    "VoxelGrid",
    "box_targets",
    "center_loss",
    "check_lidar",
    "check_rig",
    "decode_instances",
    "distance_overlap",
    "level_frame",
    "lift",
    "lift_dynamic",
    "make_lift_plan",
    "map_overlap",
    "masked_mean",
    "offset_loss",
    "panoptic_quality",
    "rasterize_points",
    "reliability",
    "segmentation_loss",
    "transform",
    "uncertainty_weighting",
]
