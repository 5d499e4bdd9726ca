"""The image tower of CLIP up to a block of one's choice: features of patches, published weights.

Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021;
names as in OpenAI's and open_clip's checkpoints (`clip_table`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from posejax.nn.batchnorm import BatchNorm
from posejax.nn.pointwise import Pointwise
from posejax.nn.torch_weights import Entry, NameTable, conv, linear, load_state_dict, to_flax

Activation = Literal["gelu", "quickgelu"]
MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the colours that CLIP was trained on
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
# Entries of OpenAI's own files, whose towers were trained with QuickGELU.
OPENAI = ("input_resolution", "context_length", "vocab_size")
LAYERS = 12  # of the published tower


class ClipFeatures(NamedTuple):
    """What a `ClipTower` gives of images [B, H, W, 3], h x w patches each.

    Attributes:
      patches: [B, h, w, C], of the first convolution.
      tokens: [B, 1 + h w, C] before the first block and after each: the class's token, then the
        patches' row by row.
    """

    patches: jax.Array
    tokens: tuple[jax.Array, ...]

    @property
    def features(self) -> jax.Array:
        """[B, h, w, C]: the last block's patches, with those of the first convolution added."""
        return self.patches + self.tokens[-1][:, 1:].reshape(self.patches.shape)


class ClipBlock(nn.Module):
    """Attention and perceptron, each after a norm and around a shortcut, on [B, T, C].

    causal: a token attends to itself and to those before it, as in the text tower.
    """

    heads: int
    activation: Activation
    dtype: Any = None
    causal: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        y = layer_norm(self.dtype, "norm1")(x)
        y = nn.Dense(3 * channels, dtype=self.dtype, name="qkv")(y)
        q, k, v = jnp.split(y.reshape(*y.shape[:2], 3 * self.heads, -1), 3, axis=2)
        scores = jnp.einsum("bqhc,bkhc->bhqk", q, k, preferred_element_type=jnp.float32)
        if self.causal:
            tokens = np.arange(x.shape[1])
            scores = jnp.where((tokens[:, None] >= tokens)[None, None], scores, -jnp.inf)
        weights = jax.nn.softmax(scores * q.shape[-1] ** -0.5).astype(v.dtype)
        y = jnp.einsum("bhqk,bkhc->bqhc", weights, v).reshape(x.shape)
        x = x + nn.Dense(channels, dtype=self.dtype, name="out")(y)
        y = layer_norm(self.dtype, "norm2")(x)
        y = nn.Dense(4 * channels, dtype=self.dtype, name="grow")(y)
        y = y * jax.nn.sigmoid(1.702 * y) if self.activation == "quickgelu" else exact_gelu(y)
        return x + nn.Dense(channels, dtype=self.dtype, name="shrink")(y)


class ClipTower(nn.Module):
    """Images [B, H, W, 3], normalised as `clip_normalised` does -> `ClipFeatures`.

    By default the first half of ViT-B/16: 43.27 M parameters, 17.6 GFLOP for an image of 224 x 224.
    Other sizes, multiples of the patch, interpolate the embedding of positions (bicubic); at the
    tower's own size it is taken as it is.

    Attributes:
      activation: the one that the weights were trained with. OpenAI's: "quickgelu"; the wrong one
        is no error, only worse features (`load_clip` refuses what it can tell).
      blocks: of the 12 that there are.
      size: pixels of a side that the embedding of positions is for.
      dtype: of the activations; norms and softmax are float32.
    """

    activation: Activation = "quickgelu"
    blocks: int = 6
    width: int = 768
    heads: int = 12
    patch: int = 16
    size: int = 224
    dtype: Any = None

    @nn.compact
    def __call__(self, images: jax.Array) -> ClipFeatures:
        if images.shape[1] % self.patch or images.shape[2] % self.patch:
            raise ValueError(
                f"sides of images are multiples of {self.patch}, got {images.shape[1:3]}"
            )
        normal, side = nn.initializers.normal(self.width**-0.5), self.size // self.patch
        patches = nn.Conv(
            self.width,
            (self.patch, self.patch),
            (self.patch, self.patch),
            padding="VALID",
            use_bias=False,
            dtype=self.dtype,
            name="patch_conv",
        )(images)
        shape = (1 + side**2, self.width)
        own = self.param("class_embedding", normal, (self.width,), jnp.float32)
        place = self.param("position_embedding", normal, shape, jnp.float32)
        batch, *grid, channels = patches.shape
        if grid != [side, side]:
            there = place[1:].reshape(side, side, channels)
            there = jax.image.resize(there, (*grid, channels), "bicubic", antialias=False)
            place = jnp.concatenate([place[:1], there.reshape(-1, channels)])
        first = jnp.broadcast_to(own.astype(patches.dtype), (batch, 1, channels))
        x = jnp.concatenate([first, patches.reshape(batch, -1, channels)], axis=1)
        x = layer_norm(self.dtype, "norm_pre")(x + place[None].astype(x.dtype))
        tokens = [x]
        for i in range(self.blocks):
            x = ClipBlock(self.heads, self.activation, self.dtype, name=f"block{i}")(x)
            tokens.append(x)
        return ClipFeatures(patches, tuple(tokens))


class ClipProjection(nn.Module):
    """A tower's features [B, h, w, C] to fewer channels: two 1x1 convolutions with batch norms.

    Attributes:
      dropout: of whole channels between the two; needs the rng "dropout" in training.
    """

    features: int = 256
    hidden: int = 512
    dropout: float = 0.1
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = Pointwise(self.hidden, bias=True, dtype=self.dtype, name="conv1")(x)
        x = exact_gelu(BatchNorm(dtype=self.dtype, name="norm1")(x, train))
        x = nn.Dropout(self.dropout, broadcast_dims=(1, 2))(x, deterministic=not train)
        x = Pointwise(self.features, bias=True, dtype=self.dtype, name="conv2")(x)
        return BatchNorm(dtype=self.dtype, name="norm2")(x, train)


def exact_gelu(x: jax.Array) -> jax.Array:
    """x times the normal distribution's integral, as PyTorch has it."""
    return jax.nn.gelu(x, approximate=False)


def layer_norm(dtype: Any, name: str) -> nn.LayerNorm:
    """With PyTorch's epsilon; the variance is that of differences, which cancels nothing."""
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=dtype, name=name)


def clip_normalised(images: jax.Array) -> jax.Array:
    """uint8 images [..., 3], or floating ones in [0, 1], as CLIP was trained on them."""
    if jnp.issubdtype(images.dtype, jnp.integer):
        images = images.astype(jnp.float32) / 255
    shape = (1,) * (images.ndim - 1) + (3,)
    mean, deviation = (jnp.asarray(v, images.dtype).reshape(shape) for v in (MEAN, DEVIATION))
    return (images - mean) / deviation


def norm_entries(name: str, *path: str) -> list[Entry]:
    """A layer norm's pairs of names."""
    scale = Entry(f"{name}.weight", ("params", *path, "scale"))
    return [scale, Entry(f"{name}.bias", ("params", *path, "bias"))]


def block_entries(blocks: int) -> list[Entry]:
    """Names of the first `ClipBlock`s, the same in both towers."""
    entries = []
    for i in range(blocks):
        name, path = f"transformer.resblocks.{i}", f"block{i}"
        entries += [
            *norm_entries(f"{name}.ln_1", path, "norm1"),
            Entry(f"{name}.attn.in_proj_weight", ("params", path, "qkv", "kernel"), "linear"),
            Entry(f"{name}.attn.in_proj_bias", ("params", path, "qkv", "bias")),
            *linear(f"{name}.attn.out_proj", path, "out"),
            *norm_entries(f"{name}.ln_2", path, "norm2"),
            *linear(f"{name}.mlp.c_fc", path, "grow"),
            *linear(f"{name}.mlp.c_proj", path, "shrink"),
        ]
    return entries


def clip_table(model: ClipTower) -> NameTable:
    """Names of the image tower in OpenAI's and open_clip's checkpoints, without "visual.".

    Later blocks and the projection to the joint space are ignored.
    """

    entries = [
        *conv("conv1", "patch_conv"),
        Entry("class_embedding", ("params", "class_embedding")),
        Entry("positional_embedding", ("params", "position_embedding")),
        *norm_entries("ln_pre", "norm_pre"),
        *block_entries(model.blocks),
    ]
    later = "|".join(str(i) for i in range(model.blocks, LAYERS))
    ignored = (*OPENAI, r"proj", r"ln_post\..*", rf"transformer\.resblocks\.({later})\..*")
    return NameTable(tuple(entries), ignored, stem="conv1.weight")


def clip_activation(path: str | Path, state_dict: Mapping[str, Any]) -> Activation | None:
    """The activation that a checkpoint says it was trained with; None if it does not say.

    OpenAI's own files have entries that no other has; open_clip writes `open_clip_config.json`
    beside the weights.
    """
    if all(name in state_dict for name in OPENAI):
        return "quickgelu"
    config = Path(path).with_name("open_clip_config.json")
    if not config.is_file():
        return None
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))["model_cfg"]
        quick = settings.get("quick_gelu", False)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{config}: not open_clip's description of a model") from error
    return "quickgelu" if quick else "gelu"


def trained_activation(
    path: str | Path, state: Mapping[str, Any], given: Activation | None
) -> Activation:
    """What a checkpoint's towers were trained with.

    Args:
      given: what is thought so; for a checkpoint that does not say it.

    Raises:
      ValueError: another one than the checkpoint says, or none given and none said.
    """
    said = clip_activation(path, state)
    if said is None and given is not None:
        return given
    if said is None:
        raise ValueError(
            f"{path}: does not say which activation it was trained with; give 'gelu' (open_clip's "
            "ViT-B-16) or 'quickgelu' (OpenAI's, ViT-B-16-quickgelu)"
        )
    if given not in (None, said):
        raise ValueError(
            f"{path}: trained with {said!r}, the model has activation {given!r}: its features "
            "would be wrong, and no shape would tell"
        )
    return said


def load_clip(
    path: str | Path, variables: Mapping[str, Any] | None = None, model: ClipTower | None = None
) -> tuple[ClipTower, dict[str, Any]]:
    """A tower and its weights from a checkpoint of OpenAI or open_clip.

    Args:
      path: `.safetensors`, `.npz` or PyTorch file, of the whole CLIP or of its image tower.
      variables: what `model.init` gives (or its shapes); found out if None.
      model: which tower; None for half ViT-B/16 with the activation that the checkpoint says.

    Raises:
      ValueError: another activation than the checkpoint was trained with, or none given and none
        told by the checkpoint; entries that do not fit.
    """
    state = load_state_dict(path)
    activation = trained_activation(path, state, None if model is None else model.activation)
    model = ClipTower(activation) if model is None else model
    # A whole CLIP has the text tower's entries of the same names beside those of "visual.".
    if any(name.startswith("visual.") for name in state):
        state = {k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}
    image = jax.ShapeDtypeStruct((1, model.size, model.size, 3), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    given: Any = shapes if variables is None else variables
    return model, to_flax(state, clip_table(model), given)
