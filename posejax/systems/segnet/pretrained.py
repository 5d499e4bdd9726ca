"""Published weights: the whole released network, or a trunk of ImageNet; and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from posejax.config import ConfigError
from posejax.nn import from_flax, load_state_dict, to_flax
from posejax.nn.bev_tables import trunk_table
from posejax.nn.torch_weights import Entry, NameTable
from posejax.systems.segnet.config import ModelConfig
from posejax.systems.segnet.model import segnet_table

#: The original's names of the learnt log-variances.
LOSS_WEIGHTS = {
    "segmentation": "ce_weight",
    "center": "center_weight",
    "offset": "offset_weight",
}


def released_table(config: ModelConfig) -> NameTable:
    """The released state dict, for the system's params {"network", "log_variances"} and stats."""
    inner = segnet_table(config)
    entries = [Entry(e.name, (e.path[0], "network", *e.path[1:]), e.layout) for e in inner.entries]
    entries = [
        e if e.path[0] == "params" else Entry(e.name, (e.path[0], *e.path[2:]), e.layout)
        for e in entries
    ]
    entries += [
        Entry(theirs, ("params", "log_variances", mine)) for mine, theirs in LOSS_WEIGHTS.items()
    ]
    return NameTable(tuple(entries), inner.ignored)


def load_released(config: ModelConfig, variables: Mapping[str, Any]) -> dict[str, Any]:
    """`variables` {"params", "batch_stats"} from `config.weights`, the layout that was released.

    Raises:
      ConfigError: no such file, one that cannot be read, or weights of another network.
    """
    try:
        state = load_state_dict(str(config.weights))
        return to_flax(state, released_table(config), variables)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(f"system.model.weights: {_short(error)}") from error


def load_backbone(config: ModelConfig, variables: Mapping[str, Any]) -> dict[str, Any]:
    """`variables` with the trunk of `config.backbone_weights`.

    Raises:
      ConfigError: see `load_released`.
    """
    table = trunk_table(config.backbone)
    flat: dict[Any, Any] = flatten_dict(dict(variables))
    scopes = {
        "params": ("params", "network", "encoder", "trunk"),
        "batch_stats": ("batch_stats", "encoder", "trunk"),
    }
    own = {
        (kind, *path[len(scope) :]): value
        for kind, scope in scopes.items()
        for path, value in flat.items()
        if path[: len(scope)] == scope
    }
    try:
        state = load_state_dict(str(config.backbone_weights))
        loaded = flatten_dict(to_flax(state, table, unflatten_dict(own)))
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(f"system.model.backbone_weights: {_short(error)}") from error
    for path, value in loaded.items():
        flat[(*scopes[path[0]], *path[1:])] = value
    return unflatten_dict(flat)


def to_state_dict(
    config: ModelConfig, params: Mapping[str, Any], state: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The released layout, with the counters that PyTorch's strict loading asks for."""
    variables = {"params": params, "batch_stats": state["batch_stats"]}
    return from_flax(variables, released_table(config), batches_tracked=0)


def _short(error: BaseException) -> str:
    """An error of many lines as its first two and the number of the others."""
    lines = [line.strip() for line in str(error).splitlines()]
    more = f" (and {len(lines) - 2} more)" if len(lines) > 2 else ""
    return " ".join(lines[:2]) + more
