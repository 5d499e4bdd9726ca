"""Simulated worlds and sensors: one scene description, one ray caster, real on-disk formats."""

from posejax.sim.builder import SceneBuilder
from posejax.sim.event_camera import (
    EventPixels,
    EventSensor,
    EventStatistics,
    PixelEvents,
    event_statistics,
    merge_events,
    noise_events,
)
from posejax.sim.generate import Aerial, Drive, ensure_streets
from posejax.sim.raycast import Hits, cast_rays
from posejax.sim.scene import Material, Scene
from posejax.sim.sensors import (
    Lidar,
    Light,
    camera,
    depth_camera,
    orthophoto,
    pinhole_rays,
    shade,
    spin_lidar,
)
from posejax.sim.space_trajectories import MotionSettings, PoseSpline, Screw, random_trajectory
from posejax.sim.space_views import SpaceCamera, View, render_views
from posejax.sim.spacecraft import spacecraft_scene, spacecraft_wireframe
from posejax.sim.spacecraft_sequences import (
    SequenceInfo,
    SpacecraftSettings,
    ensure_sequences,
    read_info,
    simulate_sequence,
)
from posejax.sim.streets import StreetSettings, StreetWorld, build_street_world

__all__ = [
    "Aerial",
    "Drive",
    "EventPixels",
    "EventSensor",
    "EventStatistics",
    "Hits",
    "Lidar",
    "Light",
    "Material",
    "MotionSettings",
    "PixelEvents",
    "PoseSpline",
    "Scene",
    "SceneBuilder",
    "Screw",
    "SequenceInfo",
    "SpaceCamera",
    "SpacecraftSettings",
    "StreetSettings",
    "StreetWorld",
    "View",
    "build_street_world",
    "camera",
    "cast_rays",
    "depth_camera",
    "ensure_sequences",
    "ensure_streets",
    "event_statistics",
    "merge_events",
    "noise_events",
    "orthophoto",
    "pinhole_rays",
    "random_trajectory",
    "read_info",
    "render_views",
    "shade",
    "simulate_sequence",
    "spacecraft_scene",
    "spacecraft_wireframe",
    "spin_lidar",
]
