"""Relative motion of a spacecraft in front of a camera: smooth splines and exact screws.

A trajectory gives camera_from_body at any time in float64. Positions follow the distribution of the
real recordings, orientations start uniformly over SO(3).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from posejax.data import rigid
from posejax.geometry import matmul, se3_exp, se3_inverse, se3_log

_CHECKED = 128  # times at which a draw must be in view


@dataclass(frozen=True)
class MotionSettings:
    """Where the spacecraft is and how it moves.

    Attributes:
      mean, sigma: of the body's origin across the optical axis (x, y) at 5.68 m, metres; both
        grow with the distance, so that near craft are in view as often as far ones.
      range_z: distances along the optical axis, metres; about uniform between them.
      margin: least distance of the projected origin to the border, as a share of the picture's
        height: the craft stays in view.
      speed, turn_deg: of the origin (m/s) and of the orientation (degrees/s).
      spread: relative standard deviation of both between sequences.
      helix_share: share of the sequences that are screws of constant twist.
      knot_s: seconds between the control poses of a spline.
    """

    mean: tuple[float, float] = (-0.24, 0.03)
    sigma: tuple[float, float] = (0.93, 0.50)
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
    spread = np.clip(1.0 + settings.spread * rng.standard_normal(2), 0.5, 1.5)
    speed, turn = spread * (settings.speed, np.deg2rad(settings.turn_deg))
    draw = _random_screw if helix else _random_spline
    t = np.linspace(0.0, duration_s, _CHECKED)
    for _ in range(2000):
        trajectory = draw(rng, settings, duration_s, speed, turn)
        path = trajectory.poses(t)[:, :3, 3]
        mean_speed = np.linalg.norm(np.diff(path, axis=0), axis=1).sum() / duration_s
        # A spline comes out faster or slower than asked for.
        if _in_view(path, settings, camera) and abs(mean_speed / speed - 1.0) < 0.15:
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


def _random_screw(rng, settings: MotionSettings, duration_s: float, speed, turn) -> Screw:
    middle = np.eye(4)
    middle[:3, :3] = _random_rotation(rng)
    middle[:3, 3] = _place(0.5 * rng.standard_normal((1, 3)), settings)[0]
    # Half way it moves towards the camera or away from it, more or less: only there is room.
    velocity = rng.standard_normal(3) * (0.3, 0.2, 1.0)
    velocity *= speed / np.linalg.norm(velocity)
    twist = np.concatenate([middle[:3, :3].T @ velocity, turn * _direction(rng)])
    backwards = Screw(middle, -twist).poses(np.array([0.5 * duration_s]))[0]
    return Screw(backwards, twist)


def _random_spline(rng, settings: MotionSettings, duration_s: float, speed, turn) -> PoseSpline:
    del speed  # follows from the control points
    count = int(np.ceil(duration_s / settings.knot_s)) + 3
    steps = np.zeros((count, 6))
    axis = _direction(rng)
    for step in steps:
        axis = axis + 0.6 * rng.standard_normal(3)
        axis /= np.linalg.norm(axis)
        step[3:] = turn * settings.knot_s * axis
    steps = rigid.se3_exp(steps)
    controls = np.tile(np.eye(4), (count, 1, 1))
    rotation = _random_rotation(rng)
    drift = rng.standard_normal(3)
    for control, step in zip(controls, steps, strict=True):
        # Cubic B-splines contract their control points; 1.3 makes up for it.
        control[:3, 3] = _place(1.3 * drift[None], settings)[0]
        control[:3, :3] = rotation
        drift = 0.5 * drift + np.sqrt(0.75) * rng.standard_normal(3)
        rotation = rotation @ step[:3, :3]
    return PoseSpline(controls, settings.knot_s)


def _place(normal: np.ndarray, settings: MotionSettings) -> np.ndarray:
    """Positions [N, 3] from standard normal numbers."""
    low, high = settings.range_z
    z = 0.5 * (low + high) + 0.5 * (high - low) * np.tanh(0.8 * normal[:, 2])
    xy = (settings.mean + normal[:, :2] * settings.sigma) * z[:, None] / 5.68
    return np.concatenate([xy, z[:, None]], axis=1)


def _random_rotation(rng) -> np.ndarray:
    # Any direction in 4-space: uniform over SO(3).
    return rigid.quat_xyzw_to_matrix(rng.standard_normal(4))


def _direction(rng) -> np.ndarray:
    vector = rng.standard_normal(3)
    return vector / np.linalg.norm(vector)


def _evaluate(function, t: np.ndarray, *arguments) -> np.ndarray:
    t = np.asarray(t, np.float64)
    # Powers of two, so that few programs are compiled.
    padded = np.zeros(max(_CHECKED, 1 << (len(t) - 1).bit_length()))
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
