"""Eight bytes per event, and back."""

import numpy as np
import pytest

from posejax.data.event_files import pack, pack_recording, unpack


def test_the_bits_are_where_the_layout_says():
    packed = pack([3], [5], [7], [1])
    assert packed.dtype == np.uint32 and packed.tolist() == [[3 | 5 << 14 | 1 << 28, 7]]


def test_the_extremes_survive():
    x, y = np.array([0, 16383, 16383, 0]), np.array([0, 16383, 0, 16383])
    t, p = np.array([0, 2**32 - 1, 1, 2]), np.array([0, 1, 0, 1])
    for got, want in zip(unpack(pack(x, y, t, p)), (x, y, t, p), strict=True):
        np.testing.assert_array_equal(got, want)
    assert pack([], [], [], []).shape == (0, 2)


@pytest.mark.parametrize(
    ("column", "value"), [(0, 16384), (1, -1), (2, 2**32), (2, -1), (3, 2), (3, -1)]
)
def test_what_does_not_fit_is_refused(column, value):
    columns = [np.array([0, 1]) for _ in range(4)]
    columns[column] = np.array([0, value])
    with pytest.raises(ValueError, match="xy"[column] if column < 2 else ("t_us", "p")[column - 2]):
        pack(*columns)


def test_a_recording_is_packed_in_microseconds(recording):
    x, y, t, p = unpack(pack_recording(recording))
    np.testing.assert_array_equal(t, recording.t * 100)
    for got, key in ((x, "x"), (y, "y"), (p, "p")):
        np.testing.assert_array_equal(got, getattr(recording, key))
