"""Sentences to CLIP's tokens: byte-pair encoding by the vocabulary file that OpenAI published.

The file (`bpe_simple_vocab_16e6.txt.gz`, in OpenAI's and open_clip's packages) lists merges of two
parts, the most frequent first, a line each after the first. Sennrich et al., Neural Machine
Translation of Rare Words with Subword Units, ACL 2016.
"""

import functools
import gzip
import html
import io
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from posejax.data.errors import DataError
from posejax.data.files import decoding, read_bytes

_MERGES = 49_152 - 256 - 2  # what the published towers use; the file has more
_LARGEST = 1 << 26  # bytes of the file, unpacked
_WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\s\w]|_)+")
_EXPECTED = "CLIP's vocabulary: merges of two parts, a line each"


class ClipTokenizer:
    """The vocabulary of a file: 256 bytes, as many at a word's end, the merges, start and end.

    Args:
      path: text, or gzip of it.

    Raises:
      DataError: missing or damaged file, a line that is no merge of parts known before it.
    """

    def __init__(self, path: str | Path):
        self.rank = {pair: k for k, pair in enumerate(_merges(Path(path)))}
        letters = list(_byte_letters().values())
        parts = [*letters, *(letter + "</w>" for letter in letters), *map("".join, self.rank)]
        self.number = {part: k for k, part in enumerate(parts)}
        for line, pair in enumerate(self.rank, 2):
            if not all(part in self.number for part in pair):
                raise DataError(path, f"line {line}", " ".join(pair)[:60], _EXPECTED)
        self.start, self.end = len(parts), len(parts) + 1

    def encode(self, text: str) -> list[int]:
        """Numbers of a sentence's parts, without start and end; capitals do not count."""
        text = " ".join(html.unescape(html.unescape(text)).split()).lower()
        letters, found = _byte_letters(), []
        for word in _WORDS.findall(text):
            spelt = "".join(letters[byte] for byte in word.encode("utf-8"))
            found += [self.number[part] for part in self._joined(spelt)]
        return found

    def __call__(self, texts: Sequence[str], length: int = 77) -> np.ndarray:
        """[B, length] int32: start, the sentence, end, zeros.

        What is too long is cut before its end.
        """
        rows = np.zeros((len(texts), length), np.int32)
        for row, text in zip(rows, texts, strict=True):
            numbers = [self.start, *self.encode(text)[: length - 2], self.end]
            row[: len(numbers)] = numbers
        return rows

    def _joined(self, word: str) -> list[str]:
        """A word's letters, joined by the merge that comes first in the file, again and again."""
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            pairs = list(itertools.pairwise(parts))
            best = min(pairs, key=lambda pair: self.rank.get(pair, len(self.rank)))
            if best not in self.rank:
                break
            joined, k = [], 0
            while k < len(parts):
                both = tuple(parts[k : k + 2]) == best
                joined.append("".join(best) if both else parts[k])
                k += 2 if both else 1
            parts = joined
        return parts


def _merges(path: Path) -> list[tuple[str, str]]:
    raw = read_bytes(path, _EXPECTED, _LARGEST)
    with decoding(path, "file", _EXPECTED):
        if raw[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
                raw = file.read(_LARGEST)
        lines = raw.decode("utf-8").split("\n")[1 : _MERGES + 1]
    found = []
    for number, line in enumerate(lines, 2):
        if not line and number == len(lines) + 1:  # the file's end
            break
        words = tuple(line.split())
        if len(words) != 2:
            raise DataError(path, f"line {number}", repr(line[:60]), _EXPECTED)
        found.append((words[0], words[1]))
    if not found or len(set(found)) < len(found):
        raise DataError(path, "merges", f"{len(set(found))} in {len(found)} lines", _EXPECTED)
    return found


@functools.cache
def _byte_letters() -> dict[int, str]:
    """Every byte as a letter that can be seen: those of Latin-1 that can, then others from 256."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in shown]
    return {byte: chr(byte) for byte in shown} | {b: chr(256 + k) for k, b in enumerate(rest)}
