"""Name tables and weight files: everything matched once, strays named, pickles refused."""

import pickle

import jax
import numpy as np
import pytest
import safetensors.numpy

from posejax.nn import (
    EfficientNet,
    NameTable,
    ResNet,
    adapt_stem,
    efficientnet_table,
    from_flax,
    load_state_dict,
    resnet,
    resnet_table,
    save_state_dict,
    to_flax,
)
from posejax.nn.torch_weights import Entry, conv, linear

SMALL = ResNet(blocks=(1, 1), widths=(8, 16), stem_width=8)


@pytest.fixture(scope="module")
def small(variables_of):
    """Variables and the state dict they correspond to."""
    variables = variables_of(SMALL)
    return variables, from_flax(variables, resnet_table(SMALL))


@pytest.mark.parametrize(
    "model, table",
    [
        (resnet(18), resnet_table),
        (resnet(101, stages=3), resnet_table),
        (ResNet(blocks=(1, 2), widths=(8, 8), bottleneck=True, stem="conv3"), resnet_table),
        (EfficientNet("b0", classes=7), efficientnet_table),
        (EfficientNet("b2", compat="efficientnet_pytorch"), efficientnet_table),
        (EfficientNet("b4", stages=5, head=False), efficientnet_table),
    ],
)
def test_table_and_model_have_the_same_arrays(shapes_of, model, table):
    leaves = jax.tree_util.tree_leaves_with_path(shapes_of(model))
    paths = {tuple(key.key for key in path) for path, _ in leaves}
    assert {e.path for e in table(model).entries} == paths


@pytest.mark.golden
@pytest.mark.parametrize("family", ["timm", "efficientnet_pytorch"])
@pytest.mark.parametrize("scheme", ["timm", "efficientnet_pytorch"])
def test_efficientnet_names_are_the_published_ones(reference, family, scheme):
    """A model of either convention can take the names of either family."""
    table = efficientnet_table(EfficientNet(compat=family, classes=1000), scheme)
    names = [n for n, _ in reference("efficientnet_b0.npz").meta["names"][scheme]]
    assert {e.name for e in table.entries} == {n for n in names if "num_batches" not in n}


def test_layouts():
    table = NameTable((*conv("c", "conv", bias=True), *linear("l", "dense")))
    state = {
        "c.weight": np.arange(2 * 3 * 5 * 4, dtype=np.float32).reshape(2, 3, 5, 4),
        "c.bias": np.arange(2.0, dtype=np.float32),
        "l.weight": np.arange(6.0, dtype=np.float32).reshape(2, 3),
        "l.bias": np.arange(2.0, dtype=np.float32),
    }
    variables = {
        "params": {
            "conv": {"kernel": np.zeros((5, 4, 3, 2), np.float32), "bias": np.zeros(2, np.float32)},
            "dense": {"kernel": np.zeros((3, 2), np.float32), "bias": np.zeros(2, np.float32)},
        }
    }
    params = to_flax(state, table, variables)["params"]
    assert params["conv"]["kernel"][4, 1, 2, 0] == state["c.weight"][0, 2, 4, 1]
    np.testing.assert_array_equal(params["dense"]["kernel"], state["l.weight"].T)
    back = from_flax({"params": params}, table)
    for name, value in state.items():
        np.testing.assert_array_equal(back[name], value)


def test_round_trip_ignores_counters_and_the_classifier(small):
    variables, state = small
    state = state | {
        "bn1.num_batches_tracked": np.zeros((), np.int64),
        "fc.weight": np.zeros((9, 16)),
        "fc.bias": np.zeros(9),
    }
    back = to_flax(state, resnet_table(SMALL), variables)
    jax.tree.map(np.testing.assert_array_equal, back, variables)


def test_later_stages_of_the_file_are_ignored_by_a_shorter_model(variables_of, small):
    variables, state = small
    shorter = ResNet(blocks=(1,), widths=(8,), stem_width=8)
    params = to_flax(state, resnet_table(shorter), variables_of(shorter))["params"]
    assert set(params) == {"stem_conv", "stem_norm", "layer1_0"}
    with pytest.raises(ValueError, match=r"layer2\.0\.conv1\.weight: in the table but not in the"):
        to_flax(
            {k: v for k, v in state.items() if not k.startswith("layer2.0.conv1")},
            resnet_table(SMALL),
            variables,
        )


def test_all_strays_are_listed_with_the_closest_name(small):
    variables, state = small
    state = dict(state)
    state["layer1.0.conv_1.weight"] = state.pop("layer1.0.conv1.weight")
    state["extra"] = np.zeros(3)
    with pytest.raises(ValueError) as caught:
        to_flax(state, resnet_table(SMALL), variables)
    lines = str(caught.value).splitlines()
    assert lines[1:] == [
        "  layer1.0.conv_1.weight: in the state dict but not in the table; "
        "did you mean layer1.0.conv1.weight?",
        "  extra: in the state dict but not in the table",
        "  layer1.0.conv1.weight: in the table but not in the state dict; "
        "did you mean layer1.0.conv_1.weight?",
    ]


def test_model_and_table_that_differ_are_named(small):
    variables, state = small
    params = dict(variables["params"]) | {"head": {"kernel": np.zeros((3, 3))}}
    del params["stem_norm"]
    with pytest.raises(ValueError) as caught:
        to_flax(state, resnet_table(SMALL), variables | {"params": params})
    text = str(caught.value)
    assert "params/head/kernel: in the model but not in the table" in text
    assert "params/stem_norm/scale: in the table but not in the model" in text
    with pytest.raises(ValueError, match="params/head/kernel, params/stem_norm/bias"):
        from_flax(variables | {"params": params}, resnet_table(SMALL))


def test_shapes_that_differ_are_named(small):
    variables, state = small
    state = state | {"layer1.0.conv1.weight": np.zeros((8, 8, 1, 1)), "bn1.bias": np.zeros((8, 1))}
    with pytest.raises(ValueError) as caught:
        to_flax(state, resnet_table(SMALL), variables)
    text = str(caught.value)
    assert "layer1.0.conv1.weight: shape (1, 1, 8, 8) in Flax layout" in text
    assert "params/layer1_0/conv1/kernel has (3, 3, 8, 8)" in text
    assert "bn1.bias: shape (8, 1)" in text


def test_input_channels_are_adapted_only_when_asked(variables_of, small):
    _, state = small
    ten = variables_of(SMALL, channels=10)
    with pytest.raises(
        ValueError, match=r"conv1\.weight: 3 input channels, the model has 10; adapt"
    ):
        to_flax(state, resnet_table(SMALL), ten)
    kernel = to_flax(state, resnet_table(SMALL), ten, adapt_input=True)["params"]["stem_conv"][
        "kernel"
    ]
    want = state["conv1.weight"].mean(axis=1)
    for channel in range(10):
        np.testing.assert_allclose(kernel[:, :, channel].transpose(2, 0, 1), want, atol=1e-6)
    # The same number of channels is left alone, not averaged.
    same = to_flax(state, resnet_table(SMALL), variables_of(SMALL), adapt_input=True)
    np.testing.assert_array_equal(
        same["params"]["stem_conv"]["kernel"], state["conv1.weight"].transpose(2, 3, 1, 0)
    )


def test_adapted_stem_answers_a_grey_image_in_proportion_to_the_channels(rng):
    kernel = rng.standard_normal((3, 3, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(
        adapt_stem(kernel, 10).sum(2), kernel.sum(2) * 10 / 3, rtol=1e-5, atol=1e-5
    )
    with pytest.raises(ValueError, match=r"expected a kernel \[H, W, I, O\]"):
        adapt_stem(kernel[0], 10)


def test_table_inside_a_larger_model(small):
    variables, state = small
    table = resnet_table(SMALL).renamed(lambda name: f"encoder.{name}", "camera", "trunk")
    state = {f"encoder.{k}": v for k, v in state.items()} | {
        "encoder.bn1.num_batches_tracked": np.zeros((), np.int64)
    }
    larger = {c: {"camera": {"trunk": tree}} for c, tree in variables.items()}
    back = to_flax(state, table, larger)
    jax.tree.map(np.testing.assert_array_equal, back, larger)
    assert table.stem == "encoder.conv1.weight"


def test_tables_with_a_name_twice_are_refused():
    entry = Entry("a", ("params", "a"))
    with pytest.raises(ValueError, match="state dict name more than once in the table: a"):
        NameTable((entry, Entry("a", ("params", "b"))))
    with pytest.raises(ValueError, match="flax path more than once in the table: params/a"):
        NameTable((entry, Entry("b", ("params", "a"))))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_files(tmp_path, small, suffix):
    variables, state = small
    path = tmp_path / f"weights{suffix}"
    if suffix == ".npz":
        np.savez(path, **state)
    else:
        safetensors.numpy.save_file({k: np.ascontiguousarray(v) for k, v in state.items()}, path)
    back = to_flax(load_state_dict(path), resnet_table(SMALL), variables)
    jax.tree.map(np.testing.assert_array_equal, back, variables)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt"])
def test_pickled_files_are_refused_unread_with_how_to_convert(tmp_path, suffix):
    path = tmp_path / f"net{suffix}"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError) as caught:
        load_state_dict(path)
    lines = str(caught.value).splitlines()
    assert "a bare pickle, which is not loaded" in lines[0]
    assert len(lines) == 4
    assert f"torch.load('net{suffix}'" in lines[2] and "'net.safetensors'" in lines[3]


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.npz"):
        load_state_dict(tmp_path / "absent.npz")
    with pytest.raises(ValueError, match=r"expected a \.safetensors, \.npz or PyTorch"):
        load_state_dict(tmp_path / "weights.h5")
    for suffix in (".npz", ".safetensors"):
        for content in (b"", b"\0" * 64, b"not a weights file at all"):
            path = tmp_path / f"damaged{suffix}"
            path.write_bytes(content)
            with pytest.raises(ValueError, match=rf"damaged\{suffix}: file: unreadable"):
                load_state_dict(path)
    path = tmp_path / "objects.npz"
    np.savez(path, a=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"objects\.npz: array a: unreadable .*Python objects"):
        load_state_dict(path)


def test_missing_safetensors_says_how_to_install(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"x")
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"pip install 'posejax\[safetensors\]'"):
        load_state_dict(path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_state_dicts_are_written_whole_with_their_shapes(tmp_path, rng, suffix):
    state = {
        "transposed": rng.standard_normal((3, 2)).astype(np.float32).T,
        "scalar": np.array(7, np.int64),
        "half": np.ones((2, 0), np.float16),
    }
    path = save_state_dict(tmp_path / f"w{suffix}", state)
    found = load_state_dict(path)
    assert set(found) == set(state)
    for name, value in state.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
        np.testing.assert_array_equal(found[name], value)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(ValueError, match=r"expected a name ending in \.safetensors or \.npz"):
        save_state_dict(tmp_path / "w.pth", state)


def test_counters_of_batch_norms_go_back_on_request(small):
    variables, state = small
    found = from_flax(variables, resnet_table(SMALL), batches_tracked=5)
    counters = {name for name in found if name.endswith(".num_batches_tracked")}
    assert set(found) - counters == set(state)
    assert {n.rpartition(".")[0] for n in counters} == {
        n.rpartition(".")[0] for n in state if n.endswith(".running_var")
    }
    assert found["bn1.num_batches_tracked"].shape == () and found["bn1.num_batches_tracked"] == 5
    to_flax(found, resnet_table(SMALL), variables)
