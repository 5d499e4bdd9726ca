"""Streets dressed for cameras: the worlds of the LiDAR with facades, foliage and asphalt up close.

A LiDAR sees one colour per wall; a matcher needs what tells one window from the next. Every
building gets a wall of its own, every material a texture.
"""

import jax
import numpy as np

from posejax.sim import SceneBuilder, textures
from posejax.sim.scene import Materials, Scene
from posejax.sim.streets import BUILDING

_WALLS = 24
_SIZE = (512, 512)


def dressed(rng: np.random.Generator, scene: Scene) -> Scene:
    """The scene of a `StreetWorld` with textures on everything; shapes and depths stay."""
    builder = SceneBuilder()
    ground = np.asarray(scene.textures.texels).reshape(*scene.textures.size[0, 0], 4)
    ground = np.clip(ground, 0, 1) * _asphalt(rng, ground.shape[:2])[..., None]
    builder.add_texture(np.rint(255 * np.clip(ground, 0, 1)).astype(np.uint8))
    facades = [builder.add_texture(textures.as_texture(_facade(rng))) for _ in range(6)]
    leaves = builder.add_texture(textures.as_texture(_leaves(rng)))
    worn = builder.add_texture(textures.as_texture(_worn(rng)))
    packed = builder.build(mip_levels=5, textures=12, texels=1 << 23).textures

    boxes = scene.boxes
    old = [np.asarray(x) for x in scene.materials]
    count = len(old[0])
    walls = np.flatnonzero(old[3][:, 0] > 0)
    pick = rng.choice(walls, _WALLS)
    rows = np.concatenate([np.arange(count), pick])
    reflectance, colour, grain, panes = (x[rows].copy() for x in old[:4])
    fresh = slice(count, None)
    colour[fresh] = np.clip(colour[fresh] * np.exp(rng.normal(0, 0.2, (_WALLS, 3))), 0.05, 1)
    panes[fresh, :2] *= np.exp(rng.normal(0, 0.2, (_WALLS, 2)))
    green = (colour[:, 1] > colour[:, 0]) & (colour[:, 1] > 1.3 * colour[:, 2])
    texture = np.where(green, leaves, worn)
    texture[panes[:, 0] > 0] = rng.choice(facades, int((panes[:, 0] > 0).sum()))
    texel = np.where(green, 0.012, np.where(panes[:, 0] > 0, 0.018, 0.006))
    grain[panes[:, 0] > 0, 1] *= 0.5
    colour[green] *= 1.8
    numbers = np.asarray(boxes.material).copy()
    houses = (np.asarray(boxes.label) == BUILDING) & np.isin(numbers, walls)
    numbers[houses] = count + rng.integers(_WALLS, size=int(houses.sum()))
    materials = Materials(
        reflectance, colour, grain, panes, texture.astype(np.int32), texel.astype(np.float32)
    )
    # One number of materials for all worlds: one compiled program.
    pad = 64 - len(rows)
    padded = Materials(*(np.concatenate([x, np.repeat(x[-1:], pad, 0)]) for x in materials))
    dressed_scene = scene._replace(
        boxes=boxes._replace(material=numbers), materials=padded, textures=packed
    )
    return jax.device_put(dressed_scene)


def _asphalt(rng, size) -> np.ndarray:
    """Patches, cracks and stains, for what is painted on the ground."""
    crack = np.abs(textures.noise(rng, size, octaves=7, slope=1.5)) < 0.01
    fine = textures.noise(rng, size, octaves=2, slope=0.3)
    shade = 1 + 0.12 * textures.noise(rng, size, octaves=7, slope=1.1) + 0.12 * fine
    return np.clip(shade, 0.3, 1.6) * (1 - 0.45 * crack)


def _facade(rng) -> np.ndarray:
    """Plaster or bricks with stains, patches, signs and scribbles."""
    white = rng.uniform(0.75, 0.95, 3)
    if rng.random() < 0.5:
        picture = textures.bricks(rng, _SIZE, white, courses=64, per_course=24)
    else:
        picture = textures.plaster(rng, _SIZE, white, strength=0.12)
    stain = 1 - 0.3 * np.clip(
        textures.noise(rng, _SIZE, octaves=8, slope=1.4, stretch=(3, 1)), 0, 1
    )
    picture = picture * stain[..., None]
    for _ in range(14):
        high, wide = rng.integers(16, 110, 2)
        y, x = rng.integers(0, _SIZE[0] - high), rng.integers(0, _SIZE[1] - wide)
        if rng.random() < 0.45 and min(high, wide) > 40:
            patch = textures.poster(rng, (int(high), int(wide)))
        else:
            patch = picture[y : y + high, x : x + wide] * rng.uniform(0.4, 1.2, 3)
        picture[y : y + high, x : x + wide] = patch
    return np.clip(picture, 0, 1)


def _leaves(rng) -> np.ndarray:
    shade = 0.55 + 0.35 * textures.noise(rng, (256, 256), octaves=4, slope=0.7)
    return np.clip(shade, 0.05, 1)[..., None] * rng.uniform(0.8, 1, 3)


def _worn(rng) -> np.ndarray:
    return textures.plaster(rng, (256, 256), (0.95, 0.95, 0.95), strength=0.1)
