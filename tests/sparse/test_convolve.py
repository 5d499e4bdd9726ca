"""Kernel maps against brute force; convolutions and gradients against dense ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax import sparse
from posejax.sparse.convolve import _convolve_pairs, _kernel_gradient_pairs
from tests.sparse.clouds import CAPACITY, COARSE, coords, pairs

EDGE, SHIFT = 16, 4  # of the dense grid, and where its first voxel is, in voxels


@functools.cache
def level(seed: int = 0):
    found = coords(seed)
    return sparse.unique_voxels(found, np.ones(len(found), bool), capacity=CAPACITY)


@functools.cache
def setting(kind: str, seed: int = 0):
    """Level of the input, level of the output, map, dense convolution of [B, X, Y, Z, C]."""
    fine = level(seed)
    coarse = sparse.coarser(fine, capacity=COARSE)
    match kind:
        case "3":
            return fine, fine, sparse.kernel_map(fine)
        case "5":
            return fine, fine, sparse.kernel_map(fine, size=5, pairs=False)
        case "down":
            return fine, coarse, sparse.kernel_map(fine, coarse, size=2)
    return coarse, fine, sparse.kernel_map(fine, coarse, size=2).transposed


def cells(level, edge):
    """Where voxels lie in a dense grid [2, edge, edge, edge] that begins at -SHIFT."""
    c = np.asarray(level.coords)[: int(level.count)]
    shift = SHIFT * edge // EDGE
    return tuple((c + np.array([0, shift, shift, shift])).T)


def dense(kind, source, target, features, kernel):
    """The convolution on a full grid, differentiable by autodiff."""
    size = round(len(kernel) ** (1 / 3))
    edges = {"down": (EDGE, EDGE // 2), "up": (EDGE // 2, EDGE)}.get(kind, (EDGE, EDGE))
    grid = jnp.zeros((2, *[edges[0]] * 3, features.shape[1]))
    grid = grid.at[cells(source, edges[0])].set(features[: int(source.count)])
    window = kernel.reshape(size, size, size, *kernel.shape[1:]).transpose(2, 1, 0, 3, 4)
    common = {"dimension_numbers": ("NXYZC", "XYZIO", "NXYZC")}
    if kind == "up":
        # Each coarse cell writes its eight children.
        out = jnp.einsum("nxyzi,abcio->nxaybzco", grid, window, precision="highest")
        out = out.reshape(2, *[EDGE] * 3, -1)
    else:
        stride, padding = ((2,) * 3, "VALID") if kind == "down" else ((1,) * 3, "SAME")
        out = jax.lax.conv_general_dilated(
            grid, window, stride, padding, precision="highest", **common
        )
    out = out[cells(target, edges[1])]
    spare = target.capacity - int(target.count)
    return jnp.pad(out, ((0, spare), (0, 0)))


KINDS = ["3", "5", "down", "up"]


def arrays(kind, seed=0, channels=(3, 5)):
    source, target, maps = setting(kind)
    rng = np.random.default_rng(seed)
    shape = maps.neighbours.shape[0], *channels
    return (
        jnp.asarray(rng.standard_normal((source.capacity, channels[0])), jnp.float32),
        jnp.asarray(rng.standard_normal(shape), jnp.float32),
        jnp.asarray(rng.standard_normal((target.capacity, channels[1])), jnp.float32),
    )


@jax.jit
def pulled(features, kernel, maps, cotangent):
    value, back = jax.vjp(lambda f, k: sparse.sparse_conv(f, k, maps), features, kernel)
    return value, *back(cotangent)


@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_those_of_brute_force(kind):
    source, target, maps = setting(kind)
    a, b = (np.asarray(v.coords)[: int(v.count)] for v in (source, target))
    size = {"3": 3, "5": 5}.get(kind, 2)
    if kind == "up":
        want = {k: [(o, i) for i, o in v] for k, v in pairs(a, b, size, 2).items()}
    else:
        want = pairs(b, a, size, 2 if kind == "down" else 1)
    neighbours, reverse = np.asarray(maps.neighbours), np.asarray(maps.reverse)
    for k, expected in want.items():
        found = [(o, i) for o, i in enumerate(neighbours[k]) if i < source.capacity]
        assert found == sorted(expected)
        assert sorted((o, i) for i, o in enumerate(reverse[k]) if o < target.capacity) == found
        if maps.pairs is not None:
            n = len(found)
            listed = np.stack([maps.pairs.outputs[k], maps.pairs.inputs[k]], 1)[:n]
            assert [tuple(p) for p in listed] == found
            assert np.all(np.asarray(maps.pairs.inputs[k])[n:] >= source.capacity)
    assert maps.counts.sum() == sum(len(v) for v in want.values())


@pytest.mark.parametrize("kind", KINDS)
def test_convolution_and_gradients_are_those_of_a_dense_one(kind):
    source, target, maps = setting(kind)
    features, kernel, cotangent = arrays(kind)
    cotangent = cotangent * target.mask[:, None]
    value, back = jax.vjp(lambda f, k: dense(kind, source, target, f, k), features, kernel)
    got = pulled(features, kernel, maps, cotangent)
    for mine, theirs in zip(got, (value, *back(cotangent)), strict=True):
        scale = float(np.abs(theirs).max())
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize("kind", ["3", "5"])
def test_rows_without_voxel_are_never_read(kind):
    source, target, maps = setting(kind)
    features, kernel, cotangent = arrays(kind)
    clean = pulled(features, kernel, maps, cotangent)
    dirty = jnp.where(source.mask[:, None], features, jnp.nan)
    spoilt = jnp.where(target.mask[:, None], cotangent, jnp.nan)
    for a, b in zip(clean, pulled(dirty, kernel, maps, spoilt), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.any(clean[0][int(target.count) :])


def test_whole_lists_at_a_time_give_the_same():
    """What accelerators do."""
    source, _, maps = setting("3")
    features, kernel, cotangent = arrays("3")
    value, _, slope = pulled(features, kernel, maps, cotangent)
    size = source.capacity
    np.testing.assert_allclose(
        jax.jit(functools.partial(_convolve_pairs, block=size, turned=False))(
            features, kernel, maps
        ),
        value,
        atol=1e-5,
    )
    run = jax.jit(functools.partial(_kernel_gradient_pairs, block=size))
    np.testing.assert_allclose(run(features, cotangent, maps), slope, atol=1e-4)


def test_layers_one_after_the_other_share_their_memory():
    """New pages from the system cost as much as products."""
    *_, maps = setting("3")

    def temporary(layers):
        def run(x, *kernels):
            for kernel in kernels:
                x = sparse.sparse_conv(x, kernel, maps)
            return x

        shapes = jnp.zeros((CAPACITY, 64)), *[jnp.zeros((27, 64, 64))] * layers
        return jax.jit(run).lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    assert temporary(5) - temporary(2) < 3 * CAPACITY * 64 * 4  # not an output more for each


def scatters(lowered) -> bool:
    """Whether a program scatters; on a CPU the compiler writes a loop for it, and its name."""
    return "scatter" in lowered.as_text() or "scatter" in lowered.compile().as_text()


@pytest.mark.parametrize("kind", KINDS)
def test_no_scatter_and_the_same_bits(kind):
    *_, maps = setting(kind)
    features, kernel, cotangent = arrays(kind)
    lowered = pulled.lower(features, kernel, maps, cotangent)
    assert not scatters(lowered)
    first, second = (pulled(features, kernel, maps, cotangent) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_scatter_would_be_seen():
    gradient = jax.jit(jax.grad(lambda x, rows: (x[rows] ** 2).sum()))
    assert scatters(gradient.lower(jnp.ones(8), jnp.arange(4)))


def test_several_clouds_at_once_are_each_alone():
    maps = [sparse.kernel_map(level(seed)) for seed in (0, 1)]
    features, kernel, cotangent = arrays("3")
    both = jnp.stack([features, 2 - features])
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *maps)
    run = jax.vmap(pulled, in_axes=(0, None, 0, None))
    got = run(both, kernel, stacked, cotangent)
    for i in range(2):
        for a, b in zip(got, pulled(both[i], kernel, maps[i], cotangent), strict=True):
            np.testing.assert_allclose(a[i], b, atol=2e-5)


@pytest.mark.parametrize("reduction", ["max", "mean", "sum"])
def test_pooling(reduction):
    source, target, maps = setting("down")
    features, _, _ = arrays("down")
    found = sparse.sparse_pool(features, maps, reduction=reduction)
    inside = np.asarray(maps.neighbours) < source.capacity
    want = np.zeros((target.capacity, 3))
    for o in range(int(target.count)):
        rows = np.asarray(features)[np.asarray(maps.neighbours)[inside[:, o], o]]
        want[o] = getattr(np, reduction)(rows, axis=0)
    np.testing.assert_allclose(found, want, atol=1e-6)

    def loss(f):
        return jnp.sum(sparse.sparse_pool(f, maps, reduction=reduction) ** 2)

    gradient = jax.jit(jax.grad(loss))
    assert not scatters(gradient.lower(features))
    step = 1e-2 * np.random.default_rng(1).standard_normal(features.shape).astype(np.float32)
    change = loss(features + step) - loss(features - step)
    np.testing.assert_allclose(2 * jnp.sum(gradient(features) * step), change, rtol=2e-2)


def test_hierarchy_tells_what_it_needs():
    fine = level()
    maps = sparse.make_maps(fine, capacities=(COARSE, COARSE), stem=3)
    c = np.asarray(fine.coords)[: int(fine.count)]
    counts = [len(np.unique(c >> [0, s, s, s], axis=0)) for s in range(3)]
    assert maps.needed.tolist() == counts and not maps.overflow
    small = sparse.make_maps(fine, capacities=(8, COARSE), stem=3)
    assert small.overflow and int(small.needed[1]) == counts[1]
    grown = sparse.grow_capacities((CAPACITY, 8, COARSE), small.needed)
    assert grown[1] >= counts[1] and grown[::2] == (CAPACITY, COARSE)


def test_norms_see_voxels_alone():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((CAPACITY, 4)).astype(np.float32)
    mask = np.arange(CAPACITY) < 70
    spoilt = np.where(mask[:, None], x, np.nan)
    mean, variance, count = sparse.masked_moments(spoilt, mask)
    np.testing.assert_allclose(mean, x[:70].mean(0), atol=1e-6)
    np.testing.assert_allclose(variance, x[:70].var(0), atol=1e-6)
    assert count == 70
    scale, bias = rng.standard_normal((2, 4)).astype(np.float32)
    y = sparse.normalize_rows(spoilt, mask, mean, variance, scale, bias)
    want = (x[:70] - x[:70].mean(0)) / np.sqrt(x[:70].var(0) + 1e-5) * scale + bias
    np.testing.assert_allclose(y[:70], want, atol=1e-5)
    z = sparse.masked_layer_norm(spoilt, mask, scale, bias)
    rows = x[:70] - x[:70].mean(1, keepdims=True)
    want = rows / np.sqrt((rows**2).mean(1, keepdims=True) + 1e-5) * scale + bias
    np.testing.assert_allclose(z[:70], want, atol=1e-5)
    assert not y[70:].any() and not z[70:].any()
    empty = sparse.masked_moments(spoilt, np.zeros(CAPACITY, bool))
    assert not any(np.any(v) for v in empty)


def test_what_is_refused():
    features, kernel, _ = arrays("3")
    *_, maps = setting("3")
    with pytest.raises(ValueError, match="a kernel for 3 channels"):
        sparse.sparse_conv(features, kernel[:, :2], maps)
    with pytest.raises(ValueError, match="features are"):
        sparse.sparse_conv(features[:5], kernel, maps)
    for size, coarse in ((2, None), (7, None), (3, level())):
        with pytest.raises(ValueError, match="1, 3 or 5"):
            sparse.kernel_map(level(), coarse, size=size)
    with pytest.raises(ValueError, match="unknown reduction"):
        sparse.sparse_pool(features, maps, reduction="min")
