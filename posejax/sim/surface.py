"""How a surface looks where a ray met it: raster textures and procedural patterns."""

import jax
import jax.numpy as jnp

from posejax.sim.scene import Materials


def sample_texture(texture: jax.Array, index: jax.Array, pixel: jax.Array) -> jax.Array:
    """Bilinear sample of stacked textures, clamped at the border.

    Args:
      texture: [P, H, W, C].
      index: [R] which texture.
      pixel: [R, 2] continuous (column, row); the first pixel's centre is (0.5, 0.5).

    Returns:
      [R, C].
    """
    _, high, wide, _ = texture.shape
    corner = jnp.floor(pixel - 0.5)
    weight = pixel - 0.5 - corner
    col, row = corner[:, 0].astype(jnp.int32), corner[:, 1].astype(jnp.int32)
    wx, wy = weight[:, :1], weight[:, 1:]

    def at(dy, dx):
        return texture[index, jnp.clip(row + dy, 0, high - 1), jnp.clip(col + dx, 0, wide - 1)]

    top = at(0, 0) * (1 - wx) + at(0, 1) * wx
    bottom = at(1, 0) * (1 - wx) + at(1, 1) * wx
    return top * (1 - wy) + bottom * wy


def pattern(
    materials: Materials, material: jax.Array, point: jax.Array, normal: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Reflectance [R] and colour [R, 3] of materials with their grain and window panes.

    Args:
      material: [R] rows of `materials`.
      point: [R, 3] metres in the body frame, so the pattern moves with the body.
      normal: [R, 3] in the body frame, any length.
    """
    reflectance = jnp.asarray(materials.reflectance)[material]
    colour = jnp.asarray(materials.colour)[material]
    grain = jnp.asarray(materials.grain)[material]
    panes = jnp.asarray(materials.panes)[material]

    # The coordinate across the face is constant up to rounding: moving 1 cm inwards keeps a face
    # that coincides with a cell boundary from flickering between two cells.
    length = jnp.linalg.norm(normal, axis=1, keepdims=True)
    unit = normal / jnp.maximum(length, 1e-20)
    inner = point - 0.01 * unit
    cell = jnp.where(grain[:, :1] > 0, grain[:, :1], 1.0)
    noise = _hash(jnp.floor(inner / cell).astype(jnp.int32), material) - 0.5
    factor = 1.0 + grain[:, 1] * 2.0 * noise * (grain[:, 0] > 0)

    # Walls only: windows repeat along the wall (horizontal tangent) and upwards.
    wall = jnp.abs(unit[:, 2]) < 0.5
    along = point[:, 1] * unit[:, 0] - point[:, 0] * unit[:, 1]
    spacing = jnp.where(panes[:, :2] > 0, panes[:, :2], 1.0)
    phase = jnp.stack([along, point[:, 2]], axis=1) / spacing
    phase = phase - jnp.floor(phase)
    window = jnp.all((phase > 0.3) & (phase < 0.75), axis=1) & wall & (panes[:, 0] > 0)
    factor = factor * jnp.where(window, 1.0 - panes[:, 2], 1.0)
    return jnp.clip(reflectance * factor, 0.0, 1.0), jnp.clip(colour * factor[:, None], 0.0, 1.0)


def _hash(cell: jax.Array, seed: jax.Array) -> jax.Array:
    """A number in [0, 1) per integer cell [R, 3], by integer mixing: the same on every device."""
    x = cell.astype(jnp.uint32)
    mixed = x[:, 0] * jnp.uint32(73856093) ^ x[:, 1] * jnp.uint32(19349663)
    mixed = (
        mixed ^ x[:, 2] * jnp.uint32(83492791) ^ seed.astype(jnp.uint32) * jnp.uint32(2654435761)
    )
    mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(0x45D9F3B)
    mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(0x45D9F3B)
    return (mixed >> 8).astype(jnp.float32) / jnp.float32(1 << 24)
