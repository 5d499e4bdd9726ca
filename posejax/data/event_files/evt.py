"""Prophesee RAW files: EVT 2.0 (32-bit words) and EVT 3.0 (16-bit words), both ways.

A file is an ASCII header of lines that start with "% " (newer ones close it with "% end"), then
little-endian words. EVT 3.0 is a state machine: words set the row, the upper and lower 12 bits of
the time, and the base column of vectors; a single event or a vector of 8 or 12 pixels uses what
was set last. Decoding runs on whole arrays: "what was set last" is a running maximum of indices.

Bit layouts after the format descriptions at https://docs.prophesee.ai (Event Encoding Formats).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from posejax.data.errors import DataError
from posejax.data.event_files.recording import EventRecording, Fields
from posejax.data.files import read_bytes

Compat = Literal["", "expelliarmus"]
_US = 1e-6
# Sensors whose files carry no geometry in the header, by a word in one of its values.
_SENSORS = {"gen31": (480, 640), "gen41": (720, 1280), "imx636": (720, 1280), "genx320": (320, 320)}
_HEADER_LIMIT = 1 << 16


@dataclass(frozen=True)
class Decoded:
    """Events of a word stream: x, y, t (us), p of [N], and `word`, where each came from."""

    x: np.ndarray
    y: np.ndarray
    t: np.ndarray
    p: np.ndarray
    word: np.ndarray


def read_evt(
    path: str | Path,
    *,
    sensor_size: tuple[int, int] | None = None,
    version: int | None = None,
    compat: Compat = "",
) -> EventRecording:
    """Read a RAW file of EVT 2.0 or 3.0.

    Args:
      path: the file.
      sensor_size: (height, width); None takes the header's geometry, or the known size of the
        sensor it names.
      version: 2 or 3; None takes the header's.
      compat: see `decode_evt3`.

    Returns:
      the events, in ticks of 1 us of the camera's clock, whose wraps are undone. Events before
      the first time (and, in EVT 3.0, row) word have no time or place and are left out.

    Raises:
      DataError: missing file, unknown or contradicting version, unknown sensor, data cut inside a
        word, unknown word types, no time word, times that run backwards, pixels off the sensor.
    """
    path = Path(path)
    raw = read_bytes(path, "a RAW file of EVT 2.0 or 3.0")
    header, start = _header(raw)
    version = version or _version(path, header)
    if version not in (2, 3):
        raise DataError(path, "header", f"EVT {version}", "EVT 2.0 or 3.0")
    size = sensor_size or _geometry(path, header)
    width = 4 if version == 2 else 2
    if (len(raw) - start) % width:
        found = f"{len(raw) - start} bytes of data"
        raise DataError(path, "data", found, f"words of {width} bytes", "is the file cut off?")
    words = np.frombuffer(raw, f"<u{width}", offset=start)
    try:
        events = decode_evt2(words) if version == 2 else decode_evt3(words, compat)
    except ValueError as error:
        raise DataError(path, "data", str(error), f"EVT {version}.0 words") from None
    return EventRecording(
        x=events.x,
        y=events.y,
        t=events.t,
        p=events.p,
        tick_seconds=_US,
        sensor_size=size,
        name=path.stem,
        path=str(path),
        fields=Fields(row="event"),
    )


def write_evt(path: str | Path, recording: EventRecording, *, version: int = 3) -> None:
    """Write a RAW file of EVT 2.0 or 3.0; times become whole microseconds.

    Raises:
      ValueError: a sensor of more than 2048 pixels a side, another version, or times beyond
        2**34 us (EVT 2.0) or 2**42 us (EVT 3.0).
    """
    if version not in (2, 3) or max(recording.sensor_size) > 2048:
        raise ValueError(f"EVT {version} with {recording.sensor_size} pixels cannot be written")
    encode = encode_evt2 if version == 2 else encode_evt3
    t = recording.t_microseconds()
    words = encode(recording.x, recording.y, t, recording.p)
    height, width = recording.sensor_size
    header = f"% evt {version}.0\n% format EVT{version};height={height};width={width}\n"
    header += f"% geometry {width}x{height}\n% end\n"
    Path(path).write_bytes(header.encode() + words.astype(f"<u{words.itemsize}").tobytes())


def decode_evt3(words: np.ndarray, compat: Compat = "") -> Decoded:
    """Decode EVT 3.0 words [W] uint16.

    Args:
      words: the data of a file, without its header.
      compat: "expelliarmus" gives the times of that decoder, which takes every fall of the lower
        time for a wrap and adds 4096 us. Some cameras send a time marker of some microseconds
        ahead every millisecond, and true wraps come with a new upper time as well: its times run
        ahead of the camera's by 4096 us at each of these. For comparisons with its files only.

    Raises:
      ValueError: an unknown word type, events without any time word, or time words that run
        backwards by less than the 16.8 s after which the counter wraps.
    """
    kind, value = words >> 12, words & 0xFFF
    # Types: row, single x, vector base, 12- and 8-pixel vector, time low and high, and words that
    # carry no pixels: continued (4, 12 bits), external trigger, others.
    known = np.isin(np.arange(16), (0, 2, 3, 4, 5, 6, 7, 8, 10, 14, 15))
    if not known[kind].all():
        first = int(np.argmin(known[kind]))
        raise ValueError(f"word {first} of unknown type {int(kind[first])}")
    index = np.arange(len(words))

    def last(marks: np.ndarray) -> np.ndarray:
        """Index of the latest marked word at or before each word, -1 before the first."""
        return np.maximum.accumulate(np.where(marks, index, -1))

    is_high = kind == 8
    high = _unwrap(value[is_high].astype(np.int64), 12, np.flatnonzero(is_high))
    # A new upper half starts at zero below; the lower half of before belongs to the old one.
    fresh = np.zeros(len(words), bool)
    fresh[is_high] = np.diff(high, prepend=-1) != 0
    low = last((kind == 6) | fresh)
    highs = np.cumsum(is_high) - 1

    single, vector = kind == 2, (kind == 4) | (kind == 5)
    row, base = last(kind == 0), last(kind == 3)
    usable = (row >= 0) & (highs >= 0) & (single | (vector & (base >= 0)))
    if (single | vector).any() and not is_high.any():
        raise ValueError("events, but no time word")
    at = np.flatnonzero(usable)
    # Every vector moves the base column by its width, whether pixels are set or not.
    moved = np.cumsum(np.where(kind == 4, 12, np.where(kind == 5, 8, 0)))
    before = moved[at] - np.where(kind[at] == 4, 12, 8) - moved[base[at]]
    start = np.where(single[at], value[at] & 0x7FF, (value[base[at]] & 0x7FF) + before)
    source = np.where(single[at], at, base[at])
    mask = np.where(single[at], 1, np.where(kind[at] == 4, value[at], value[at] & 0xFF))
    bits = np.unpackbits(mask.astype("<u2").view(np.uint8), bitorder="little")
    hit = np.flatnonzero(bits)
    owner = hit >> 4
    t = (high[highs[at]] << 12) + np.where(kind[low[at]] == 6, value[low[at]], 0)
    if compat == "expelliarmus":
        fall = np.zeros(len(words), np.int64)
        lows = np.flatnonzero(kind == 6)
        fall[lows[1:]] = value[lows[1:]] < value[lows[:-1]]
        t = t + (np.cumsum(fall)[at] << 12)
    return Decoded(
        x=(start[owner] + (hit & 15)).astype(np.int64),
        y=(value[row[at]] & 0x7FF)[owner],
        t=t[owner],
        p=((value[source] >> 11) & 1)[owner].astype(np.uint8),
        word=at[owner],
    )


def decode_evt2(words: np.ndarray) -> Decoded:
    """Decode EVT 2.0 words [W] uint32.

    Raises:
      ValueError: an unknown word type, events without any time word, or time words that run
        backwards by less than the 4.8 h after which the counter wraps.
    """
    kind = words >> 28
    known = np.isin(np.arange(16), (0, 1, 8, 10, 14, 15))
    if not known[kind].all():
        first = int(np.argmin(known[kind]))
        raise ValueError(f"word {first} of unknown type {int(kind[first])}")
    is_high = kind == 8
    values = (words[is_high] & 0xFFFFFFF).astype(np.int64)
    high = _unwrap(values, 28, np.flatnonzero(is_high))
    highs = np.cumsum(is_high) - 1
    if (kind <= 1).any() and not is_high.any():
        raise ValueError("events, but no time word")
    at = np.flatnonzero((kind <= 1) & (highs >= 0))
    word = words[at]
    return Decoded(
        x=(word >> 11) & 0x7FF,
        y=word & 0x7FF,
        t=(high[highs[at]] << 6) + ((word >> 22) & 0x3F),
        p=(kind[at] == 1).astype(np.uint8),
        word=at,
    )


def encode_evt3(x: np.ndarray, y: np.ndarray, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    """EVT 3.0 words uint16 of events in time order (t in us), without vectors."""
    x, y, t, p = (np.asarray(v, np.int64) for v in (x, y, t, p))
    if len(t) and int(t[-1]) >= 1 << 42:
        raise ValueError(
            f"{int(t[-1])} us: use rebased(), EVT 3.0 counts up to such times in steps"
        )
    high, low = t >> 12, t & 0xFFF
    # The counter wraps after 4096 steps: longer pauses need words on the way to count them.
    step = np.diff(high, prepend=0)
    highs = -(-step // 1024)
    highs[:1] += 1
    new_low = (np.diff(t, prepend=-1) != 0).astype(np.int64)
    new_row = (np.diff(y, prepend=-1) != 0).astype(np.int64)
    words, start = _layout(highs + new_low + new_row + 1)
    owner = np.repeat(np.arange(len(t)), highs)
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(highs) - highs, highs)
    first = high[owner] - step[owner] + np.where(owner == 0, 0, 1024) + 1024 * nth
    words[start[owner] + nth] = 0x8000 | (np.minimum(first, high[owner]) & 0xFFF)
    place = start + highs
    words[place[new_low > 0]] = 0x6000 | low[new_low > 0]
    place += new_low
    words[place[new_row > 0]] = y[new_row > 0]
    words[place + new_row] = 0x2000 | (p << 11) | x
    return words.astype(np.uint16)


def encode_evt2(x: np.ndarray, y: np.ndarray, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    """EVT 2.0 words uint32 of events in time order (t in us, below 2**34)."""
    x, y, t, p = (np.asarray(v, np.int64) for v in (x, y, t, p))
    if len(t) and int(t[-1]) >= 1 << 34:
        raise ValueError(f"{int(t[-1])} us: EVT 2.0 holds times below 2**34 us")
    high = t >> 6
    fresh = (np.diff(high, prepend=-1) != 0).astype(np.int64)
    words, start = _layout(fresh + 1)
    words[start[fresh > 0]] = (8 << 28) | high[fresh > 0]
    words[start + fresh] = (p << 28) | ((t & 0x3F) << 22) | (x << 11) | y
    return words.astype(np.uint32)


def _layout(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Room for `counts` words per event, and where each event's words start."""
    return np.zeros(int(counts.sum()), np.int64), np.cumsum(counts) - counts


def _unwrap(values: np.ndarray, bits: int, words: np.ndarray) -> np.ndarray:
    """Add 2**bits at every fall by more than half the range; smaller falls are errors."""
    step = np.diff(values)
    wraps = step < -(1 << (bits - 1))
    back = (step < 0) & ~wraps
    if back.any():
        first = int(np.argmax(back)) + 1
        found = f"{int(values[first])} after {int(values[first - 1])}"
        raise ValueError(f"time runs backwards at word {int(words[first])} ({found})")
    return values + (np.concatenate([[0], np.cumsum(wraps)])[: len(values)] << bits)


def _header(raw: bytes) -> tuple[dict[str, str], int]:
    """{first word: rest} of the header lines, and the offset of the first data byte."""
    header, offset = {}, 0
    while raw[offset : offset + 2] == b"% " and offset < _HEADER_LIMIT:
        stop = raw.find(b"\n", offset, offset + _HEADER_LIMIT)
        line = raw[offset : stop if stop >= 0 else offset]
        if stop < 0 or not line.isascii():
            break  # data that happen to start like a header line
        offset = stop + 1
        key, _, text = line[2:].decode("ascii").strip().partition(" ")
        if key == "end":
            break
        header[key] = text
    return header, offset


def _options(header: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Of "EVT3;height=720;width=1280": the name and the options."""
    name, *options = header.get("format", "").split(";")
    return name, dict(part.split("=", 1) for part in options if "=" in part)


def _version(path: Path, header: Mapping[str, str]) -> int:
    stated = {header.get("evt", "").strip(), _options(header)[0].removeprefix("EVT")} - {""}
    if {text.removesuffix(".0") for text in stated} in ({"2"}, {"3"}):
        return int(next(iter(stated))[0])
    hint = "" if stated else "pass version=2 or 3 for files without a header"
    raise DataError(path, "header", f"versions {sorted(stated)}", "% evt 2.0 or % evt 3.0", hint)


def _geometry(path: Path, header: Mapping[str, str]) -> tuple[int, int]:
    width, _, height = header.get("geometry", "").partition("x")
    options = _options(header)[1]
    for texts in ((height, width), (options.get("height", ""), options.get("width", ""))):
        if all(text.isascii() and text.isdecimal() and len(text) < 6 for text in texts):
            return int(texts[0]), int(texts[1])
    for text in header.values():
        for word, size in _SENSORS.items():
            if word in text.lower():
                return size
    raise DataError(path, "header", "no sensor geometry", "% geometry WxH", "pass sensor_size")
