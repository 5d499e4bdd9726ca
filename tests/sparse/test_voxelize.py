"""Points to voxels and back: the rule of rounding, means, overflow, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax import sparse
from posejax.sparse.groups import make_groups, mean_of_members
from posejax.sparse.voxelize import voxel_index

N, CAPACITY = 200, 192
VOXEL = 0.1
INDEX = jax.jit(voxel_index, static_argnums=2)


def voxelize(points, features, mask=None, **settings):
    settings = {"voxel_size": VOXEL, "capacity": CAPACITY, **settings}
    return sparse.voxelize(points, features, mask, **settings)


@pytest.fixture(scope="module")
def cloud():
    rng = np.random.default_rng(3)
    points = rng.uniform(-0.35, 0.35, (N, 3)).astype(np.float32)
    return points, rng.standard_normal((N, 4), np.float32)


def expected(points, features, batch, rounding="floor"):
    """{voxel: (mean, points)} in float64."""
    index = np.asarray(points, np.float64) / VOXEL + (0.5 if rounding == "round" else 0)
    keys = np.concatenate([batch[:, None], np.floor(index).astype(int)], 1)
    voxels, inverse = np.unique(keys, axis=0, return_inverse=True)
    members = [np.flatnonzero(inverse.reshape(-1) == i) for i in range(len(voxels))]
    means = np.stack([features[m].astype(np.float64).mean(0) for m in members])
    return voxels, means, inverse.reshape(-1), np.array([len(m) for m in members])


@pytest.mark.parametrize("rounding", ["floor", "round"])
def test_voxels_means_and_inverse(cloud, rounding):
    points, features = cloud
    batch = np.arange(N) % 2
    voxels, means, inverse, sizes = expected(points, features, batch, rounding)
    got = voxelize(points, features, batch=batch, rounding=rounding)
    n = len(voxels)
    assert int(got.level.count) == int(got.level.needed) == n and not got.overflow
    np.testing.assert_array_equal(got.level.coords[:n], voxels)
    np.testing.assert_allclose(got.features[:n], means, atol=1e-6)
    np.testing.assert_array_equal(got.points.group, inverse)
    np.testing.assert_array_equal(got.points.size[:n], sizes)
    assert not np.any(got.features[n:]) and not np.any(got.level.mask[n:])


def test_a_mean_of_float16_is_finite_where_the_sum_is_not():
    groups = make_groups(jnp.array([0, 1, 0, 0, 3], jnp.int32), 3)
    got = mean_of_members(jnp.array([[60000], [2], [50000], [40000], [1]], jnp.float16), groups)
    assert got.dtype == jnp.float16
    np.testing.assert_array_equal(got[:, 0], np.array([50000, 2, 0], np.float16))


def test_masked_and_non_finite_points_are_absent(cloud):
    points, features = (a.copy() for a in cloud)
    mask = np.arange(N) < 150
    points[3], points[4, 1], features[160:] = np.nan, np.inf, np.nan
    there = mask & np.isfinite(points).all(1)
    voxels, means, _, _ = expected(points[there], features[there], np.zeros(there.sum(), int))
    got = voxelize(points, features, mask)
    np.testing.assert_array_equal(got.level.coords[: len(voxels)], voxels)
    np.testing.assert_allclose(got.features[: len(voxels)], means, atol=1e-6)
    assert np.all(np.asarray(got.points.group)[~there] == CAPACITY)
    nothing = voxelize(points, features, np.zeros(N, bool))
    assert int(nothing.level.count) == 0 and not nothing.overflow and not nothing.features.any()


@pytest.mark.parametrize("size", [0.02, 0.05, 0.1, 0.3])
def test_a_point_falls_into_the_voxel_that_float64_chooses(size):
    """On the borders themselves, where a float32 quotient is wrong one time in ten."""
    rng = np.random.default_rng(0)
    edges = rng.integers(-30_000, 30_000, (N, 3)) * size
    near = edges.astype(np.float32)
    parts = np.float32(size), np.float32(size - np.float64(np.float32(size)))
    wrong = 0
    for points in (near, np.nextafter(near, np.float32(9e9)), np.nextafter(near, np.float32(-9e9))):
        want = np.floor(points.astype(np.float64) / size)
        np.testing.assert_array_equal(INDEX(points, parts, "floor"), want)
        wrong += np.sum(np.floor(points / np.float32(size)) != want)
    assert wrong > 20


def test_overflow_is_told_and_poisons(cloud):
    points, features = cloud
    few = voxelize(points, features, capacity=32)
    many = voxelize(points, features)
    assert few.overflow and int(few.level.needed) == int(many.level.needed) > 32
    assert int(few.level.count) == 32 and np.isnan(few.features).all()
    capacities = sparse.grow_capacities((32,), [few.level.needed])
    assert not voxelize(points, features, capacity=capacities[0]).overflow


@pytest.mark.parametrize("far", [(1e8, 0, 0), (300, 300, 300)])
def test_a_cloud_beyond_the_keys_is_an_overflow(cloud, far):
    points, features = (a.copy() for a in cloud)
    points[0] = far
    got = voxelize(points, features)
    assert got.overflow and np.isnan(got.features).all()
    points[0] = 300, 300, 0  # 3000 x 3000 x 7 voxels
    assert not voxelize(points, features).overflow


def test_gradients_are_means_spread_and_reads_summed(cloud):
    points, features = cloud
    weight = np.random.default_rng(5).standard_normal((CAPACITY, 4)).astype(np.float32)
    tensor = voxelize(points, features)

    def loss(features):
        return jnp.sum(voxelize(points, features).features * weight)

    gradient = jax.grad(loss)(features)
    size = np.asarray(tensor.points.size)[np.asarray(tensor.points.group)]
    want = weight[np.asarray(tensor.points.group)] / size[:, None]
    np.testing.assert_allclose(gradient, want, atol=1e-6)

    pulled = np.random.default_rng(6).standard_normal((N, 4)).astype(np.float32)
    back = jax.grad(lambda f: jnp.sum(sparse.devoxelize(f, tensor) * pulled))(tensor.features)
    want = np.zeros((CAPACITY, 4))
    np.add.at(want, np.asarray(tensor.points.group), pulled)
    np.testing.assert_allclose(back, want, atol=1e-5)
    np.testing.assert_array_equal(
        sparse.devoxelize(tensor.features, tensor), tensor.features[tensor.points.group]
    )


@pytest.mark.parametrize("rounding, half", [("floor", 0.5), ("round", 0.0)])
def test_trilinear_is_exact_on_ramps_and_shares_out_what_is_absent(rounding, half):
    grid = np.stack(np.meshgrid(*[np.arange(5)] * 3, indexing="ij"), -1).reshape(-1, 3)
    centres = ((grid + half) * VOXEL).astype(np.float32)
    settings = {"capacity": 128, "rounding": rounding}
    tensor = voxelize(centres, centres, **settings)
    rng = np.random.default_rng(0)
    points = rng.uniform(half * VOXEL, (4 + half) * VOXEL, (50, 3)).astype(np.float32)
    around = sparse.trilinear_weights(tensor, points)
    got = sparse.devoxelize_trilinear(tensor.features, around)
    np.testing.assert_allclose(got, points, atol=1e-6)
    np.testing.assert_allclose(around.weights.sum(0), 1, atol=1e-6)

    pulled = rng.standard_normal((50, 3)).astype(np.float32)
    run = lambda f: jnp.sum(sparse.devoxelize_trilinear(f, around) * pulled)  # noqa: E731
    want = np.zeros((128, 3))
    rows = np.asarray(around.corners.group).reshape(8, -1)
    for corner in range(8):
        there = rows[corner] < 128
        np.add.at(
            want, rows[corner][there], (np.asarray(around.weights)[corner, :, None] * pulled)[there]
        )
    np.testing.assert_allclose(jax.grad(run)(tensor.features), want, atol=1e-5)

    lone = voxelize(centres[:1], centres[:1], **settings)
    far = np.array([centres[0] + 0.6 * VOXEL, centres[0] + 3 * VOXEL], np.float32)
    got = sparse.devoxelize_trilinear(lone.features, sparse.trilinear_weights(lone, far))
    np.testing.assert_allclose(got, [centres[0], (0, 0, 0)], atol=1e-7)


@pytest.mark.parametrize(
    "points, features, settings, word",
    [
        (np.zeros((4, 2)), np.zeros((4, 1)), {}, "points are"),
        (np.zeros((4, 3)), np.zeros((5, 1)), {}, "points are"),
        (np.zeros((4, 3)), np.zeros((4, 1)), {"voxel_size": 0.0}, "positive"),
        (np.zeros((4, 3)), np.zeros((4, 1)), {"rounding": "ceil"}, "floor or round"),
    ],
)
def test_what_is_refused(points, features, settings, word):
    with pytest.raises(ValueError, match=word):
        voxelize(points, features, **settings)


def test_capacities_come_in_few_sizes():
    sizes = {sparse.bucket_capacity(n) for n in range(1, 70_000, 7)}
    assert len(sizes) <= 18 and all(sparse.bucket_capacity(s) == s for s in sizes)
    assert all(n <= sparse.bucket_capacity(n) <= max(1.5 * n + 1, 256) for n in range(1, 9000, 11))
    assert sparse.grow_capacities((512, 256), (400, 300)) == (512, 384)
    assert all(c <= 12288 for c in sparse.level_capacities(12288))
    with pytest.raises(ValueError, match="headroom"):
        sparse.bucket_capacity(5, headroom=0.5)
