"""Queries by an embedding: files that are taken or refused by name, similarities, precision."""

import jax
import numpy as np
import pytest

from posejax.data.errors import DataError
from posejax.nn import ClipText, clip_text_table, from_flax, save_state_dict
from posejax.systems.bifusion.query import (
    average_precision,
    prototypes,
    read_query,
    similarities,
    text_query,
)

FEATURES, CLASSES = 6, 3


def saved(tmp_path, **arrays):
    np.savez(tmp_path / "q.npz", **arrays)
    return read_query(tmp_path / "q.npz", FEATURES, CLASSES)


def test_a_query_of_the_features_own_space_is_a_cosine(rng, tmp_path):
    fused, query = rng.standard_normal((20, FEATURES)), rng.standard_normal((2, FEATURES))
    fused[3] = 0
    got = similarities(saved(tmp_path, query=query), 3 * fused, np.ones((20, CLASSES)))
    assert list(got) == ["query 0", "query 1"]
    for vector, found in zip(query, got.values(), strict=True):
        length = np.linalg.norm(fused, axis=1) * np.linalg.norm(vector)
        np.testing.assert_allclose(found, fused @ vector / np.where(length > 0, length, 1))
        assert found[3] == 0
    np.save(tmp_path / "one.npy", 7 * query[0])
    alone = read_query(tmp_path / "one.npy", FEATURES, CLASSES)
    only = similarities(alone, fused, np.ones((20, CLASSES)))
    np.testing.assert_allclose(only["query 0"], got["query 0"])


def test_a_projection_brings_another_space_to_the_features(rng, tmp_path):
    """The query, not the points, goes through it: 8 numbers become the features' 6."""
    turn, query = rng.standard_normal((8, FEATURES)), rng.standard_normal(8)
    fused = rng.standard_normal((20, FEATURES))
    got = similarities(saved(tmp_path, query=query, projection=turn), fused, np.ones((20, CLASSES)))
    want = similarities(saved(tmp_path, query=query @ turn), fused, np.ones((20, CLASSES)))
    np.testing.assert_allclose(got["query 0"], want["query 0"])


@pytest.mark.parametrize("scale", [1e308, 1e-308, 1e200])
def test_the_length_of_a_query_does_not_matter(rng, tmp_path, scale):
    """As far as float64 reaches: by itself, through a projection, and by classes."""
    fused, query = rng.uniform(-1, 1, (20, FEATURES)), rng.uniform(-1, 1, (2, FEATURES))
    turn, names = rng.uniform(-1, 1, (FEATURES, FEATURES)), rng.uniform(-1, 1, (3, FEATURES))
    chance = rng.dirichlet(np.ones(CLASSES), 20)
    for other in ({}, {"projection": turn}, {"classes": names}):
        want = similarities(saved(tmp_path, query=query, **other), fused, chance)
        longer = {k: scale * v for k, v in other.items()}
        got = similarities(saved(tmp_path, query=scale * query, **longer), scale * fused, chance)
        for name in want:
            np.testing.assert_allclose(got[name], want[name], rtol=1e-12)


def test_names_of_classes_place_points_between_them(tmp_path):
    """A word near two classes finds points that may be either before those that are neither."""
    chair, sofa, wall = np.eye(4)[:3]
    seat = chair + 0.8 * sofa
    query = saved(tmp_path, query=seat, classes=np.stack([chair, sofa, wall]), names=["seat"])
    chance = np.array([[0.9, 0.1, 0], [0.5, 0.5, 0], [0.1, 0.8, 0.1], [0, 0.1, 0.9]])
    score = similarities(query, np.zeros((4, FEATURES)), chance)["seat"]
    np.testing.assert_array_equal(np.argsort(-score), [1, 0, 2, 3])
    assert score[3] < 0.15 and score[1] > 0.99


def test_prototypes_find_their_own_kind(rng):
    kind = rng.integers(0, CLASSES, 200)
    fused = np.eye(FEATURES)[kind] + rng.normal(0, 0.2, (200, FEATURES))
    chance = 0.9 * np.eye(CLASSES)[kind] + 0.1 / CLASSES
    found = prototypes(fused, chance)
    assert found.shape == (CLASSES, FEATURES)
    other = rng.integers(0, CLASSES, 300)
    unseen = np.eye(FEATURES)[other] + rng.normal(0, 0.2, (300, FEATURES))
    score = unseen @ found.T
    for k in range(CLASSES):
        assert average_precision(score[:, k], other == k) > 0.95 > 3 * np.mean(other == k) - 0.3


def test_average_precision_is_that_of_the_books():
    score = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    assert average_precision(score, np.array([1, 0, 1, 0, 0])) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(-score, np.array([1, 0, 0, 0, 0])) == pytest.approx(1 / 5)
    assert np.isnan(average_precision(score, np.zeros(5)))


ROW = np.ones(FEATURES)


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({"names": np.array(["a"])}, r"array query: missing"),
        ({"query": np.ones(5)}, r"array query: shape \(5,\); expected \[6\] or \[Q, 6\]"),
        ({"query": np.ones((1, 1, 6))}, r"array query: .*\[D\] or \[Q, D\]"),
        ({"query": np.zeros(6)}, r"array query: a query of zeros"),
        ({"query": np.ones((65, 6))}, r"array query: 65 queries"),
        ({"query": np.array([1, 2, np.nan, 4, 5, 6])}, r"array query: values that are not finite"),
        ({"query": np.array(["a"] * 6)}, r"array query: <U1"),
        ({"query": ROW, "names": np.array(["a", "b"])}, r"array names: .*expected \[1\] of text"),
        ({"query": np.eye(6)[:2], "names": np.array(["a", "a"])}, r"array names: a name twice"),
        ({"query": np.ones(8), "projection": np.ones((6, 8))}, r"array projection: .*\[8, 6\]"),
        ({"query": np.ones(8), "classes": np.ones((4, 8))}, r"array classes: .*\[3, 8\]"),
        ({"query": ROW, "classes": np.ones((3, 6)), "projection": np.eye(6)}, "one of them"),
    ],
)
def test_files_that_cannot_be_used_name_the_array_and_its_shape(tmp_path, arrays, words):
    with pytest.raises(DataError, match=r"q\.npz: .*" + words):
        saved(tmp_path, **arrays)


def test_nothing_is_unpickled(tmp_path):
    np.save(tmp_path / "q.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DataError, match="objects"):
        read_query(tmp_path / "q.npy", FEATURES, CLASSES)


def test_words_become_queries_between_the_names_of_the_classes(tmp_path):
    """By a text tower of random weights: a class's own sentence finds its points first."""
    words = tmp_path / "vocabulary.txt"
    words.write_text("#version\nc h\na i\nai r</w>\nch air</w>\n")
    model = ClipText("gelu", 1, 64, 1, 540, 16, 24)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 16), np.int32))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda s: rng.normal(0, 0.3, s.shape).astype(np.float32), shapes)
    clip = save_state_dict(tmp_path / "clip.npz", from_flax(variables, clip_text_table(model)))
    texts, classes = ("a photo of a chair", "sofas"), ("chair", "wall", "sofa")
    query = text_query(texts, classes, clip, words, "gelu")
    assert query.names == texts and query.classes is not None and query.classes.shape == (3, 24)
    np.testing.assert_allclose(query.vectors[0], query.classes[0], rtol=1e-5, atol=1e-6)
    chance = 0.8 * np.eye(3) + 0.1
    score = similarities(query, np.zeros((3, FEATURES)), chance)["a photo of a chair"]
    assert score.argmax() == 0
    small = save_state_dict(
        tmp_path / "small.npz",
        from_flax(
            {
                "params": {
                    **variables["params"],
                    "token_embedding": {"embedding": np.zeros((9, 64))},
                }
            },
            clip_text_table(model),
        ),
    )
    with pytest.raises(DataError, match=r"vocabulary\.txt: merges: 518 tokens; expected 9"):
        text_query(texts, classes, small, words, "gelu")
