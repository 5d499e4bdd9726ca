"""Published weights: CLIP's image tower, a sparse U-Net, the fusion's own layers by name."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from posejax.config import ConfigError
from posejax.nn import (
    ClipTower,
    NameTable,
    SparseUNet,
    load_clip,
    load_state_dict,
    sparse_unet_table,
    to_flax,
)
from posejax.nn.torch_weights import Entry, linear
from posejax.systems.bifusion.config import ModelConfig


def fusion_table() -> NameTable:
    """The original's names of the heads, the gate, the squeeze-excitation: a `FusionHead`."""

    def norm(name: str, *path: str) -> list[Entry]:
        scale = Entry(f"{name}.weight", ("params", *path, "scale"))
        return [scale, Entry(f"{name}.bias", ("params", *path, "bias"))]

    entries = [*linear("proj_3d.0", "project3d"), *norm("proj_3d.1", "project3d_norm")]
    for head in ("head2d", "head3d"):
        entries += [*linear(f"{head}.0", head, "dense1"), *linear(f"{head}.3", head, "dense2")]
        entries += norm(f"{head}.4", head, "norm")
    for theirs, mine in (("fusion_gate.mlp.0", "dense1"), ("fusion_gate.mlp.2", "dense2")):
        entries += linear(theirs, "gate", mine)
    for theirs, mine in (("fusion_gate.se.fc1", "dense1"), ("fusion_gate.se.fc2", "dense2")):
        entries += linear(theirs, "squeeze", mine)
    return NameTable(tuple(entries))


def load(config: ModelConfig, params: Any, state: Any) -> tuple[Any, Any]:
    """Parameters and state with the branches' weights that the config names.

    Raises:
      ConfigError: no such file, one that cannot be read, weights of another network, or CLIP's with
        another activation than the checkpoint was trained with.
    """
    variables: dict[Any, Any] = flatten_dict({"params": params, **state})
    if config.clip_weights:
        model, own = ClipTower(config.activation, config.clip_blocks), ("image", "tower")
        with _naming("clip_weights"):
            found = load_clip(str(config.clip_weights), _inside(variables, *own), model)[1]
        _put(variables, found, *own)
    if config.points_weights:
        c, own = config.points, ("points", "unet")
        table = sparse_unet_table(SparseUNet(c.stem, c.widths, c.blocks))
        with _naming("points_weights"):
            state = _backbone(str(config.points_weights))
            found = to_flax(state, table, _inside(variables, *own))
        _put(variables, found, *own)
    tree = unflatten_dict(variables)
    return tree.pop("params"), tree


def _backbone(path: str) -> dict[str, Any]:
    """The U-Net's entries, which ESAM keeps beside others under "backbone."."""
    state = load_state_dict(path)
    if any(name.startswith("backbone.") for name in state):
        return {
            k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")
        }
    return state


def _inside(variables: Mapping[Any, Any], *scope: str) -> dict[str, Any]:
    """Variables of a module within, as if it stood alone."""
    size = len(scope) + 1
    return unflatten_dict(
        {(p[0], *p[size:]): v for p, v in variables.items() if p[1:size] == scope}
    )


def _put(variables: dict[Any, Any], found: Mapping[str, Any], *scope: str) -> None:
    for path, value in flatten_dict(dict(found)).items():
        variables[(path[0], *scope, *path[1:])] = value


@contextlib.contextmanager
def _naming(option: str) -> Iterator[None]:
    """What cannot be loaded within is an error that names the option, in two lines."""
    try:
        yield
    except (OSError, ValueError, ImportError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        more = f" (and {len(lines) - 2} more)" if len(lines) > 2 else ""
        raise ConfigError(f"system.model.{option}: {' '.join(lines[:2])}{more}") from error
