"""Published weights: XFeat's for the trunk, Tiny RoMa's for the whole network, and back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from posejax.config import ConfigError
from posejax.data.errors import DataError
from posejax.nn.torch_weights import NameTable, from_flax, load_state_dict, to_flax
from posejax.nn.xfeat import HEADS, trunk_entries
from posejax.systems.tinyroma.model import TinyRoma, tiny_roma_table

EPSILON = 1e-5  # of the batch norms
_SUFFIXES = (".npz", ".safetensors", ".pth")
_UNUSED = tuple(rf"{name}\..*" for name in (*HEADS, "fine_matcher", "norm"))


def load_backbone(path: str | Path, model: TinyRoma, variables: Mapping[str, Any]) -> dict:
    """`variables` of the model with the trunk of an XFeat file, folded or not.

    Args:
      path: file of XFeat's state dict, or a folder with one whose name begins with "xfeat".
      variables: of `model`, with `params` and `batch_stats`.

    Raises:
      ConfigError: no such file, one that cannot be read, or weights of another network.
    """
    try:
        file = weights_file(path)
        state = unfolded({k.removeprefix("net."): v for k, v in load_state_dict(file).items()})
        table = NameTable(tuple(trunk_entries()), (r".*\.num_batches_tracked", *_UNUSED))
        own = {kind: variables[kind]["trunk"] for kind in ("params", "batch_stats")}
        loaded = fitted(file, state, table, own, "XFeat's weights")
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(f"system.model.backbone: {error}") from error
    return {
        kind: {**part, "trunk": loaded[kind]} if kind in loaded else part
        for kind, part in variables.items()
    }


def load_tiny_roma(path: str | Path, model: TinyRoma, variables: Mapping[str, Any]) -> dict:
    """`variables` of the model from a file in the released layout of 112 tensors.

    A model with norm "batch" keeps its own statistics of the input where the file has none.

    Raises:
      ConfigError: no such file, one that cannot be read, or weights of another network.
    """
    try:
        file, table = weights_file(path), tiny_roma_table(model)
        state = load_state_dict(file)
        if model.norm == "batch":
            own = from_flax(variables, table)
            state = {**{k: v for k, v in own.items() if k.startswith("xfeat.0.norm.")}, **state}
        else:
            state = {k: v for k, v in state.items() if not k.startswith("xfeat.0.norm.")}
        return fitted(file, state, table, variables, "Tiny RoMa's weights")
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(f"system.model.weights: {error}") from error


def to_state_dict(model: TinyRoma, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The released layout, with the counters that PyTorch's strict loading asks for."""
    return from_flax(variables, tiny_roma_table(model), batches_tracked=0)


def unfolded(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state dict with folded batch norms as one that has them: mean -bias, variance 1.

    The same network as long as the norms use these running statistics; statistics of a batch would
    remove what the biases do (`ModelConfig.frozen_norm`).
    """
    found: dict[str, np.ndarray] = {}
    for name, value in state.items():
        layer, _, kind = name.rpartition(".layer.0.")
        if not layer or kind != "bias":
            found[name] = value
            continue
        found[f"{layer}.layer.1.running_mean"] = -value
        found[f"{layer}.layer.1.running_var"] = np.full_like(value, 1 - EPSILON)
    return found


def weights_file(path: str | Path) -> Path:
    """The file that is meant: of a folder, the one whose name begins with "xfeat".

    Raises:
      ValueError: nothing there, or not one such file in the folder.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(p for p in path.glob("xfeat*") if p.suffix in _SUFFIXES)
        if len(files) != 1:
            names = ", ".join(p.name for p in files) or "none"
            raise ValueError(f"{path}: expected one file xfeat*{'|'.join(_SUFFIXES)}, got {names}")
        return files[0]
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected weights ({', '.join(_SUFFIXES)})")
    return path


def fitted(
    path: str | Path,
    state: Mapping[str, np.ndarray],
    table: NameTable,
    variables: Mapping[str, Any],
    expected: str,
) -> dict[str, Any]:
    """`to_flax` of what a file held, whose refusal names the file and is one line.

    Raises:
      DataError: the state dict does not fit; the message has the first of its tensors.
    """
    try:
        return to_flax(state, table, variables)
    except ValueError as error:
        first, *others = [line.strip() for line in str(error).splitlines()[1:]]
        more = f" (and {len(others)} more)" if others else ""
        raise DataError(path, "tensors", first + more, expected) from error
