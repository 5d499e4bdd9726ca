"""EVT 2.0 and 3.0: against a word-by-word state machine, round trips, wraps, damaged files."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posejax.data.errors import DataError
from posejax.data.event_files import read_evt, write_evt
from posejax.data.event_files.evt import decode_evt2, decode_evt3, encode_evt2, encode_evt3


def slow_evt3(words):
    """The format's state machine, one word at a time."""
    out, row, base, low, high, loops = [], None, None, 0, None, 0
    for word in map(int, words):
        kind, value = word >> 12, word & 0xFFF
        if kind == 0:
            row = value & 0x7FF
        elif kind == 3:
            base, polarity = value & 0x7FF, value >> 11
        elif kind == 6:
            low = value
        elif kind == 8:
            if high is not None and value < high:
                if high - value <= 2048:
                    raise ValueError("backwards")
                loops += 1
            if value != high:
                high, low = value, 0
        elif kind in (2, 4, 5):
            known = row is not None and high is not None
            t = ((loops << 24) + (high << 12) + low) if known else 0
            if kind == 2 and known:
                out.append((value & 0x7FF, row, t, value >> 11))
            if kind != 2 and base is not None:
                width = 12 if kind == 4 else 8
                if known:
                    out += [(base + i, row, t, polarity) for i in range(width) if value >> i & 1]
                base += width
        elif kind not in (7, 10, 14, 15):
            raise ValueError("unknown type")
    if high is None and any(int(w) >> 12 in (2, 4, 5) for w in words):
        raise ValueError("no time")
    return out


_KINDS = st.sampled_from([0, 2, 2, 3, 4, 4, 5, 5, 6, 6, 7, 8, 10, 14, 15])
_WORDS = st.lists(
    st.tuples(_KINDS, st.integers(0, 4095)).map(lambda w: w[0] << 12 | w[1]), max_size=60
)


@given(_WORDS, st.booleans())
@settings(deadline=None, max_examples=400)
def test_evt3_against_the_state_machine(words, start_clock):
    words = np.array([0x8000] * start_clock + words, np.uint16)
    try:
        want = slow_evt3(words)
    except ValueError:
        with pytest.raises(ValueError):
            decode_evt3(words)
        return
    got = decode_evt3(words)
    assert list(zip(*(getattr(got, k).tolist() for k in "xytp"), strict=True)) == want


def test_a_vector_moves_its_base_even_where_no_pixel_is_set():
    words = [0x8000, 0x6005, 0x0007, 0x3800 | 100, 0x4001, 0x4000, 0x5081, 0x5001]
    events = decode_evt3(np.array(words, np.uint16))
    assert events.x.tolist() == [100, 124, 131, 132]
    assert set(events.y.tolist()) == {7} and set(events.t.tolist()) == {5}
    assert events.p.tolist() == [1, 1, 1, 1]


def test_time_wraps_are_undone_and_small_falls_refused():
    def times(*highs):
        words = [w for h in highs for w in (0x8000 | h, 0x6001, 0x0000, 0x2000)]
        return decode_evt3(np.array(words, np.uint16)).t.tolist()

    assert times(4095, 0, 4095, 3) == [
        4095 << 12 | 1,
        1 << 24 | 1,
        (8191 << 12) + 1,
        (8195 << 12) + 1,
    ]
    with pytest.raises(ValueError, match=r"time runs backwards at word 4 \(4 after 5\)"):
        times(5, 4)
    words = np.array([(8 << 28) | 0xFFFFFFF, 0, 8 << 28, (1 << 28) | (3 << 22)], np.uint32)
    assert decode_evt2(words).t.tolist() == [0xFFFFFFF << 6, (1 << 34) + 3]


def test_a_new_upper_time_starts_at_zero_below():
    words = np.array([0x8001, 0x6FFF, 0x0000, 0x2000, 0x8002, 0x2001, 0x8002, 0x2002], np.uint16)
    assert decode_evt3(words).t.tolist() == [0x1FFF, 0x2000, 0x2000]


def test_the_compatible_clock_adds_4096_at_every_fall():
    words = np.array([0x8000, 0x6010, 0x0000, 0x2000, 0x600F, 0x6011, 0x2001], np.uint16)
    assert decode_evt3(words).t.tolist() == [16, 17]
    assert decode_evt3(words, "expelliarmus").t.tolist() == [16, 17 + 4096]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2047), st.integers(0, 2047), st.integers(0, 1),
            st.one_of(st.integers(0, 3), st.integers(0, 1 << 26), st.just(1 << 24)),
        ),
        max_size=40,
    )
)  # fmt: skip
@settings(deadline=None, max_examples=200)
def test_encoding_is_undone_by_decoding(events):
    x, y, p, gap = (np.array([e[i] for e in events], np.int64) for i in range(4))
    t = np.cumsum(gap)
    for encode, decode in ((encode_evt3, decode_evt3), (encode_evt2, decode_evt2)):
        back = decode(encode(x, y, t, p))
        for key, want in zip("xytp", (x, y, t, p), strict=True):
            np.testing.assert_array_equal(getattr(back, key), want, err_msg=key)


@pytest.mark.parametrize("version", [2, 3])
def test_files_round_trip(tmp_path, make_recording, same, version):
    recording = make_recording(2000, tick_seconds=1e-6, labels=None)
    path = tmp_path / "a.raw"
    write_evt(path, recording, version=version)
    same(read_evt(path), recording)
    none = make_recording(0, tick_seconds=1e-6, labels=None)
    write_evt(path, none, version=version)
    same(read_evt(path), none)


def test_what_cannot_be_written(tmp_path, make_recording):
    with pytest.raises(ValueError, match="cannot be written"):
        write_evt(tmp_path / "a.raw", make_recording(sensor_size=(48, 4000)))
    late = make_recording(2, t=[0, 1 << 35], tick_seconds=1e-6)
    with pytest.raises(ValueError, match=r"below 2\*\*34"):
        write_evt(tmp_path / "a.raw", late, version=2)
    with pytest.raises(ValueError, match="rebased"):
        encode_evt3([0], [0], [1 << 50], [0])


GOOD = np.array([0x8000, 0x6001, 0x0000, 0x2000, 0x6002, 0x2001], "<u2").tobytes()


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (b"% evt 3.0\n% geometry 64x48\n", GOOD[:-1], "data: 11 bytes.*words of 2 bytes; is the"),
        (b"% evt 3.0\n% geometry 64x48\n", GOOD + b"\0\x90", "word 6 of unknown type 9"),
        (b"% evt 3.0\n% geometry 64x48\n", GOOD[4:], "events, but no time word"),
        (b"% evt 3.0\n% geometry 64x48\n", GOOD + b"\xff\x22", "x, event 2: 767"),
        (b"% evt 3.0\n% geometry 64x48\n", GOOD + b"\0\x60\0\x20", "t, event 2: 0 after 2 ticks"),
        (b"% evt 4.0\n% geometry 64x48\n", GOOD, r"versions \['4.0'\]"),
        (b"% evt 3.0\n% format EVT2;height=4;width=4\n", GOOD, r"versions \['2', '3.0'\]"),
        (b"% geometry 64x48\n", GOOD, r"versions \[\].*pass version"),
        (b"% evt 3.0\n", GOOD, "no sensor geometry.*pass sensor_size"),
        (b"% evt 3.0\n% geometry 0x48\n", GOOD, "sensor_size"),
        (b"% evt 2.0\n% geometry 64x48\n% end\n", GOOD + b"\0", "words of 4 bytes"),
        (b"% evt 2.0\n% geometry 64x48\n% end\n", b"\0\0\0\x50", "word 0 of unknown type 5"),
        (b"% evt 2.0\n% geometry 64x48\n% end\n", b"\0\0\0\x10", "events, but no time word"),
    ],
)
def test_damaged_files_are_named(tmp_path, header, data, message):
    path = tmp_path / "cut.raw"
    path.write_bytes(header + data)
    with pytest.raises(DataError, match=r"cut\.raw: .*" + message):
        read_evt(path)


def test_headers(tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(b"% evt 3.0\n% plugin_name hal_plugin_gen31_fx3\n" + GOOD)
    assert read_evt(path).sensor_size == (480, 640)
    path.write_bytes(b"% format EVT3;height=48;width=64\n% end\n" + GOOD)
    assert read_evt(path).sensor_size == (48, 64) and len(read_evt(path)) == 2
    path.write_bytes(GOOD)
    assert len(read_evt(path, version=3, sensor_size=(4, 4))) == 2
    with pytest.raises(DataError, match="EVT 5"):
        read_evt(path, version=5)
    # Data that happen to begin like one more header line do not belong to the header.
    path.write_bytes(b"% evt 3.0\n% geometry 64x48\n" + b"% \x00\x80\xff" + GOOD)
    with pytest.raises(DataError, match="data"):
        read_evt(path)
    with pytest.raises(DataError, match=r"none\.raw: file: not found"):
        read_evt(tmp_path / "none.raw")
