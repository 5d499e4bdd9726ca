"""Every function of the room takes NumPy's numbers as they are and compiles once."""

import jax
import numpy as np
import pytest

from posejax import events
from posejax.events import AugmentRule, Window
from tests.eager import check, example, public_functions

RNG = np.random.default_rng(0)
SENSOR, N = (np.int64(48), np.int64(64)), 40
X, Y = RNG.integers(0, 64, N), RNG.integers(0, 48, N)
T_US, P = np.sort(RNG.integers(0, 100_000, N)), RNG.integers(0, 2, N)
SPAN = (np.float64(0), np.float64(0.1))
PLACE = {"size": (np.int64(6), np.int64(8)), "sensor_size": SENSOR, "window": SPAN}
EVENTS = events.events_from_arrays(X, Y, T_US * 1e-6, P, capacity=64)
PACKED = events.pack_events(X, Y, T_US, P)
KEY = jax.random.key(0)
K = np.array([[50.0, 0, 32.0], [0, 50.0, 24.0], [0, 0, 1]])
POSE = np.eye(4)
POSE[2, 3] = 5.0
ANGLE, COUNT, US = np.float64(0.3), np.int64(30), np.int64(50_000)
RULE = AugmentRule(
    pan=0.1, tilt=0.1, time_scale=(0.5, 2.0), keep=(0.5, 1.0), hot_pixels=2, leak_rate=0.1
)
NOISE = {"rate": np.float64(10), "window": SPAN, "sensor_size": SENSOR, "most": np.int64(8)}
BOUNDS = np.array([[0.0, 0.1], [0.1, 0.2]])

EXAMPLES = {
    "add_events": example(EVENTS, EVENTS),
    "add_grid_noise": example(KEY, np.ones((4, 4)), probability=ANGLE, amplitude=ANGLE),
    "add_hot_pixels": example(KEY, EVENTS, pixels=np.int64(3), **NOISE),
    "add_leak_noise": example(KEY, EVENTS, on_share=ANGLE, **NOISE),
    "augment": example(KEY, EVENTS, POSE, K, RULE, sensor_size=SENSOR, window=SPAN, query=ANGLE),
    "augment_grid": example(KEY, np.ones((4, 4)), RULE),
    "averaged_time_surface": example(EVENTS, tau=ANGLE, **PLACE),
    "dropped_events": example(EVENTS, sensor_size=SENSOR, window=SPAN),
    "event_frame": example(EVENTS, **PLACE),
    "events_from_arrays": example(X, Y, T_US * 1e-6, P, capacity=np.int64(64)),
    "flip_polarity": example(EVENTS, np.True_),
    "histogram": example(EVENTS, accumulate="fixed", **PLACE),
    "lnes": example(EVENTS, **PLACE),
    "mirror": example(EVENTS, POSE, K, symmetry=np.diag([1.0, -1, 1])),
    "pack_events": example(X, Y, T_US, P),
    "pan_tilt": example(ANGLE, ANGLE),
    "pose_at": example(np.float64(0.05), np.array([0, 0.1]), np.stack([POSE, POSE])),
    "query_of": example(BOUNDS, Window("centred")),
    "roll": example(ANGLE),
    "rotate_view": example(EVENTS, POSE, K, np.eye(3)),
    "row_at": example(PACKED, US, (np.int64(0), COUNT)),
    "scale_time": example(EVENTS, ANGLE, ANGLE),
    "slice_rows": example(PACKED, np.int64(3), COUNT, capacity=COUNT, origin_us=US),
    "slice_window": example(PACKED, np.int64(10), US, capacity=COUNT),
    "sliding_windows": example(SPAN[0], SPAN[1], Window(duration=np.float64(0.03))),
    "thin": example(KEY, EVENTS, ANGLE),
    "time_surface": example(EVENTS, tau=ANGLE, **PLACE),
    "unpack_events": example(PACKED, COUNT, US, end_us=np.int64(100_000)),
    "voxel_grid": example(EVENTS, bins=np.int64(3), time="linear", space="bilinear", **PLACE),
    "window_bounds": example(US, Window("centred"), unit=np.float64(1e-6)),
    "window_rows": example(T_US, US, Window("centred", count=7)),
}
FUNCTIONS = public_functions(events)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_calls_from_numpy_compile_once(name):
    check(FUNCTIONS[name], EXAMPLES[name])


def test_names_load_on_first_use():
    assert all(
        getattr(events, name).__module__.startswith("posejax.events.") for name in events.__all__
    )
    assert callable(events.augment)
    with pytest.raises(AttributeError, match="nothing"):
        _ = events.nothing
