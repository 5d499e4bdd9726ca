"""Maps of a network that looks at nothing: where vehicles are on average.

The mean of the training targets, cell by cell, with the threshold at which it agrees best with
them: what a number of a trained network has to be read beside.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

_MANY = 100  # thresholds that are tried


class Prior(NamedTuple):
    """logits [Z, X] of the share of frames with a vehicle there; those above the threshold count as
    vehicles."""

    logits: np.ndarray
    threshold: np.ndarray


def fit_prior(records: Mapping[str, np.ndarray]) -> Prior:
    """The prior of the training split.

    Args:
      records: with target_map and valid_map [N, Z, X].

    The threshold is the one with the largest IoU on these records: at one half the prior, which is
    small everywhere, says nothing at all.
    """
    target = np.asarray(records["target_map"], np.float64)
    valid = np.asarray(records["valid_map"], np.float64)
    boxes, known = (target * valid).sum(0), valid.sum(0)
    share = boxes / np.maximum(known, 1)
    levels = np.unique(np.quantile(share, np.linspace(0, 1, _MANY)))[:-1]
    if not len(levels):  # the same everywhere: all of it or nothing
        levels = np.array([0.5])
    scores = []
    for level in levels:
        said = share > level
        both = boxes[said].sum()
        scores.append(both / max(known[said].sum() + boxes.sum() - both, 1))
    best = levels[int(np.argmax(scores))]
    return Prior(_logit(share).astype(np.float32), _logit(best).astype(np.float32))


def _logit(share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 1e-6, 1 - 1e-6)
    return np.log(share / (1 - share))
