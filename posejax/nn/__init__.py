"""Flax Linen building blocks shared by the systems."""

from posejax.nn.batchnorm import BatchNorm
from posejax.nn.bev import CameraEncoder, Compressor, MapHeads, MapNet, MapOutputs
from posejax.nn.bev_tables import compressor_entries, decoder_entries, encoder_table
from posejax.nn.clip import (
    ClipBlock,
    ClipFeatures,
    ClipProjection,
    ClipTower,
    clip_normalised,
    clip_table,
    load_clip,
)
from posejax.nn.clip_text import ClipText, clip_text_table, load_clip_text
from posejax.nn.clip_tokens import ClipTokenizer
from posejax.nn.depthwise import DepthwiseConv, depthwise_conv
from posejax.nn.efficientnet import EfficientNet, EfficientNetFeatures
from posejax.nn.instancenorm import InstanceNorm
from posejax.nn.norms import Norm, NormKind
from posejax.nn.resnet import ResidualUnit, ResNet, ResNetFeatures, resnet
from posejax.nn.sparse_unet import (
    SparseBatchNorm,
    SparseConv,
    SparseConvNorm,
    SparseResidualUnit,
    SparseUNet,
    SparseUNetFeatures,
    sparse_unet_table,
)
from posejax.nn.torch_tables import efficientnet_table, resnet_table
from posejax.nn.torch_weights import (
    NameTable,
    adapt_stem,
    from_flax,
    load_state_dict,
    save_state_dict,
    to_flax,
)
from posejax.nn.unet import ConvNorm, PyramidEncoder, ResidualBlock, TopDownDecoder, UNet
from posejax.nn.xfeat import XFeat, XFeatOutput, XFeatTrunk, xfeat_table

__all__ = [
    "BatchNorm",
    "CameraEncoder",
    "ClipBlock",
    "ClipFeatures",
    "ClipProjection",
    "ClipText",
    "ClipTokenizer",
    "ClipTower",
    "Compressor",
    "ConvNorm",
    "DepthwiseConv",
    "EfficientNet",
    "EfficientNetFeatures",
    "InstanceNorm",
    "MapHeads",
    "MapNet",
    "MapOutputs",
    "NameTable",
    "Norm",
    "NormKind",
    "PyramidEncoder",
    "ResNet",
    "ResNetFeatures",
    "ResidualBlock",
    "ResidualUnit",
    "SparseBatchNorm",
    "SparseConv",
    "SparseConvNorm",
    "SparseResidualUnit",
    "SparseUNet",
    "SparseUNetFeatures",
    "TopDownDecoder",
    "UNet",
    "XFeat",
    "XFeatOutput",
    "XFeatTrunk",
    "adapt_stem",
    "clip_normalised",
    "clip_table",
    "clip_text_table",
    "compressor_entries",
    "decoder_entries",
    "depthwise_conv",
    "efficientnet_table",
    "encoder_table",
    "from_flax",
    "load_clip",
    "load_clip_text",
    "load_state_dict",
    "resnet",
    "resnet_table",
    "save_state_dict",
    "sparse_unet_table",
    "to_flax",
    "xfeat_table",
]
