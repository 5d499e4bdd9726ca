"""Tiny RoMa: dense matching of two images, and the relative pose of their cameras."""

from typing import TYPE_CHECKING

from posejax.lazy import attach

if TYPE_CHECKING:
    from posejax.systems.tinyroma.config import MatchConfig as MatchConfig
    from posejax.systems.tinyroma.config import ModelConfig as ModelConfig
    from posejax.systems.tinyroma.config import ObjectiveConfig as ObjectiveConfig
    from posejax.systems.tinyroma.config import SearchConfig as SearchConfig
    from posejax.systems.tinyroma.system import Tinyroma as Tinyroma

__getattr__, __all__ = attach(
    __name__,
    {
        "config": ("MatchConfig", "ModelConfig", "ObjectiveConfig", "SearchConfig"),
        "system": ("Tinyroma",),
    },
)
