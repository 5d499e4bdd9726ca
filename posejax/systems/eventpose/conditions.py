"""Under what conditions a window was seen: to tell windows that fail from those that do not."""

from collections.abc import Mapping

import numpy as np

from posejax.data.rigid import quat_xyzw_to_matrix, so3_log
from posejax.events import window_rows
from posejax.systems.eventpose.windows import WindowSource

LABELS = {
    "range_m": "range (m)",
    "events": "events in the window",
    "light": "light",
    "speed_px": "speed in the picture (pixels/s)",
    "direction_deg": "direction of the motion in the picture (deg)",
    "along_wings_deg": "angle between motion and wings in the picture (deg)",
    "roll_deg": "turn about the optical axis (deg/s)",
    "tumble_deg": "turn across the optical axis (deg/s)",
}
"""What the conditions are, for people."""


def record_conditions(source: WindowSource, focal: float) -> dict[str, np.ndarray]:
    """Numbers of every record of a source of windows, in its order; one file at a time in memory.

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
    parts = []
    for k, (file, light) in enumerate(zip(source.files, source.lights, strict=True)):
        rows = source.index[source.index[:, 0] == k, 1]
        track = file.labels
        assert track is not None  # a source has refused files without labels
        t_us = file.rows().t_microseconds()
        file.close()
        found = [
            window_rows(t_us, round(1e6 * float(t)), source.rule.window)[0]
            for t in track.t_seconds[rows]
        ]
        parts.append(
            _conditions(
                track.translation[rows],
                track.quat_xyzw[rows],
                _velocities(source, k)[rows],
                focal,
                events=np.array([r.stop - r.start for r in found]),
                light=np.broadcast_to(light, len(track))[rows],
            )
        )
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def conditions_of(records: Mapping[str, np.ndarray], focal: float) -> dict[str, np.ndarray]:
    """The same numbers of the records of an evaluation, from their true poses.

    The motion is NaN where a window is alone in its sequence, as independent clips are.

    Args:
      records: see `summary`.
      focal: pixels.
    """
    t, q, sequence = (np.asarray(records[k]) for k in ("translation", "quat_xyzw", "sequence"))
    velocity = np.full((len(t), 6), np.nan)
    for number in np.unique(sequence):
        rows = np.flatnonzero(sequence == number)
        rows = rows[np.argsort(records["time"][rows], kind="stable")]
        if len(rows) > 1:
            velocity[rows] = _rates(np.asarray(records["time"], np.float64)[rows], t[rows], q[rows])
    known = {k: records.get(k, np.full(len(t), np.nan)) for k in ("events", "light")}
    return _conditions(t, q, velocity, focal, **known)


def _conditions(translation, quat, velocity, focal: float, *, events, light):
    p, v, w = np.asarray(translation, np.float64), velocity[:, :3], velocity[:, 3:]
    x = quat_xyzw_to_matrix(quat)[..., 0]
    flow, wings = _in_picture(p, v, focal), _in_picture(p, x, focal)
    across = np.linalg.norm(flow, axis=1) * np.linalg.norm(wings, axis=1)
    cosine = np.abs((flow * wings).sum(1)) / np.maximum(across, 1e-12)
    return {
        "events": np.asarray(events, np.float64),
        "light": np.asarray(light, np.float64),
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
    assert track is not None
    if track.clip is not None:
        from posejax.sim import read_clips  # with jax: not in workers

        return read_clips(file.path).velocity
    if len(track) < 2:
        return np.zeros((len(track), 6))
    return _rates(track.t_seconds, track.translation, track.quat_xyzw)


def _rates(t: np.ndarray, translation: np.ndarray, quat: np.ndarray) -> np.ndarray:
    """[M, 6] of M >= 2 poses in the order of time: to the next one, of the last one from before."""
    turn = quat_xyzw_to_matrix(quat)
    turned = so3_log(turn[1:] @ turn[:-1].swapaxes(1, 2))
    change = np.concatenate([np.diff(translation, axis=0), turned], axis=1)
    rate = change / np.diff(t)[:, None]
    return np.concatenate([rate, rate[-1:]])
