"""A pair matched by the published XFeat features alone, in the form of the system's predictions."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posejax.data.errors import DataError
from posejax.geometry import normalize
from posejax.matching import Full
from posejax.matching.mutual import MIN_SIMILARITY, RoundTrip, round_trip
from posejax.matching.search import Search
from posejax.matching.streaming import cell_centers
from posejax.matching.views import Features
from posejax.nn import XFeat, load_state_dict, xfeat_table
from posejax.systems.tinyroma.pretrained import fitted

_STRIDE = 8


def xfeat_features(path: str | Path) -> Features:
    """Image [H, W, 3] in [0, 1] -> coarse features [H/8, W/8, 64] of the weights in a file.

    Args:
      path: XFeat's tensors, with its batch norms or with them folded.

    Raises:
      DataError: no such file, or other tensors.
    """
    try:
        state = load_state_dict(path)
        model = XFeat(folded=not any("running_mean" in name for name in state))
        x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
        shapes = jax.eval_shape(lambda key, x: model.init(key, x, False), jax.random.key(0), x)
        variables = fitted(path, state, xfeat_table(model), shapes, "XFeat's weights")
    except FileNotFoundError as error:
        raise DataError(path, "file", "not found", "XFeat's weights") from error

    @jax.jit
    def features(image: jax.Array) -> jax.Array:
        out: Any = model.apply(variables, image[None], False)
        return out.coarse[0]

    return features


def match_by_features(
    features: Features,
    image_a: np.ndarray,
    image_b: np.ndarray,
    *,
    count: int = 2000,
    search: Search = Full(),  # noqa: B008 - a frozen value
) -> dict[str, np.ndarray]:
    """Warp, certainty and matches of two images, in the form of `Tinyroma.predict` for one pair.

    Args:
      features: see `xfeat_features`.
      image_a: uint8 [H, W, 3], sides multiples of 32.
      image_b: the same.
      count: of matches, the most certain ones.
      search: where partners are looked for, in cells of 8 pixels.

    Returns:
      warp [H/8, W/8, 2] pixels of B, the expectation around the most similar cell; certainty, from
      1 where the partner's partner is the cell itself to 0 some cells away; matches_a, matches_b
      [count, 2] pixels and their weights [count], zero where the two disagree by a cell or more or
      the features are too unlike.
    """
    a, b = (normalize(features(jnp.asarray(x, jnp.float32) / 255)) for x in (image_a, image_b))
    trip = RoundTrip(*jax.device_get(round_trip(a, b, search=search)))
    certainty = np.exp(-(trip.away**2)) * (trip.similarity > MIN_SIMILARITY)
    order = np.argsort(-certainty, axis=None, kind="stable")[:count]
    pad = (0, count - len(order))
    picked = {
        "matches_a": _STRIDE * np.asarray(cell_centers(certainty.shape))[order],
        "matches_b": _STRIDE * trip.there.reshape(-1, 2)[order],
        "weights": (certainty * trip.mutual).reshape(-1)[order],
    }
    padded = {k: np.pad(v, (pad,) + ((0, 0),) * (v.ndim - 1)) for k, v in picked.items()}
    found = {"warp": _STRIDE * trip.there, "certainty": certainty, **padded}
    return {k: v.astype(np.float32) for k, v in found.items()}
