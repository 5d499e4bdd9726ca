"""examples/localise_raster.py on rasters of the test's own: finds the place, answers bad input."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[3]


def localise(*arguments):
    command = [sys.executable, ROOT / "examples" / "localise_raster.py", *arguments]
    return subprocess.run(
        [str(a) for a in command], capture_output=True, text=True, timeout=240, cwd=ROOT
    )


def test_a_raster_is_found_in_a_map_without_learning(tmp_path, rng):
    world = ndimage.gaussian_filter(rng.standard_normal((220, 220)), 2.0)
    world = ((world - world.min()) / np.ptp(world)).astype(np.float32)
    np.save(tmp_path / "map.npy", world[..., None])
    # 64 x 64 cells around the cell corner (122, 104): 12 and -6 cells from the map's centre.
    piece = world[104 - 32 : 104 + 32, 122 - 32 : 122 + 32]
    np.savez(tmp_path / "seen.npz", values=piece[..., None], mask=np.ones((64, 64), bool))
    picture = tmp_path / "where.png"
    done = localise(
        tmp_path / "seen.npz", tmp_path / "map.npy", "--learning-free", "--cell", "0.5",
        "--prior", "5", "-2", "4", "--out", picture,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    x, y, yaw = map(float, re.findall(r"-?\d+\.\d+", done.stdout.splitlines()[0]))
    assert abs(x - 6) < 0.25 and abs(y + 3) < 0.25 and abs(yaw) < 0.6
    assert picture.stat().st_size > 10_000


def test_bad_input_is_one_line(tmp_path):
    for arguments, words in (
        (("no.feather", tmp_path), "no.feather: file: not found"),
        (("no.npz", tmp_path, "--weights", "nothing"), "no such weights file or run folder"),
    ):
        done = localise(*arguments)
        assert done.returncode == 1 and words in done.stderr
        assert len(done.stderr.splitlines()) == 1
