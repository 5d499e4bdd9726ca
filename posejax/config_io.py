"""Configs as JSON: saved with a run, rebuilt from it, compared on resume."""

import dataclasses
import importlib
import importlib.util
import json
import shutil
import sys
import types
import typing
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from posejax.config import ConfigError, unknown_field
from posejax.data.files import sync as sync
from posejax.data.files import sync_tree as sync_tree
from posejax.data.files import whole as whole

CLASS = "class"  # key under which a dataclass names itself
IMPORTS = "import_folders"  # key of a saved config: folders of the config files behind it
_CONFIG_MODULE = "posejax_config_"  # modules made from config files
_imported: dict[str, None] = {}  # folders of config files, in order


def to_json(value: Any) -> Any:
    """Dataclasses, tuples, enums and paths as plain JSON values.

    Raises:
      TypeError: a value has no JSON form (an array, a function).
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        cls = type(value)
        body = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {CLASS: f"{cls.__module__}:{cls.__qualname__}", **body}
    if isinstance(value, Enum):
        return to_json(value.value)
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a config holds numbers, strings, tuples and dataclasses, not {value!r}")


def from_json(value: Any, hint: Any = Any) -> Any:
    """Inverse of `to_json`: lists become tuples, `hint` restores paths and enums.

    Raises:
      ConfigError: a class or field is unknown (saved by another version); names the closest ones.
    """
    if isinstance(value, list):
        items = typing.get_args(hint)
        same = len(items) == 2 and items[1] is Ellipsis
        return tuple(
            from_json(v, items[0] if same else items[i] if i < len(items) else Any)
            for i, v in enumerate(value)
        )
    if isinstance(value, Mapping) and CLASS in value:
        cls = _find_class(value[CLASS])
        hints = typing.get_type_hints(cls)
        fields = {k: v for k, v in value.items() if k != CLASS}
        for name in fields:
            if name not in hints:
                raise ConfigError(f"saved config: {unknown_field(cls, name)}")
        return cls(**{k: from_json(v, hints[k]) for k, v in fields.items()})
    if isinstance(value, Mapping):
        return {k: from_json(v) for k, v in value.items()}
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    for option in options:
        if isinstance(option, type) and isinstance(value, str) and issubclass(option, Path | Enum):
            return option(value)
    return value


def flatten(config: Any, *, neutral: bool = True, prefix: str = "") -> dict[str, Any]:
    """`{"train.steps": 100, ...}`; without the `neutral` fields if asked."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        rows = {prefix + CLASS: f"{type(config).__module__}:{type(config).__qualname__}"}
        for f in dataclasses.fields(config):
            if neutral or not f.metadata.get("neutral"):
                value = getattr(config, f.name)
                rows |= flatten(value, neutral=neutral, prefix=f"{prefix}{f.name}.")
        return rows
    if isinstance(config, tuple | list) and any(dataclasses.is_dataclass(v) for v in config):
        rows = {}
        for i, v in enumerate(config):
            rows |= flatten(v, neutral=neutral, prefix=f"{prefix}{i}.")
        return rows
    return {prefix.rstrip("."): to_json(config)}


def diff(old: Any, new: Any) -> list[str]:
    """One line per setting that differs and can change a result: `train.steps: 100 -> 200`."""
    a, b = flatten(old, neutral=False), flatten(new, neutral=False)
    absent = "(absent)"
    return [
        f"{key}: {a.get(key, absent)} -> {b.get(key, absent)}"
        for key in dict.fromkeys([*a, *b])
        if not key.endswith(CLASS) and a.get(key, absent) != b.get(key, absent)
    ] + [f"{k}: {a[k]} -> {b[k]}" for k in a if k.endswith(CLASS) and k in b and a[k] != b[k]]


def save(config: Any, path: Path) -> None:
    """Write `config` as JSON, whole or not at all.

    Classes that live in a config file, or in a package beside it, must be found again by `load`:
    the folder is noted, the file is copied next to `path`.
    """
    value = to_json(config)
    value[IMPORTS] = list(_imported)
    for name in class_modules(value):
        source = getattr(sys.modules.get(name), "__file__", None)
        copy = path.parent / f"{name}.py"
        if name.startswith(_CONFIG_MODULE) and source and Path(source) != copy:
            with whole(copy) as temporary:
                shutil.copyfile(source, temporary)
    write_json(path, value)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def load(path: Path) -> Any:
    """Read what `save` wrote.

    Runs code: the config file kept beside `path`, and whatever modules the file names. So a run
    folder is as trusted as a program; `posejax.train.load_weights` is the one for strangers' files.

    Raises:
      ConfigError: no such file, not JSON, or saved by another version.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no saved config; is this a run folder?") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not JSON ({error})") from None
    if not (isinstance(value, dict) and CLASS in value):
        raise ConfigError(f"{path}: holds no saved config; expected an object with {CLASS!r}")
    folders = value.pop(IMPORTS, ())
    for folder in folders:
        _make_importable(folder)
    for name in class_modules(value):
        copy = path.parent / f"{name}.py"
        if name.startswith(_CONFIG_MODULE) and name not in sys.modules and copy.is_file():
            import_config_file(copy, name)
    try:
        return from_json(value)
    except ConfigError as error:
        gone = [f for f in folders if not Path(f).is_dir()]
        if not gone:
            raise
        raise ConfigError(
            f"{path}: {error}; the config file's folder {', '.join(gone)} is gone: put its new "
            "place on PYTHONPATH"
        ) from None


def import_config_file(path: Path, name: str | None = None) -> types.ModuleType:
    """Run a config file as a module; its folder is importable, its classes reach the workers."""
    import cloudpickle

    path = path.resolve()
    name = name or _CONFIG_MODULE + path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _make_importable(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        where = f"{error.filename or path}: line {error.lineno}"
        raise ConfigError(f"{where}: {error.msg}: {(error.text or '').strip()}") from None
    # grain pickles with cloudpickle; by value, since no worker could import this module.
    cloudpickle.register_pickle_by_value(module)
    return module


def _make_importable(folder: str) -> None:
    _imported[folder] = None
    if folder not in sys.path:
        sys.path.append(folder)


def class_modules(value: Any) -> set[str]:
    """Modules of all classes in a saved config."""
    if isinstance(value, Mapping):
        own = {str(value[CLASS]).partition(":")[0]} if CLASS in value else set()
        return own.union(*(class_modules(v) for v in value.values()))
    if isinstance(value, list):
        return set().union(*(class_modules(v) for v in value))
    return set()


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _find_class(name: str) -> type:
    module_name, _, qualname = name.partition(":")
    try:
        found: Any = sys.modules.get(module_name) or importlib.import_module(module_name)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        raise ConfigError(f"saved config: no class {name}; was it renamed since?") from None
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise ConfigError(f"saved config: {name} is not a dataclass")
    return found
