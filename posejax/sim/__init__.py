"""Simulated worlds and sensors: one scene description, one ray caster, real on-disk formats."""

from posejax.sim import textures, traffic
from posejax.sim.builder import SceneBuilder
from posejax.sim.cameras import (
    Camera,
    DepthSensor,
    Frame,
    camera_rays,
    develop,
    measure_depth,
    render,
)
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
from posejax.sim.light import Lamp, Light, shade
from posejax.sim.objects import ObjectBox
from posejax.sim.raycast import Hits, cast_rays
from posejax.sim.room_path import PathSettings, camera_path, look_at
from posejax.sim.room_scans import ScanSettings, ensure_scans
from posejax.sim.rooms import Room, RoomSettings, build_room, room_of_split
from posejax.sim.scene import Material, Scene
from posejax.sim.sensors import Lidar, orthophoto, spin_lidar
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
from posejax.sim.spacecraft_windows import (
    ClipTable,
    WindowSettings,
    ensure_windows,
    read_clips,
    simulate_window,
)
from posejax.sim.streets import StreetSettings, StreetWorld, build_street_world

__all__ = [
    "Aerial",
    "Camera",
    "ClipTable",
    "DepthSensor",
    "Drive",
    "EventPixels",
    "EventSensor",
    "EventStatistics",
    "Frame",
    "Hits",
    "Lamp",
    "Lidar",
    "Light",
    "Material",
    "MotionSettings",
    "ObjectBox",
    "PathSettings",
    "PixelEvents",
    "PoseSpline",
    "Room",
    "RoomSettings",
    "ScanSettings",
    "Scene",
    "SceneBuilder",
    "Screw",
    "SequenceInfo",
    "SpaceCamera",
    "SpacecraftSettings",
    "StreetSettings",
    "StreetWorld",
    "View",
    "WindowSettings",
    "build_room",
    "build_street_world",
    "camera_path",
    "camera_rays",
    "cast_rays",
    "develop",
    "ensure_scans",
    "ensure_sequences",
    "ensure_streets",
    "ensure_windows",
    "event_statistics",
    "look_at",
    "measure_depth",
    "merge_events",
    "noise_events",
    "orthophoto",
    "random_trajectory",
    "read_clips",
    "read_info",
    "render",
    "render_views",
    "room_of_split",
    "shade",
    "simulate_sequence",
    "simulate_window",
    "spacecraft_scene",
    "spacecraft_wireframe",
    "spin_lidar",
    "textures",
    "traffic",
]
