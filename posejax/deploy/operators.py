"""The operators of an exported program: which, where from, how large."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jax import export
from jax.interpreters import mlir

_SILENT = {"return", "constant", "func", "module"}
_SCALAR_BODIES = {"reduce", "reduce_window", "scatter", "sort", "select_and_scatter"}
_SCOPE = re.compile(r'loc\("([^"]*)"')
_SOURCE = re.compile(r'"([^"]*\.py)":(\d+)')
_BITS = re.compile(r"(\d+)$")


@dataclass(frozen=True)
class Operator:
    """One operation of StableHLO; inside of loops it is listed once.

    Attributes:
      name: without its dialect, e.g. "gather".
      scope: modules and named scopes around it.
      source: file and line that it comes from, "" if unknown.
      result: type of its (first) result, e.g. "1x40x80x64xf32".
      bytes: of its operands and results; 0 where a size is symbolic.
      reduced: how many elements of the operand make one of the result.
    """

    name: str
    scope: str
    source: str
    result: str
    bytes: int
    reduced: int


def operators(exported: export.Exported) -> list[Operator]:
    """All operators of the program in order, those of called functions at each of their calls."""
    with mlir.make_ir_context():
        module = mlir.ir.Module.parse(exported.mlir_module())
        functions = {str(op.attributes["sym_name"]).strip('"'): op for op in module.body.operations}
        return list(_walk(functions["main"].operation, functions, "", ""))


def _walk(parent: Any, functions: dict[str, Any], scope: str, caller: str) -> Iterator[Operator]:
    for region in parent.regions:
        for block in region.blocks:
            for view in block.operations:
                op = view.operation
                name = op.name.rpartition(".")[2]
                place = str(op.location)
                inner = _join(scope, next(iter(_SCOPE.findall(place)), ""))
                source = _source(place) or caller
                if name == "call":
                    callee = functions[op.attributes["callee"].value].operation
                    yield from _walk(callee, functions, inner, source)
                    continue
                if name not in _SILENT:
                    yield _operator(op, name, inner, source)
                # The bodies of these are scalar functions, part of the operator.
                if name not in _SCALAR_BODIES:
                    yield from _walk(op, functions, scope, source)


def _source(place: str) -> str:
    """File and line of the innermost frame in a location, from the package's folder on."""
    path, line = next(iter(_SOURCE.findall(place)), ("", ""))
    start = path.rfind("/posejax/")
    return f"{path[start + 1 :]}:{line}" if path else ""


def _operator(op: Any, name: str, scope: str, source: str) -> Operator:
    results = [_tensor(str(r.type)) for r in op.results]
    operands = [_tensor(str(o.type)) for o in op.operands]
    size = sum(count * width for count, width, _ in (*results, *operands))
    reduced = 1
    if name == "reduce" and results and operands and results[0][0]:
        reduced = operands[0][0] // results[0][0]
    text = results[0][2] if results else ""
    return Operator(name, scope, source, text, math.ceil(size), reduced)


def _tensor(text: str) -> tuple[int, float, str]:
    """Elements, bytes of each, and the plain form of "tensor<2x3xf32>"."""
    inner = text.removeprefix("tensor<").removesuffix(">").partition(",")[0]
    *sides, kind = inner.split("x")
    bits = _BITS.search(kind)
    width = (int(bits.group()) if bits else 8) / 8
    if kind == "i1":
        width = 1
    count = 0 if "?" in sides or not text.startswith("tensor") else math.prod(map(int, sides))
    return count, width, inner


def _join(outer: str, inner: str) -> str:
    """Scopes without the wrappers of jax: "jit(main)/TinyRoma/conv" -> "TinyRoma/conv"."""
    parts = [*outer.split("/"), *inner.split("/")]
    return "/".join(p for p in parts if p and not p.startswith(("jit(", "vmap(", "jvp(")))
