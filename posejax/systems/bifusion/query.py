"""Which points of a map are like a given embedding: files of queries, and cosine similarities.

Fused features are a space of their own: they were never trained to lie near CLIP's text. A query
is compared in one of three ways, by what its file holds beside the array `query` [Q, D]:

- nothing: D is the features' own number, the query is a point of their space ("like this one");
- `projection` [D, C], from the query's space into the features', trained elsewhere;
- `classes` [classes, D], embeddings of the names of the network's classes in the query's space. A
  point is then where its class probabilities put it between them (ConSE, Norouzi et al., ICLR
  2014): no more than the network's classes, but in words that it never saw.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from posejax.data.arrays import read_npy, read_npz
from posejax.data.errors import DataError
from posejax.nn import ClipTokenizer, load_clip_text
from posejax.nn.clip import Activation

_OPTIONAL = ("names", "projection", "classes")
_MOST = 64  # queries of a file


class Query(NamedTuple):
    """Queries to compare points with.

    Attributes:
      names: Q of them.
      vectors: [Q, D] float64.
      projection: [D, C] into the features' space, or None.
      classes: [classes, D] of the classes' names, or None.
    """

    names: tuple[str, ...]
    vectors: np.ndarray
    projection: np.ndarray | None = None
    classes: np.ndarray | None = None


def read_query(path: Path, features: int, classes: int) -> Query:
    """Queries of a file.

    Args:
      path: .npy of [D] or [Q, D], or .npz with `query` of that shape and, if they are there,
        `names` [Q] text, `projection` [D, features], `classes` [classes, D].
      features: of a point.
      classes: of the network.

    Raises:
      DataError: a missing or damaged file, an array of another shape, zeros alone, values that are
        not finite, both `projection` and `classes`.
    """
    if path.suffix == ".npy":
        arrays = {"query": read_npy(path)}
    else:
        arrays = read_npz(path, ("query",), _OPTIONAL)
    given = arrays["query"]
    vectors = _numbers(path, "query", given, "[D] or [Q, D]", given.ndim in (1, 2))
    vectors = np.atleast_2d(vectors)
    count, width = vectors.shape
    if not 1 <= count <= _MOST or not vectors.any(1).all():
        found = f"{count} queries" if vectors.any(1).all() else "a query of zeros"
        raise DataError(path, "array query", found, f"1 to {_MOST} that are not zero")
    names = arrays.get("names", np.array([f"query {k}" for k in range(count)]))
    if names.dtype.kind != "U" or names.reshape(-1).shape != (count,):
        raise DataError(path, "array names", f"{names.dtype} {names.shape}", f"[{count}] of text")
    projection, anchors = arrays.get("projection"), arrays.get("classes")
    if projection is not None and anchors is not None:
        raise DataError(path, "arrays", "projection and classes", "one of them: one way to compare")
    if projection is not None:
        form = f"[{width}, {features}]: from the query's space to the features'"
        good = projection.shape == (width, features)
        projection = _numbers(path, "projection", projection, form, good)
    elif anchors is not None:
        form = f"[{classes}, {width}]: of the network's classes, as long as the query"
        anchors = _numbers(path, "classes", anchors, form, anchors.shape == (classes, width))
    elif width != features:
        form = f"[{features}] or [Q, {features}], the features' own; or projection or classes too"
        raise DataError(path, "array query", f"shape {given.shape}", form)
    named = tuple(str(name)[:40] for name in names.reshape(-1))
    if len(set(named)) < count:
        raise DataError(path, "array names", "a name twice", "a name for each query")
    return Query(named, vectors, projection, anchors)


def text_query(
    texts: Sequence[str],
    classes: Sequence[str],
    clip: Path,
    vocabulary: Path,
    activation: Activation | None = None,
) -> Query:
    """Sentences by CLIP's text tower, and "a photo of a CLASS" for every class of the network.

    Args:
      clip: checkpoint of OpenAI or open_clip, see `posejax.nn.load_clip_text`.
      vocabulary: see `posejax.nn.ClipTokenizer`.
      activation: for a checkpoint that does not say it.

    Raises:
      DataError: a missing or damaged file; a vocabulary of another size than the tower's.
      ValueError: see `load_clip_text`.
    """
    tokens = ClipTokenizer(vocabulary)
    model, variables = load_clip_text(clip, activation)
    if tokens.end >= model.vocabulary:
        found, expected = f"{tokens.end + 1} tokens", f"{model.vocabulary}, as in {clip}"
        raise DataError(vocabulary, "merges", found, expected)
    sentences = [*texts, *(f"a photo of a {name}" for name in classes)]
    numbers = tokens(sentences, model.length)
    found = np.asarray(jax.jit(model.apply)(variables, numbers), np.float64)
    named = tuple(text[:40] for text in texts)
    return Query(named, found[: len(texts)], None, found[len(texts) :])


def similarities(query: Query, fused: np.ndarray, chance: np.ndarray) -> dict[str, np.ndarray]:
    """Cosines between queries and points.

    Args:
      fused: [V, C] features of any length.
      chance: [V, classes] probabilities of the points' classes.

    Returns:
      Name -> [V] in [-1, 1]; 0 where one of both is zero.
    """
    vectors, points = query.vectors, np.asarray(fused, np.float64)
    if query.projection is not None:
        vectors = _unit(vectors) @ _scaled(query.projection, None)
    if query.classes is not None:
        points = np.asarray(chance, np.float64) @ _unit(query.classes)
    found = np.clip(_unit(vectors) @ _unit(points).T, -1, 1)
    return dict(zip(query.names, found, strict=True))


def prototypes(fused: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """[classes, C] means of the features by how probable each class is: queries by example."""
    total = np.asarray(chance, np.float64).T @ _unit(np.asarray(fused, np.float64))
    return total / np.maximum(chance.sum(0)[:, None], 1e-30)


def average_precision(score: np.ndarray, right: np.ndarray) -> float:
    """Mean over the right ones of the share of right ones down to each, by falling score; of equal
    scores the first counts first. NaN where none is right."""
    hit = np.asarray(right, bool)[np.argsort(-np.asarray(score), kind="stable")]
    if not hit.any():
        return float("nan")
    precision = np.cumsum(hit) / np.arange(1, len(hit) + 1)
    return float(precision[hit].mean())


def _numbers(path: Path, name: str, values: np.ndarray, form: str, good: bool) -> np.ndarray:
    """float64 of an array of the right shape, all finite."""
    if not good or values.dtype.kind not in "fiu" or not values.size:
        raise DataError(path, f"array {name}", f"{values.dtype} of shape {values.shape}", form)
    if not np.isfinite(values).all():
        raise DataError(path, f"array {name}", "values that are not finite", form)
    return values.astype(np.float64)


def _scaled(values: np.ndarray, axis: int | None) -> np.ndarray:
    """Divided by the greatest along the axis, or of all: no square and no sum overflows."""
    most = np.abs(values).max(axis, keepdims=True, initial=0)
    return values / np.where(most > 0, most, 1)


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = _scaled(rows, -1)
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(length > 0, length, 1)
