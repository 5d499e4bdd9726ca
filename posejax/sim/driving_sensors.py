"""What the sensors of a vehicle record in a town, each at its own time."""

from dataclasses import dataclass

import jax
import numpy as np

from posejax.data.radar_pcd import RADAR_FIELDS
from posejax.data.rig_frame import Boxes
from posejax.data.rigid import se3_apply, se3_inverse
from posejax.sim.cameras import Camera, develop, render
from posejax.sim.driving_rigs import DrivingRig, Mount
from posejax.sim.driving_towns import Town
from posejax.sim.light import Light
from posejax.sim.objects import ObjectBox
from posejax.sim.raycast import cast_rays
from posejax.sim.scene import Scene
from posejax.sim.sensors import Lidar, spin_lidar
from posejax.sim.streets import BUILDING, CAR, FENCE, GROUND, POLE, TREE
from posejax.sim.traffic import boxes_at, scene_at

_REACH = 60.0  # metres: boxes beyond are not annotated
_MOST = 64  # boxes of a frame whose visibility is measured, the nearest
_PROBES = np.stack(
    np.meshgrid(*(np.linspace(-0.45, 0.45, n) for n in (5, 3, 3)), indexing="ij"), -1
).reshape(-1, 3)  # within a box, in its own size
_FEWEST = 60  # pixels of an object whose borders are told
_LEVELS = np.array([0.4, 0.6, 0.8])  # of nuScenes' visibility


@dataclass(frozen=True)
class Radar:
    """A radar that sees the horizontal plane.

    Attributes:
      half_angle_deg: of its field.
      azimuths: rays across it.
      max_range: metres.
      range_sigma, speed_sigma: noise, metres and m/s.
      azimuth_sigma_deg: noise of the direction.
      clutter: mean number of returns that are nothing.
    """

    half_angle_deg: float = 60.0
    azimuths: int = 81
    max_range: float = 90.0
    range_sigma: float = 0.15
    speed_sigma: float = 0.1
    azimuth_sigma_deg: float = 0.7
    clutter: float = 2.0


#: Chance that a ray that met a surface comes back, and its radar cross section, dBsm.
_ECHO = {GROUND: (0.0, 0.0), BUILDING: (0.25, 5.0), TREE: (0.1, -3.0), POLE: (0.6, 2.0),
         FENCE: (0.25, -2.0), CAR: (0.8, 10.0)}  # fmt: skip


def take_picture(
    key: jax.Array, town: Town, mount: Mount, camera: Camera, seconds: float, *, shadows: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The picture [H, W, 3] uint8, and the object [H, W] that each pixel shows, 0 for none."""
    pose = town.drive.pose(seconds) @ mount.ego_from_camera
    light = Light(town.sun, shadows=shadows)
    scene = scene_at(town.world, seconds)
    seen = render(scene, camera, pose, light=light, background=town.sky)
    return np.asarray(develop(key, camera, seen.colour)), np.asarray(seen.instance)


def extents(instance: np.ndarray, boxes: Boxes) -> tuple[list[str], np.ndarray]:
    """Of boxes that are seen whole: the names, and the left, top, right and bottom border [M, 4] of
    their pixels in an image whose objects are `instance` [H, W]."""
    names, corners = [], []
    for name in boxes.instance[boxes.visibility == 4]:
        rows, columns = np.nonzero(instance == int(name))
        if len(rows) >= _FEWEST:
            names.append(str(name))
            corners.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    return names, np.array(corners, np.float64).reshape(-1, 4)


def sweep(
    key: jax.Array, town: Town, rig: DrivingRig, lidar: Lidar, seconds: float, sensor: int
) -> tuple[np.ndarray, np.ndarray]:
    """One turn: [N, 5] float32 x, y, z (LiDAR frame), intensity 0 to 255, ring; and [N] int32, the
    object that each return is of, 0 for none."""
    pose = town.drive.pose(seconds) @ rig.ego_from_lidar
    scene = scene_at(town.world, seconds)
    turn = spin_lidar(key, scene, lidar, pose, sensor_seed=sensor)
    valid = np.asarray(turn.valid)
    xyz, intensity = np.asarray(turn.xyz)[valid], np.asarray(turn.intensity)[valid]
    ring = np.asarray(turn.laser_number)[valid]
    points = np.concatenate([xyz, 255 * intensity[:, None], ring[:, None]], axis=1)
    return points.astype(np.float32), np.asarray(turn.hits.instance)[valid]


def radar_returns(
    rng: np.random.Generator, town: Town, mount: Mount, radar: Radar, seconds: float
) -> np.ndarray:
    """[N, 18] the columns `RADAR_FIELDS`: at most one return per direction, the nearest that
    echoes. Doppler tells the part of the relative velocity along the ray."""
    scene = scene_at(town.world, seconds)
    half = np.deg2rad(radar.half_angle_deg)
    azimuth = np.linspace(-half, half, radar.azimuths)
    rays = _fan(azimuth, np.deg2rad([-1.5, 0.0, 1.5]))
    pose = town.drive.pose(seconds) @ mount.ego_from_body
    hits = cast_rays(scene, pose[:3, 3], rays @ pose[:3, :3].T, radar.max_range)
    label, instance = np.asarray(hits.label), np.asarray(hits.instance)
    chance = np.array([_ECHO[kind][0] for kind in range(len(_ECHO))] + [0.0])  # -1: nothing met
    echoes = rng.random(label.shape) < chance[label]
    distance = np.where(echoes, np.asarray(hits.distance), np.inf)
    level = distance.argmin(0)
    column = np.arange(radar.azimuths)
    found = np.flatnonzero(np.isfinite(distance[level, column]))
    row = level[found]

    rays = rays[row, found]
    moves = {box.instance: np.asarray(box.velocity) for box in boxes_at(town.world, seconds)}
    still = np.zeros(3)
    velocity = np.array([moves.get(int(i), still) for i in instance[row, found]]).reshape(-1, 3)
    own = town.drive.velocity(seconds, mount.ego_from_body)
    world_rays = rays @ pose[:3, :3].T
    over_ground = (world_rays * velocity).sum(-1) + rng.normal(0, radar.speed_sigma, len(found))
    far = distance[row, found] + rng.normal(0, radar.range_sigma, len(found))
    at = azimuth[found] + rng.normal(0, np.deg2rad(radar.azimuth_sigma_deg), len(found))
    strength = np.array([_ECHO[int(kind)][1] for kind in label[row, found]])
    returns = _rows(at, far, over_ground, over_ground - world_rays @ own,
                    strength + rng.normal(0, 3.0, len(found)))  # fmt: skip
    number = rng.poisson(radar.clutter)
    ghosts = _rows(rng.uniform(-half, half, number), rng.uniform(3, radar.max_range, number),
                   rng.normal(0, 2, number), rng.normal(0, 5, number),
                   rng.normal(-5, 3, number))  # fmt: skip
    return np.concatenate([returns, ghosts])


def annotate(
    town: Town,
    rig: DrivingRig,
    cameras: dict[str, Camera],
    seconds: float,
    hit: np.ndarray,
) -> Boxes:
    """Boxes in the ego frame that a camera sees something of or the LiDAR met.

    Args:
      cameras: by name, as `rig` has them.
      seconds: the time of the LiDAR.
      hit: [N] objects of the LiDAR's returns.
    """
    ego_from_world = se3_inverse(town.drive.pose(seconds))
    boxes = [(np.linalg.norm(se3_apply(ego_from_world, box.centre)[:2]), box)
             for box in boxes_at(town.world, seconds)]  # fmt: skip
    boxes = sorted((pair for pair in boxes if pair[0] < _REACH), key=lambda pair: pair[0])[:_MOST]
    boxes = [box for _, box in boxes]
    share = _visible_share(scene_at(town.world, seconds), town, rig, cameras, seconds, boxes)
    counts = np.bincount(np.maximum(hit, 0), minlength=1 + max([0, *town.category]))
    points = np.array([counts[box.instance] for box in boxes], np.int64)
    kept = [i for i in range(len(boxes)) if share[i] > 0 or points[i] > 0]
    chosen = [boxes[i] for i in kept]
    poses = [ego_from_world @ box.world_from_box for box in chosen]
    return Boxes(
        size=np.array([box.size for box in chosen]).reshape(-1, 3),
        ego_from_box=np.array(poses).reshape(-1, 4, 4),
        label=np.array([town.category[box.instance] for box in chosen], np.str_),
        points=points[kept],
        visibility=1 + np.searchsorted(_LEVELS, share[kept], side="left"),
        instance=np.array([str(box.instance) for box in chosen], np.str_),
    )


def _visible_share(
    scene: Scene,
    town: Town,
    rig: DrivingRig,
    cameras: dict[str, Camera],
    seconds: float,
    boxes: list[ObjectBox],
) -> np.ndarray:
    """[N] share of a box's probes that a camera sees, of those behind whose surface they lie.

    A probe is seen if the ray to it from a camera that has it in its image meets the object first;
    it does not count if the ray meets nothing before it: that corner of the box is empty.
    """
    if not boxes:
        return np.zeros(0)
    probes = np.zeros((_MOST, len(_PROBES), 3))
    for i, box in enumerate(boxes):
        probes[i] = se3_apply(box.world_from_box, _PROBES * box.size)
    start, seen = np.zeros_like(probes), np.zeros(probes.shape[:2], bool)
    for mount in rig.cameras:
        pose = town.drive.pose(seconds + mount.lag_s) @ mount.ego_from_camera
        camera = cameras[mount.name]
        xy, ahead = camera.project(se3_apply(se3_inverse(pose), probes))
        here = ahead & camera.contains(xy) & ~seen
        start[here], seen = pose[:3, 3], seen | here
    ray = np.where(seen[..., None], probes - start, 0.0)
    hits = cast_rays(scene, start, ray, 2 * _REACH)
    reach = np.linalg.norm(ray, axis=-1)
    number = np.zeros(_MOST, np.int64)
    number[: len(boxes)] = [box.instance for box in boxes]
    own = seen & (np.asarray(hits.instance) == number[:, None])
    empty = seen & ~own & ~(np.asarray(hits.valid) & (np.asarray(hits.distance) < reach))
    counted = (~empty).sum(1)
    return (own.sum(1) / np.maximum(counted, 1))[: len(boxes)]


def _fan(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """[elevations, azimuths, 3] directions, x ahead."""
    flat, up = np.cos(elevation)[:, None], np.sin(elevation)[:, None]
    x, y = flat * np.cos(azimuth), flat * np.sin(azimuth)
    return np.stack([x, y, np.broadcast_to(up, x.shape)], -1)


def _rows(azimuth, distance, over_ground, relative, strength) -> np.ndarray:
    """Returns [N, 18]; z is 0, as radars measure none."""
    out = np.zeros((len(azimuth), len(RADAR_FIELDS)))
    column = {name: i for i, name in enumerate(RADAR_FIELDS)}
    along, across = np.cos(azimuth), np.sin(azimuth)
    values = {
        "x": distance * along, "y": distance * across, "rcs": strength,
        "vx": relative * along, "vy": relative * across,
        "vx_comp": over_ground * along, "vy_comp": over_ground * across,
        "dyn_prop": np.where(np.abs(over_ground) > 0.5, 0, 1), "id": np.arange(len(azimuth)),
        "is_quality_valid": 1, "ambig_state": 3, "x_rms": 19, "y_rms": 19, "pdh0": 1,
        "vx_rms": 16, "vy_rms": 3,
    }  # fmt: skip
    for name, value in values.items():
        out[:, column[name]] = value
    return out
