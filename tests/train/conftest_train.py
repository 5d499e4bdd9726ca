"""Helpers that test modules import by name."""

from pathlib import Path

import numpy as np

TOY = Path(__file__).parent / "toy"


def params_of(workdir: Path) -> dict[str, np.ndarray]:
    """Every array of the newest checkpoint's model, by path."""
    from posejax.config import Checkpoint
    from posejax.train import Checkpoints, groups

    with Checkpoints(workdir, Checkpoint(), write=False) as checkpoints:
        return groups.flatten(checkpoints.restore_model_as_saved(checkpoints.latest() or 0))
