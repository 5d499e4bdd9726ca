"""The text tower of CLIP: sentences to embeddings, with published weights.

Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021;
names as in OpenAI's and open_clip's checkpoints (`clip_text_table`). Tokens come from
`posejax.nn.clip_tokens`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from posejax.data.errors import DataError
from posejax.nn.clip import (
    OPENAI,
    Activation,
    ClipBlock,
    block_entries,
    layer_norm,
    norm_entries,
    trained_activation,
)
from posejax.nn.torch_weights import Entry, NameTable, load_state_dict, to_flax

_SIZES = ("token_embedding.weight", "positional_embedding", "text_projection")
_HEAD = 64  # channels of an attention head, in all published towers


class ClipText(nn.Module):
    """Tokens [B, L] int32 -> embeddings [B, embedding], of any length; compare them by cosine.

    By default that of ViT-B/16. A sentence's embedding is read at its last token, which has the
    largest number; what follows it changes nothing.

    Attributes:
      activation: the one that the weights were trained with, see `ClipTower`.
      length: tokens at most.
    """

    activation: Activation = "quickgelu"
    blocks: int = 12
    width: int = 512
    heads: int = 8
    vocabulary: int = 49_408
    length: int = 77
    embedding: int = 512

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        normal = nn.initializers.normal
        place = self.param("position_embedding", normal(0.01), (self.length, self.width))
        table = nn.Embed(
            self.vocabulary, self.width, embedding_init=normal(0.02), name="token_embedding"
        )
        x = table(tokens) + place[None, : tokens.shape[1]]
        for i in range(self.blocks):
            x = ClipBlock(self.heads, self.activation, causal=True, name=f"block{i}")(x)
        x = layer_norm(None, "norm_final")(x)
        last = jnp.argmax(tokens, axis=1)
        x = jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]
        return x @ self.param(
            "projection", normal(self.width**-0.5), (self.width, self.embedding), jnp.float32
        )


def clip_text_table(model: ClipText) -> NameTable:
    """Names of the text tower in OpenAI's and open_clip's checkpoints; the image's are ignored."""
    entries = (
        Entry("token_embedding.weight", ("params", "token_embedding", "embedding")),
        Entry("positional_embedding", ("params", "position_embedding")),
        *block_entries(model.blocks),
        *norm_entries("ln_final", "norm_final"),
        Entry("text_projection", ("params", "projection")),
    )
    return NameTable(entries, (*OPENAI, r"visual\..*", "logit_scale", "logit_bias", "attn_mask"))


def load_clip_text(
    path: str | Path, activation: Activation | None = None
) -> tuple[ClipText, dict[str, Any]]:
    """A text tower and its weights from a checkpoint of OpenAI or open_clip, of any size.

    Args:
      path: `.safetensors`, `.npz` or PyTorch file, of the whole CLIP or of its text tower.
      activation: for a checkpoint that does not say it.

    Raises:
      DataError: missing or damaged file, no text tower in it.
      ValueError: another activation than the checkpoint was trained with, or none given and none
        told by the checkpoint; entries that do not fit.
    """
    state = load_state_dict(path)
    activation = trained_activation(path, state, activation)
    if any(name.startswith("text.") for name in state):
        state = {k.removeprefix("text."): v for k, v in state.items() if k.startswith("text.")}
    shapes = {name: np.shape(state.get(name, 0)) for name in _SIZES}
    if any(len(shape) != 2 for shape in shapes.values()):
        missing = ", ".join(name for name, shape in shapes.items() if len(shape) != 2)
        raise DataError(path, missing, "missing", "the text tower of a CLIP")
    model = _model_of(state, shapes, activation)
    tokens = jax.ShapeDtypeStruct((1, model.length), np.int32)
    variables: Any = jax.eval_shape(model.init, jax.random.key(0), tokens)
    return model, to_flax(state, clip_text_table(model), variables)


def _model_of(state: Mapping[str, Any], shapes: Mapping[str, Any], activation) -> ClipText:
    """The tower of those shapes."""
    numbers = {k.split(".")[2] for k in state if k.startswith("transformer.resblocks.")}
    (vocabulary, width), (length, _), (_, embedding) = (shapes[name] for name in _SIZES)
    heads = max(width // _HEAD, 1)
    return ClipText(activation, len(numbers), width, heads, vocabulary, length, embedding)
