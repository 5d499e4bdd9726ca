"""Damage to files: bits, lengths, numbers and structure; a pure function of a random generator.

Half of the damage to files with checksums (archives, PNG) is done beneath them and the checksums
made right again, so that what lies behind them is met too.
"""

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable

import numpy as np

TEXT = (".csv", ".txt", ".json", ".clf", ".relations")
_EXTREME = [
    b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\xff" * 7 + b"\x7f",
    b"\n", b",", b" ", b"-", b"#", b'"', b"\r\n", b"\xef\xbb\xbf",
]  # fmt: skip
_NUMBERS = [
    b"nan", b"inf", b"-inf", b"1e999", b"-1e308", b"1e308", b"1e30", b"-1", b"0", b"", b"1_0",
    b"9" * 25, b"-" + b"9" * 25, b"9" * 5000, b"0x10", b"\xd9\xa1", b"1e-320", b"null", b"[]",
    b"{}", b'"1"', b"true", b"1.5", b"65536", b"4294967296", b"\xff", b"../x", b"/etc/hostname",
]  # fmt: skip
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_WORD = re.compile(rb"[A-Za-z_][A-Za-z_0-9./]*")


def mutate(raw: bytes, rng: np.random.Generator, suffix: str) -> bytes:
    """Damaged `raw` of a file with this suffix."""
    beneath: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
        ".npz": _in_archive,
        ".pth": _in_archive,
        ".png": _in_png,
        **dict.fromkeys(TEXT, _words),
    }
    if rng.random() < 0.02:  # noise behind the first bytes
        return raw[: int(rng.integers(17))] + rng.bytes(int(rng.integers(200)))
    if suffix in beneath and rng.random() < 0.5:
        return beneath[suffix](raw, rng)
    return _bytes(raw, rng)


def _bytes(raw: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(raw)
    for _ in range(int(rng.integers(1, 5))):
        # Headers are a small part of a file and most of its structure; so is the end of some.
        span = [1.0, 0.02, -0.02][int(rng.choice(3, p=[0.5, 0.35, 0.15]))]
        at = int(rng.random() * span * max(len(data) - 1, 0)) % max(len(data), 1)
        kind = int(rng.integers(7))
        random = rng.bytes(int(rng.integers(1, 9)))
        new = random if rng.random() < 0.5 else _EXTREME[int(rng.integers(len(_EXTREME)))]
        if kind == 0 and data:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[at : at + len(new)] = new
        elif kind == 2:
            data[at:at] = new
        elif kind == 3:
            del data[at : at + len(new)]
        elif kind == 4 and rng.random() < 0.3:
            del data[at:]
        elif kind == 5:  # a part again elsewhere
            start, count = int(rng.integers(len(data) + 1)), int(rng.integers(1, 64))
            data[at:at] = data[start : start + count]
        else:  # a length or an offset
            width = int(rng.choice([1, 2, 4, 8]))
            value = int(rng.choice([0, 1, (1 << (8 * width - 1)) - 1, (1 << 8 * width - 1)]))
            at -= at % width
            data[at : at + width] = value.to_bytes(width, "little")
    return bytes(data)


def _words(raw: bytes, rng: np.random.Generator) -> bytes:
    """Numbers and words of a text replaced, lines gone or doubled."""
    for _ in range(int(rng.integers(1, 4))):
        kind = rng.random()
        if kind < 0.7:
            pattern = _NUMBER if kind < 0.5 else _WORD
            places = [match.span() for match in pattern.finditer(raw)]
            if places:
                start, stop = places[int(rng.integers(len(places)))]
                new = _NUMBERS[int(rng.integers(len(_NUMBERS)))]
                raw = raw[:start] + new + raw[stop:]
        else:
            lines = raw.split(b"\n")
            at = int(rng.integers(len(lines)))
            raw = b"\n".join(
                lines[:at] + (lines[at : at + 1] * 2 if kind > 0.85 else []) + lines[at + 1 :]
            )
    return raw


def _in_archive(raw: bytes, rng: np.random.Generator) -> bytes:
    """One member damaged, and the archive written anew around it."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    names = list(members)
    name = names[int(rng.integers(len(names)))]
    if rng.random() < 0.5:  # the header alone: shape, dtype, order
        cut = members[name].find(b"\n") + 1
        members[name] = _words(members[name][:cut], rng) + members[name][cut:]
    else:
        members[name] = _bytes(members[name], rng)
    method = zipfile.ZIP_DEFLATED if rng.random() < 0.5 else zipfile.ZIP_STORED
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method, compresslevel=1) as archive:
        for key, value in members.items():
            archive.writestr(key, value)
    return out.getvalue()


def _in_png(raw: bytes, rng: np.random.Generator) -> bytes:
    """One chunk damaged, with the checksum of what it became."""
    chunks, at = [], 8
    while at + 12 <= len(raw):
        (size,) = struct.unpack(">I", raw[at : at + 4])
        chunks.append((raw[at + 4 : at + 8], raw[at + 8 : at + 8 + size]))
        at += 12 + size
    which = int(rng.integers(len(chunks)))
    name, body = chunks[which]
    chunks[which] = name, _bytes(body, rng)
    out = bytearray(raw[:8])
    for name, body in chunks:
        out += struct.pack(">I", len(body)) + name + body
        out += struct.pack(">I", zlib.crc32(name + body))
    return bytes(out)
