"""Under what conditions a window was seen: to tell windows that fail from those that do not."""

import numpy as np

from posejax.data.rigid import quat_xyzw_to_matrix, so3_log
from posejax.events import window_rows
from posejax.systems.eventpose.windows import WindowSource


def record_conditions(source: WindowSource, focal: float) -> dict[str, np.ndarray]:
    """Numbers of every record of a source of windows, in its order.

    The motion is the mean from a label to the next one (to the last one from the one before it),
    or over the clip of independent clips. An edge along the motion in the picture fires no events:
    `along_wings` tells where the motion points on the craft.

    Args:
      source: of recordings, or of simulated independent clips.
      focal: pixels.

    Returns:
      Arrays [N]: events in the window; light, NaN where unknown; range_m; speed_px of the body's
      origin (pixels/s); direction_deg of that motion, -180 to 180 from x to y; roll_deg and
      tumble_deg, turn rates about the optical axis (signed) and across it (deg/s); along_wings_deg,
      0 to 90, between the motion and the body's x axis in the picture.
    """
    events, lights, translation, x_axis, velocity = [], [], [], [], []
    moving = [_velocities(source, k) for k in range(len(source.files))]
    for index, (k, j) in enumerate(source.index.tolist()):
        record = source[index]
        track = record["track"]
        at = round(1e6 * float(track.t_seconds[j]))
        rows, *_ = window_rows(record["packed"][:, 1], at, source.rule.window)
        events.append(rows.stop - rows.start)
        lights.append(float(record["light"]))
        translation.append(track.translation[j])
        x_axis.append(quat_xyzw_to_matrix(track.quat_xyzw[j])[:, 0])
        velocity.append(moving[k][j])
    v, w = np.split(np.array(velocity), 2, axis=1)
    p, x = np.array(translation), np.array(x_axis)
    flow, wings = _in_picture(p, v, focal), _in_picture(p, x, focal)
    across = np.linalg.norm(flow, axis=1) * np.linalg.norm(wings, axis=1)
    cosine = np.abs((flow * wings).sum(1)) / np.maximum(across, 1e-12)
    return {
        "events": np.array(events, np.float64),
        "light": np.array(lights),
        "range_m": np.linalg.norm(p, axis=1),
        "speed_px": np.linalg.norm(flow, axis=1),
        "direction_deg": np.rad2deg(np.arctan2(flow[:, 1], flow[:, 0])),
        "roll_deg": np.rad2deg(w[:, 2]),
        "tumble_deg": np.rad2deg(np.linalg.norm(w[:, :2], axis=1)),
        "along_wings_deg": np.rad2deg(np.arccos(np.minimum(cosine, 1.0))),
    }


def _in_picture(points: np.ndarray, vectors: np.ndarray, focal: float) -> np.ndarray:
    """[N, 2] pixels by which the projections of points move along vectors, [N, 3] each."""
    z = points[:, 2:]
    return focal * (vectors[:, :2] - points[:, :2] / z * vectors[:, 2:]) / z


def _velocities(source: WindowSource, sequence: int) -> np.ndarray:
    """[M, 6] (m/s, rad/s), camera frame, at all labels of a recording."""
    file = source.files[sequence]
    track = file.labels
    assert track is not None  # a source has refused files without labels
    if track.clip is not None:
        from posejax.sim import read_clips  # with jax: not in workers

        return read_clips(file.path).velocity
    if len(track) < 2:
        return np.zeros((len(track), 6))
    turn = quat_xyzw_to_matrix(track.quat_xyzw)
    change = np.concatenate(
        [np.diff(track.translation, axis=0), so3_log(turn[1:] @ turn[:-1].swapaxes(1, 2))], axis=1
    )
    rate = change / np.diff(track.t_seconds)[:, None]
    return np.concatenate([rate, rate[-1:]])
