"""Relative motion of a spacecraft in front of a camera: smooth splines and exact screws.

A trajectory gives camera_from_body at any time in float64. Positions follow the distribution of the
real recordings, orientations start uniformly over SO(3).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from posejax.geometry import matmul, quat_xyzw_to_matrix, se3_exp, se3_inverse, se3_log

_PAD = 1024  # times are evaluated in multiples of this, so that few programs are compiled


@dataclass(frozen=True)
class MotionSettings:
    """Where the spacecraft is and how it moves.

    Attributes:
      mean, sigma: of the body's origin in the camera frame, metres.
      range_z: allowed distances along the optical axis, metres.
      margin: least distance of the projected origin to the border, as a share of the picture's
        height: the craft stays in view.
      speed, turn_deg: of the origin (m/s) and of the orientation (degrees/s).
      spread: relative standard deviation of both between sequences.
      helix_share: share of the sequences that are screws of constant twist.
      knot_s: seconds between the control poses of a spline.
    """

    mean: tuple[float, float, float] = (-0.24, 0.03, 5.68)
    sigma: tuple[float, float, float] = (0.93, 0.50, 1.40)
    range_z: tuple[float, float] = (3.0, 8.25)
    margin: float = 0.15
    speed: float = 0.10
    turn_deg: float = 1.8
    spread: float = 0.2
    helix_share: float = 0.2
    knot_s: float = 15.0


@dataclass(frozen=True)
class Screw:
    """start @ exp(t * twist): constant velocity and turn rate in the body frame.

    Attributes:
      start: [4, 4] float64 camera_from_body at t = 0.
      twist: [6] float64 (m/s, rad/s) in the body frame.
    """

    start: np.ndarray
    twist: np.ndarray

    def poses(self, t: np.ndarray) -> np.ndarray:
        """camera_from_body [M, 4, 4] float64 at times [M] in seconds."""
        return _evaluate(_screw, t, self.start, self.twist)


@dataclass(frozen=True)
class PoseSpline:
    """Cumulative cubic B-spline on SE(3) (Kim, Kim & Shin 1995): twice continuously differentiable.

    Attributes:
      controls: [K, 4, 4] float64 camera_from_body; the spline lives on [0, (K - 3) * knot_s].
      knot_s: seconds between controls.
    """

    controls: np.ndarray
    knot_s: float

    def poses(self, t: np.ndarray) -> np.ndarray:
        """camera_from_body [M, 4, 4] float64 at times [M] in seconds."""
        return _evaluate(_spline, t, self.controls, np.float64(self.knot_s))


def random_trajectory(
    rng: np.random.Generator, settings: MotionSettings, duration_s: float, camera, helix: bool
) -> Screw | PoseSpline:
    """Draw until the whole motion stays in range and in view.

    Args:
      camera: `SpaceCamera` that has to see it.
      helix: a screw instead of a spline.

    Raises:
      ValueError: no motion of such settings stays in view.
    """
    draw = _random_screw if helix else _random_spline
    t = np.linspace(0.0, duration_s, _PAD)
    for _ in range(3000):
        trajectory = draw(rng, settings, duration_s)
        path = trajectory.poses(t)[:, :3, 3]
        if _in_view(path, settings, camera) and (helix or _usual_speed(path, settings, duration_s)):
            return trajectory
    raise ValueError(f"no motion of {duration_s} s stays in view with {settings}")


def _in_view(path: np.ndarray, settings: MotionSettings, camera) -> bool:
    z = path[:, 2]
    if z.min() < settings.range_z[0] or z.max() > settings.range_z[1]:
        return False
    height, width = camera.size
    pixel = camera.project(path)
    margin = settings.margin * height
    return bool((pixel > margin).all() and (pixel < np.array([width, height]) - margin).all())


def _usual_speed(path: np.ndarray, settings: MotionSettings, duration_s: float) -> bool:
    mean = np.linalg.norm(np.diff(path, axis=0), axis=1).sum() / duration_s
    return abs(mean / settings.speed - 1.0) < 2.0 * settings.spread


def _random_screw(rng, settings: MotionSettings, duration_s: float) -> Screw:
    del duration_s
    start = _random_pose(rng, settings, 1.0)
    speed, turn = _rates(rng, settings)
    return Screw(start, np.concatenate([speed * _direction(rng), turn * _direction(rng)]))


def _random_spline(rng, settings: MotionSettings, duration_s: float) -> PoseSpline:
    count = int(np.ceil(duration_s / settings.knot_s)) + 3
    controls = np.tile(np.eye(4), (count, 1, 1))
    _, turn = _rates(rng, settings)
    axis = _direction(rng)
    steps = np.zeros((count, 6))
    for step in steps:
        axis = axis + 0.6 * rng.standard_normal(3)
        axis /= np.linalg.norm(axis)
        step[3:] = turn * settings.knot_s * axis
    with jax.enable_x64(True):
        steps = np.asarray(se3_exp(steps))
    rotation = _random_pose(rng, settings, 1.0)
    for control, step in zip(controls, steps, strict=True):
        # Cubic B-splines contract their control points; 1.4 makes up for it.
        control[:3, 3] = _random_pose(rng, settings, 1.4)[:3, 3]
        control[:3, :3] = rotation[:3, :3]
        rotation = rotation @ step
    return PoseSpline(controls, settings.knot_s)


def _random_pose(rng, settings: MotionSettings, widen: float) -> np.ndarray:
    pose = np.eye(4)
    quat = rng.standard_normal(4)  # any direction in 4-space: uniform over SO(3)
    with jax.enable_x64(True):
        pose[:3, :3] = quat_xyzw_to_matrix(jnp.asarray(quat / np.linalg.norm(quat)))
    pose[:3, 3] = rng.normal(settings.mean, np.multiply(settings.sigma, widen))
    return pose


def _rates(rng, settings: MotionSettings) -> np.ndarray:
    spread = np.clip(1.0 + settings.spread * rng.standard_normal(2), 0.4, 1.6)
    return spread * (settings.speed, np.deg2rad(settings.turn_deg))


def _direction(rng) -> np.ndarray:
    vector = rng.standard_normal(3)
    return vector / np.linalg.norm(vector)


def _evaluate(function, t: np.ndarray, *arguments) -> np.ndarray:
    t = np.asarray(t, np.float64)
    padded = np.zeros(-(-max(len(t), 1) // _PAD) * _PAD)
    padded[: len(t)] = t
    with jax.enable_x64(True):
        return np.asarray(function(padded, *arguments))[: len(t)]


@jax.jit
def _screw(t, start, twist):
    return matmul(start, se3_exp(t[:, None] * twist[None]))


@jax.jit
def _spline(t, controls, knot_s):
    steps = se3_log(matmul(se3_inverse(controls[:-1]), controls[1:]))
    knot = jnp.clip(jnp.floor(t / knot_s).astype(jnp.int32), 0, len(controls) - 4)
    u = t / knot_s - knot
    weights = (
        (5 + 3 * u - 3 * u**2 + u**3) / 6,
        (1 + 3 * u + 3 * u**2 - 2 * u**3) / 6,
        u**3 / 6,
    )
    pose = controls[knot]
    for k, weight in enumerate(weights):
        pose = matmul(pose, se3_exp(weight[:, None] * steps[knot + k]))
    return pose
