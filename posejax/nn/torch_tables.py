"""Name tables of the published backbones (see posejax.nn.torch_weights)."""

from posejax.nn.efficientnet import Compat, EfficientNet, scaled_stages
from posejax.nn.resnet import ResNet
from posejax.nn.torch_weights import Entry, NameTable, batch_norm, conv, linear

TRACKED = r".*\.num_batches_tracked"


def resnet_table(model: ResNet) -> NameTable:
    """Names of torchvision (and timm) for `model`.

    The classifier `fc` and the stages that `model` does not build are ignored.
    """
    entries = [*conv("conv1", "stem_conv"), *batch_norm("bn1", "stem_norm")]
    channels = model.stem_width
    for stage, count in enumerate(model.blocks):
        out = model.widths[stage] * (4 if model.bottleneck else 1)
        for block in range(count):
            name, path = f"layer{stage + 1}.{block}", f"layer{stage + 1}_{block}"
            for i in range(1, 4 if model.bottleneck else 3):
                entries += conv(f"{name}.conv{i}", path, f"conv{i}")
                entries += batch_norm(f"{name}.bn{i}", path, f"norm{i}")
            if (stage and block == 0) or channels != out:
                entries += conv(f"{name}.downsample.0", path, "shortcut_conv")
                entries += batch_norm(f"{name}.downsample.1", path, "shortcut_norm")
            channels = out
    later = tuple(rf"layer{s}\..*" for s in range(len(model.blocks) + 1, 5))
    return NameTable(tuple(entries), (TRACKED, r"fc\..*", *later), stem="conv1.weight")


def efficientnet_table(model: EfficientNet, scheme: Compat | None = None) -> NameTable:
    """Names for `model`; stages, head and classifier that it does not build are ignored.

    Args:
      scheme: whose names, "timm" or "efficientnet_pytorch"; by default that of `model.compat`.
    """
    scheme = model.compat if scheme is None else scheme
    specs = scaled_stages(model.variant)
    timm = scheme == "timm"
    stem, stem_norm = ("conv_stem", "bn1") if timm else ("_conv_stem", "_bn0")
    entries = [*conv(stem, "stem_conv"), *batch_norm(stem_norm, "stem_norm")]
    ignored, done = [TRACKED], 0
    for stage, spec in enumerate(specs):
        for block in range(spec.blocks):
            name = f"blocks.{stage}.{block}" if timm else f"_blocks.{done}"
            done += 1
            if stage < model.stages:
                entries += _block(scheme, name, f"stage{stage}_{block}", spec.expand > 1)
            else:
                ignored.append(name.replace(".", r"\.") + r"\..*")
    head, head_norm = ("conv_head", "bn2") if timm else ("_conv_head", "_bn1")
    fc = "classifier" if timm else "_fc"
    if model.head:
        entries += [*conv(head, "head_conv"), *batch_norm(head_norm, "head_norm")]
    else:
        ignored += [rf"{head}\..*", rf"{head_norm}\..*"]
    if model.classes:
        entries += linear(fc, "classifier")
    else:
        ignored.append(rf"{fc}\..*")
    return NameTable(tuple(entries), tuple(ignored), stem=f"{stem}.weight")


def _block(scheme: str, name: str, path: str, expands: bool) -> list[Entry]:
    """One inverted residual block; timm numbers the norms of any block from 1."""
    if scheme == "timm":
        convs = ["conv_pw", "conv_dw", "conv_pwl"] if expands else ["conv_dw", "conv_pw"]
        norms = [f"bn{i + 1}" for i in range(len(convs))]
        squeeze = ("se.conv_reduce", "se.conv_expand")
    else:
        convs = ["_expand_conv", "_depthwise_conv", "_project_conv"][0 if expands else 1 :]
        norms = ["_bn0", "_bn1", "_bn2"][0 if expands else 1 :]
        squeeze = ("_se_reduce", "_se_expand")
    ours = ["expand", "depthwise", "project"][0 if expands else 1 :]
    entries: list[Entry] = []
    for theirs, norm, mine in zip(convs, norms, ours, strict=True):
        entries += conv(f"{name}.{theirs}", path, f"{mine}_conv")
        entries += batch_norm(f"{name}.{norm}", path, f"{mine}_norm")
    for theirs, mine in zip(squeeze, ("se_reduce", "se_expand"), strict=True):
        entries += conv(f"{name}.{theirs}", path, mine, bias=True)
    return entries
