"""Bring-your-own raster pairs: round trips and every error by its message."""

import pickle

import numpy as np
import pytest
from PIL import Image

from posejax.data.errors import DataError
from posejax.data.raster_folder import read_index, read_raster, validate_folder, write_folder


@pytest.fixture
def folder(tmp_path, rng):
    ones = np.ones((8, 8), bool)
    samples = [
        (f"s{i}", rng.random((8, 8, 2)), ones, rng.random((12, 12, 1)), np.ones((12, 12)), pose)
        for i, pose in enumerate(rng.normal(size=(4, 3)))
    ]
    write_folder(tmp_path, samples[:3], cell_size=0.2, split="train")
    write_folder(tmp_path, samples[3:], cell_size=0.2, split="val")
    return tmp_path


def _edit(folder, line, column, value):
    rows = [row.split(",") for row in (folder / "poses.csv").read_text().splitlines()]
    rows[line - 1][rows[0].index(column)] = value
    (folder / "poses.csv").write_text("\n".join(",".join(row) for row in rows) + "\n")


def test_round_trip_and_splits(folder):
    assert [len(read_index(folder, s).pairs) for s in ("train", "val", "")] == [3, 1, 4]
    pair = read_index(folder, "val").pairs[0]
    assert pair.id == "s3" and pair.cell_size == 0.2
    values, mask = read_raster(pair.online)
    assert values.shape == (8, 8, 2) and values.dtype == np.float32 and mask.all()
    assert validate_folder(folder) == []


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("x", "nan", r"poses.csv: line 3 \(id 's1'\): x: nan; expected a finite number"),
        ("yaw", "left", r"line 3 \(id 's1'\): yaw: 'left'; expected a number"),
        ("cell_size", "-1", r"cell_size: -1; expected metres > 0"),
        ("cell_size", "0.3", r"column cell_size: \[0.2, 0.3\]; expected one cell size"),
        ("online", "gone.npz", r"online: no file 'gone.npz'"),
        ("geo", "", r"geo: empty; expected a file name"),
        ("geo", "../secret.npz", r"geo: '../secret.npz' leads out of the folder"),
        ("geo", "/etc/hostname", r"geo: '/etc/hostname' leads out of the folder"),
        ("geo", "a" * 5000, r"geo: 'aaa.*(no file|leads out)|no file 'aaa"),
        ("x", "1_0", r"x: '1_0'; expected a number"),
        ("id", "s0", r"line 3: id: 's0' twice; expected unique ids"),
        ("id", "", r"id: empty"),
    ],
)
def test_bad_rows_are_named(folder, column, value, message):
    _edit(folder, 3, column, value)
    with pytest.raises(DataError, match=message):
        read_index(folder)


def test_skipping_lists_what_was_skipped(folder):
    _edit(folder, 3, "x", "inf")
    index = read_index(folder, on_error="skip")
    assert [p.id for p in index.pairs] == ["s0", "s2", "s3"]
    assert [name for name, _ in index.skipped] == ["s1"] and "finite" in index.skipped[0][1]


def test_index_problems(tmp_path, folder):
    with pytest.raises(DataError, match="file: not found"):
        read_index(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no usable row of split 'test'"):
        read_index(folder, "test")
    text = (folder / "poses.csv").read_text()
    (folder / "poses.csv").write_text(text.replace("yaw", "heading", 1))
    with pytest.raises(DataError, match=r"column yaw: missing .the file has: id, online"):
        read_index(folder)


def test_links_do_not_lead_out_and_rows_of_another_length_are_skipped(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "a.npz"
    np.savez(outside, values=np.ones((4, 4)))
    (folder / "link.npz").symlink_to(outside)
    _edit(folder, 3, "geo", "link.npz")
    with pytest.raises(DataError, match=r"line 3 \(id 's1'\): geo: 'link.npz' leads out"):
        read_index(folder)
    text = (folder / "poses.csv").read_text()
    (folder / "poses.csv").write_text(text + "s9,a.npz\n")
    index = read_index(folder, on_error="skip")
    assert [name for name, _ in index.skipped] == ["s1", "s9"]
    assert "line 6: 2 words; expected 8" in index.skipped[1][1]


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".png"])
def test_damaged_rasters_are_data_errors(tmp_path, suffix):
    """np.load and Pillow raise a dozen classes, some of which `on_error skip` does not cover."""
    path = tmp_path / f"a{suffix}"
    values = np.arange(400, dtype=np.uint8).reshape(20, 20)
    if suffix == ".png":
        Image.fromarray(values).save(path)
    else:
        np.save(path, values) if suffix == ".npy" else np.savez_compressed(path, values=values)
    raw = path.read_bytes()
    for at in range(0, len(raw), 7):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 0x55]) + raw[at + 1 :])
        try:
            assert read_raster(path)[0].shape[2] == 1
        except DataError as error:
            assert error.file == str(path)
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.raises(DataError, match="file: unreadable"):
        read_raster(path)


def test_bad_rasters_are_named(tmp_path):
    def check(name, array, message):
        np.save(tmp_path / name, array)
        with pytest.raises(DataError, match=message):
            read_raster(tmp_path / name)

    check("i.npy", np.zeros((4, 4), np.int64), "dtype: int64; expected uint8 or float16")
    check("e.npy", np.zeros((0, 4)), r"shape: \(0, 4, 1\); expected")
    check("n.npy", np.full((4, 4), np.nan), "mask: no valid cell")
    check("f.npy", np.full((4, 4), np.inf), "values: non-finite in valid cells")
    np.savez(tmp_path / "m.npz", values=np.zeros((4, 4)), mask=np.zeros((4, 5)))
    with pytest.raises(DataError, match=r"mask: shape \(4, 5\) of float64; expected \(4, 4\)"):
        read_raster(tmp_path / "m.npz")
    np.savez(tmp_path / "v.npz", raster=np.zeros((4, 4)))
    with pytest.raises(DataError, match="array values: missing"):
        read_raster(tmp_path / "v.npz")
    np.save(tmp_path / "o.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DataError, match="unreadable"):  # never unpickled
        read_raster(tmp_path / "o.npy")
    (tmp_path / "t.tif").write_bytes(b"x")
    with pytest.raises(DataError, match=r"file type: .tif; expected .npy"):
        read_raster(tmp_path / "t.tif")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "d.png")
    with pytest.raises(DataError, match="colour mode: I;16"):
        read_raster(tmp_path / "d.png")


def test_pictures_carry_their_mask_in_alpha(tmp_path):
    pixels = np.full((5, 6, 4), 200, np.uint8)
    pixels[2, 3, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    values, mask = read_raster(tmp_path / "a.png")
    assert values.shape == (5, 6, 3) and values.dtype == np.uint8
    assert np.argwhere(~mask).tolist() == [[2, 3]] and not values[2, 3].any()
    data = np.ones((4, 4))
    data[1, 2] = np.nan
    np.save(tmp_path / "n.npy", data)
    values, mask = read_raster(tmp_path / "n.npy")
    assert np.argwhere(~mask).tolist() == [[1, 2]] and values[1, 2, 0] == 0


def test_validation_reads_the_rasters(folder):
    np.savez(folder / "rasters/s2_geo.npz", values=np.zeros((11, 12)))
    problems = dict(validate_folder(folder))
    assert list(problems) == ["s2"] and "differences that are even" in problems["s2"]


def test_errors_survive_pickling():
    error = DataError("a.csv", "column x", "nan", "finite", "drop the row")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == "a.csv: column x: nan; expected finite; drop the row" == str(error)
    assert isinstance(again, ValueError) and again.field == "column x"
