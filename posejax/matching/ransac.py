"""LO-RANSAC with a fixed budget: chunks of hypotheses, each followed by a local optimisation.

All shapes are static, so that it compiles, and `jax.vmap` runs many image pairs at once. Padding
and missing matches have weight zero. The search ends early when a better model has become unlikely.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from posejax.matching.robust import LOSSES, Score, truncated


class Problem(NamedTuple):
    """One kind of model [3, 3].

    Attributes:
      sample: matches that a minimal solver needs.
      solve: indices [sample] -> models [s, 3, 3], exist [s].
      square: (model, first n matches or all) -> squared residuals [n].
      polish: (model, steps) -> (model, loss): local optimisation on all matches.
    """

    sample: int
    solve: Callable[[Array], tuple[Array, Array]]
    square: Callable[[Array, int | None], Array]
    polish: Callable[[Array, int], tuple[Array, Array]]


@dataclasses.dataclass(frozen=True)
class Budget:
    """Static choices.

    Attributes:
      iterations: minimal samples at most; a multiple of `chunk` is used.
      confidence: stop when a sample without outliers was drawn with this probability.
      chunk: samples between two local optimisations.
      preview: matches on which all hypotheses of a chunk are compared, by the truncated loss.
      finalists: hypotheses of a chunk compared on all matches.
    """

    iterations: int = 2048
    confidence: float = 0.9999
    chunk: int = 128
    preview: int = 256
    finalists: int = 8

    def __post_init__(self):
        if self.iterations < 0:
            raise ValueError(f"iterations is not negative, got {self.iterations}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence lies between 0 and 1, got {self.confidence}")


class Found(NamedTuple):
    """What a search came to.

    Attributes:
      model: [3, 3].
      loss: of the model on all matches.
      samples: drawn.
      exists: whether any sample had a model that fits better than nothing.
    """

    model: Array
    loss: Array
    samples: Array
    exists: Array


def random_samples(key: Array, weights: Array, size: int, shape: int) -> Array:
    """[shape, size] distinct indices, each drawn in proportion to its weight.

    A weight says how likely a match is right, so that good samples come early (guided sampling,
    Tordoff and Murray, PAMI 2005). What a sample has already gives way to the match after it,
    which in random order is any other. Matches with weight come first; there must be `size`.
    """
    bounds = jnp.cumsum(weights)
    known = jnp.sum(weights > 0).astype(jnp.int32)
    chosen: list[Array] = []
    for u in jax.random.uniform(key, (size, shape), weights.dtype):
        index = jnp.searchsorted(bounds, u * bounds[-1], side="right").astype(jnp.int32)
        index = jnp.minimum(index, jnp.maximum(known - 1, 0))
        for _ in chosen:
            taken = jnp.any(jnp.stack(chosen) == index[None], axis=0)
            index = jnp.where(taken, jnp.where(index + 1 < known, index + 1, 0), index)
        chosen.append(index)
    return jnp.stack(chosen, axis=1)


def ransac(
    key: Array, problem: Problem, weights: Array, threshold: Array, score: Score, budget: Budget
) -> Found:
    """The model with the lowest loss; matches with weight must come first, in random order.

    Without enough matches, or where no sample has a model, the identity with the loss of nothing
    fitting.
    """
    known = jnp.sum(weights > 0).astype(jnp.int32)
    enough = known >= problem.sample
    rho = LOSSES[score]
    worst = jnp.sum(weights)
    few = min(budget.preview, len(weights))
    chunks = -(-budget.iterations // budget.chunk)

    def loss(model, count, rho=rho):
        return jnp.sum(weights[:count] * rho(problem.square(model, count), threshold))

    def chunk(state):
        i, best, _ = state
        drawn = random_samples(jax.random.fold_in(key, i), weights, problem.sample, budget.chunk)
        models, exist = jax.vmap(problem.solve)(drawn)
        models, exist = models.reshape(-1, 3, 3), exist.reshape(-1) & enough
        losses = jax.vmap(lambda m: loss(m, few, truncated))(models)
        losses = jnp.where(exist, losses, jnp.inf)
        least, index = lax.top_k(-losses, min(budget.finalists, len(losses)))
        finalists = models[index]
        losses = jax.vmap(lambda m: loss(m, None))(finalists)
        losses = jnp.where(jnp.isfinite(least), losses, jnp.inf)
        first = jnp.argmin(losses)
        polished, lower = problem.polish(finalists[first], 4)
        lower = jnp.where(jnp.isfinite(losses[first]) & jnp.isfinite(lower), lower, jnp.inf)
        better = lower < best.loss
        model = jnp.where(better, polished, best.model)
        lower, samples = jnp.where(better, lower, best.loss), (i + 1) * budget.chunk
        best = Found(model, lower, samples, best.exists | better)
        # Of the draws, not of the matches: what a draw hits goes by weight.
        fits = jnp.sum(weights * (problem.square(model, None) < threshold**2))
        share = jnp.where(jnp.isfinite(best.loss) & enough, fits / jnp.maximum(worst, 1e-12), 0)
        return i + 1, best, share

    def unfinished(state):
        i, best, share = state
        hit = jnp.clip(share**problem.sample, 1e-12, 1 - 1e-6)
        needed = jnp.log(1 - budget.confidence) / jnp.log1p(-hit)
        return (i < chunks) & (best.samples < needed) & enough

    eye, none = jnp.eye(3, dtype=weights.dtype), jnp.zeros((), jnp.int32)
    nothing = Found(eye, worst, none, jnp.zeros((), bool))
    start = jnp.zeros((), jnp.int32), nothing, jnp.zeros((), weights.dtype)
    return lax.while_loop(unfinished, chunk, start)[1]
