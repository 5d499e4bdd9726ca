"""Weights of PyTorch models in Flax modules: name tables, files, and nothing left over.

A table pairs every entry of a state dict with one array of the Flax variables. Conversion is all
or nothing: an entry without a partner on either side, or of another shape, is an error that names
it. Files are `.safetensors`, `.npz` or what `torch.save` writes; of the latter nothing is run (see
`posejax.nn.torch_archive`).
"""

import dataclasses
import difflib
import io
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from posejax.data.arrays import read_npz
from posejax.data.errors import DataError
from posejax.data.files import decoding, read_bytes, whole
from posejax.nn.torch_archive import read_torch

Layout = Literal["same", "conv", "linear"]
# Axes of the Flax array in the PyTorch one: OIHW -> HWIO (also C1HW -> HW1C), OI -> IO.
AXES: dict[Layout, tuple[int, ...] | None] = {
    "same": None,
    "conv": (2, 3, 1, 0),
    "linear": (1, 0),
}
PICKLED = {".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".tar"}
# Under what a training's checkpoint keeps its state dict.
WRAPPERS = ("state_dict", "model_state_dict", "model")


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


def from_flax(
    variables: Mapping[str, Any], table: NameTable, *, batches_tracked: int | None = None
) -> dict[str, np.ndarray]:
    """The inverse of `to_flax`: name -> array in PyTorch's layouts.

    Args:
      variables: Flax variables.
      table: their names.
      batches_tracked: value of the counter that PyTorch's batch norms keep beside their statistics
        (its value matters to cumulative averages only). Entries that the table ignores are left
        out otherwise.

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
        norm, _, last = entry.name.rpartition(".")
        if last == "running_var" and batches_tracked is not None:
            found[f"{norm}.num_batches_tracked"] = np.array(batches_tracked, np.int64)
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


def load_state_dict(
    path: str | Path, *, key: str | None = None, prefix: str = ""
) -> dict[str, np.ndarray]:
    """Arrays by name from a `.safetensors`, `.npz` or PyTorch (`.pth`, `.pt`, `.bin`, ...) file.

    Args:
      path: the file.
      key: under what a PyTorch checkpoint keeps the state dict; by default the checkpoint is one
        itself, or has one under "state_dict", "model_state_dict" or "model".
      prefix: take only the entries whose names begin so, and take it off, e.g. "encoder.". The
        "module." of a `DataParallel` model is always taken off, before this.

    Raises:
      DataError (a ValueError): a file that cannot be read, or holds more than plain arrays.
      ValueError: another kind of file; no entry with that prefix.
      FileNotFoundError: no such file.
      ImportError: a `.safetensors` file and the optional dependency is missing.
    """
    path = Path(path)
    if path.suffix not in {".npz", ".safetensors", *PICKLED}:
        raise ValueError(f"{path}: expected a .safetensors, .npz or PyTorch (.pth, .pt) file")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.suffix in PICKLED:
        found = _state_dict(path, read_torch(path), key)
    elif path.suffix == ".npz":
        found = read_npz(path)
    else:
        expected = "a .safetensors file"
        library, raw = _safetensors(path), read_bytes(path, expected)
        with decoding(path, "file", expected):
            found = library.load(raw)
    for start in ("module.", prefix):
        if start == prefix or all(name.startswith(start) for name in found):
            found = {k.removeprefix(start): v for k, v in found.items() if k.startswith(start)}
    if prefix and not found:
        raise ValueError(f"{path}: no entry begins with {prefix!r}")
    return found


def save_state_dict(path: str | Path, tensors: Mapping[str, Any]) -> Path:
    """Write arrays by name to a `.safetensors` or `.npz` file, whole or not at all.

    In PyTorch: `model.load_state_dict(safetensors.torch.load_file(path))`.

    Raises:
      ValueError: another kind of file.
      ImportError: a `.safetensors` file and the optional dependency is missing.
    """
    path, arrays = Path(path), {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    # NumPy makes arrays of one axis of scalars.
    arrays = {k: v.reshape(np.shape(tensors[k])) for k, v in arrays.items()}
    if path.suffix not in {".npz", ".safetensors"}:
        raise ValueError(f"{path}: expected a name ending in .safetensors or .npz")
    if path.suffix == ".safetensors":
        content = _safetensors(path).save(arrays)
    else:
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        content = buffer.getvalue()
    with whole(path) as temporary:
        temporary.write_bytes(content)
    return path


def _state_dict(path: Path, tree: Any, key: str | None) -> dict[str, np.ndarray]:
    """The state dict in what a PyTorch file holds."""
    expected = "a state dict: tensors by name"
    if not isinstance(tree, dict):
        raise DataError(path, "top level", f"a {type(tree).__name__}", expected)
    if key is None and not any(isinstance(value, np.ndarray) for value in tree.values()):
        inside = [name for name in WRAPPERS if isinstance(tree.get(name), dict)]
        key = inside[0] if len(inside) == 1 else None
    if key is not None:
        if not isinstance(tree.get(key), dict):
            there = ", ".join(str(name)[:40] for name in tree)[:200]
            raise DataError(path, f"key {key}", f"no dict (the file has: {there})", expected)
        tree = tree[key]
    for name, value in tree.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            found = f"a {type(value).__name__.strip('_')}"
            hint = "" if key else "say key=... if the state dict lies deeper"
            raise DataError(path, f"entry {str(name)[:80]}", found, expected, hint)
    return tree


def _safetensors(path: Path) -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            f"{path}: .safetensors needs the optional dependency: "
            "pip install 'posejax[safetensors]'"
        ) from error
    return safetensors.numpy


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
