"""What an alignment to the events needs: the edges of the craft, and where events are dense."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import Array

from posejax.keypoints import Edges, edges_of
from posejax.systems.eventpose.config import InputConfig

_WING = 0.011  # metres from the middle of a wing to its faces


@functools.cache
def craft_edges() -> Edges:
    """Edges of the simulated craft, and the boxes of it that hide what is behind them."""
    from posejax.sim.spacecraft import HALF, MIDDLE, WING_Y, WINGS, spacecraft_wireframe

    wings = [[(x0, WING_Y - _WING, z0), (x1, WING_Y + _WING, z1)] for x0, x1, z0, z1 in WINGS]
    boxes = np.concatenate([[[MIDDLE - HALF, MIDDLE + HALF]], wings])
    return edges_of(*spacecraft_wireframe(), boxes)


def event_density(grid: Array, config: InputConfig) -> Array:
    """Density [..., H, W] of the events at the start of a window, whose pose is asked for.

    Of voxels the first bin of both polarities: later events lie where the craft has moved to. The
    grid's logarithm of the counts is kept, in which one bright edge does not outweigh all others.
    """
    if config.representation == "voxel":
        grid = grid[..., :: config.bins]
    return jnp.maximum(grid, 0).sum(-1)
