"""Maps of a network that looks at nothing: where vehicles are on average.

The mean of the training targets, cell by cell, with the threshold at which it agrees best with
them: what a number of a trained network has to be read beside.
"""

from collections.abc import Mapping

import numpy as np

_MANY = 100  # thresholds that are tried


def prior_logits(records: Mapping[str, np.ndarray]) -> np.ndarray:
    """[Z, X] logits, above zero where the prior says vehicle.

    Args:
      records: of the training split, with target_map and valid_map [N, Z, X].

    The threshold is the one with the largest IoU on these records: at one half the prior, which is
    small everywhere, says nothing at all.
    """
    target = np.asarray(records["target_map"], np.float64)
    valid = np.asarray(records["valid_map"], np.float64)
    boxes, known = (target * valid).sum(0), valid.sum(0)
    share = boxes / np.maximum(known, 1)
    levels = np.unique(np.quantile(share, np.linspace(0, 1, _MANY)))[:-1]
    if not len(levels):  # the same everywhere
        return np.full(share.shape, -1.0 if share.max() < 0.5 else 1.0, np.float32)
    scores = []
    for level in levels:
        said = share > level
        both = boxes[said].sum()
        scores.append(both / max(known[said].sum() + boxes.sum() - both, 1))
    level = levels[int(np.argmax(scores))]
    return (_logit(share) - _logit(np.array(level))).astype(np.float32)


def _logit(share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 1e-6, 1 - 1e-6)
    return np.log(share / (1 - share))
