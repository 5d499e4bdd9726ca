"""A trained network on two images of one's own, of any size."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from posejax.config import ConfigError, Experiment
from posejax.data.images import resize_image
from posejax.image import whole_size
from posejax.loading import Predictor
from posejax.matching.views import Features
from posejax.systems.tinyroma.config import ModelConfig
from posejax.systems.tinyroma.data import SimulatedPairs
from posejax.systems.tinyroma.pretrained import load_backbone, load_tiny_roma
from posejax.systems.tinyroma.system import Tinyroma


class MatchedPair(NamedTuple):
    """Two matched images; pixels of the images as they were given, the first centre at (0.5, 0.5).

    warp: [h, w, 2], where cells of A lie in B; A is divided evenly into h x w cells.
    certainty: [h, w] in (0, 1).
    matches_a, matches_b: [n, 2]. weights: [n].
    b_from_a: [4, 4], translation of length one. covariance: [5, 5]. inliers: [n]. None without
      intrinsics; b_from_a is also None where no pose was found.
    outputs: all that `Tinyroma.predict` says, in pixels of the resized images.
    """

    warp: np.ndarray
    certainty: np.ndarray
    matches_a: np.ndarray
    matches_b: np.ndarray
    weights: np.ndarray
    b_from_a: np.ndarray | None
    covariance: np.ndarray | None
    inliers: np.ndarray | None
    outputs: dict[str, np.ndarray]


def match_images(
    system: Tinyroma,
    predict: Predictor,
    image_a: np.ndarray,
    image_b: np.ndarray,
    k_a: np.ndarray | None = None,
    k_b: np.ndarray | None = None,
    *,
    longest: int | None = 640,
) -> MatchedPair:
    """Warp, matches and, with intrinsics, the relative pose of two images.

    Args:
      system, predict: see `posejax.load`.
      image_a, image_b: [H, W] or [H, W, 3] uint8, of any sizes of at least 32 pixels.
      k_a, k_b: [3, 3] intrinsics of the images, first pixel's centre at (0.5, 0.5); both or none.
      longest: images are reduced to sides of at most so many pixels, in multiples of 32;
        None for their own size. A network does best near the size that it was trained at. The
        threshold of the pose's estimate is meant in these pixels.

    Raises:
      ConfigError: images of another shape or type, or one intrinsics matrix of two.
    """
    if (k_a is None) != (k_b is None):
        raise ConfigError("intrinsics are given for both images or for none")
    examples: dict[str, Any] = {}
    scales: dict[str, np.ndarray] = {}
    for name, image, k in (("a", image_a, k_a), ("b", image_b, k_b)):
        small = reduced_image(image, longest, f"image_{name}")
        scales[name] = np.array(image.shape[1::-1]) / small.shape[1::-1]
        examples[f"image_{name}"] = small[None]
        if k is not None:
            to_small = np.diag([*(1 / scales[name]), 1])
            examples[f"K_{name}"] = (to_small @ np.asarray(k, np.float64))[None].astype(np.float32)
    outputs = {k: np.asarray(v)[0] for k, v in jax.device_get(predict(examples)).items()}
    posed = k_a is not None
    return MatchedPair(
        outputs["warp"] * scales["b"],
        outputs["certainty"],
        outputs["matches_a"] * scales["a"],
        outputs["matches_b"] * scales["b"],
        outputs["weights"],
        outputs["b_from_a"] if posed and outputs["valid"] else None,
        outputs["covariance"] if posed else None,
        outputs["inliers"] if posed else None,
        outputs,
    )


def released_network(path: str | Path) -> Predictor:
    """Tiny RoMa's released weights, 112 tensors under PyTorch's names, with the default options.

    Raises:
      ConfigError: missing or damaged file, or other tensors.
    """
    system = Tinyroma(SimulatedPairs(), ModelConfig())
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    shapes: Any = jax.eval_shape(
        lambda key, x: system.net.init(key, x, x, False), jax.random.key(0), image
    )
    variables = load_tiny_roma(path, system.net, shapes)
    state = {"batch_stats": variables["batch_stats"], "covariance": {"scale": np.float32(1)}}
    return Predictor(Experiment("released", system), variables["params"], state)


def searching(predict: Predictor, **search: Any) -> Predictor:
    """The same weights with another search, e.g. `kind="rows", columns=(-12, 0)` for a stereo rig.

    Args:
      search: fields of `SearchConfig`.
    """
    experiment: Any = predict.experiment
    system = experiment.system
    model = dataclasses.replace(
        system.model, search=dataclasses.replace(system.model.search, **search)
    )
    system = dataclasses.replace(system, model=model)
    return dataclasses.replace(predict, experiment=dataclasses.replace(experiment, system=system))


def coarse_features(predict: Predictor, share: float = 1.0) -> Features:
    """The trained trunk alone, image [H, W, 3] in [0, 1] -> [H/8, W/8, 64], for `search_views`.

    The matchers look a few cells around where the features send them; over changes of scale and
    turns that need a search over views, the features decide.

    Args:
      predict: see `posejax.load`.
      share: of the trained weights, the rest being those that the training started from
        (`model.backbone`). Half of either keeps much of what a training on few scenes forgets
        (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022).

    Raises:
      ConfigError: a share below 1 of a network that started from no published weights.
    """
    experiment: Any = predict.experiment
    system = experiment.system
    net = system.net
    variables = {"params": predict.params, "batch_stats": predict.state["batch_stats"]}
    if share != 1:
        if not system.model.backbone:
            raise ConfigError("system.model.backbone: none; the weights that a training started "
                              "from are needed for a mean with them")  # fmt: skip
        before = load_backbone(system.model.backbone, net, variables)
        variables = jax.tree.map(
            lambda x, y: share * np.asarray(x) + (1 - share) * np.asarray(y), variables, before
        )

    @jax.jit
    def features(image: jax.Array) -> jax.Array:
        return net.apply(variables, image[None], method="trunk_features").coarse[0]

    return features


def reduced_image(image: np.ndarray, longest: int | None, name: str = "image") -> np.ndarray:
    """[h, w, 3] uint8 of sides that are multiples of 32, at most `longest`; see `match_images`."""
    image = np.asarray(image)
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ConfigError(
            f"{name}: {image.dtype} {image.shape}; expected uint8 [H, W] or [H, W, 3]"
        )
    if min(image.shape[:2]) < 32:
        raise ConfigError(f"{name}: {image.shape[:2]} pixels; expected at least 32 on each side")
    return resize_image(image, whole_size(image.shape, longest))
