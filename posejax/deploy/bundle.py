"""A program as files: the exported function, a description in JSON, and its weights beside.

FILE.jaxexport is for `load_program` and `jax.export.deserialize`; FILE.mlirbc is the same program
as portable StableHLO for other compilers. The exported program is run again before anybody relies
on it: a .jaxexport as it is read back, a .mlirbc as it was before it was written. That file is
never read here.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax import export

from posejax.data.errors import DataError
from posejax.data.files import decoding, read_bytes, whole
from posejax.deploy.operators import Operator, operators
from posejax.deploy.program import Program, Size
from posejax.deploy.rules import Finding, Rules

PLATFORMS = ("cpu", "cuda", "tpu")
SUFFIXES = (".jaxexport", ".mlirbc")
Where = Literal["inside", "beside"]


@dataclass(frozen=True)
class Bundle:
    """What was written.

    Attributes:
      files: all of them, the program first.
      operators: of the program, lowered for its first platform.
      findings: what the rules say.
      difference: largest deviation of the program's outputs (see the module) from the function's,
        as a share of each output's largest magnitude; None if this machine has none of
        its platforms.
    """

    files: tuple[Path, ...]
    operators: tuple[Operator, ...]
    findings: tuple[Finding, ...]
    difference: float | None


def export_program(
    program: Program,
    size: Size | None = None,
    platforms: Sequence[str] = PLATFORMS,
    weights: Where = "inside",
) -> export.Exported:
    """The program of fixed shapes, or of any height and width where it has them and `size` is None.

    Args:
      program: what to export.
      size: (height, width).
      platforms: some of "cpu", "cuda", "tpu".
      weights: "inside" as constants: called with the dict of inputs; "beside": called with the
        pytree of weights and the dict of inputs.

    Raises:
      ValueError: the size does not suit the program, or the program does not suit symbolic sizes.
    """
    if weights == "inside":
        constants = jax.device_get(program.weights)
        function, given = (lambda inputs: program.call(constants, inputs)), ()
    else:
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), program.weights)
        function, given = program.call, (shapes,)
    inputs = program.shapes(size)
    try:
        return export.export(jax.jit(function), platforms=list(platforms))(*given, inputs)
    except (TypeError, ValueError, jax.errors.InconclusiveDimensionOperation) as error:
        if size is not None or not program.sized:
            raise
        # What jax raises where the shapes of a program depend on sizes in ways it cannot follow.
        text = str(error).splitlines()[0][:200]
        raise ValueError(f"works with fixed sizes alone ({text}); give --size WxH") from error


def write(
    path: Path,
    program: Program,
    size: Size | None = None,
    *,
    platforms: Sequence[str] = PLATFORMS,
    weights: Where = "inside",
    rules: Rules | None = None,
) -> Bundle:
    """Export, write, run and compare, list the operators; a .jaxexport is read back for it.

    Args:
      path: .jaxexport or .mlirbc file; FILE.json and FILE.weights.npz come beside.
      rules: what the operators are checked against.

    For the others see `export_program`.

    Raises:
      ValueError: see `export_program`; another suffix; rules for a program of any size.
      ImportError: .jaxexport without the package flatbuffers.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: expected a name ending in {' or '.join(SUFFIXES)}")
    if rules and program.sized and size is None:  # a limit of bytes would let everything pass
        raise ValueError("rules judge operators by their sizes; give --size WxH")
    exported = export_program(program, size, platforms, weights)
    listed = exported
    if len(platforms) > 1 or weights == "inside":  # without the choice of platform, and smaller
        listed = export_program(program, size, platforms[:1], "beside")
    found = operators(listed)
    findings = rules.check(found) if rules else []
    path.parent.mkdir(parents=True, exist_ok=True)
    native = path.suffix == ".jaxexport"
    content = bytes(exported.serialize() if native else exported.mlir_module_serialized)
    _write(path, content)
    files = [path]
    if weights == "beside":
        files.append(path.with_suffix(".weights.npz"))
        with whole(files[-1]) as temporary, temporary.open("wb") as file:
            np.savez(file, **flat_weights(program.weights))  # type: ignore[arg-type]
    if native:
        exported = load_program(path)
    difference = compare(exported, program, size, weights)
    files.append(path.with_suffix(".json"))
    about = {
        **describe(exported, program, size, platforms, weights),
        "operators": dict(Counter(op.name for op in found).most_common()),
        "largest": [asdict(op) for op in sorted(found, key=lambda op: -op.bytes)[:5]],
        "rules": rules.name if rules else None,
        "findings": [
            {**asdict(f.operator), "count": f.count, "why": f.why, "reason": f.reason}
            for f in findings
        ],
        "difference": difference,
    }
    _write(files[-1], (json.dumps(about, indent=1) + "\n").encode())
    return Bundle(tuple(files), tuple(found), tuple(findings), difference)


def load_program(path: str | Path) -> export.Exported:
    """A .jaxexport file: `load_program(path).call(inputs)`, of a dict of arrays.

    It holds a program, which runs when it is called, on the device and no further: it has no
    access to files or to Python.

    Raises:
      DataError: missing or damaged file.
      ImportError: the package flatbuffers is missing.
    """
    expected = "a .jaxexport file"
    raw = read_bytes(path, expected)
    with decoding(path, "file", expected):
        return export.deserialize(bytearray(raw))


def compare(
    exported: export.Exported, program: Program, size: Size | None, weights: Where
) -> float | None:
    """See `Bundle.difference`; a program of any size is compared at two of them.

    Raises:
      DataError: outputs of other names or shapes.
    """
    here = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
    if here not in exported.platforms:
        return None
    step = max(i.multiple for i in program.inputs.values())
    any_size = size is None and program.sized
    sizes = [(4 * step, 4 * step), (4 * step, 8 * step)] if any_size else [size]
    worst = 0.0
    for one in sizes:
        inputs = program.examples(one)
        given = (inputs,) if weights == "inside" else (program.weights, inputs)
        ours = jax.device_get(exported.call(*given))
        want = jax.device_get(jax.jit(program.call)(program.weights, inputs))
        if set(ours) != set(want):
            raise DataError("the exported program", "outputs", sorted(ours), str(sorted(want)))
        worst = max([worst, *(_deviation(ours[k], want[k]) for k in want)])
    return worst


def _deviation(ours: np.ndarray, want: np.ndarray) -> float:
    if ours.shape != want.shape:
        return float("inf")
    if not ours.size:
        return 0.0
    a, b = (np.asarray(x, np.float64) for x in (ours, want))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    scale = np.max(np.abs(b), where=np.isfinite(b), initial=1e-30)
    return float(np.max(np.where(same, 0, np.nan_to_num(np.abs(a - b), nan=np.inf)) / scale))


def describe(
    exported: export.Exported,
    program: Program,
    size: Size | None,
    platforms: Sequence[str],
    weights: Where,
) -> dict[str, Any]:
    """What somebody who has only the files needs to call the program."""
    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    return {
        "platforms": list(platforms),
        "size_wh": "any" if size is None and program.sized else size and [size[1], size[0]],
        "weights": weights,
        "parameters": sum(x.size for x in jax.tree.leaves(program.weights)),
        "arguments": "weights, inputs" if weights == "beside" else "inputs",
        "inputs": {k: _about(x) for k, x in program.shapes(size).items()},
        "outputs": {k: _about(x) for k, x in outputs.items()},
        "jax": jax.__version__,
        "calling_convention": exported.calling_convention_version,
    }


def flat_weights(weights: Any) -> Mapping[str, np.ndarray]:
    """The leaves of a tree by their paths, in the order in which the program takes them."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(weights)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(x) for path, x in leaves
    }


def _about(x: Any) -> dict[str, Any]:
    sides = [s if isinstance(s, int) else str(s) for s in x.shape]
    return {"shape": sides, "dtype": str(np.dtype(x.dtype))}


def _write(path: Path, content: bytes) -> None:
    with whole(path) as temporary:
        temporary.write_bytes(content)
