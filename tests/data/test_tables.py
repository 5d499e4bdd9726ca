"""Text tables: columns of numbers, CSV with names, words; every error has its line.

Columns are tested further with the formats that use them (event_files/test_text_formats.py).
"""

import numpy as np
import pytest

from posejax.data.errors import DataError
from posejax.data.tables import finite_numbers, named_row, read_csv, read_table, read_words

COLUMNS = {"t": float, "n": int}


def test_columns_with_comments_and_a_header(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("# a comment\nt n\n0.5 1\n1e3   -2\n\n\n")
    table, first = read_table(path, COLUMNS, header=True)
    assert first == 3 and table["n"].dtype == np.int64
    assert table["t"].tolist() == [0.5, 1000] and table["n"].tolist() == [1, -2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1\n2\n", r"a\.txt: line 2: 1 words; expected 2: t n"),
        ("0 1\n2 x\n", r"line 2: n: 'x'; expected a whole number"),
        ("0 1\n2 1.5\n", r"line 2: n: '1.5'; expected a whole number"),
        ("0 1\n1_0 1\n", r"line 2: t: '1_0'; expected a number"),
        ("0 1\n0 99999999999999999999\n", "line 2: n: '9999"),
        (f"0 {'9' * 5000}\n", "line 1: n: '9999"),
        ("0 1\n\n1 2\n", "line 2: 0 words"),
        ("0 1\n\x00 2\n", "line 2: t"),
        ("# only a comment\n", "lines: no numbers; expected|lines: no numbers"),
    ],
)
def test_columns_that_are_none(tmp_path, text, message):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "a.txt", COLUMNS)


def test_csv_rows_come_with_their_lines(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes('\ufeffid, x,note\r\na,1,"two\nlines"\r\n\r\nb,2,\r\n'.encode())
    names, rows = read_csv(path, ["id", "x"])
    assert names == ["id", "x", "note"]
    assert rows == [(3, ["a", "1", "two\nlines"]), (5, ["b", "2", ""])]
    assert named_row(path, *rows[1][:1], names, rows[1][1]) == {"id": "b", "x": "2", "note": ""}
    with pytest.raises(DataError, match=r"a\.csv: line 5: 2 words; expected 3"):
        named_row(path, 5, names, ["b", "2"])


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", r"column id: missing \(the file has: \)"),
        (b"id,y\n", r"column x: missing \(the file has: id, y\); expected columns id,x"),
        (b"id,x,x\n", "column x: twice"),
        (b"id,x\n\xff,1\n", "file: no text .*utf-8"),
        (b"id,x\na,\x00\n", "character 7: NUL"),
        (b"id,x\n" + b"a" * 200_000 + b",1\n", "line 2: field larger than field limit"),
    ],
)
def test_csv_that_is_none(tmp_path, raw, message):
    (tmp_path / "a.csv").write_bytes(raw)
    with pytest.raises(DataError, match=message):
        read_csv(tmp_path / "a.csv", ["id", "x"])


def test_words_and_numbers(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"a b\r\n\n 1 2\x0c3\n")
    assert list(read_words(path, "words")) == [(1, ["a", "b"]), (3, ["1", "2", "3"])]
    assert finite_numbers(path, "line 3", ["1", "-2e3"]) == [1, -2000]
    for words, message in (
        (["1", "x"], "line 3: no number: 'x'; expected numbers"),
        (["1_0"], "line 3: no number: '1_0'"),
        (["\u0661"], "line 3: no number"),  # an Arabic digit, which float() takes
        (["nan"], "line 3: a non-finite number; expected finite numbers"),
    ):
        with pytest.raises(DataError, match=message):
            finite_numbers(path, "line 3", words)


def test_missing_tables_are_named(tmp_path):
    for read in (
        lambda path: read_table(path, COLUMNS),
        lambda path: read_csv(path, ["id"]),
        lambda path: list(read_words(path, "words")),
    ):
        for path in (tmp_path / "none.csv", tmp_path, "/dev/zero"):
            with pytest.raises(DataError, match=r"not found|not a regular file"):
                read(path)
