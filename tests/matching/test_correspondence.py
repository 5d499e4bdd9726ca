"""Expected correspondence: every search against NumPy, gradients, blocks, degenerate candidates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from posejax.matching import Band, Epipolar, Full, Rows, Window, expected_correspondence
from tests.matching import reference

A, B = (6, 9), (6, 8)
F = np.array([[0.1, -0.4, 2.0], [0.5, 0.05, -3.0], [-1.5, 3.2, 0.3]])


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(3)
    return tuple(rng.standard_normal((*s, 8)).astype(np.float32) * 1.5 for s in (A, B))


@pytest.fixture(scope="module")
def flow():
    return np.random.default_rng(5).uniform(-4, 4, (*A, 2)).astype(np.float32)


def searches(flow):
    return {
        "full": (Full(), None),
        "rows": (Rows(), reference.near_rows(A, B, 0)),
        "disparity": (Rows((1, 3)), reference.near_rows(A, B, 0, (-3, -1))),
        "band": (Band(1), reference.near_rows(A, B, 1)),
        "band+columns": (Band(2, (-2, 1)), reference.near_rows(A, B, 2, (-2, 1))),
        "epipolar": (Epipolar(F, 0.8), reference.near_lines(A, B, F, 0.8)),
        "window": (Window(flow, 2), reference.near_guess(A, B, flow, 2)),
    }


NAMES = ["full", "rows", "disparity", "band", "band+columns", "epipolar", "window"]
# 54 queries: blocks of 16 leave the last one partly empty.
correspond = functools.partial(expected_correspondence, block=16)


@pytest.mark.parametrize("refine", [None, 1])
@pytest.mark.parametrize("name", NAMES)
def test_every_search_is_a_masked_softmax(features, flow, name, refine):
    search, counts = searches(flow)[name]
    coords, log_partition = correspond(*features, search=search, refine=refine, temperature=0.9)
    want, want_log = reference.correspondence(*features, counts, 0.9, refine)
    known = np.isfinite(want_log)
    assert known.any() and (name != "disparity" or not known.all())
    np.testing.assert_allclose(coords[known], want[known], atol=1e-5)
    np.testing.assert_allclose(log_partition, want_log, atol=1e-5)
    coords = np.asarray(coords)
    assert np.isfinite(coords).all() and (coords >= 0).all() and (coords <= (8, 6)).all()


QUICK = [("full", None), ("full", 1), ("band+columns", 1), ("epipolar", 1), ("window", None)]
ALL = [(name, refine) for name in NAMES for refine in (None, 1)]


@pytest.mark.parametrize(
    "name, refine",
    [pytest.param(*c, marks=() if c in QUICK else pytest.mark.slow) for c in ALL],
)
def test_gradients_equal_those_of_the_materialised_form(features, flow, name, refine):
    search, counts = searches(flow)[name]
    counts = jnp.ones((54, 48), bool) if counts is None else jnp.asarray(counts)
    some = counts.any(1).reshape(A)
    weight = np.random.default_rng(7).standard_normal((*A, 3)).astype(np.float32)

    def ours(a, b, t):
        coords, log_partition = correspond(a, b, search=search, refine=refine, temperature=t)
        values = jnp.concatenate([coords, log_partition[..., None]], axis=-1)
        return jnp.sum(jnp.where(some[..., None], values * weight, 0))

    def materialised(a, b, t):
        scores = a.reshape(-1, 8) @ b.reshape(-1, 8).T / t
        scores = jnp.where(counts | ~counts.any(1, keepdims=True), scores, -jnp.inf)
        xy = jnp.asarray(reference.centers(B), jnp.float32)
        log_partition = jax.nn.logsumexp(scores, axis=1)
        if refine is not None:
            away = jnp.abs(xy[None] - xy[jnp.argmax(scores, 1)][:, None]).max(-1)
            scores = jnp.where(away <= refine, scores, -jnp.inf)
        values = jnp.concatenate([jax.nn.softmax(scores, 1) @ xy, log_partition[:, None]], 1)
        return jnp.sum(jnp.where(some[..., None], values.reshape(*A, 3) * weight, 0))

    got = jax.jit(jax.grad(ours, (0, 1, 2)))(*features, 0.9)
    want = jax.jit(jax.grad(materialised, (0, 1, 2)))(*features, 0.9)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, atol=1e-5 * max(1, np.abs(w).max()))


def test_reverse_comes_from_the_same_pass_with_its_gradient(features):
    a, b = features
    weight = np.random.default_rng(7).standard_normal((*B, 3)).astype(np.float32)

    def loss(values):
        return jnp.sum(values.coords * weight[..., :2]) + jnp.sum(
            values.log_partition * weight[..., 2]
        )

    forward, backward = correspond(a, b, reverse=True)
    np.testing.assert_allclose(forward.coords, correspond(a, b).coords, atol=1e-6)
    want = reference.correspondence(b, a)
    np.testing.assert_allclose(backward.coords, want[0], atol=1e-5)
    np.testing.assert_allclose(backward.log_partition, want[1], atol=1e-5)
    got = jax.grad(lambda a, b: loss(correspond(a, b, reverse=True)[1]), (0, 1))(a, b)
    want = jax.grad(lambda a, b: loss(correspond(b, a)), (0, 1))(a, b)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, atol=1e-5 * np.abs(w).max())


@pytest.mark.parametrize("name", ["disparity", "band+columns", "epipolar"])
def test_reverse_of_a_restricted_search_has_the_same_pairs(features, flow, name):
    search, counts = searches(flow)[name]
    if name == "epipolar":  # the width is measured in the other image
        counts = reference.near_lines(B, A, F.T, 0.8).T
    _, backward = correspond(*features, search=search, reverse=True, refine=1)
    want, want_log = reference.correspondence(*features[::-1], counts.T, None, 1)
    known = np.isfinite(want_log)
    np.testing.assert_allclose(backward.coords[known], want[known], atol=1e-5)
    np.testing.assert_allclose(backward.log_partition, want_log, atol=1e-5)


def test_finite_differences(features):
    a, b = (x.astype(np.float64) for x in features)
    direction = np.random.default_rng(9).standard_normal(a.shape)

    def loss(a):
        coords, log_partition = reference.correspondence(a, b)
        return np.sin(coords).sum() + log_partition.sum()

    def ours(a):
        coords, log_partition = correspond(a, b.astype(np.float32))
        return jnp.sin(coords).sum() + log_partition.sum()

    h = 1e-5
    slope = (loss(a + h * direction) - loss(a - h * direction)) / (2 * h)
    got = np.sum(jax.grad(ours)(features[0]) * direction)
    np.testing.assert_allclose(got, slope, rtol=1e-4)


def test_huge_and_equal_scores_stay_finite(features):
    a, b = features
    for scale in (0.0, 1e4):

        def loss(a, b):
            values = jax.tree.leaves(correspond(a, b, reverse=True))
            return sum(jnp.sum(v) for v in values)

        value, gradient = jax.value_and_grad(loss, (0, 1))(scale * a, scale * b)
        assert np.isfinite(value) and all(np.isfinite(g).all() for g in gradient)
    flat = correspond(0 * a, b)
    np.testing.assert_allclose(flat.coords, np.broadcast_to([4, 3], (*A, 2)), atol=1e-6)


def test_no_candidate_has_no_gradient(features):
    nowhere = Epipolar(np.array([[0, 0, 0], [0, 0, 1], [0, -1, -100.0]]), 0.5)  # rows 100 below

    def loss(a, b, search):
        return jnp.sum(correspond(a, b, search=search).coords ** 2)

    for search in (nowhere, Rows((50, 60)), Window(np.full((*A, 2), np.nan, np.float32), 1)):
        assert np.isneginf(correspond(*features, search=search).log_partition).all()
        for g in jax.grad(loss, (0, 1))(*features, search):
            assert not np.asarray(g).any()


def test_refine_removes_the_pull_of_far_mass():
    """A clear best match in a corner among many weak ones: the mean is pulled to the middle."""
    rng = np.random.default_rng(0)
    b = rng.standard_normal((20, 24, 16)).astype(np.float32)
    a = b[:1, :1]
    plain = correspond(a, b, temperature=4.0).coords[0, 0]
    refined = correspond(a, b, temperature=4.0, refine=1).coords[0, 0]
    assert np.linalg.norm(plain - 0.5) > 3 > 1 > np.linalg.norm(refined - 0.5)


def test_batches_and_blocks_change_nothing(features, flow):
    a, b = (np.stack([x, 0.5 * x[::-1]]) for x in features)
    flows = np.stack([flow, -flow])
    whole = jax.vmap(lambda a, b: expected_correspondence(a, b, block=1000))(a, b)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5),
        whole,
        jax.vmap(lambda a, b: correspond(a, b))(a, b),
    )
    for i in range(2):
        np.testing.assert_allclose(whole.coords[i], correspond(a[i], b[i]).coords, atol=1e-5)
        one = correspond(a[i], b[i], search=Window(flows[i], 1))
        many = jax.vmap(lambda a, b, f: correspond(a, b, search=Window(f, 1)))(a, b, flows)
        np.testing.assert_allclose(many.coords[i], one.coords, atol=1e-5)


def test_bfloat16_features_are_summed_in_float32(features):
    half = [jnp.asarray(x, jnp.bfloat16) for x in features]
    got = correspond(*half, temperature=1.0)
    assert got.coords.dtype == got.log_partition.dtype == jnp.float32
    want = reference.correspondence(*(np.asarray(x, np.float32) for x in half), None, 1.0)
    np.testing.assert_allclose(got.coords, want[0], atol=1e-4)


def test_memory_grows_with_the_cells_not_with_their_square():
    def loss(a, b):
        return jnp.sum(expected_correspondence(a, b, block=32).coords ** 2)

    def temporary(height):
        x = jax.ShapeDtypeStruct((height, 32, 8), jnp.float32)
        program = jax.jit(jax.grad(loss, (0, 1))).lower(x, x).compile()
        return program.memory_analysis().temp_size_in_bytes

    small, large = temporary(16), temporary(64)
    assert large < 5 * small
    assert large < 0.2 * 4 * (64 * 32) ** 2  # of one volume of scores


@pytest.mark.parametrize("shape, blocks", [((60, 80), 15), ((96, 128), 96), ((7, 9), 1)])
def test_blocks_are_as_large_as_caches_hold_and_full(shape, blocks):
    """Blocks of a fixed 128 queries were 38 at 60 x 80, the last one half empty."""
    x = jax.ShapeDtypeStruct((*shape, 8), jnp.float32)
    assert f"length={blocks}\n" in str(jax.make_jaxpr(expected_correspondence)(x, x))


def test_a_full_search_is_exported_once_for_maps_of_any_size(features):
    height, width = export.symbolic_shape("height, width")
    a, b = (jax.ShapeDtypeStruct((height, width + k, 8), jnp.float32) for k in (1, 0))
    program = export.export(jax.jit(expected_correspondence))(a, b)
    for cut in (slice(None), slice(1, 5)):
        given = [x[cut] for x in features]
        for got, want in zip(program.call(*given), expected_correspondence(*given), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize(
    "settings, word",
    [
        ({"mode": "fast"}, "official_fast"),
        ({"mode": "official_fast", "refine": 1}, "one way"),
        ({"mode": "official_fast"}, "multiples of 4"),
        ({"refine": -1}, "refine"),
        ({"search": Window(np.zeros((2, 2, 2)), 1)}, "flow is"),
        ({"search": Window(np.zeros((*A, 2)), 1), "reverse": True}, "no reverse"),
    ],
)
def test_wrong_settings_are_named(features, settings, word):
    with pytest.raises(ValueError, match=word):
        expected_correspondence(*features, **settings)


def test_wrong_shapes_are_named(features):
    a, b = features
    with pytest.raises(ValueError, match="vmap"):
        expected_correspondence(a[None], b[None])
    with pytest.raises(ValueError, match="channels"):
        expected_correspondence(a, b[..., :4])
    with pytest.raises(ValueError, match="equally many rows"):
        expected_correspondence(a, b[:3], search=Rows())
    with pytest.raises(ValueError, match="lowest, highest"):
        Rows((3, 1))
    with pytest.raises(ValueError, match="not negative"):
        Band(-1)


@pytest.mark.golden
@pytest.mark.parametrize("case", ["pe0", "pe1", "pe2_batch"])
def test_reference_numbers(golden, case):
    """The expectation of the original on given features, exact and fast (batch 1: right there)."""
    import json

    z = golden("tiny_roma.npz")
    meta = json.loads(str(z["meta"]))
    given = meta["cases"][case]
    a, b = (
        given["scale"]
        * np.random.default_rng(given["seed"] + i).standard_normal(
            (given["B"], 64, *given[size]), dtype=np.float32
        )
        for i, size in enumerate(("A", "Bimg"))
    )
    a, b = (np.moveaxis(x, 1, -1) for x in (a, b))
    size = np.array(given["Bimg"][::-1])
    for tap, mode in (("exact", "exact"), ("fast", "official_fast")):
        if f"{case}/{tap}" not in z:
            continue
        coords = jax.vmap(lambda a, b, mode=mode: expected_correspondence(a, b, mode=mode))(a, b)[0]
        got = np.moveaxis(2 * np.asarray(coords) / size - 1, -1, 1)
        err = meta["taps"][f"{case}/{tap}"]["err64"]
        np.testing.assert_allclose(got, z[f"{case}/{tap}"], atol=max(20 * err, 1e-6))


def test_static_fields_are_plain_numbers():
    """NumPy's equality with a tuple is an array, which jit's comparison of searches trips over."""
    assert type(Band(np.int64(1)).rows) is int and Band(np.int64(1)) == Band(1)
    assert type(Window(np.zeros((2, 2, 2)), np.int32(1)).radius) is int
    with pytest.raises(TypeError):
        Band(1.5)
