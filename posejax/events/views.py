"""Events seen from a camera turned about its centre, or in a mirror, with the pose that belongs.

Turning a camera by R about its own centre moves every pixel by the homography K R K^-1, whatever
the depth. So a turn is an exact augmentation: the events move, and the pose of whatever they show
becomes R [R_c | t]. Zooming, shifting or stretching the picture is no motion of a camera, and is
not offered.

A mirror image shows an object that does not exist, unless the object equals its own reflection.
With M = diag(-1, 1, 1) the mirror image of points R p + t is M R p + M t, and M R is no rotation.
If the object has a plane of symmetry, p -> S p with det S = -1, its points are also S p, and the
picture shows the object in the pose (M R S, M t). `mirror` takes S and refuses without it.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from posejax.events.events import Events, check_events
from posejax.geometry import (
    as_float,
    inverse_intrinsics,
    matmul,
    se3_from_rotation_translation,
    so3_exp,
    yaw_to_matrix,
)

# Below this depth after a turn (of rays of depth 1) a pixel is at the edge of the half space.
_MIN_DEPTH = 1e-3


def _map_pixels(events: Events, matrix: Array) -> Events:
    """Events at the images of their pixels' centres under a homography [3, 3]."""
    check_events(events)
    x, y = as_float(events.x) + 0.5, as_float(events.y) + 0.5
    a, b, c = (matrix[i, 0] * x + matrix[i, 1] * y + matrix[i, 2] for i in range(3))
    ahead = c > _MIN_DEPTH
    c = jnp.where(ahead, c, 1)
    # An index: the centre of pixel 0 is at 0.5.
    return events._replace(x=a / c - 0.5, y=b / c - 0.5, valid=events.valid & ahead)


def rotate_view(
    events: Events, camera_from_body: ArrayLike, intrinsics: ArrayLike, rotation: ArrayLike
) -> tuple[Events, Array]:
    """What a camera turned about its centre sees.

    Args:
      events: fields [N].
      camera_from_body: [4, 4] pose.
      intrinsics: K [3, 3], without distortion.
      rotation: [3, 3] new_camera_from_camera; see `roll` and `pan_tilt`.

    Returns:
      Events at the pixels where the turned camera sees them, as floats, some off the sensor; those
      not in front of it are not valid. And the pose new_camera_from_body.

    Exact for every depth. A point of the body that projects to an event's position through K and
    the old pose projects to its new position through K and the new pose.
    """
    rotation, k = as_float(rotation), as_float(intrinsics)
    if rotation.shape != (3, 3) or k.shape != (3, 3):
        shapes = f"{rotation.shape} and {k.shape}"
        raise ValueError(f"rotation and intrinsics are [3, 3], got {shapes}; use jax.vmap")
    turned = _map_pixels(events, matmul(matmul(k, rotation), inverse_intrinsics(k)))
    turn = se3_from_rotation_translation(rotation, jnp.zeros(3, rotation.dtype))
    return turned, matmul(turn, camera_from_body)


def roll(angle: ArrayLike) -> Array:
    """Turn of the picture about the optical axis, from x (right) towards y (down), [3, 3]."""
    return yaw_to_matrix(angle)


def pan_tilt(pan: ArrayLike, tilt: ArrayLike) -> Array:
    """Turn that moves what is ahead by `pan` to the right and by `tilt` downwards, [3, 3].

    One rotation about an axis in the picture plane; radians.
    """
    pan, tilt = jnp.broadcast_arrays(as_float(pan), as_float(tilt))
    return so3_exp(jnp.stack([-tilt, pan, jnp.zeros_like(pan)], axis=-1))


def mirror(
    events: Events,
    camera_from_body: ArrayLike,
    intrinsics: ArrayLike,
    *,
    symmetry: ArrayLike | None = None,
) -> tuple[Events, Array]:
    """Left-right mirror image of a symmetric object, about the principal point.

    Args:
      events: fields [N].
      camera_from_body: [4, 4] pose.
      intrinsics: K [3, 3].
      symmetry: S [3, 3], the reflection in body coordinates that maps the object to itself, such as
        diag(1, -1, 1) for the plane y = 0 through the body's origin. A constant, not traced.

    Returns:
      Events moved by K M K^-1, and the pose (M R S, M t), M = diag(-1, 1, 1): a rotation.

    Raises:
      ValueError: no symmetry given, or one that is no reflection. The mirror image of an object
        without a plane of symmetry is a picture of another object: there is no right label.
    """
    reflection = checked_symmetry(symmetry)
    k, pose = as_float(intrinsics), as_float(camera_from_body)
    flip = np.diag([-1.0, 1.0, 1.0]).astype(pose.dtype)
    mirrored = _map_pixels(events, matmul(matmul(k, flip), inverse_intrinsics(k)))
    rotation = matmul(matmul(flip, pose[:3, :3]), reflection.astype(pose.dtype))
    return mirrored, se3_from_rotation_translation(rotation, matmul(flip, pose[:3, 3:])[:, 0])


def checked_symmetry(symmetry: ArrayLike | None) -> np.ndarray:
    """S as float64 [3, 3]; ValueError unless it is an orthogonal matrix of determinant -1."""
    if symmetry is None:
        raise ValueError(
            "mirror needs the object's symmetry: a reflection S [3, 3] in body coordinates that "
            "maps the object to itself. Mirrored pictures of an object without one have no pose"
        )
    matrix = np.asarray(symmetry, np.float64)
    orthogonal = matrix.shape == (3, 3) and np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
    if not orthogonal or np.linalg.det(matrix) > 0:
        raise ValueError(
            f"symmetry is an orthogonal matrix with determinant -1, got {matrix.tolist()}"
        )
    return matrix
