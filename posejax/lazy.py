"""Names of a package that load on first use: PEP 562 in one call."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def attach(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], list[str]]:
    """`__getattr__` and `__all__` of a package whose names lie in its modules.

    Data workers import a package for its NumPy part alone; what needs jax must wait until asked.

    Args:
      package: `__name__`.
      modules: module of the package -> names it gives.
    """
    home = {name: module for module, names in modules.items() for name in names}

    def load(name: str) -> Any:
        if name in home:
            return getattr(importlib.import_module(f"{package}.{home[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load, sorted(home)
