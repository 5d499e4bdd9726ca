"""Tiny RoMa v1: two images -> a dense warp from A to B with certainty.

The XFeat trunk, the expected position of every coarse cell, and two small convolutional matchers at
strides 8 and 4 that refine it (Edstedt et al., RoMa, CVPR 2024, and its released tiny model). The
flow is in coordinates of image B from -1 to 1, edge to edge, as the released weights want it.
"""

from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from posejax.geometry import normalized_from_pixels, pixels_from_normalized
from posejax.image import resize, whole_size
from posejax.matching import Band, Correspondence, Full, Rows, expected_correspondence
from posejax.matching.search import Search
from posejax.matching.streaming import cell_centers
from posejax.nn.torch_weights import Entry, NameTable, conv
from posejax.nn.xfeat import ConvBlock, Upsample, XFeatTrunk, block_entries, trunk_entries
from posejax.systems.tinyroma.config import ModelConfig, Norm, SearchConfig
from posejax.systems.tinyroma.layers import InputNorm, Sampling, enlarged, look_up

LAYERS = 4  # of a matcher, before its output
FINE = ((64, 3, 1),) * LAYERS


class Features(NamedTuple):
    """Of a batch of images: fine [B, H/4, W/4, 24] and coarse [B, H/8, W/8, 64]."""

    fine: jax.Array
    coarse: jax.Array


class Warp(NamedTuple):
    """Where the cells of A lie in B: flow [B, h, w, 2] in [-1, 1], certainty logits [B, h, w]."""

    flow: jax.Array
    logit: jax.Array


class TinyRomaOutput(NamedTuple):
    """The warps at strides 8 and 4, and what led to them.

    Attributes:
      expected: [B, H/8, W/8, 2], flow that the coarse matcher starts from.
      log_partition: [B, H/8, W/8], of the scores that it is the expectation under.
      fine: without a fine matcher the coarse warp, enlarged.
      reverse: the same from B to A, of a symmetric model.
    """

    features_a: Features
    features_b: Features
    expected: jax.Array
    log_partition: jax.Array
    coarse: Warp
    fine: Warp
    reverse: "TinyRomaOutput | None" = None


class TinyRoma(nn.Module):
    """Images [B, H, W, 3] in [0, 1], sides multiples of 32, not necessarily of equal size.

    Attributes:
      search: where partners are looked for, in cells of stride 8; `Rows()` for rectified images.
      mode: "official_fast" for the approximation of the released inference. Unlike the original,
        it is right for every batch size.
      folded: batch norms folded into the convolutions.

    For the others see `config.ModelConfig`. All but `width`, `matcher` and `folded` keep the
    parameters.
    """

    search: Search = Full()
    mode: Literal["exact", "official_fast"] = "exact"
    folded: bool = False
    dtype: Any = None
    fine: bool = True
    upsample: Upsample = "bilinear"
    norm: Norm = "instance"
    sampling: Sampling = "bilinear"
    coarse_passes: int = 1
    width: float = 1.0
    matcher: int = 256
    symmetric: bool = False
    refine: int | None = None
    temperature: float | None = None
    frozen_norm: bool = False
    zero_out: bool = False

    def setup(self):
        start = nn.initializers.zeros if self.zero_out else nn.initializers.lecun_normal()
        self.input_norm = InputNorm(self.norm)
        self.trunk = XFeatTrunk(self.folded, self.dtype, self.width, self.upsample)
        self.coarse_matcher = ConvBlock(((self.matcher, 3, 1),) * LAYERS, self.folded, self.dtype)
        self.coarse_out = nn.Conv(3, (1, 1), dtype=self.dtype, kernel_init=start)
        if self.fine:
            self.fine_matcher = ConvBlock(FINE, self.folded, self.dtype)
            self.fine_out = nn.Conv(3, (1, 1), dtype=self.dtype, kernel_init=start)

    def __call__(self, image_a: jax.Array, image_b: jax.Array, train: bool) -> TinyRomaOutput:
        a, b = self.features(image_a, image_b, train)
        return self.match(a, b, train)

    def features(self, image_a, image_b, train: bool) -> tuple[Features, Features]:
        if image_a.shape == image_b.shape:
            fine, coarse = self._trunk(jnp.concatenate([image_a, image_b]), train)
            (fine_a, fine_b), (coarse_a, coarse_b) = jnp.split(fine, 2), jnp.split(coarse, 2)
            return Features(fine_a, coarse_a), Features(fine_b, coarse_b)
        return self._trunk(image_a, train), self._trunk(image_b, train)

    def trunk_features(self, images: jax.Array) -> Features:
        """Of images [B, H, W, 3] alone, as in evaluation."""
        return self._trunk(images, False)

    def _trunk(self, images: jax.Array, train: bool) -> Features:
        grey = self.input_norm(images, train)
        return Features(*self.trunk(grey, train and not self.frozen_norm))

    def match(self, a: Features, b: Features, train: bool) -> TinyRomaOutput:
        """The warp from A to B; with swapped arguments that from B to A."""
        with jax.named_scope("expectation"):
            found: Any = jax.vmap(self._expected)(a.coarse, b.coarse)
        forward, backward = found if self.symmetric else (found, None)
        out = self._refined(a, b, forward, train)
        if backward is None:
            return out
        return out._replace(reverse=self._refined(b, a, backward, train))

    def _expected(self, a: jax.Array, b: jax.Array):
        return expected_correspondence(
            a,
            b,
            search=self.search,
            temperature=self.temperature,
            refine=self.refine,
            reverse=self.symmetric,
            mode=self.mode,
        )

    def _refined(
        self, a: Features, b: Features, found: Correspondence, train: bool
    ) -> TinyRomaOutput:
        shape = _sides(b.coarse)
        expected = normalized_from_pixels(found.coords, shape)
        coarse = Warp(expected, jnp.zeros(expected.shape[:3], expected.dtype))
        with jax.named_scope("coarse_matcher"):
            for _ in range(self.coarse_passes):
                seen = look_up(a.coarse, b.coarse, coarse.flow, self.sampling)
                delta = self.coarse_out(self.coarse_matcher(seen, train))
                coarse = _moved(coarse, delta, shape)
        up = _enlarged(coarse, _sides(a.fine), self.upsample)
        if not self.fine:
            return TinyRomaOutput(a, b, expected, found.log_partition, coarse, up)
        # The fine matcher does not teach the coarse one.
        up = jax.lax.stop_gradient(up)
        with jax.named_scope("fine_matcher"):
            seen = look_up(a.fine, b.fine, up.flow, self.sampling)
            delta = self.fine_out(self.fine_matcher(seen, train))
        fine = _moved(up, delta, shape)
        return TinyRomaOutput(a, b, expected, found.log_partition, coarse, fine)


def make_network(model: ModelConfig) -> TinyRoma:
    """The network of a config."""
    return TinyRoma(
        search=make_search(model.search),
        mode=model.mode,
        dtype=jnp.bfloat16 if model.bfloat16 else None,
        fine=model.fine,
        upsample=model.upsample,
        norm=model.norm,
        sampling=model.sampling,
        coarse_passes=model.coarse_passes,
        width=model.width,
        matcher=model.matcher,
        symmetric=model.symmetric,
        refine=model.refine,
        temperature=model.temperature,
        frozen_norm=model.frozen_norm,
        zero_out=model.zero_out,
    )


def make_search(search: SearchConfig) -> Search:
    """The search of a config."""
    if search.kind == "full":
        return Full()
    if search.kind == "band":
        return Band(search.rows, search.columns)
    columns = search.columns
    return Rows(None if columns is None else (-columns[1], -columns[0]))


def _sides(maps: jax.Array) -> tuple[int, int]:
    return maps.shape[1], maps.shape[2]


def _moved(warp: Warp, delta: jax.Array, shape: tuple[int, int]) -> Warp:
    """Moved by steps in pixels of image B, at either scale; `shape` is that of its coarse map."""
    delta = delta.astype(jnp.float32)
    pixel = jnp.array([2 / (8 * shape[1]), 2 / (8 * shape[0])], jnp.float32).reshape(1, 1, 1, 2)
    return Warp(warp.flow + delta[..., :2] * pixel, warp.logit + delta[..., 2])


def _enlarged(warp: Warp, shape: tuple[int, int], upsample: Upsample = "bilinear") -> Warp:
    maps = jnp.concatenate([warp.flow, warp.logit[..., None]], axis=-1)
    maps = enlarged(maps, shape, upsample)
    return Warp(maps[..., :2], maps[..., 2])


def multiple_of_32(image: jax.Array) -> jax.Array:
    """[H, W, C] with its sides reduced to multiples of 32, as the released model does it."""
    return resize(image, whole_size(image.shape), antialias=False)


def dense_match(
    model: TinyRoma, variables: Any, image_a: jax.Array, image_b: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Two images of any size to a warp at full resolution.

    Args:
      model: the network.
      variables: its parameters and statistics.
      image_a: [H, W, 3] in [0, 1].
      image_b: [H', W', 3].

    Returns:
      warp [H, W, 2], pixel coordinates in image b of every pixel of image a, and certainty [H, W]
      in (0, 1).
    """
    pair = (multiple_of_32(image)[None] for image in (image_a, image_b))
    out: Any = model.apply(variables, *pair, False)
    flow, logit = _enlarged(out.fine, _sides(image_a[None]))
    return pixels_from_normalized(flow[0], _sides(image_b[None])), nn.sigmoid(logit[0])


def grid_normalized(shape: tuple[int, int]) -> jax.Array:
    """Centres of all pixels [H, W, 2] from -1 to 1, edge to edge."""
    return normalized_from_pixels(cell_centers(shape), shape).reshape(*shape, 2)


def tiny_roma_table(model: TinyRoma) -> NameTable:
    """The released state dict of 112 tensors (see `posejax.nn.torch_weights`).

    A model without its fine matcher leaves that one's tensors aside; one with norm "batch" has the
    statistics of a `BatchNorm2d(1)` in the place of XFeat's `norm` besides.
    """
    entries = [
        Entry(f"xfeat.0.{e.name}", e.path, e.layout)
        for e in trunk_entries("trunk", folded=model.folded)
    ]
    if model.norm == "batch":
        entries += [
            Entry(f"xfeat.0.norm.running_{k}", ("batch_stats", "input_norm", k))
            for k in ("mean", "var")
        ]
    for part in ("coarse", "fine") if model.fine else ("coarse",):
        name = f"{part}_matcher"
        entries += block_entries(name, LAYERS, name, folded=model.folded)
        entries += conv(f"{name}.{LAYERS}", f"{part}_out", bias=True)
    ignored = [r".*\.num_batches_tracked"]
    if not model.fine:
        ignored.append(r"fine_matcher\..*")
    return NameTable(tuple(entries), tuple(ignored))
