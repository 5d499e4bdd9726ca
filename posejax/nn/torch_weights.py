"""Weights of PyTorch models in Flax modules: name tables, files, and nothing left over.

A table pairs every entry of a state dict with one array of the Flax variables. Conversion is all
or nothing: an entry without a partner on either side, or of another shape, is an error that names
it. Files are `.safetensors` or `.npz`; pickled checkpoints are refused, as loading one runs code
of its author's choice.
"""

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from posejax.data.arrays import read_npz
from posejax.data.files import decoding, read_bytes

Layout = Literal["same", "conv", "linear"]
# Axes of the Flax array in the PyTorch one: OIHW -> HWIO (also C1HW -> HW1C), OI -> IO.
AXES: dict[Layout, tuple[int, ...] | None] = {
    "same": None,
    "conv": (2, 3, 1, 0),
    "linear": (1, 0),
}
PICKLED = {".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".tar"}
CONVERT = """Loading one runs code of its author's choice. Where PyTorch is at hand:
    import torch, safetensors.torch
    state = torch.load({path!r}, map_location="cpu", weights_only=True)
    safetensors.torch.save_file({{k: v.contiguous() for k, v in state.items()}}, {new!r})"""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array: its name in the state dict, its path in the Flax variables, its layout."""

    name: str
    path: tuple[str, ...]
    layout: Layout = "same"


@dataclasses.dataclass(frozen=True)
class NameTable:
    """Which entry of a state dict is which Flax array.

    Attributes:
      entries: pairs; names and paths are unique.
      ignored: regular expressions (matched against whole names) of state dict entries that have no
        counterpart on purpose.
      stem: name of the convolution that sees the input, whose channels `to_flax` can adapt.
    """

    entries: tuple[Entry, ...]
    ignored: tuple[str, ...] = (r".*\.num_batches_tracked",)
    stem: str = ""

    def __post_init__(self):
        for what, values in (
            ("state dict name", [e.name for e in self.entries]),
            ("flax path", ["/".join(e.path) for e in self.entries]),
        ):
            twice = sorted({v for v in values if values.count(v) > 1})
            if twice:
                raise ValueError(f"{what} more than once in the table: {', '.join(twice)}")

    def renamed(self, name: Callable[[str], str], *scope: str) -> "NameTable":
        """The table of the same module inside a larger model.

        Args:
          name: new state dict name of an old one, e.g. `lambda n: "encoder." + n`.
          scope: names of the Flax modules around it, e.g. `"encoder"`.
        """
        entries = tuple(
            Entry(name(e.name), (e.path[0], *scope, *e.path[1:]), e.layout) for e in self.entries
        )
        return NameTable(entries, self.ignored, name(self.stem) if self.stem else "")


def conv(name: str, *path: str, bias: bool = False) -> list[Entry]:
    """Entries of a convolution, plain or depthwise."""
    found = [Entry(f"{name}.weight", ("params", *path, "kernel"), "conv")]
    return found + ([Entry(f"{name}.bias", ("params", *path, "bias"))] if bias else [])


def linear(name: str, *path: str) -> list[Entry]:
    """Entries of a fully connected layer with bias."""
    return [
        Entry(f"{name}.weight", ("params", *path, "kernel"), "linear"),
        Entry(f"{name}.bias", ("params", *path, "bias")),
    ]


def batch_norm(name: str, *path: str) -> list[Entry]:
    """Entries of a batch norm with scale, bias and running statistics."""
    return [
        Entry(f"{name}.weight", ("params", *path, "scale")),
        Entry(f"{name}.bias", ("params", *path, "bias")),
        Entry(f"{name}.running_mean", ("batch_stats", *path, "mean")),
        Entry(f"{name}.running_var", ("batch_stats", *path, "var")),
    ]


def to_flax(
    state_dict: Mapping[str, Any],
    table: NameTable,
    variables: Mapping[str, Any],
    *,
    adapt_input: bool = False,
) -> dict[str, Any]:
    """The state dict as Flax variables.

    Args:
      state_dict: name -> array in PyTorch's layouts.
      table: e.g. `resnet_table(model)`.
      variables: what `model.init` gave; only shapes and types are read.
      adapt_input: convert the first convolution to the model's number of input channels by
        `adapt_stem` where they differ.

    Returns:
      A tree like `variables`, every array taken from the state dict.

    Raises:
      ValueError: entries without a partner on either side, or shapes that differ; lists them all.
    """
    target: dict[Any, Any] = flatten_dict(variables)
    entries = {e.name: e for e in table.entries}
    ignored = re.compile("|".join(f"(?:{p})" for p in table.ignored) or r"(?!)")
    paths = {e.path for e in table.entries}
    problems = _strays(
        "in the state dict but not in the table",
        (n for n in state_dict if n not in entries and not ignored.fullmatch(n)),
        [n for n in entries if n not in state_dict],
    )
    problems += _strays(
        "in the table but not in the state dict",
        (n for n in entries if n not in state_dict),
        [n for n in state_dict if n not in entries],
    )
    problems += _strays(
        "in the model but not in the table",
        ("/".join(p) for p in target if p not in paths),
        ["/".join(p) for p in paths if p not in target],
    )
    problems += _strays(
        "in the table but not in the model",
        ("/".join(p) for p in paths if p not in target),
        ["/".join(p) for p in target if p not in paths],
    )
    found: dict[Any, Any] = {}
    for entry in table.entries:
        if entry.name not in state_dict or entry.path not in target:
            continue
        wanted = target[entry.path]
        value = _to_layout(np.asarray(state_dict[entry.name]), entry)
        if entry.name == table.stem and value.ndim == 4 and value.shape != wanted.shape:
            if adapt_input:
                value = adapt_stem(value, wanted.shape[2])
            elif value.shape[2] != wanted.shape[2]:
                problems.append(
                    f"{entry.name}: {value.shape[2]} input channels, the model has "
                    f"{wanted.shape[2]}; adapt_input=True averages and repeats them"
                )
                continue
        if value.shape != wanted.shape:
            problems.append(
                f"{entry.name}: shape {value.shape} in Flax layout, but {'/'.join(entry.path)} "
                f"has {tuple(wanted.shape)}"
            )
            continue
        found[entry.path] = jnp.asarray(value, wanted.dtype)
    if problems:
        raise ValueError("the state dict does not fit:\n  " + "\n  ".join(problems))
    return unflatten_dict(found)


def from_flax(variables: Mapping[str, Any], table: NameTable) -> dict[str, np.ndarray]:
    """The inverse of `to_flax`: name -> array in PyTorch's layouts (without ignored entries).

    Raises:
      ValueError: arrays in `variables` that the table does not know, or the other way round.
    """
    flat: dict[Any, Any] = flatten_dict(jax.device_get(variables))
    by_path = {e.path: e for e in table.entries}
    odd = sorted("/".join(p) for p in flat.keys() ^ by_path.keys())
    if odd:
        raise ValueError(f"only in the model or only in the table: {', '.join(odd)}")
    found: dict[Any, Any] = {}
    for path, entry in by_path.items():
        value, axes = np.asarray(flat[path]), AXES[entry.layout]
        found[entry.name] = value if axes is None else value.transpose(np.argsort(axes))
    return found


def adapt_stem(kernel: Any, channels: int) -> np.ndarray:
    """A first convolution for another number of input channels: the mean over the old, repeated.

    Args:
      kernel: `[H, W, I, O]`.
      channels: of the new input.

    Returns:
      `[H, W, channels, O]`; not rescaled by I / channels, so an input whose channels are all
      equal to the mean of the old ones is answered `channels / I` times as strongly.
    """
    kernel = np.asarray(kernel)
    if kernel.ndim != 4:
        raise ValueError(f"expected a kernel [H, W, I, O], got shape {kernel.shape}")
    return np.repeat(kernel.mean(axis=2, keepdims=True), channels, axis=2)


def load_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays by name from a `.safetensors` or `.npz` file.

    Raises:
      ValueError: a pickled checkpoint (with how to convert it), or another kind of file.
      DataError (a ValueError): one that cannot be read, or holds more than plain arrays.
      FileNotFoundError: no such file.
      ImportError: a `.safetensors` file and the optional dependency is missing.
    """
    path = Path(path)
    if path.suffix in PICKLED:
        hint = CONVERT.format(path=path.name, new=path.with_suffix(".safetensors").name)
        raise ValueError(f"{path}: pickled checkpoints are not loaded. {hint}")
    if path.suffix not in {".npz", ".safetensors"}:
        raise ValueError(f"{path}: expected a .safetensors or .npz file")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.suffix == ".npz":
        return read_npz(path)
    try:
        import safetensors
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            f"{path}: reading .safetensors needs the optional dependency: "
            "pip install 'posejax[safetensors]'"
        ) from error
    expected = "a .safetensors file"
    raw = read_bytes(path, expected)
    with decoding(path, "file", expected):
        return safetensors.numpy.load(raw)


def _to_layout(value: np.ndarray, entry: Entry) -> np.ndarray:
    axes = AXES[entry.layout]
    # Arrays of another rank stay as they are and are reported by their shape.
    return value if axes is None or value.ndim != len(axes) else value.transpose(axes)


def _strays(what: str, names: Iterable[str], candidates: list[str]) -> list[str]:
    """One sentence per stray name, with the unpaired name of the other side that is closest."""
    found = []
    for name in names:
        close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
        found.append(f"{name}: {what}" + (f"; did you mean {close[0]}?" if close else ""))
    return found
