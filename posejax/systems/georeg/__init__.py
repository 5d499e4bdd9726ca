"""Registration of an online raster in a geo-referenced raster: all that a config file names."""

from typing import TYPE_CHECKING

from posejax.lazy import attach

if TYPE_CHECKING:
    from posejax.systems.georeg.config import (
        Augment as Augment,
    )
    from posejax.systems.georeg.config import (
        ModelConfig as ModelConfig,
    )
    from posejax.systems.georeg.config import (
        ObjectiveConfig as ObjectiveConfig,
    )
    from posejax.systems.georeg.config import (
        SearchConfig as SearchConfig,
    )
    from posejax.systems.georeg.sources import (
        Av2Logs as Av2Logs,
    )
    from posejax.systems.georeg.sources import (
        RadishLog as RadishLog,
    )
    from posejax.systems.georeg.sources import (
        RasterFolder as RasterFolder,
    )
    from posejax.systems.georeg.sources import (
        Streets as Streets,
    )
    from posejax.systems.georeg.system import Georeg as Georeg

__getattr__, __all__ = attach(
    __name__,
    {
        "config": ("Augment", "ModelConfig", "ObjectiveConfig", "SearchConfig"),
        "sources": ("Av2Logs", "RadishLog", "RasterFolder", "Streets"),
        "system": ("Georeg",),
    },
)
