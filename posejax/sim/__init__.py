"""Simulated worlds and sensors: one scene description, one ray caster, real on-disk formats."""

from posejax.sim.generate import Aerial, Drive, ensure_streets
from posejax.sim.raycast import Hits, cast_rays
from posejax.sim.scene import Material, Scene, SceneBuilder
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
from posejax.sim.streets import StreetSettings, StreetWorld, build_street_world

__all__ = [
    "Aerial",
    "Drive",
    "Hits",
    "Lidar",
    "Light",
    "Material",
    "Scene",
    "SceneBuilder",
    "StreetSettings",
    "StreetWorld",
    "build_street_world",
    "camera",
    "cast_rays",
    "depth_camera",
    "ensure_streets",
    "orthophoto",
    "pinhole_rays",
    "shade",
    "spin_lidar",
]
