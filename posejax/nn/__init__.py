"""Flax Linen building blocks shared by the systems."""

from posejax.nn.norms import Norm, NormKind
from posejax.nn.unet import ConvNorm, PyramidEncoder, ResidualBlock, TopDownDecoder, UNet

__all__ = [
    "ConvNorm",
    "Norm",
    "NormKind",
    "PyramidEncoder",
    "ResidualBlock",
    "TopDownDecoder",
    "UNet",
]
