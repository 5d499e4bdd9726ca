"""Pieces that one sense alone cannot tell apart: one shape and one palette, three patterns.

A box with print, a night stand of planks and a checked bag are the same cuboid in the same browns.
Their patterns are of some centimetres: a picture shows them, a cloud of points some centimetres
apart has their colours in the same mixture. What they differ in from a table or a cabinet of the
same wood is their shape.
"""

import functools

import numpy as np

from posejax.sim import textures
from posejax.sim.builder import SceneBuilder
from posejax.sim.furniture import Looks, Piece
from posejax.sim.scene import Material

_SIZE = ((0.3, 0.5), (0.3, 0.6), (0.35, 0.6))
_TEXEL = 0.004


def lookalikes(rng: np.random.Generator, builder: SceneBuilder) -> dict[str, Piece]:
    """The pieces of one room, by the names of their classes."""
    cells, white, dark = (128, 128), (0.95, 0.95, 0.95), (0.35, 0.35, 0.35)
    pictures = {
        "box": textures.marks(rng, cells, white, dark, line=16),
        "night stand": textures.wood(rng, cells, white, planks=5),
        "bag": textures.fabric(rng, cells, white, stripes=5, accent=dark),
    }
    pieces = {}
    for name, picture in pictures.items():
        texture = builder.add_texture(textures.as_texture(picture))
        pieces[name] = Piece(_SIZE, False, functools.partial(_cuboid, texture))
    return pieces


def _cuboid(texture: int, rng, builder, looks: Looks, centre, yaw, extent, instance) -> None:
    material: Material = looks.timber(rng)._replace(texture=texture, texel=_TEXEL)
    place = (*centre, extent[2] / 2)
    builder.add_box(place, np.asarray(extent) / 2, material, yaw=yaw, instance=instance)
