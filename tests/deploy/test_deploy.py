"""Exported programs come back and compute the same; rules name what a target lacks."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from posejax import deploy
from posejax.data.errors import DataError
from posejax.deploy import Input, Operator, Program, read_rules

IMAGE = Input((1, "height", "width", 2), multiple=4)


def function(weights, image, shift):
    with jax.named_scope("mix"):
        mixed = jnp.einsum("bhwc,cd->bhwd", image, weights["kernel"], precision="highest")
    with jax.named_scope("pick"):
        # Where the arguments are data, addresses are too.
        picked = jnp.take(mixed, jnp.round(shift).astype(jnp.int32), axis=3, mode="clip")
    return {"mixed": mixed, "picked": picked, "mean": jnp.mean(mixed)}


@pytest.fixture(scope="module")
def program():
    weights = {"kernel": jnp.arange(6.0).reshape(2, 3)}
    return Program(function, weights, {"image": IMAGE, "shift": Input((2,))})


@pytest.fixture(scope="module")
def listed(program):
    return deploy.operators(deploy.export_program(program, (8, 12), ("tpu",), "beside"))


def test_operators_say_what_they_are_and_where_they_come_from(listed):
    (gather,) = [op for op in listed if op.name == "gather"]
    assert gather.scope.startswith("pick/") and gather.result == "1x8x12x2xf32"
    assert gather.source.partition(":")[0].endswith("tests/deploy/test_deploy.py")
    (dot,) = [op for op in listed if op.name == "dot_general"]
    assert dot.scope.startswith("mix/") and dot.bytes == 4 * (6 + 8 * 12 * 2 + 8 * 12 * 3)
    (mean,) = [op for op in listed if op.name == "reduce"]
    assert mean.reduced == 8 * 12 * 3
    assert not {"constant", "return", "call", "func"} & {op.name for op in listed}


def test_functions_that_are_called_twice_count_twice_and_loops_once():
    def f(weights, x):
        with jax.named_scope("loop"):
            x = jax.lax.fori_loop(0, 3, lambda i, x: jnp.sin(x), x)
        inner = jax.jit(jnp.cos)
        return {"y": inner(inner(x))}

    program = Program(f, {}, {"x": Input((3,))})
    found = deploy.operators(deploy.export_program(program, None, ("cpu",), "beside"))
    names = [op.name for op in found]
    assert names.count("cosine") == 2 and names.count("sine") == 1 and "while" in names


@pytest.mark.parametrize("weights", ["inside", "beside"])
def test_a_program_is_written_read_and_run_again(tmp_path, program, weights):
    pytest.importorskip("flatbuffers")
    path = tmp_path / "net.jaxexport"
    made = deploy.write(path, program, (8, 12), weights=weights)
    assert made.difference is not None and made.difference < 1e-6
    about = json.loads((tmp_path / "net.json").read_text())
    assert about["size_wh"] == [12, 8] and about["parameters"] == 6
    assert about["inputs"]["image"] == {"shape": [1, 8, 12, 2], "dtype": "float32"}
    assert about["outputs"]["picked"] == {"shape": [1, 8, 12, 2], "dtype": "float32"}
    assert about["operators"]["dot_general"] == 1 and about["platforms"] == ["cpu", "cuda", "tpu"]
    inputs = program.examples((8, 12), seed=3)
    want = program.call(program.weights, inputs)
    loaded = deploy.load_program(path)
    if weights == "beside":
        with np.load(tmp_path / "net.weights.npz") as z:
            given = ({"kernel": z["kernel"]}, inputs)
    else:
        assert not (tmp_path / "net.weights.npz").exists()
        given = (inputs,)
    for name, value in loaded.call(*given).items():
        np.testing.assert_allclose(value, want[name], rtol=1e-6)


def test_portable_stablehlo_needs_no_other_package(tmp_path, program):
    made = deploy.write(tmp_path / "net.mlirbc", program, (8, 12), platforms=("cpu",))
    assert made.files[0].read_bytes().startswith(b"ML\xefR") and made.difference < 1e-6


def test_a_wrong_result_shows(program):
    exported = deploy.export_program(program, (8, 12), ("cpu",), "beside")
    from posejax.deploy.bundle import compare

    other = Program(program.function, {"kernel": 1 + program.weights["kernel"]}, program.inputs)
    assert compare(exported, program, (8, 12), "beside") == 0
    inside = deploy.export_program(program, (8, 12), ("cpu",), "inside")
    assert compare(inside, other, (8, 12), "inside") > 0.1
    elsewhere = deploy.export_program(program, (8, 12), ("tpu",), "inside")
    assert compare(elsewhere, program, (8, 12), "inside") is None


def test_sizes_stay_open_where_a_program_allows_it(program):
    exported = deploy.export_program(program, None, ("cpu",), "beside")
    for size in ((4, 8), (12, 4)):
        inputs = program.examples(size)
        found = exported.call(program.weights, inputs)
        want = program.call(program.weights, inputs)
        np.testing.assert_allclose(found["mixed"], want["mixed"], rtol=1e-6)
    assert export.is_symbolic_dim(exported.in_avals[1].shape[1])

    def stubborn(weights, image, shift):
        return {"y": np.zeros(int(image.shape[1])) + image.sum()}

    with pytest.raises(ValueError, match=r"works with fixed sizes alone .*; give --size WxH"):
        deploy.export_program(Program(stubborn, {}, program.inputs), None, ("cpu",))


def test_rules_are_not_asked_about_open_sizes(tmp_path, program):
    """No operator has bytes then, and none is beyond a limit."""
    with pytest.raises(ValueError, match="rules judge operators by their sizes"):
        deploy.write(tmp_path / "net.mlirbc", program, None, rules=read_rules("npu"))
    assert not list(tmp_path.iterdir())


def test_sizes_are_checked(program):
    with pytest.raises(ValueError, match="width 10: expected a multiple of 4"):
        deploy.export_program(program, (8, 10))
    with pytest.raises(ValueError, match=r"expected a name ending in \.jaxexport or \.mlirbc"):
        deploy.write(program=program, path=__import__("pathlib").Path("net.onnx"), size=(8, 8))


def test_damaged_programs_are_one_error(tmp_path):
    pytest.importorskip("flatbuffers")
    path = tmp_path / "net.jaxexport"
    for raw in (b"", b"\0" * 100, b"nothing"):
        path.write_bytes(raw)
        with pytest.raises(DataError, match=r"net\.jaxexport: file: unreadable"):
            deploy.load_program(path)


def operator(name, size=0, reduced=1, source="a.py:1", scope="net/x"):
    return Operator(name, scope, source, "2xf32", size, reduced)


def test_rules_name_operator_place_and_remedy(tmp_path, listed):
    path = tmp_path / "target.txt"
    path.write_text(
        "# a target\nallow dot_general reduce* add\nallow gather\n\n"
        "deny gather   # no addresses from data; sampling 'dense'\n"
        "deny reduce>100 # a map's statistics\n"
        "limit 1000 dot_general # on-chip memory\n"
    )
    rules = read_rules(path)
    found = {f.operator.name: f for f in rules.check(listed)}
    assert found["gather"].why == "denied"
    assert found["gather"].reason == "no addresses from data; sampling 'dense'"
    assert found["reduce"].why == "denied: 288 elements made one"
    assert found["dot_general"].why == "too large: 1,944 bytes in and out, at most 1,000"
    assert found["broadcast_in_dim" if "broadcast_in_dim" in found else "clamp"].why == (
        "not in the list target"
    )
    text = str(found["gather"])
    assert "gather [1x8x12x2xf32]: denied" in text and "from pick/" in text
    assert "test_deploy.py:" in text and text.endswith("sampling 'dense'")

    several = [operator("sort", 5), operator("sort", 9), operator("sort", 1, source="b.py:2")]
    first, second = rules.check([*several, operator("reduce", 1, 100), operator("add", 10**9)])
    assert (first.count, first.operator.bytes, second.count) == (2, 9, 1)


def test_rules_without_reasons_are_findings_of_their_own(tmp_path):
    """An operator that breaks several is named once for each, with what that one says."""
    path = tmp_path / "target.txt"
    path.write_text("allow reduce\ndeny reduce>4\nlimit 100 reduce\nlimit 200 reduce\n")
    found = read_rules(path).check([operator("reduce", 300, 8), operator("reduce", 150, 2)])
    assert [(f.count, f.why) for f in found] == [
        (1, "denied: 8 elements made one"),
        (2, "too large: 300 bytes in and out, at most 100"),
        (1, "too large: 300 bytes in and out, at most 200"),
    ]


@pytest.mark.parametrize(
    "line", ["permit add", "allow", "deny", "limit add", "limit 0 add", "deny a>b", "deny a>1 b"]
)
def test_lines_that_are_no_rules_are_named(tmp_path, line):
    path = tmp_path / "rules.txt"
    path.write_text(f"allow add\n{line}\n")
    with pytest.raises(DataError, match=r"rules\.txt: line 2: "):
        read_rules(path)
    with pytest.raises(DataError, match="not found"):
        read_rules(tmp_path / "absent.txt")


def test_the_npu_refuses_what_it_refused():
    """The mean over two images of 320x320 did not fit; over two of 320x256 it did."""
    rules = read_rules("npu")

    def too_large(width, height):
        size = 4 * (2 * width * height + 1)
        return any("too large" in f.why for f in rules.check([operator("reduce", size, 100)]))

    assert too_large(320, 320) and not too_large(320, 256) and not too_large(320, 160)
    assert rules.check([operator("reduce", 100, 320 * 160)])[0].reason.startswith("Statistics")
    assert not rules.check([operator(n) for n in ("convolution", "add", "dot_general", "reduce")])
