"""The network's forms over one set of parameters, and why a gather can lose everything."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.geometry import normalized_from_pixels, pixels_from_normalized
from posejax.image import resize
from posejax.nn.upsample import transposed_upsample
from posejax.systems.tinyroma.layers import InputNorm, look_up
from posejax.systems.tinyroma.model import TinyRoma, tiny_roma_table
from tests.systems.tinyroma.pairs import batch_of, centers

SIZE = (32, 64)


@functools.cache
def images():
    batch = batch_of(2, SIZE)
    return tuple(jnp.float32(batch[f"image_{side}"]) / 255 for side in "ab")


@functools.cache
def shapes(model: TinyRoma):
    x = jax.ShapeDtypeStruct((1, *SIZE, 3), jnp.float32)
    return jax.eval_shape(lambda key, x: model.init(key, x, x, False), jax.random.key(0), x)


@functools.cache
def variables():
    """Of the full model with norm "batch", which has all that any has."""
    rng = np.random.default_rng(0)

    def start(path, shape):
        if path[-1].key == "kernel":
            return np.sqrt(2 / np.prod(shape.shape[:-1])) * rng.normal(size=shape.shape)
        return np.ones(shape.shape) if path[-1].key == "var" else np.zeros(shape.shape)

    found = jax.tree_util.tree_map_with_path(start, shapes(TinyRoma(norm="batch")))
    return jax.tree.map(jnp.float32, found)


def of(model: TinyRoma):
    """Those of the shared variables that the model has."""

    def pick(shape, have):
        if isinstance(shape, dict):
            return {k: pick(v, have[k]) for k, v in shape.items()}
        assert shape.shape == have.shape
        return have

    return pick(shapes(model), variables())


@functools.cache
def program(**options):
    model = TinyRoma(**options)
    apply = jax.jit(lambda v, a, b: model.apply(v, a, b, False))
    return functools.partial(apply, of(model))


def run(**options):
    return program(**options)(*images())


def test_every_form_takes_the_same_parameters():
    """All but the widths: the trained weights run in any of them."""
    full = shapes(TinyRoma())["params"]
    assert sum(x.size for x in jax.tree.leaves(full)) == 2_842_490
    options = {"upsample": "transposed", "norm": "none", "sampling": "gather", "coarse_passes": 2}
    assert shapes(TinyRoma(symmetric=True, refine=1, **options))["params"] == full
    coarse = shapes(TinyRoma(fine=False))["params"]
    assert coarse == {k: v for k, v in full.items() if not k.startswith("fine")}
    assert len(tiny_roma_table(TinyRoma()).entries) == 112 - 26  # counters
    wide = jax.tree.leaves(shapes(TinyRoma(width=1.5))["params"]["trunk"])
    assert sum(x.size for x in wide) > 2 * 633_140
    narrow = shapes(TinyRoma(matcher=128))["params"]
    assert sum(x.size for x in jax.tree.leaves(narrow)) == 1_365_242
    same = {k for k in full if not k.startswith("coarse")}
    assert {k: narrow[k] for k in same} == {k: full[k] for k in same}


@pytest.mark.parametrize("factor", [2, 4])
def test_transposed_convolution_is_bilinear_interpolation(rng, factor):
    x = jnp.float32(rng.normal(size=(2, 3, 5, 4)))
    want = jax.vmap(lambda y: resize(y, (3 * factor, 5 * factor), antialias=False))(x)
    np.testing.assert_allclose(transposed_upsample(x, factor), want, atol=1e-6)
    with pytest.raises(ValueError, match="even"):
        transposed_upsample(x, 3)


@pytest.mark.slow
def test_transposed_network_is_the_same_network():
    one, other = run(), run(upsample="transposed")
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def normed(kind, train=False):
    """The normalised image A of both pairs, and the updated statistics."""
    module, image = InputNorm(kind), images()[0]
    start = {"batch_stats": variables()["batch_stats"]["input_norm"]} if kind == "batch" else {}
    mutable = ["batch_stats"] if train else False
    found = module.apply(start, image, train, mutable=mutable)
    return found if train else (found, {})


def test_image_norm_is_instance_norm_up_to_its_constants():
    """Only n - 1 for n and no epsilon: what the notes saw differ was not the formula."""
    one, other = normed("instance")[0], normed("image")[0]
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    assert np.isfinite(InputNorm("image").apply({}, jnp.ones((1, 4, 4, 3)), False)).all()


def test_batch_norm_of_the_input_learns_as_instance_norm_and_runs_on_averages():
    trained, updated = normed("batch", train=True)
    np.testing.assert_array_equal(trained, normed("instance")[0])
    grey = np.asarray(images()[0]).mean(-1)
    stats = updated["batch_stats"]
    np.testing.assert_allclose(stats["mean"], [0.1 * grey.mean()], rtol=1e-5)
    spread = grey.var((1, 2), ddof=1).mean()
    np.testing.assert_allclose(stats["var"], [0.9 + 0.1 * spread], rtol=1e-5)
    # Fresh statistics are 0 and 1: no normalisation at all.
    np.testing.assert_allclose(normed("batch")[0], normed("none")[0], rtol=1e-4)


def test_without_fine_matcher_the_coarse_warp_is_enlarged():
    out, full = run(fine=False), run()
    np.testing.assert_allclose(out.coarse.flow, full.coarse.flow, atol=1e-6)
    want = jax.vmap(lambda x: resize(x, (8, 16), antialias=False))(out.coarse.flow)
    np.testing.assert_allclose(out.fine.flow, want, atol=1e-6)


def test_second_coarse_pass_starts_where_the_first_arrived():
    model = TinyRoma(coarse_passes=2)
    once, twice = run(), run(coarse_passes=2)

    def second(self, out):
        seen = look_up(out.features_a.coarse, out.features_b.coarse, out.coarse.flow, "bilinear")
        return self.coarse_out(self.coarse_matcher(seen, False))

    delta = jax.jit(lambda v, o: model.apply(v, o, method=second))(of(model), once)
    pixel = np.array([2 / SIZE[1], 2 / SIZE[0]], np.float32)
    want = once.coarse.flow + delta[..., :2] * pixel.reshape(1, 1, 1, 2)
    np.testing.assert_allclose(twice.coarse.flow, want, atol=1e-4)
    np.testing.assert_allclose(twice.coarse.logit, once.coarse.logit + delta[..., 2], atol=1e-4)


def test_symmetric_is_both_directions_at_once():
    both, back = run(symmetric=True), program()(*images()[::-1])
    for one, other in ((both, run()), (both.reverse, back)):
        np.testing.assert_allclose(one.fine.flow, other.fine.flow, atol=1e-4)
        np.testing.assert_allclose(one.fine.logit, other.fine.logit, atol=1e-4)


# ---- gather

MAPS = (12, 20)  # not square: mistakes of strides show


def _index(b, row, column):
    return b[row, column]


def _swapped(b, flow):
    """x taken for the row."""
    row, column = (pixels_from_normalized(flow, b.shape[:2]) // 1).astype(int).transpose(2, 0, 1)
    return _index(b, np.clip(row, 0, MAPS[0] - 1), np.clip(column, 0, MAPS[1] - 1))


def _other_stride(b, flow):
    """Flat index row * height + column."""
    column, row = (pixels_from_normalized(flow, b.shape[:2]) // 1).astype(int).transpose(2, 0, 1)
    flat = np.clip(row, 0, MAPS[0] - 1) * MAPS[0] + np.clip(column, 0, MAPS[1] - 1)
    return b.reshape(-1, b.shape[-1])[flat]


def _early_cast(b, flow):
    """Coordinates from -1 to 1 made integers before they are scaled."""
    column, row = np.asarray(flow).astype(int).transpose(2, 0, 1)
    return _index(b, (row + 1) * MAPS[0] // 2 % MAPS[0], (column + 1) * MAPS[1] // 2 % MAPS[1])


def _corners(b, flow):
    """-1 and 1 at the centres of the outermost cells (align_corners), rounded."""
    xy = pixels_from_normalized(flow, b.shape[:2], align_corners=True) - 0.5
    column, row = np.rint(np.asarray(xy)).astype(int).transpose(2, 0, 1)
    return _index(b, np.clip(row, 0, MAPS[0] - 1), np.clip(column, 0, MAPS[1] - 1))


def _half_a_cell(b, flow):
    """The first centre at (0, 0): rounded without the half."""
    xy = pixels_from_normalized(flow, b.shape[:2])
    column, row = np.rint(np.asarray(xy)).astype(int).transpose(2, 0, 1)
    return _index(b, np.clip(row, 0, MAPS[0] - 1), np.clip(column, 0, MAPS[1] - 1))


def _wrapped(b, flow):
    """No clip and no zeros outside: negative indices count from the other end."""
    xy = pixels_from_normalized(flow, b.shape[:2])
    column, row = np.floor(np.asarray(xy)).astype(int).transpose(2, 0, 1)
    return _index(b, row % MAPS[0], column % MAPS[1])


FATAL, HARMFUL = (_swapped, _other_stride, _early_cast), (_corners, _half_a_cell, _wrapped)


@functools.cache
def scene():
    """Features of A and B [h, w, C], and the flow that connects them; some of it leaves B."""
    rng = np.random.default_rng(3)
    wave, phase = rng.normal(size=(16, 2)) * 0.5, rng.uniform(0, 6, 16)

    def paint(xy):
        return np.sin(xy @ wave.T + phase)

    xy = centers(MAPS, 1)
    there = 0.95 * xy + [2.2, -1.3]
    flow = normalized_from_pixels(there, MAPS)
    inside = np.all((there > 0) & (there < MAPS[::-1]), -1)
    return np.float32(paint(there)), np.float32(paint(xy)), jnp.float32(flow), inside


def nearest(b, flow):
    """The cell of B whose centre is nearest to each point, by trying all; zero outside B."""
    size = np.array(b.shape[1::-1])
    xy = (np.asarray(flow, np.float64) + 1) / 2 * size
    away = np.linalg.norm(xy[..., None, :] - centers(b.shape[:2], 1).reshape(-1, 2), axis=-1)
    inside = np.all((xy >= 0) & (xy < size), axis=-1, keepdims=True)
    return np.where(inside, b.reshape(-1, b.shape[-1])[away.argmin(-1)], 0)


def likeness(found):
    """Correlation of the features found in B with those of A, over cells that B shows."""
    a, _, _, inside = scene()
    return np.corrcoef(np.asarray(found)[inside].ravel(), a[inside].ravel())[0, 1]


def sampled(kind):
    a, b, flow, _ = scene()
    return look_up(a[None], b[None], flow[None], kind)[0, ..., 16:32]


def test_gather_finds_what_bilinear_sampling_finds():
    """The nearest cell is at most half a cell away: a little less alike, nowhere another place."""
    _, _, _, inside = scene()
    bilinear, nearest = sampled("bilinear"), sampled("gather")
    assert likeness(bilinear) > 0.98
    assert likeness(nearest) > 0.9
    assert not np.asarray(nearest)[~inside].any()  # zero outside, as bilinear sampling tends to
    at_centers = normalized_from_pixels(np.float32(centers(MAPS, 1)), MAPS)[None]
    a, b = (x[None] for x in scene()[:2])
    exact = [look_up(a, b, at_centers, kind) for kind in ("bilinear", "gather")]
    np.testing.assert_allclose(*exact, atol=1e-5)


def test_why_a_gather_can_lose_everything():
    """An AUC of zero needs features of *other places* in every cell.

    Axes swapped, a flat index of another stride and a cast before the scaling give that: what they
    find has nothing to do with A. Conventions half a cell off and a missing border do not: they
    find the neighbour, or are wrong outside of B alone, and cost accuracy only. That no gradient
    passes to the flow cannot do it either: the flow is taught as the matcher's input and starting
    value, see the test below. The library's gather is none of them: it takes the nearest cell of
    every point, found here by trying all.
    """
    _, b, flow, _ = scene()
    right = nearest(b, flow)
    np.testing.assert_array_equal(sampled("gather"), right)
    for wrong in FATAL + HARMFUL:
        assert np.mean(np.any(wrong(b, flow) != right, axis=-1)) > 0.05, wrong.__doc__
    for wrong in FATAL:
        assert abs(likeness(wrong(b, flow))) < 0.25, wrong.__doc__
    for wrong in HARMFUL:
        assert likeness(wrong(b, flow)) > 0.6, wrong.__doc__
    assert likeness(_half_a_cell(b, flow)) < likeness(sampled("gather")) - 0.02
    wrapped = np.asarray(_wrapped(b, flow))[~scene()[3]]
    assert np.abs(wrapped).max() > 0.5  # where there is nothing


def test_gather_takes_the_size_of_b_where_it_is_another():
    """A stride of A's map in place of B's would be the fatal flat index."""
    a, b, flow, _ = scene()
    part = np.ascontiguousarray(b[:9, :14])
    found = look_up(a[None], part[None], flow[None], "gather")[0, ..., 16:32]
    np.testing.assert_array_equal(found, nearest(part, flow))


def test_gather_passes_gradients_to_features_and_flow():
    a, b, flow, _ = (x[None] for x in scene())

    def total(a, b, flow, kind):
        return jnp.sum(look_up(a, b, flow, kind) ** 2)

    to_a, to_b, to_flow = jax.grad(total, (0, 1, 2))(a, b, flow, "gather")
    assert np.abs(to_a).min() > 0 and np.abs(to_b).max() > 0
    np.testing.assert_allclose(to_flow, 2 * flow, rtol=1e-5)  # as an input of the matcher alone
