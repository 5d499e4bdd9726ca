"""Learned localisation in JAX: pure functions, complete systems, one training engine.

Packages load on first use, so `import posejax` costs nothing and this works:

    import posejax
    volume = posejax.registration.pose_volume(online, geo, angles, 20)

Pure functions on arrays: `geometry`, `image`, `registration`, `matching`, `events`, `keypoints`,
`bev`, `sparse`, `trajectory`. Building blocks with parameters: `nn`. Files: `data`. Synthetic
worlds and sensors: `sim`. Whole systems: `systems`. The engine that trains and evaluates them:
`train`, `evaluate`, `report`. Programs for other runtimes: `deploy`.

    system, predict = posejax.load("georeg_sim")      # shipped weights, a weights file or a run
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what editors see; at run time the packages come through `__getattr__`
    from posejax import (
        bev,
        data,
        deploy,
        evaluate,
        events,
        geometry,
        image,
        keypoints,
        matching,
        nn,
        registration,
        report,
        sim,
        sparse,
        systems,
        train,
        trajectory,
    )
    from posejax.loading import load as load

    __all__ = [
        "bev", "data", "deploy", "evaluate", "events", "geometry", "image", "keypoints", "matching",
        "nn", "registration", "report", "sim", "sparse", "systems", "train", "trajectory",
    ]  # fmt: skip

__version__ = "0.1.0"


_FUNCTIONS = {"load": "loading"}  # public functions of the top level, and their modules


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"{__name__}.{_FUNCTIONS[name]}"), name)
    if not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}") is not None:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    import pkgutil

    return sorted([*globals(), *(m.name for m in pkgutil.iter_modules(__path__))])
