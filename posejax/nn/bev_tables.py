"""Names of Simple-BEV's released weights for the networks of `posejax.nn.bev`."""

from posejax.nn.bev import Backbone, trunk
from posejax.nn.resnet import ResNet
from posejax.nn.torch_tables import efficientnet_table, resnet_table
from posejax.nn.torch_weights import Entry, NameTable, conv

# The original keeps the start of a ResNet as an unnamed sequence.
_SEQUENCE = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5"}
_HEADS = {
    "features": "feat_head",
    "segmentation": "segmentation_head",
    "offset": "instance_offset_head",
    "center": "instance_center_head",
}


def trunk_table(backbone: Backbone) -> NameTable:
    """Published names of the trunk by itself: torchvision's, efficientnet_pytorch's."""
    net = trunk(backbone)
    if isinstance(net, ResNet):
        return resnet_table(net)
    return efficientnet_table(net, "efficientnet_pytorch")


def encoder_table(backbone: Backbone, *scope: str) -> NameTable:
    """Names `encoder.*` for a `CameraEncoder` inside the modules `scope`.

    Raises:
      ValueError: "small" has no released weights.
    """
    if backbone == "small":
        raise ValueError("the backbone 'small' is not in the original and has no names in it")
    table = trunk_table(backbone)
    if backbone.startswith("res"):
        table = table.renamed(_sequence_name, *scope, "trunk")
        ignored = [r".*\.num_batches_tracked"]
    else:
        ignored = [rf"encoder\.backbone\.{p}" for p in table.ignored[1:]] + [table.ignored[0]]
        table = table.renamed(lambda name: f"encoder.backbone.{name}", *scope, "trunk")
    entries = [*table.entries]
    for number, layer in ((0, "merge_0"), (3, "merge_1")):
        entries += conv(f"encoder.upsampling_layer.conv.{number}", *scope, layer, "conv")
    entries += conv("encoder.depth_layer", *scope, "out", bias=True)
    return NameTable(tuple(entries), tuple(ignored))


def compressor_entries(*scope: str) -> list[Entry]:
    """Names for a `Compressor`."""
    return conv("bev_compressor.0", *scope)


def decoder_entries(map_scope: tuple[str, ...], head_scope: tuple[str, ...]) -> list[Entry]:
    """Names `decoder.*` for a `MapNet` and its `MapHeads`."""
    down = ResNet((2, 2, 2), stem="conv")
    entries = list(resnet_table(down).renamed(_decoder_name, *map_scope, "down").entries)
    for level in (1, 2, 3):
        entries += conv(f"decoder.up{level}_skip.upsample_layer.1", *map_scope, f"up{level}")
    for mine, theirs in _HEADS.items():
        scope = (*head_scope, mine)
        entries += conv(f"decoder.{theirs}.0", *scope, "hidden", "conv")
        entries += conv(f"decoder.{theirs}.3", *scope, "out", bias=True)
    return entries


def _sequence_name(name: str) -> str:
    first, _, rest = name.partition(".")
    if first in _SEQUENCE:
        return f"encoder.backbone.{_SEQUENCE[first]}.{rest}"
    return f"encoder.{name}"


def _decoder_name(name: str) -> str:
    return "decoder." + ("first_conv.weight" if name == "conv1.weight" else name)
