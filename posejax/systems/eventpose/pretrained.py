"""Backbone weights under PyTorch's names, brought into a fresh pose network."""

from pathlib import Path
from typing import Any

from posejax.config import ConfigError
from posejax.nn import EfficientNet
from posejax.nn.heatmaps import PatchEncoder
from posejax.nn.torch_tables import efficientnet_table, resnet_table
from posejax.nn.torch_weights import load_state_dict, to_flax
from posejax.systems.eventpose.model import PoseNet, VoxelCNN, make_backbone


def load_backbone(path: Path, net: PoseNet, variables: dict[str, Any]) -> dict[str, Any]:
    """`variables` of `net` with those of its backbone from a file of published weights.

    A first convolution of three colours becomes one of all input channels: the mean over the
    colours, repeated.

    Raises:
      ConfigError: no such file, a pickled one, or weights of another architecture.
    """
    model = make_backbone(net)
    if isinstance(model, VoxelCNN | PatchEncoder):
        raise ConfigError(f"system.model.weights: {net.backbone!r} has no published weights")
    table = efficientnet_table(model) if isinstance(model, EfficientNet) else resnet_table(model)
    own = {kind: variables[kind]["backbone"] for kind in ("params", "batch_stats")}
    try:
        loaded = to_flax(load_state_dict(path), table, own, adapt_input=True)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(f"system.model.weights: {error}") from error
    return {
        kind: {**part, "backbone": loaded[kind]} if kind in loaded else part
        for kind, part in variables.items()
    }
