"""The floors of the house: imports only go down, data workers stay free of jax, files stay short.

The rules work on an import graph {module: imported modules}, read from the sources by `ast`
(imports inside functions count, those under `if TYPE_CHECKING` do not). Every rule is first shown
to fail on a small bad graph.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 450

FUNCTIONS = {"nn", "registration", "matching", "events", "trajectory", "keypoints", "bev", "sparse"}
PURE = {"geometry", "image"} | FUNCTIONS - {"nn"}
ENGINE = {
    "train", "config", "config_io", "evaluate", "cli", "program", "training", "loading", "demo",
    "exporting", "checking", "mapping", "__main__",
}  # fmt: skip
# Room -> rooms of posejax it may import from (besides itself). A room not listed is an error:
# whoever adds one decides on which floor it lies.
BELOW: dict[str, set[str]] = {
    "geometry": set(),
    "image": {"geometry"},
    **{room: {"geometry", "image", "lazy"} for room in FUNCTIONS},
    "nn": {"geometry", "image", "data", "sparse"},  # of data, the reader of weights' files
    "data": set(),
    "lazy": set(),
    "report": {"data"},  # of data, the writing of whole files
    "sim": {"geometry", "image", "data"},  # of data, the writers
    "deploy": {"data"},  # of data, the writing of whole files
    **{room: ENGINE | {"data", "report", "deploy"} for room in ENGINE},
    "checking": {"cli", "config", "data", "bev"},
    "systems": FUNCTIONS
    | ENGINE
    | {"geometry", "image", "data", "report", "sim", "lazy", "deploy"},
}
NO_JAX = {"jax", "jaxlib", "flax", "optax", "orbax", "chex"}
ONLY_FUNCTIONS = {"flax", "optax", "orbax", "grain", "h5py", "pyarrow", "matplotlib", "PIL", "rich"}


def room_of(module: str) -> str:
    """posejax.bev.lift -> bev; posejax itself -> ''."""
    return module.split(".")[1] if "." in module else ""


def system_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[2] if len(parts) > 2 and parts[1] == "systems" else None


def violations(graph: dict[str, set[str]]) -> list[str]:
    """Sentences about every import that breaks a rule."""
    found = []
    for module, imports in sorted(graph.items()):
        room = room_of(module)
        if room and room not in BELOW:
            found.append(f"{module}: room {room!r} has no floor; add it to BELOW")
            continue
        for target in sorted(imports):
            top = target.split(".")[0]
            if top == "torch":
                found.append(f"{module} imports torch, which is never a dependency")
            elif top != "posejax":
                if room in {"data", ""} and top in NO_JAX:
                    found.append(f"{module} imports {target}: data workers run without jax")
                if room in PURE and top in ONLY_FUNCTIONS:
                    found.append(
                        f"{module} imports {target}: pure functions need jax and numpy only"
                    )
            elif not room:
                if target != "posejax":
                    found.append(f"{module} imports {target}: every import of posejax would pay")
            elif room_of(target) not in {room, ""} | BELOW[room]:
                found.append(f"{module} imports {target}: {room_of(target)} is not below {room}")
            elif system_of(module) != system_of(target) and system_of(target) is not None:
                found.append(f"{module} imports {target}: systems do not know one another")
    return found


class _Imports(ast.NodeVisitor):
    def __init__(self, module: str, is_package: bool, known: set[str]):
        self.package = module if is_package else module.rpartition(".")[0]
        self.known, self.found = known, set()

    def visit_If(self, node):
        if "TYPE_CHECKING" not in ast.unparse(node.test):
            for child in node.body:
                self.visit(child)
        for child in node.orelse:
            self.visit(child)

    def visit_Import(self, node):
        self.found |= {alias.name for alias in node.names}

    def visit_ImportFrom(self, node):
        base = node.module or ""
        if node.level:
            parent = self.package.split(".")[: len(self.package.split(".")) - node.level + 1]
            base = ".".join([*parent, base] if base else parent)
        for alias in node.names:
            # `from posejax import sim` names a module, `from posejax.sim import x` perhaps not.
            full = f"{base}.{alias.name}"
            self.found.add(full if full in self.known else base)

    def visit_Call(self, node):
        # importlib.import_module("posejax.x") with a literal is an import like any other.
        if ast.unparse(node.func).split(".")[-1] in {"import_module", "__import__"}:
            self.found |= {a.value for a in node.args[:1] if isinstance(a, ast.Constant)}
        self.generic_visit(node)


def sources(root: Path) -> dict[str, Path]:
    """{module name: file} of the package `root`."""
    out = {}
    for path in sorted(root.rglob("*.py")):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        out[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return out


def import_graph(root: Path) -> dict[str, set[str]]:
    files = sources(root)
    graph = {}
    for module, path in files.items():
        visitor = _Imports(module, path.name == "__init__.py", set(files))
        visitor.visit(ast.parse(path.read_text(encoding="utf-8")))
        graph[module] = visitor.found
    return graph


def impure(graph: dict[str, set[str]]) -> list[str]:
    """Chains of imports that lead from a pure function's module out of the pure rooms.

    The rule of floors looks at one import at a time; this one follows them to the end, whichever
    rooms lie between.
    """
    found = []
    for start in sorted(m for m in graph if room_of(m) in PURE):
        chains, seen = [(start,)], {start}
        while chains:
            chain = chains.pop()
            for target in sorted(graph.get(chain[-1], set()) - seen):
                seen.add(target)
                if target.split(".")[0] == "posejax" and target != "posejax":
                    chains.append((*chain, target))
                    if room_of(target) not in PURE | {"lazy"}:
                        found.append(" -> ".join(chains.pop()))
    return found


def named_systems(tree: ast.AST, names: set[str]) -> set[str]:
    """Systems whose name occurs in a string or identifier that is not a docstring."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    words = {
        n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in docstrings
    }
    words |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    words |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    return {name for name in names if any(isinstance(w, str) and name in w for w in words)}


def test_imports_only_go_down():
    assert violations(import_graph(ROOT / "posejax")) == []


def test_pure_functions_depend_on_pure_functions_alone():
    assert impure(import_graph(ROOT / "posejax")) == []


def test_impurity_is_found_at_any_distance():
    a, b, c, files = "posejax.events.a", "posejax.image.b", "posejax.geometry.c", "posejax.data.d"
    pure = {a: {b, "jax", "posejax"}, b: {c, a}, c: {"numpy"}}
    assert impure(pure) == []
    assert impure({**pure, c: {files}}) == [
        f"{a} -> {b} -> {c} -> {files}",
        f"{c} -> {files}",
        f"{b} -> {c} -> {files}",
    ]
    assert impure({**pure, a: {"posejax.data"}})[0] == f"{a} -> posejax.data"


def test_the_graph_is_that_of_the_package():
    graph = import_graph(ROOT / "posejax")
    assert "posejax.geometry.numerics" in graph["posejax.image.warp"]
    assert "jax.numpy" in graph["posejax.geometry.rigid"]


@pytest.mark.parametrize(
    "module, target, word",
    [
        ("posejax.geometry.a", "posejax.image.b", "not below"),
        ("posejax.image.a", "posejax.registration", "not below"),
        ("posejax.registration.a", "posejax.matching.b", "not below"),
        ("posejax.sim.a", "posejax.train.step", "not below"),
        ("posejax.sim.a", "posejax.systems.georeg", "not below"),
        ("posejax.data.a", "posejax.geometry", "not below"),
        ("posejax.events.a", "posejax.data.b", "not below"),
        ("posejax.data.a", "jax.numpy", "without jax"),
        ("posejax.data.a", "flax", "without jax"),
        ("posejax", "jax", "without jax"),
        ("posejax", "posejax.geometry", "would pay"),
        ("posejax.train.loop", "posejax.systems.georeg", "not below"),
        ("posejax.cli", "posejax.systems.segnet.system", "not below"),
        ("posejax.systems.georeg.model", "posejax.systems.segnet.model", "one another"),
        ("posejax.events.voxel", "h5py", "pure functions"),
        ("posejax.matching.a", "flax.linen", "pure functions"),
        ("posejax.nn.weights", "torch", "never"),
        ("posejax.cellar.a", "jax", "no floor"),
    ],
)
def test_every_rule_can_fail(module, target, word):
    assert [word in text for text in violations({module: {target}})] == [True]


@pytest.mark.parametrize(
    "module, target",
    [
        ("posejax.systems.georeg.data", "posejax.systems.georeg.config"),
        ("posejax.systems.georeg.system", "posejax.train.system"),
        ("posejax.sim.streets", "posejax.data.av2"),
        ("posejax.nn.unet", "flax.linen"),
        ("posejax.image.warp", "posejax.geometry.grids"),
        ("posejax.data.av2", "pyarrow"),
    ],
)
def test_what_is_allowed_passes(module, target):
    assert violations({module: {target}}) == []


def test_all_forms_of_import_are_found(tmp_path):
    package = tmp_path / "posejax"
    (package / "sim").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "sim" / "__init__.py").write_text("from .. import train\nfrom .a import x\n")
    (package / "train.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import hidden\nelse:\n    import shown\n"
        "def f():\n    import importlib, posejax.sim.a as b\n"
        "    return importlib.import_module('posejax.sim')\n"
    )
    (package / "sim" / "a.py").write_text("from . import c\nfrom ..train import f\nx = 1\n")
    (package / "sim" / "c.py").write_text("")
    assert import_graph(package) == {
        "posejax": set(),
        "posejax.sim": {"posejax.train", "posejax.sim.a"},
        "posejax.train": {"typing", "shown", "importlib", "posejax.sim.a", "posejax.sim"},
        "posejax.sim.a": {"posejax.sim.c", "posejax.train"},
        "posejax.sim.c": set(),
    }


def test_the_engine_names_no_system():
    systems = ROOT / "posejax" / "systems"
    names = {path.parent.name for path in systems.glob("*/system.py")}
    assert names, "no systems found: the test would pass for nothing"
    for module, path in sources(ROOT / "posejax").items():
        if room_of(module) == "train":
            assert not named_systems(ast.parse(path.read_text(encoding="utf-8")), names), module


def test_naming_a_system_is_noticed_outside_docstrings_only():
    names = {"georeg"}
    assert named_systems(ast.parse("x = 'posejax.systems.georeg'"), names)
    assert named_systems(ast.parse("georeg_loss(1)"), names)
    assert not named_systems(ast.parse('"""As georeg does."""\nx = "lr"\n'), names)


def too_long(files: dict[str, int]) -> list[str]:
    return [f"{name}: {n} lines" for name, n in files.items() if n > MAX_LINES]


def test_files_stay_short():
    paths = [p for d in ("posejax", "configs", "benchmarks") for p in (ROOT / d).rglob("*.py")]
    lengths = {
        str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in paths
    }
    assert too_long(lengths) == []
    assert too_long({"a.py": MAX_LINES, "b.py": MAX_LINES + 1}) == [f"b.py: {MAX_LINES + 1} lines"]


@pytest.mark.parametrize(
    "imported",
    [
        "posejax.data",
        "posejax.events.windows",
        "posejax.systems.eventpose.windows",
        "posejax.systems.tinyroma.data",
        "posejax.systems.segnet.data",
        "posejax.systems.bifusion.data",
    ],
)
def test_what_workers_import_starts_no_jax(imported):
    """The import graph sees our own modules; this also sees what our dependencies import."""
    code = f"import sys, {imported}; sys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or f"importing {imported} imports jax"
