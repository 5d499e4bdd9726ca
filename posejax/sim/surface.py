"""How a surface looks where a ray met it: raster textures and procedural patterns."""

import jax
import jax.numpy as jnp

from posejax.sim.scene import Materials, Textures


def sample_texture(
    textures: Textures,
    index: jax.Array,
    u: jax.Array,
    v: jax.Array,
    blur: jax.Array,
    *,
    repeat: bool = False,
) -> jax.Array:
    """Bilinear sample of textures, clamped at the border or repeated.

    Args:
      index: [R] which texture.
      u, v: [R] continuous column and row; the first pixel's centre is (0.5, 0.5).
      blur: [R] texels that the ray's pixel covers: chooses the nearest level.

    Returns:
      [C, R].
    """
    levels, channels = textures.start.shape[1], textures.texels.shape[1]
    start, size = jnp.asarray(textures.start).reshape(-1), jnp.asarray(textures.size).reshape(-1, 2)
    if levels > 1:
        level = jnp.round(jnp.log2(jnp.maximum(blur, 1e-6))).astype(jnp.int32)
        level = jnp.clip(level, 0, levels - 1)
        first = size.T[:, index * levels]
        index = index * levels + level
        # Texels of the finest level to those of this one.
        scale = size.T[:, index] / first.astype(jnp.float32)
        u, v = u * scale[1], v * scale[0]
    high, wide = size.T[:, index]
    # Flat rows of single numbers: gathers of short vectors do not fill the lanes.
    flat = jnp.asarray(textures.texels).reshape(-1)
    left, top = jnp.floor(u - 0.5), jnp.floor(v - 0.5)
    wx, wy = u - 0.5 - left, v - 0.5 - top

    def inside(place, count):
        place = place.astype(jnp.int32)
        return jnp.mod(place, count) if repeat else jnp.clip(place, 0, count - 1)

    columns = [inside(left + k, wide) for k in (0, 1)]
    rows = [start[index] + inside(top + k, high) * wide for k in (0, 1)]

    def channel(c):
        at = [[flat[(row + column) * channels + c] for column in columns] for row in rows]
        upper, lower = (left * (1 - wx) + right * wx for left, right in at)
        return upper * (1 - wy) + lower * wy

    value = jnp.stack([channel(c) for c in range(channels)])
    return value / 255.0 if flat.dtype == jnp.uint8 else value


def look_of_material(
    materials: Materials,
    textures: Textures,
    material: jax.Array,
    point: jax.Array,
    normal: jax.Array,
    shift: jax.Array | int,
    footprint: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Reflectance [R] and colour [3, R]: the pattern of the material times its texture.

    Args:
      material, point, normal: as for `pattern`.
      shift: [R] integers that move the texture, so that two parts of one material differ.
      footprint: [R] metres that the ray's pixel covers.

    A texture is laid on the coordinate plane that the surface faces most (box mapping).
    """
    reflectance, colour = pattern(materials, material, point, normal)
    if not len(materials.texture):
        return reflectance, colour
    index, texel = (jnp.asarray(x)[material] for x in (materials.texture, materials.texel))
    size = jnp.abs(normal)
    x = (size[0] >= size[1]) & (size[0] >= size[2])
    y = ~x & (size[1] >= size[2])
    u = jnp.where(x, point[1], point[0]) / texel + 61.0 * shift
    v = jnp.where(x | y, -point[2], point[1]) / texel + 37.0 * shift
    value = sample_texture(textures, jnp.maximum(index, 0), u, v, footprint / texel, repeat=True)
    value = jnp.where(index >= 0, value, 1.0)
    return reflectance * value[0], colour * value[-3:]  # a grey is broadcast


def pattern(
    materials: Materials, material: jax.Array, point: jax.Array, normal: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Reflectance [R] and colour [3, R] of materials with their grain and window panes.

    Args:
      material: [R] rows of `materials`.
      point: [3, R] metres in the body frame, so the pattern moves with the body.
      normal: [3, R] in the body frame, any length.
    """
    reflectance = jnp.asarray(materials.reflectance)[material]
    colour = jnp.asarray(materials.colour).T[:, material]
    cell, strength = jnp.asarray(materials.grain).T[:, material]
    spacing_along, spacing_up, darkness = jnp.asarray(materials.panes).T[:, material]

    # The coordinate across the face is constant up to rounding: moving 1 cm inwards keeps a face
    # that coincides with a cell boundary from flickering between two cells.
    length = jnp.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
    unit = normal / jnp.maximum(length, 1e-20)[None]
    inner = point - 0.01 * unit
    size = jnp.where(cell > 0, cell, 1.0)
    noise = _hash(jnp.floor(inner / size[None]).astype(jnp.int32), material) - 0.5
    factor = 1.0 + strength * 2.0 * noise * (cell > 0)

    # Walls only: windows repeat along the wall (horizontal tangent) and upwards.
    wall = jnp.abs(unit[2]) < 0.5
    along = point[1] * unit[0] - point[0] * unit[1]
    window = wall & (spacing_along > 0)
    for place, spacing in ((along, spacing_along), (point[2], spacing_up)):
        phase = place / jnp.where(spacing > 0, spacing, 1.0)
        phase = phase - jnp.floor(phase)
        window &= (phase > 0.3) & (phase < 0.75)
    factor = factor * jnp.where(window, 1.0 - darkness, 1.0)
    return jnp.clip(reflectance * factor, 0.0, 1.0), jnp.clip(colour * factor[None], 0.0, 1.0)


def _hash(cell: jax.Array, seed: jax.Array) -> jax.Array:
    """A number in [0, 1) per integer cell [3, R], by integer mixing: the same on every device."""
    x = cell.astype(jnp.uint32)
    mixed = x[0] * jnp.uint32(73856093) ^ x[1] * jnp.uint32(19349663)
    mixed = mixed ^ x[2] * jnp.uint32(83492791)
    mixed = mixed ^ seed.astype(jnp.uint32) * jnp.uint32(2654435761)
    mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(0x45D9F3B)
    mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(0x45D9F3B)
    return (mixed >> 8).astype(jnp.float32) / jnp.float32(1 << 24)
