"""Layout over devices: one mesh, batches split over all of it, large parameters over part of it."""

import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from posejax import config
from posejax.config import ConfigError
from posejax.data.dataset import Source

DATA, FSDP = "data", "fsdp"


def make_mesh(rule: config.Sharding, batch_size: int, accumulate: int = 1) -> Mesh:
    """Mesh of shape `(data, fsdp)` over the devices.

    Axes are of type Auto: the compiler places what the rules leave open.

    Raises:
      ConfigError: the devices or the batch do not divide; the message says what would.
    """
    devices = jax.devices()
    if rule.devices is not None:
        if not 1 <= rule.devices <= len(devices):
            raise ConfigError(
                f"train.sharding.devices is {rule.devices}; there are {len(devices)} devices"
            )
        devices = devices[: rule.devices]
    n = len(devices)
    fsdp = n if rule.fsdp == -1 else rule.fsdp
    if fsdp < 1 or n % fsdp:
        raise ConfigError(f"train.sharding.fsdp is {rule.fsdp}; expected a divisor of {n} devices")
    if batch_size % (n * accumulate):
        unit = n * accumulate
        near = max(unit, round(batch_size / unit) * unit)
        raise ConfigError(
            f"train.batch_size is {batch_size}; expected a multiple of {n} devices x {accumulate} "
            f"micro-batches, e.g. {near} (or --train.sharding.devices N)"
        )
    return jax.make_mesh(
        (n // fsdp, fsdp), (DATA, FSDP), axis_types=(AxisType.Auto, AxisType.Auto), devices=devices
    )


def usable_devices(count: int, batch_size: int) -> int:
    """Largest number of devices, at most `count`, that divides the batch."""
    return max(n for n in range(1, count + 1) if batch_size % n == 0)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Leading axis over every device."""
    return NamedSharding(mesh, PartitionSpec((DATA, FSDP)))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def state_sharding(abstract: Any, mesh: Mesh, rule: config.Sharding) -> Any:
    """Sharding of every leaf of a state: FSDP for large leaves, replication for the rest.

    The rule looks at a leaf's path and shape only, so the moments of the optimiser and the moving
    average, which have the shapes of the parameters, are laid out as the parameters are.
    """

    def one(path: Any, leaf: Any) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return NamedSharding(mesh, leaf_spec(name, leaf.shape, mesh.shape[FSDP], rule))

    return jax.tree_util.tree_map_with_path(one, abstract)


def leaf_spec(
    name: str, shape: tuple[int, ...], parts: int, rule: config.Sharding
) -> PartitionSpec:
    """Split the longest axis that divides by `parts`; replicate what is small, odd or named."""
    if parts == 1 or math.prod(shape) < rule.fsdp_min_size:
        return PartitionSpec()
    if any(re.search(pattern, name) for pattern in rule.replicate):
        return PartitionSpec()
    axes = [i for i, size in enumerate(shape) if size % parts == 0]
    if not axes:
        return PartitionSpec()
    longest = max(axes, key=lambda i: shape[i])
    return PartitionSpec(*(FSDP if i == longest else None for i in range(len(shape))))


def put_batch(batch: Mapping[str, np.ndarray], sharding: NamedSharding) -> dict[str, jax.Array]:
    """Global arrays from this process's part of the batch."""
    if jax.process_count() == 1:
        return jax.device_put(dict(batch), sharding)
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}


def place_resident(source: Source, mesh: Mesh) -> dict[str, jax.Array]:
    """The arrays of a source that every step reads, whole on every device."""
    arrays, everywhere = dict(source.resident()), replicated(mesh)
    if jax.process_count() == 1:
        return jax.device_put(arrays, everywhere)
    put = jax.make_array_from_process_local_data
    return {k: put(everywhere, v, v.shape) for k, v in arrays.items()}


def abstract_batch(batch: Mapping[str, np.ndarray], sharding: NamedSharding) -> dict[str, Any]:
    """Global shapes of `put_batch(batch, sharding)`."""
    scale = jax.process_count()
    return {
        k: jax.ShapeDtypeStruct(
            (v.shape[0] * scale, *v.shape[1:]),
            jax.dtypes.canonicalize_dtype(v.dtype),
            sharding=sharding,
        )
        for k, v in batch.items()
    }


def to_host(tree: Any) -> Any:
    """NumPy copies of global arrays, whole on every process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(tree, tiled=True)
