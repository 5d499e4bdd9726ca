"""Real clouds: the counts of the reference, and a stream of frames in few compilations."""

import numpy as np
import pytest

from posejax import sparse
from posejax.data.images import read_image
from tests.eager import compiled_programs

VOXEL = 0.02


def frame(folder, index):
    """Points [N, 3] of a 7-Scenes frame in the world, float64 metres."""
    name = folder / f"frame-{index:06d}"
    depth = read_image(f"{name}.depth.png", modes=("I;16",)).astype(np.float64) / 1000
    v, u = np.mgrid[: depth.shape[0], : depth.shape[1]]
    points = np.stack([(u - 320) / 585 * depth, (v - 240) / 585 * depth, depth], -1).reshape(-1, 3)
    pose = np.loadtxt(f"{name}.pose.txt")
    there = (depth.reshape(-1) > 0) & (depth.reshape(-1) < 10)
    return points[there] @ pose[:3, :3].T + pose[:3, 3]


def sampled(points):
    return points[np.random.default_rng(0).choice(len(points), 20_000, replace=False)]


def counts(points, capacity, capacities):
    """Voxels by level, 3^3 pairs at the finest."""
    tensor = sparse.voxelize(points, points, voxel_size=VOXEL, capacity=capacity)
    levels = [tensor.level]
    for size in capacities:
        levels.append(sparse.coarser(levels[-1], capacity=size))
    assert not any(bool(level.overflow) for level in levels)
    return [int(v.count) for v in levels], int(sparse.kernel_map(levels[0]).counts.sum())


@pytest.mark.real
def test_counts_of_a_sampled_frame(data_dir):
    points = sampled(frame(data_dir("sevenscenes_rgbd"), 0))
    found, pairs = counts(points, 12288, (6144,) * 4)
    assert found == [10379, 4347, 1384, 445, 145] and pairs == 85_705


@pytest.mark.real
@pytest.mark.slow
def test_counts_of_a_whole_frame_and_of_a_scanned_room(data_dir):
    points = frame(data_dir("sevenscenes_rgbd"), 0)
    found, pairs = counts(points, 24576, (8192,) * 4)
    assert found == [22360, 6158, 1695, 506, 157] and pairs == 312_236
    path = data_dir("scannet_scene0000") / "scene0000_00.bin"
    points = np.fromfile(path, np.float32).reshape(-1, 6)[:, :3]
    found, pairs = counts(points, 49152, (49152,) * 4)
    assert found == [40348, 36248, 21327, 6813, 1676] and pairs == 72_590


@pytest.mark.real
@pytest.mark.slow
def test_a_lidar_sweep_fits_the_keys(data_dir):
    points = np.load(data_dir("lidar_benchmark_pc") / "benchmark-pc.npz")["pc"]
    for size, voxels in ((0.05, 173_112), (0.1, 125_565)):
        tensor = sparse.voxelize(points, points, voxel_size=size, capacity=196_608)
        assert not tensor.overflow and int(tensor.level.count) == voxels


@pytest.mark.real
@pytest.mark.slow
def test_a_stream_of_frames_compiles_a_few_times(data_dir):
    """From a first guess that is too small; the capacities settle within the first frames."""
    folder = data_dir("sevenscenes_rgbd")
    capacities = (1024, *sparse.level_capacities(1024))
    seen, late = set(), 0
    for turn, index in enumerate([0, 50, 150, 300, 450, 600, 750, 900]):
        points = sampled(frame(folder, index)).astype(np.float32)
        with compiled_programs() as programs:
            while True:
                seen.add(capacities)
                tensor = sparse.voxelize(points, points, voxel_size=VOXEL, capacity=capacities[0])
                maps = sparse.make_maps(tensor.level, capacities=capacities[1:], stem=3)
                if not maps.overflow:
                    break
                grown = sparse.grow_capacities(capacities, maps.needed)
                assert grown != capacities
                capacities = grown
        late += bool(programs) and turn > 3
    assert len(seen) <= 5 and not late
