"""Cells of a polygon: by their centres, or as OpenCV's fillPoly takes them."""

import jax.numpy as jnp
from jax import Array


def inside_polygon(corners: Array, x: Array, y: Array) -> Array:
    """Whether points lie in a polygon, by the number of edges to their right.

    Args:
      corners: [K, 2] around the polygon, convex or not.
      x, y: arrays that broadcast together.

    Of two polygons that share an edge, one has the points on it.
    """
    count = jnp.zeros((), jnp.int32)
    for i in range(len(corners)):
        (ax, ay), (bx, by) = corners[i - 1], corners[i]
        crosses = (ay > y) != (by > y)
        # x < ax + (y - ay) (bx - ax) / (by - ay), without the division
        side = (x - ax) * (by - ay) - (y - ay) * (bx - ax)
        count = count + (crosses & (jnp.where(by > ay, side, -side) < 0))
    return count % 2 == 1


def filled_polygon(corners: Array, x: Array, y: Array) -> Array:
    """Cells that fillPoly (8-connected, no shift) fills: the inside, and the lines around it.

    Args:
      corners: [K, 2] int32 cells.
      x, y: int32 cells, arrays that broadcast together.
    """
    filled = inside_polygon(corners, x, y)
    for i in range(len(corners)):
        filled = filled | _on_line(corners[i - 1], corners[i], x, y)
    return filled


def _on_line(a: Array, b: Array, x: Array, y: Array) -> Array:
    """Bresenham's cells from the left end to the right one; a tie stays on the left end's side."""
    swap = a[0] > b[0]
    start, end = jnp.where(swap, b, a), jnp.where(swap, a, b)
    dx, dy = end[0] - start[0], end[1] - start[1]
    down = jnp.where(dy < 0, -1, 1)
    along_x, along_y = x - start[0], (y - start[1]) * down
    length, rise = dx, dy * down
    flat = (along_x >= 0) & (along_x <= length) & (along_y == _share(along_x, rise, length))
    steep = (along_y >= 0) & (along_y <= rise) & (along_x == _share(along_y, length, rise))
    return jnp.where(rise > length, steep, flat)


def _share(step: Array, minor: Array, major: Array) -> Array:
    """step * minor / major to the nearest whole number, halves down."""
    major = jnp.maximum(major, 1)
    return (2 * step * minor + major - 1) // (2 * major)
