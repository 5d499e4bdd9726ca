"""Settings that must fit together, told before any data are opened."""

from posejax.config import ConfigError
from posejax.systems.eventpose.config import (
    FROM_SCRATCH,
    InputConfig,
    KeypointConfig,
    ModelConfig,
    ObjectiveConfig,
)
from posejax.systems.eventpose.data import Frames, Recordings, Simulated


def check_options(
    data: Recordings | Simulated | Frames,
    input: InputConfig,
    model: ModelConfig,
    objective: ObjectiveConfig,
    keypoints: KeypointConfig,
) -> None:
    """Look at the options of the system together.

    Raises:
      ConfigError: two of them do not fit; names them.
    """
    if model.weights and model.backbone in FROM_SCRATCH:
        raise ConfigError(
            f"system.model.weights: {model.backbone!r} has no published weights; choose "
            "another --system.model.backbone or leave the weights out"
        )
    if objective.stats == "spades" and input.view != "full":
        raise ConfigError(
            "system.objective.stats: 'spades' are metres in the camera; the canonical view has "
            "its own scale: use --system.input.view full, or stats 'train'"
        )
    if keypoints.answer == "direct" and model.heads == "keypoints":
        raise ConfigError(
            "system.keypoints.answer: 'direct' is the answer of pose heads, which "
            "--system.model.heads keypoints has not; with 'both' it has"
        )
    simulated = model.heads != "direct" and set(keypoints.points) - {"box"}
    if simulated and not data.simulated:
        raise ConfigError(
            f"system.keypoints.points: {', '.join(sorted(simulated))} are of the simulated "
            "craft; other data have points of a 'box'"
        )
    if keypoints.align and (model.heads == "direct" or keypoints.answer == "direct"):
        raise ConfigError(
            "system.keypoints.align: pose heads answer, whose poses are not aligned; leave it at "
            "0, or let the heatmaps answer: system.model.heads 'keypoints' or 'both', "
            "system.keypoints.answer 'solver'"
        )
    if keypoints.align and not data.simulated:
        raise ConfigError(
            "system.keypoints.align: edges are known of the simulated craft alone; leave it at "
            "0 for other data"
        )
    if model.pool == "flatten" and model.heads != "keypoints" and min(input.size) % 32:
        raise ConfigError(
            f"system.input.size: {input.size}; expected multiples of 32 with "
            "system.model.pool 'flatten'"
        )
