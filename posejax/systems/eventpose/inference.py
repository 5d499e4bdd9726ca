"""A trained network on a recording of one's own: poses at any instants, without labels."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from posejax.config import ConfigError
from posejax.data.event_files import EventRecording
from posejax.events import Window
from posejax.geometry import matrix_to_quat_xyzw
from posejax.loading import Predictor
from posejax.systems.eventpose.data import Frames
from posejax.systems.eventpose.hypotheses import tracked
from posejax.systems.eventpose.smoothing import smoothed
from posejax.systems.eventpose.system import Eventpose
from posejax.systems.eventpose.windows import WindowRule, cut_window, pack_recording

_BATCH = 16


class PoseTable(NamedTuple):
    """Poses of a recording, camera_from_body.

    t: [M] s. translation: [M, 3] m. quat_xyzw: [M, 4]. events: [M] in each window.
    outputs: what the network says besides, [M, ...] each.
    """

    t: np.ndarray
    translation: np.ndarray
    quat_xyzw: np.ndarray
    events: np.ndarray
    outputs: dict[str, np.ndarray]


def predict_recording(
    system: Eventpose,
    predict: Predictor,
    recording: EventRecording,
    t: np.ndarray,
    *,
    smooth: bool = True,
) -> PoseTable:
    """Poses of a recording at the instants `t` (s, on the recording's clock).

    Args:
      system, predict: see `posejax.load`.
      recording: from the camera that the system was trained for; another size of sensor is refused.
      t: [M] s; a window that holds no event gets a pose like any other: look at `events`.
      smooth: apply the trajectory layer of the system's config; of a network with keypoints it
        also chooses among each window's hypotheses.

    Raises:
      ConfigError: the sensor is not that of the training data, or the system sees frames.
    """
    data = system.data
    if isinstance(data, Frames):
        raise ConfigError("this system was trained on frames; it cannot read events")
    if tuple(recording.sensor_size) != tuple(system.sensor_size):
        raise ConfigError(
            f"the recording has a sensor of {recording.sensor_size} pixels (H, W), the system was "
            f"trained for {system.sensor_size}"
        )
    rule, packed = replace(data.rule, resident=False), pack_recording(recording)
    rows: list[Mapping[str, Any]] = []
    for begin in range(0, len(t), _BATCH):
        part = [_example(packed, float(s), rule) for s in t[begin : begin + _BATCH]]
        filled = part + part[-1:] * (_BATCH - len(part))  # one compiled shape
        batch = {k: np.stack([p[k] for p in filled]) for k in filled[0]}
        out = jax.device_get(predict(batch))
        rows.append({k: v[: len(part)] for k, v in {**out, "found": batch["found"]}.items()})
    outputs = {k: np.concatenate([r[k] for r in rows]) for k in rows[0]}
    records = {
        "sequence": np.zeros(len(t), np.int32),
        "time": np.asarray(t, np.float64),
        "translation_hat": outputs["pose"][:, :3, 3],
        "quat_xyzw_hat": np.asarray(matrix_to_quat_xyzw(outputs["pose"][:, :3, :3])),
    }
    if smooth and system.trajectory.method != "none":
        if "hypotheses" in outputs:
            several = outputs["hypotheses"]
            records["hypothesis_weight"] = outputs["hypothesis_weight"]
            records["hypothesis_translation_hat"] = several[..., :3, 3]
            turns = matrix_to_quat_xyzw(several[..., :3, :3])
            records["hypothesis_quat_xyzw_hat"] = np.asarray(turns)
        layer = tracked if "hypotheses" in outputs else smoothed
        records |= layer(records, system.trajectory)
    return PoseTable(
        records["time"], records["translation_hat"], records["quat_xyzw_hat"],
        outputs.pop("found"), outputs,
    )  # fmt: skip


def query_times(recording: EventRecording, window: Window, period: float) -> np.ndarray:
    """[M] s: multiples of `period` whose whole window lies inside the recording.

    Multiples, so that a recording whose clock starts with its first label is asked at its labels.
    """
    if not len(recording):
        return np.empty(0)
    start, end = recording.t[[0, -1]] * recording.tick_seconds
    # A window by count may be of any duration: it asks for no room.
    before, after = window.reach() if window.count is None else (0.0, 0.0)
    # The first event comes a little after the clock's zero.
    first = int(np.ceil((start + before) / period - 0.1))
    last = int(np.floor((end - after) / period + 0.1))
    return period * np.arange(max(first, 0), last + 1)


def _example(packed: np.ndarray, time: float, rule: WindowRule) -> dict[str, np.ndarray]:
    nowhere = np.array([[0, 0, 1, 0, 0, 0, 1.0]] * 2, np.float32)  # a label that nobody reads
    return {
        "index": np.array(0, np.int32),
        "poses": nowhere,
        "fraction": np.array(0, np.float32),
        **cut_window(packed, round(1e6 * time), rule),
    }
