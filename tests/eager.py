"""Eager calls of public functions: what a researcher's first contact is made of.

A room's `test_eager.py` holds a table from the name of every public function to example arguments,
`EXAMPLES = {"project": example(points, intrinsics), ...}`, and hands it to `check`. Arguments are
NumPy's own: float64 arrays and scalars, np.int64 sizes, as they come out of files and loops.
"""

import contextlib
import inspect
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import jax

# One of these for every program that is lowered, whether or not a cache on disk spares XLA's part.
_LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"
_lowered: list[str] = []


@jax.monitoring.register_event_duration_secs_listener
def _note(event: str, duration: float, **details: Any) -> None:
    if event == _LOWERED:
        _lowered.append(str(details.get("fun_name", "?")))


@contextlib.contextmanager
def compiled_programs() -> Iterator[list[str]]:
    """Names of the programs that are compiled within the block."""
    before, found = len(_lowered), []
    try:
        yield found
    finally:
        found.extend(_lowered[before:])


class Example(NamedTuple):
    args: tuple
    settings: dict[str, Any]


def example(*args: Any, **settings: Any) -> Example:
    return Example(args, settings)


def public_functions(room: ModuleType) -> dict[str, Callable]:
    """Functions of `__all__` by name, jitted ones too; classes and values are none."""
    public = {name: getattr(room, name) for name in room.__all__}
    return {
        name: thing
        for name, thing in public.items()
        if callable(thing) and not inspect.isclass(thing) and hasattr(thing, "__module__")
        if str(thing.__module__).startswith("posejax.")
    }


def check(function: Callable, given: Example) -> Any:
    """Call twice with NumPy arguments: no warning, and no compilation the second time.

    Returns the result of the second call.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.block_until_ready(function(*given.args, **given.settings))
        with compiled_programs() as programs:
            result = jax.block_until_ready(function(*given.args, **given.settings))
    assert not programs, f"the second call compiles {', '.join(programs)} anew"
    return result
