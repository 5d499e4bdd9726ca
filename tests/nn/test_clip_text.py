"""CLIP's text tower beside float64 NumPy, its checkpoints, and sentences to tokens."""

import gzip
import math

import jax
import numpy as np
import pytest

from posejax.data.errors import DataError
from posejax.nn import (
    ClipText,
    ClipTokenizer,
    clip_text_table,
    from_flax,
    load_clip_text,
    save_state_dict,
)

SMALL = ClipText("quickgelu", 2, 128, 2, 30, 9, 10)
TOKENS = np.array([[27, 3, 9, 28, 0, 0], [27, 1, 2, 4, 5, 28], [27, 28, 0, 0, 0, 0]], np.int32)


@pytest.fixture(scope="module")
def state():
    """Names and arrays of a small tower's checkpoint."""
    shapes = jax.eval_shape(SMALL.init, jax.random.key(0), TOKENS)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda s: rng.normal(0, 0.2, s.shape).astype(np.float32), shapes)
    return from_flax(variables, clip_text_table(SMALL))


def reference(state, tokens, gelu):
    """The tower in float64, a sentence at a time, after the paper."""
    w = {k: v.astype(np.float64) for k, v in state.items()}

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def dense(x, weight, bias):
        return x @ w[weight].T + w[bias]

    found = []
    for row in tokens:
        row = row[: row.argmax() + 1]  # what follows the end is not looked at
        x = w["token_embedding.weight"][row] + w["positional_embedding"][: len(row)]
        for i in range(2):
            at = f"transformer.resblocks.{i}"
            qkv = dense(
                norm(x, f"{at}.ln_1"), f"{at}.attn.in_proj_weight", f"{at}.attn.in_proj_bias"
            )
            heads = []
            for q, k, v in zip(*(np.split(p, 2, 1) for p in np.split(qkv, 3, 1)), strict=True):
                scores = q @ k.T / math.sqrt(64)
                scores[np.triu_indices(len(row), 1)] = -np.inf
                share = np.exp(scores - scores.max(1, keepdims=True))
                heads.append(share / share.sum(1, keepdims=True) @ v)
            y = np.concatenate(heads, 1)
            x = x + dense(y, f"{at}.attn.out_proj.weight", f"{at}.attn.out_proj.bias")
            y = dense(norm(x, f"{at}.ln_2"), f"{at}.mlp.c_fc.weight", f"{at}.mlp.c_fc.bias")
            x = x + dense(gelu(y), f"{at}.mlp.c_proj.weight", f"{at}.mlp.c_proj.bias")
        found.append(norm(x, "ln_final")[-1] @ w["text_projection"])
    return np.array(found)


def quick(x):
    return x / (1 + np.exp(-1.702 * x))


def exact(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


@pytest.mark.parametrize("activation, gelu", [("quickgelu", quick), ("gelu", exact)])
def test_it_computes_what_the_paper_says(state, tmp_path, activation, gelu):
    """From a checkpoint of the whole CLIP, whose image tower and scale are left alone."""
    whole = state | {"visual.proj": np.ones((3, 3)), "logit_scale": np.ones(())}
    path = save_state_dict(tmp_path / "clip.npz", whole)
    model, variables = load_clip_text(path, activation)
    assert model == SMALL.clone(activation=activation)
    found = jax.jit(model.apply)(variables, TOKENS)
    np.testing.assert_allclose(found, reference(state, TOKENS, gelu), rtol=2e-5, atol=2e-5)
    late = np.where(TOKENS == 0, 7, TOKENS)  # what follows the end changes nothing
    np.testing.assert_array_equal(jax.jit(model.apply)(variables, late), found)


def test_the_published_tower_has_its_size():
    shapes = jax.eval_shape(ClipText().init, jax.random.key(0), np.zeros((1, 77), np.int32))
    assert sum(s.size for s in jax.tree.leaves(shapes)) == 63_428_096


def test_checkpoints_of_another_kind_are_refused(state, tmp_path):
    def saved(arrays):
        return save_state_dict(tmp_path / "clip.npz", arrays)

    marks = {k: np.array(1) for k in ("input_resolution", "context_length", "vocab_size")}
    with pytest.raises(ValueError, match="does not say which activation"):
        load_clip_text(saved(state))
    with pytest.raises(ValueError, match="trained with 'quickgelu', the model has"):
        load_clip_text(saved(state | marks), "gelu")
    assert load_clip_text(saved(state | marks))[0] == SMALL
    named = {f"text.{k}": v for k, v in state.items()} | {"visual.proj": np.ones(3)}
    assert load_clip_text(saved(named), "gelu")[0].blocks == 2
    images = {k: v for k, v in state.items() if k != "text_projection"}
    with pytest.raises(DataError, match="text_projection: missing; expected the text tower"):
        load_clip_text(saved(images), "gelu")
    broken = {k: v for k, v in state.items() if "resblocks.1.mlp.c_fc.bias" not in k}
    with pytest.raises(ValueError, match=r"c_fc\.bias"):
        load_clip_text(saved(broken), "gelu")


MERGES = "#version\nc h\na i\nai r</w>\nch air</w>\na </w>\nl a\nla m\np </w>\nlam p</w>\n"


@pytest.fixture(params=["plain", "gzip"])
def tokens(request, tmp_path):
    text = MERGES.replace("a </w>\n", "").replace("p </w>\n", "").encode()
    path = tmp_path / "vocabulary"
    path.write_bytes(gzip.compress(text) if request.param == "gzip" else text)
    return ClipTokenizer(path)


def spelt(tokens, text):
    parts = {k: part for part, k in tokens.number.items()}
    return [parts[k] for k in tokens.encode(text)]


def test_words_are_joined_by_the_first_merges(tokens):
    assert spelt(tokens, "A chair") == ["a</w>", "chair</w>"]
    assert spelt(tokens, "chairs") == ["ch", "ai", "r", "s</w>"]
    assert spelt(tokens, "lamp, lamps!") == ["lamp</w>", ",</w>", "lam", "p", "s</w>", "!</w>"]
    assert spelt(tokens, " 42\tcan't &amp; \n") == [
        "4</w>", "2</w>", "c", "a", "n</w>", "'", "t</w>", "&</w>",
    ]  # fmt: skip
    assert len(spelt(tokens, "é")) == 2 and spelt(tokens, "") == []  # two bytes; none


def test_sentences_begin_end_and_are_cut(tokens):
    start, end = tokens.start, tokens.end
    assert end == start + 1 == 512 + len(tokens.rank) + 1
    rows = tokens(["chair", "lamp " * 9], 6)
    chair, lamp = tokens.number["chair</w>"], tokens.number["lamp</w>"]
    np.testing.assert_array_equal(rows, [[start, chair, end, 0, 0, 0], [start, *[lamp] * 4, end]])
    assert rows.dtype == np.int32 and (rows.argmax(1) == [2, 5]).all()


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "merges: 0 in 0 lines"),
        (b"#version\nc h\nc h\n", "merges: 1 in 2 lines"),
        (b"#version\nc h x\n", r"line 2: 'c h x'"),
        (b"#version\nc h\nchx air\n", "line 3: chx air"),
        (b"#version\n\xff\xfe\n", "file: unreadable"),
        (b"\x1f\x8b\x08broken", "file: unreadable"),
    ],
)
def test_files_that_are_no_vocabulary_are_refused(tmp_path, content, words):
    path = tmp_path / "vocabulary.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"vocabulary\.txt: {words}"):
        ClipTokenizer(path)
