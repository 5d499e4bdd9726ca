"""Where registration examples come from; each kind is a frozen dataclass, a `RegistrationData`."""

from posejax.systems.georeg.sources.folder import RasterFolder
from posejax.systems.georeg.sources.logs import Av2Logs, Streets
from posejax.systems.georeg.sources.radish import RadishLog

__all__ = ["Av2Logs", "RadishLog", "RasterFolder", "Streets"]
