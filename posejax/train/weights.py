"""Weights in a single file for inference: npz always, safetensors if installed; one call to load.

Names, arrays and the config as JSON. Loading runs no code of the file's choice: its config may name
classes of posejax and of modules that the program has imported itself, and no others.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from posejax import config_io
from posejax.config import ConfigError, Experiment
from posejax.data.arrays import read_npz
from posejax.data.errors import DataError
from posejax.data.files import decoding, read_bytes
from posejax.train import groups
from posejax.train.checkpoint import CheckpointError, Checkpoints, find_checkpoint

_CONFIG = "__config__"
_PARAMS, _STATE = "params/", "state/"
_SHIPPED = Path(__file__).parents[1] / "shipped"


class Weights(NamedTuple):
    """What inference needs; `system` names the class that they were saved for, if it is known."""

    params: Any
    state: Any
    experiment: Experiment | None
    system: str = ""


def save_weights(
    path: Path | str, params: Any, state: Any, experiment: Experiment | None = None
) -> Path:
    """Write params, state and config into one `.npz` or `.safetensors` file, atomically."""
    path = Path(path)
    flat = {_PARAMS + k: np.asarray(v) for k, v in groups.flatten(params).items()}
    flat |= {_STATE + k: np.asarray(v) for k, v in groups.flatten(state).items()}
    text = json.dumps(config_io.to_json(experiment))
    if path.suffix not in (".npz", ".safetensors"):
        raise ConfigError(f"{path}: expected a name ending in .npz or .safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        write_npz(path, {**flat, _CONFIG: np.array(text)})
    else:
        with config_io.whole(path) as temporary:
            _safetensors().numpy.save_file(flat, str(temporary), metadata={_CONFIG: text})
    return path


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Arrays as one npz file, written whole or not at all."""
    with config_io.whole(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_arrays(path: Path) -> tuple[dict[str, np.ndarray], Any]:
    """Arrays by name and the config (JSON value) of a weights file.

    Raises:
      ConfigError: another kind of file.
      DataError: missing, damaged, or with pickled objects, which are never loaded.
    """
    expected = "a file written by posejax.train.save_weights or export"
    if path.suffix == ".npz":
        arrays = read_npz(path)
        text = str(arrays.pop(_CONFIG, "null"))
    elif path.suffix == ".safetensors":
        library, raw = _safetensors(), read_bytes(path, expected)
        with decoding(path, "file", expected):
            arrays = library.numpy.load(raw)
            text = _metadata(raw).get(_CONFIG, "null")
    else:
        raise ConfigError(f"{path}: expected a .npz or .safetensors file")
    with decoding(path, "config", expected):
        return arrays, json.loads(text)


def load(source: Path | str, which: str = "best", experiment: Experiment | None = None) -> Weights:
    """Weights and experiment from wherever they lie: the one way in.

    Args:
      source: a weights file, a run folder, RUN/checkpoints/STEP, or the name of shipped weights
        ("georeg_sim"; `shipped()` lists them).
      which: "best", "latest" or a step of a run folder.
      experiment: taken instead of the saved one, whose classes then need not be known.

    Raises:
      CheckpointError: nothing there to load.
      ConfigError, DataError: see `load_weights`.
    """
    path = Path(source)
    if str(source) in shipped() and not path.exists():
        path = shipped()[str(source)]
    if path.is_file():
        return load_weights(path, experiment)
    if not path.is_dir():
        runs = [str(p.parent) for p in sorted(path.parent.glob("*/checkpoints"))]
        there = f"there are {', '.join(runs[:6])}" if runs else "a training makes one"
        raise CheckpointError(
            f"{source}: no such weights file or run folder ({there}); shipped weights: "
            f"{', '.join(shipped())}"
        )
    workdir, step = find_checkpoint(path)
    config = workdir / "config.json"
    known: Experiment = experiment or config_io.load(config)
    found = load_model(workdir, known, which if step is None else str(step))
    if experiment is not None and config.is_file():  # its classes may be gone
        return found._replace(system=system_name(json.loads(config.read_text(encoding="utf-8"))))
    return found


def shipped() -> dict[str, Path]:
    """Name -> file of the weights that come with the package."""
    return {path.stem: path for path in sorted(_SHIPPED.glob("*.npz"))}


def load_weights(path: Path | str, experiment: Experiment | None = None) -> Weights:
    """One call from a file to `experiment.system.predict(params, state, batch)`.

    Dictionaries are rebuilt from the names. Parameters kept in half precision become float32.

    Raises:
      ConfigError: the config names classes of a module that is not imported; see the module.
      DataError: see `load_arrays`.
    """
    arrays, config = load_arrays(Path(path))
    system = system_name(config)
    if experiment is None:
        modules = sorted(config_io.class_modules(config))
        strange = [m for m in modules if not m.startswith("posejax.") and m not in sys.modules]
        if strange:
            raise ConfigError(
                f"{path}: its config needs {', '.join(strange)}; import it first, if you trust it "
                "(a weights file never makes Python import anything but posejax)"
            )
        experiment = config_io.from_json(config)
    if arrays and not any(name.startswith((_PARAMS, _STATE)) for name in arrays):
        raise DataError(path, "arrays", few(list(arrays)), f"{_PARAMS}... and {_STATE}...")
    arrays = {k: v.astype("f4") if v.dtype == np.float16 else v for k, v in arrays.items()}
    return Weights(
        _nest({k.removeprefix(_PARAMS): v for k, v in arrays.items() if k.startswith(_PARAMS)}),
        _nest({k.removeprefix(_STATE): v for k, v in arrays.items() if k.startswith(_STATE)}),
        experiment,
        system,
    )


def system_name(config: Any) -> str:
    """Class of the system in a saved config, "" if it names none: "Georeg"."""
    system = config.get("system") if isinstance(config, Mapping) else None
    name = system.get(config_io.CLASS) if isinstance(system, Mapping) else None
    return name.rpartition(":")[2] if isinstance(name, str) else ""


def export(run: Path | str, path: Path | str, which: str = "best", *, half: bool = False) -> Path:
    """Write the weights of a checkpoint of a run (moving average if it has one) to one file.

    Args:
      run: run folder or RUN/checkpoints/STEP.
      path: .npz or .safetensors file.
      which: "best", "latest" or a step; ignored when `run` names one.
      half: parameters in float16: half the size; see `to_half`.
    """
    model = load(run, which)
    params = to_half(model.params) if half else model.params
    return save_weights(path, params, model.state, model.experiment)


def to_half(params: Any) -> Any:
    """Parameters in float16, for files.

    Numerical notes: rounding errs by at most 5e-4 of each value, and below 6.1e-5 (where float16
    is subnormal) by at most 3e-8; what is smaller than that becomes 0.

    Raises:
      ConfigError: a value beyond the 65504 of float16.
    """
    flat = {}
    for name, leaf in groups.flatten(params).items():
        value = np.asarray(leaf)
        with np.errstate(over="ignore"):  # told below
            flat[name] = value.astype(np.float16)
        lost = value[np.isinf(flat[name]) & np.isfinite(value)]
        if lost.size:
            raise ConfigError(
                f"{name}: {lost.flat[0]:.6g} is beyond float16 (65504); export it without half"
            )
    return groups.unflatten(flat, params)


def load_model(workdir: Path, experiment: Experiment, which: str) -> Weights:
    """Parameters (moving average if there is one) and state of a checkpoint, as NumPy arrays."""
    with Checkpoints(workdir, experiment.train.checkpoint, write=False) as checkpoints:
        step = choose(checkpoints, which)
        model = checkpoints.restore_model_as_saved(step)
    params = model["params"] if model.get("ema") is None else model["ema"]
    return Weights(params, model["model_state"], experiment, type(experiment.system).__name__)


def choose(checkpoints: Checkpoints, which: str) -> int:
    """Step of "best", "latest" or a number."""
    step = {"best": checkpoints.best, "latest": checkpoints.latest}.get(which, lambda: None)()
    if which.isdigit():
        return int(which)
    if step is None:
        if which not in ("best", "latest"):
            raise ConfigError(f"checkpoint {which!r}: expected best, latest or a step")
        raise ConfigError(f"{checkpoints.folder}: holds no complete checkpoint")
    return step


def initialize(
    state: Any, path: Path, calibration: Sequence[str] = (), system: str = ""
) -> tuple[Any, str]:
    """`state` with the parameters found under `path`: weights file, run folder or checkpoint.

    Parameters are taken where name and shape agree; a line for people says which were not.
    Entries of the model's state named in `calibration` stay: they were fitted for the parameters
    there, not for those that this training will make of them.

    Args:
      system: class of the system that is trained, for messages.

    Raises:
      ConfigError: no parameter was taken.
    """
    found = load(path)
    params, used, left = _merge(state.params, found.params)
    strange = _of_another(found.system, system)
    if not used:
        why = strange or "no parameter of it fits this model"
        raise ConfigError(f"train.init_from {path}: {why}: {few(left)}")
    kept = {k: v for k, v in found.state.items() if k not in calibration}
    model_state, _, _ = _merge(state.model_state, kept)
    ema = None if state.ema is None else jax.tree.map(lambda x: x.copy(), params)
    told = f"initial parameters: {len(used)} of {len(used) + len(left)} arrays from {path}"
    if strange:
        told += f" ({strange})"
    if left:
        told += f"; not there, or of another shape: {few(left)}"
    return state._replace(params=params, model_state=model_state, ema=ema), told


def check_fit(shapes: Any, found: Weights, source: str, system: str = "") -> None:
    """Raise CheckpointError unless the parameters have the given shapes.

    The message says whose weights these are, if not those of `system`, and names up to three
    parameters that differ.
    """
    want = {k: tuple(v.shape) for k, v in groups.flatten(shapes).items()}
    have = {k: tuple(v.shape) for k, v in groups.flatten(found.params).items()}
    wrong = [
        f"{k}: {have.get(k, 'missing')}, the model has {want.get(k, 'none')}"
        for k in dict.fromkeys([*want, *have])
        if want.get(k) != have.get(k)
    ]
    if wrong:
        strange = _of_another(found.system, system)
        raise CheckpointError(
            f"{source}: {strange or 'does not fit the model of this config'}: {few(wrong, '; ')}"
        )


def _of_another(saved: str, asked: str) -> str:
    """Words for weights of another system than the one asked for, "" if they are not."""
    return (
        f"weights of {saved}, not of {asked}" if "" not in (saved, asked) and saved != asked else ""
    )


def few(names: Sequence[str], between: str = ", ") -> str:
    """The first three names, and how many there are besides."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return between.join(names[:3]) + more


def _merge(tree: Any, found: Any) -> tuple[Any, list[str], list[str]]:
    """`tree` with the arrays of `found` that fit, laid out as those of `tree`."""
    old, new = groups.flatten(tree), groups.flatten(found)
    used = [k for k, v in old.items() if k in new and new[k].shape == v.shape]
    merged = {
        k: jax.device_put(np.asarray(new[k], v.dtype), v.sharding) if k in used else v
        for k, v in old.items()
    }
    return groups.unflatten(merged, tree), used, [k for k in old if k not in used]


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        node = tree
        *parents, leaf = path.split("/")
        for name in parents:
            node = node.setdefault(name, {})
        node[leaf] = value
    return tree


def _metadata(raw: bytes) -> dict[str, str]:
    """Texts in the header of a .safetensors file that the library has read."""
    size = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + size]).get("__metadata__") or {}


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError:
        raise ImportError(
            "safetensors files need: pip install 'posejax[safetensors]'; .npz needs nothing"
        ) from None

    return safetensors
