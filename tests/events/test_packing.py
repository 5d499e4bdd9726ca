"""Eight bytes per event, and back."""

import numpy as np
import pytest

from posejax.data.event_files import recording
from posejax.events import pack_events, packing, unpack_events


def test_the_bits_are_where_the_layout_says():
    packed = pack_events([3], [5], [7], [1])
    assert packed.dtype == np.uint32 and packed.tolist() == [[3 | 5 << 14 | 1 << 28, 7]]


def test_the_extremes_survive():
    x, y = np.array([0, 16383, 16383, 0]), np.array([0, 16383, 0, 16383])
    t, p = np.array([0, 2**32 - 1, 1, 2]), np.array([0, 1, 0, 1])
    packed = pack_events(x, y, t, p)
    events = unpack_events(packed, 4)
    for name, want in (("x", x), ("y", y), ("p", p)):
        np.testing.assert_array_equal(getattr(events, name), want)
    np.testing.assert_array_equal(packed[:, 1], t)
    np.testing.assert_allclose(events.t, t * 1e-6, rtol=2e-7)
    assert pack_events([], [], [], []).shape == (0, 2)


@pytest.mark.parametrize(
    ("column", "value"), [(0, 16384), (1, -1), (2, 2**32), (2, -1), (3, 2), (3, -1)]
)
def test_what_does_not_fit_is_refused(column, value):
    columns = [np.array([0, 1]) for _ in range(4)]
    columns[column] = np.array([0, value])
    with pytest.raises(ValueError, match="xy"[column] if column < 2 else ("t_us", "p")[column - 2]):
        pack_events(*columns)


def test_columns_of_different_length_are_refused():
    with pytest.raises(ValueError, match="one length"):
        pack_events([1], [1], [1, 2], [1, 0])


def test_every_recording_that_can_be_read_can_be_packed():
    """The two rooms do not know one another; the side of the largest sensor is the same."""
    assert packing.MAX_SIDE == recording.MAX_SIDE
