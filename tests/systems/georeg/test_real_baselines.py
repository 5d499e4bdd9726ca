"""Registration without learning on the real sets, through the library's own volume."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.data import kitti
from posejax.data.rasters import rasterize_points
from posejax.registration import argmax_pose, gaussian_peak, pose_volume, softmax_expectation
from posejax.systems.georeg import baselines
from posejax.systems.georeg.model import score_volume

pytestmark = pytest.mark.real


def _register(system, split, indices, reading):
    """Errors [n, 3] of one reading of the system's volume against the drawn poses."""
    source = system.data.source(split)

    @jax.jit
    def estimate(batch):
        features = system.net.apply({}, *batch, False)
        volume = score_volume(features, system.model, system.angles, system.radius)[0]
        reader = softmax_expectation if reading == "softmax" else gaussian_peak
        return reader(volume, system.angles, system.cell_size).pose

    errors = []
    for index in indices(len(source)):
        example = system.data.transform(source[int(index)], np.random.default_rng(0), False)
        rasters = [example[k][None] for k in ("online", "online_mask", "geo", "geo_mask")]
        errors.append(np.asarray(estimate(rasters), np.float64) - example["pose"])
    return np.array(errors)


def _summary(errors):
    return np.hypot(errors[:, 0], errors[:, 1]), np.abs(np.rad2deg(errors[:, 2]))


@pytest.mark.parametrize("count", [40, pytest.param(300, marks=pytest.mark.slow)])
def test_radish_relations_without_learning(data_dir, count):
    errors = _register(
        baselines.radish(str(data_dir("radish_aces"))),
        "all",
        lambda n: np.random.default_rng(1).choice(n, count, replace=False),
        "gaussian",
    )
    xy, yaw = _summary(errors)
    recall = np.mean((xy < 0.2) & (yaw < 2))
    print(f"recall {recall:.3f} median {np.median(xy):.3f} m p90 {np.percentile(xy, 90):.2f} m")
    assert recall >= 0.85
    assert np.median(xy) <= 0.065


@pytest.mark.parametrize("count", [6, pytest.param(25, marks=pytest.mark.slow)])
def test_av2_sweep_against_hd_map(data_dir, tmp_path, count):
    log = data_dir("av2_adcf7d18")
    (tmp_path / "adcf7d18").symlink_to(log, target_is_directory=True)
    errors = _register(
        baselines.av2(str(tmp_path)), "val", lambda n: np.arange(n)[:count], "softmax"
    )
    xy, yaw = _summary(errors)
    good = np.sum((xy < 0.4) & (yaw < 0.4))
    print(
        f"{good} of {count}; xy median {np.median(xy):.2f} max {xy.max():.2f}, yaw {yaw.max():.2f}"
    )
    assert good >= count - 1


@pytest.mark.parametrize("cell_size", [0.1, 0.2, 0.4])
def test_kitti_structure_registers_to_the_cell(data_dir, cell_size):
    folder = data_dir("kitti_pair_94")
    truth = kitti.planar_motion(*kitti.read_poses(folder / "poses_cam0.txt"))
    assert np.rad2deg(truth[2]) == pytest.approx(-1.236, abs=2e-3)
    size = int(25.6 / cell_size)
    rasters = []
    for name in ("000095.bin", "000094.bin"):  # online = 95, geo = 94
        xyz, _ = kitti.read_velodyne(folder / name)
        raster, _ = rasterize_points(
            xyz, shape=(size, size), cell_size=cell_size, channels=("occupancy",), raised=(0.5, 3.7)
        )
        rasters.append(jnp.asarray(raster))
    angles = jnp.deg2rad(jnp.arange(-3.0, 3.01, 0.25))
    volume = jax.jit(pose_volume, static_argnames="radius")(
        rasters[0], rasters[1], angles, radius=int(2 / cell_size)
    )
    found = np.asarray(argmax_pose(volume, angles, cell_size))
    assert np.round(found[:2] / cell_size).tolist() == np.round(truth[:2] / cell_size).tolist()
    # To the cell in yaw as well: less than one cell of movement at the raster's border.
    assert abs(found[2] - truth[2]) < cell_size / (size * cell_size / 2)
