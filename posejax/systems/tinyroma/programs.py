"""Tiny RoMa for other runtimes: the network with its norms folded, on images of a chosen size."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from posejax.deploy.program import Input, Program
from posejax.geometry import pixels_from_normalized
from posejax.nn.folding import fold_batch_norms
from posejax.systems.tinyroma.model import Features, TinyRoma

IMAGE = Input((1, "height", "width", 3), multiple=32)


def network_programs(
    net: TinyRoma, variables: Mapping[str, Any]
) -> dict[str, Callable[[], Program]]:
    """Makers of the programs of a network.

    Returns:
      match: image_a and image_b [1, H, W, 3] in [0, 1], sides multiples of 32, to the warp
        [1, H/4, W/4, 2], pixels of B, and the certainty [1, H/4, W/4] in (0, 1). A full search
        is also exported for any size; rows and bands ask for one.
      features: one image to its maps at strides 4 and 8, for those who match elsewhere; of any
        size, too.
    """
    folded: Any = net.clone(folded=True)
    weights = variables if net.folded else fold_batch_norms(variables)

    def match(weights: Any, image_a: jax.Array, image_b: jax.Array) -> dict[str, jax.Array]:
        out = folded.apply(weights, image_a, image_b, False)
        warp = pixels_from_normalized(out.fine.flow, (image_b.shape[1], image_b.shape[2]))
        return {"warp": warp, "certainty": jax.nn.sigmoid(out.fine.logit)}

    def features(weights: Any, image: jax.Array) -> dict[str, jax.Array]:
        found: Features = folded.apply(weights, image, method="trunk_features")
        return found._asdict()

    return {
        "match": lambda: Program(match, weights, {"image_a": IMAGE, "image_b": IMAGE}),
        "features": lambda: Program(features, weights, {"image": IMAGE}),
    }
