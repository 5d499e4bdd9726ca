"""A small valid recording with labels, and ways to compare recordings."""

import numpy as np
import pytest

from posejax.data.event_files import EventRecording, PoseTrack


def _labels(count: int = 7, seed: int = 0) -> PoseTrack:
    rng = np.random.default_rng(seed)
    quat = rng.normal(size=(count, 4))
    return PoseTrack(
        t_seconds=np.arange(count) / 10,
        translation=rng.normal((0, 0, 5), 1, (count, 3)),
        quat_xyzw=quat / np.linalg.norm(quat, axis=1, keepdims=True),
        names=tuple(f"img{i:03d}_RT000.png" for i in range(count)),
    )


def _recording(count: int = 500, seed: int = 0, **changes) -> EventRecording:
    rng = np.random.default_rng(seed)
    values = {
        "x": rng.integers(0, 64, count),
        "y": rng.integers(0, 48, count),
        "t": np.sort(rng.integers(0, 6000, count)),
        "p": rng.integers(0, 2, count),
        "tick_seconds": 1e-4,
        "sensor_size": (48, 64),
        "labels": _labels(),
        "name": "RT000",
    }
    return EventRecording(**{**values, **changes})


@pytest.fixture(scope="session")
def make_recording():
    """`make_recording(count, seed, **changes)`: random events over the time of 7 labels."""
    return _recording


@pytest.fixture
def recording() -> EventRecording:
    return _recording()


@pytest.fixture
def same():
    """`same(a, b)`: equal events, ticks, sensor and (to `atol`) labels."""

    def check(a: EventRecording, b: EventRecording, atol: float = 0.0) -> None:
        assert a.sensor_size == b.sensor_size and a.tick_seconds == b.tick_seconds
        for key, dtype in (("x", np.uint16), ("y", np.uint16), ("t", np.int64), ("p", np.uint8)):
            assert getattr(a, key).dtype == getattr(b, key).dtype == dtype
            np.testing.assert_array_equal(getattr(a, key), getattr(b, key), err_msg=key)
        assert (a.labels is None) == (b.labels is None)
        if a.labels is not None:
            for key in ("t_seconds", "translation", "quat_xyzw"):
                np.testing.assert_allclose(
                    getattr(a.labels, key), getattr(b.labels, key), atol=atol, rtol=0, err_msg=key
                )

    return check
