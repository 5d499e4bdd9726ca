"""Cutting any bundle of rays into tiles of neighbours, and tiles into blocks of one size."""

import functools
import math

import jax
import jax.numpy as jnp

TILE = 2048  # rays that are culled together
BLOCK = 32  # tiles of one compiled call


def block_count(shape: tuple[int, ...]) -> tuple[int, int]:
    """Number of blocks and tiles per block: few sizes, so that few programs are compiled."""
    rows, cols, *_ = _tiling(shape)
    tiles = max(rows * cols, 1)
    size = min(BLOCK, 1 << (tiles - 1).bit_length())
    return -(-tiles // size), size


def _tiling(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Tile rows and columns, height and width of a tile.

    A two-dimensional bundle gets tiles of 32 x 64 (or the whole of a short axis); any other one is
    a single row of rays.
    """
    high, wide = _plane(shape)
    tile_w = TILE if high == 1 else min(64, 1 << max(wide - 1, 0).bit_length())
    tile_h = TILE // tile_w
    return -(-high // tile_h), -(-wide // tile_w), tile_h, tile_w


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def cut_tiles(origins, directions, shape, count: int, size: int):
    """Rays of `shape` -> `count` pairs of [size, TILE, 3], padded with zero directions."""
    rows, cols, tile_h, tile_w = _tiling(shape)

    def cut(rays):
        rays = jnp.broadcast_to(rays, (*shape, 3)).reshape(*_plane(shape), 3)
        high, wide, _ = rays.shape
        rays = jnp.pad(rays, ((0, rows * tile_h - high), (0, cols * tile_w - wide), (0, 0)))
        rays = rays.reshape(rows, tile_h, cols, tile_w, 3).swapaxes(1, 2)
        rays = rays.reshape(rows * cols, TILE, 3)
        rays = jnp.pad(rays, ((0, count * size - rows * cols), (0, 0), (0, 0)))
        return [rays[i * size : (i + 1) * size] for i in range(count)]

    return list(zip(cut(origins), cut(directions), strict=True))


@functools.partial(jax.jit, static_argnums=1)
def join_tiles(blocks: list, shape):
    """The inverse of `cut_tiles` for every field [tiles, TILE, ...] of a pytree."""
    rows, cols, tile_h, tile_w = _tiling(shape)
    high, wide = _plane(shape)

    def join(*parts):
        x = jnp.concatenate(parts)[: rows * cols]
        tail = x.shape[2:]
        x = x.reshape(rows, cols, tile_h, tile_w, *tail).swapaxes(1, 2)
        x = x.reshape(rows * tile_h, cols * tile_w, *tail)[:high, :wide]
        return x.reshape(*shape, *tail)

    return jax.tree.map(join, *blocks)


def _plane(shape: tuple[int, ...]) -> tuple[int, int]:
    return (shape[0], shape[1]) if len(shape) == 2 else (1, math.prod(shape))
