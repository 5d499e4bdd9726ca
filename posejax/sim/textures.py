"""Procedural textures that repeat without a seam: noise, plaster, wood, bricks, tiles, posters.

Every function draws from a NumPy generator and returns [H, W, 3] float32 linear RGB in [0, 1], row
0 at the top. They carry detail at all sizes from a few texels on, so that local features find
something to hold on to; `as_texture` adds the reflectance that `SceneBuilder.add_texture` wants.
"""

import numpy as np

Size = tuple[int, int]


def as_texture(rgb: np.ndarray) -> np.ndarray:
    """[H, W, 3] in [0, 1] -> [H, W, 4] uint8: the mean as reflectance, then the colour."""
    full = np.concatenate([rgb.mean(-1, keepdims=True), rgb], axis=-1)
    return np.round(np.clip(full, 0, 1) * 255).astype(np.uint8)


def noise(
    rng: np.random.Generator,
    size: Size,
    *,
    octaves: int = 5,
    slope: float = 1.0,
    stretch: tuple[float, float] = (1.0, 1.0),
) -> np.ndarray:
    """Multi-octave noise [H, W], mean 0, standard deviation 1, without a seam.

    White noise whose amplitude falls with the frequency f as f^-slope (1 is the spectrum of natural
    pictures: Field 1987, Relations between the statistics of natural images), cut off `octaves`
    below the texel's frequency: features of 2 to 2^(octaves + 1) texels.

    Args:
      stretch: features are so many times longer along rows' and columns' direction (y, x).
    """
    fy = np.fft.fftfreq(size[0])[:, None] * stretch[0]
    fx = np.fft.rfftfreq(size[1])[None] * stretch[1]
    frequency = np.hypot(fy, fx)
    lowest = 2.0 ** -(octaves + 1)
    gain = np.where(frequency > lowest, np.maximum(frequency, 1e-9), lowest) ** -slope
    gain *= frequency > 0
    spectrum = np.fft.rfft2(rng.standard_normal(size)) * gain
    values = np.fft.irfft2(spectrum, size)
    return (values / max(values.std(), 1e-9)).astype(np.float32)


def plaster(rng, size: Size, colour, *, strength: float = 0.06) -> np.ndarray:
    """A painted wall: blotches, fine grain, some specks and hairline cracks."""
    shade = 1 + strength * noise(rng, size, octaves=7, slope=1.2)
    shade += 0.5 * strength * noise(rng, size, octaves=2, slope=0.3)
    shade *= 1 - 0.45 * (noise(rng, size, octaves=3) > 2.6)
    crack = np.abs(noise(rng, size, octaves=7, slope=1.6)) < 0.012
    return _paint(shade * (1 - 0.3 * crack), colour)


def carpet(rng, size: Size, colour, *, accent=(0.2, 0.2, 0.25)) -> np.ndarray:
    """Speckled weave of two colours."""
    weave = noise(rng, size, octaves=2, slope=0.4) + 0.7 * noise(rng, size, octaves=6, slope=1.3)
    share = _step(weave, 0.6, 0.3)[..., None]
    shade = 1 + 0.18 * noise(rng, size, octaves=1, slope=0.0)
    return _paint(shade, colour) * (1 - share) + _paint(shade, accent) * share


def wood(rng, size: Size, colour, *, planks: int = 4, joints: float = 0.35) -> np.ndarray:
    """Planks along the rows, each with its own tone, grain and shifted end joint."""
    high, wide = size
    row, column = np.mgrid[:high, :wide]
    plank = row * planks // high
    tone = rng.uniform(0.72, 1.2, planks)[plank]
    bend = 6 * noise(rng, size, octaves=7, slope=1.5, stretch=(1.0, 6.0))
    rings = np.sin((row + bend + 40 * rng.random(planks)[plank]) * (2 * np.pi / 9))
    grain = noise(rng, size, octaves=4, slope=0.8, stretch=(1.0, 12.0))
    shade = tone * (1 + 0.09 * rings + 0.10 * grain)
    edge = (row * planks) % high < planks * 1.5
    start = rng.integers(0, wide, planks)[plank]
    edge |= (column - start) % wide < 2
    shade = np.where(edge, shade * joints, shade)
    knots = noise(rng, size, octaves=5, slope=1.5) > 2.5
    return _paint(np.where(knots, 0.5 * shade, shade), colour)


def bricks(
    rng, size: Size, colour, *, courses: int = 8, per_course: int = 4, mortar=(0.55, 0.53, 0.5)
) -> np.ndarray:
    """Running bond: each brick has its own tone, joints are mortar."""
    high, wide = size
    row, column = np.mgrid[:high, :wide]
    course = row * courses // high
    place = column + (course % 2) * (wide // (2 * per_course))
    brick = (place * per_course // wide) % per_course
    tone = rng.uniform(0.6, 1.25, (courses, per_course))[course, brick]
    shade = tone * (1 + 0.12 * noise(rng, size, octaves=4, slope=0.8))
    joint = (row * courses) % high < courses * 3
    joint |= (place * per_course) % wide < per_course * 3
    grout = _paint(1 + 0.1 * noise(rng, size, octaves=2, slope=0.3), mortar)
    return np.where(joint[..., None], grout, _paint(shade, colour))


def tiles(rng, size: Size, colour, *, count: int = 4, other=None) -> np.ndarray:
    """Square tiles with veins, tones of their own and dark joints; a second colour alternates."""
    high, wide = size
    row, column = np.mgrid[:high, :wide]
    a, b = row * count // high, column * count // wide
    tone = rng.uniform(0.85, 1.1, (count, count))[a, b]
    veins = np.abs(noise(rng, size, octaves=6, slope=1.2)) < 0.06
    shade = tone * (1 + 0.05 * noise(rng, size, octaves=4)) * (1 - 0.25 * veins)
    picture = _paint(shade, colour)
    if other is not None:
        picture = np.where(((a + b) % 2)[..., None] > 0, _paint(shade, other), picture)
    joint = ((row * count) % high < count * 2) | ((column * count) % wide < count * 2)
    return np.where(joint[..., None], picture * 0.35, picture)


def fabric(rng, size: Size, colour, *, stripes: int = 0, accent=(0.8, 0.8, 0.75)) -> np.ndarray:
    """A woven cloth, plain or with checks."""
    row, column = np.mgrid[: size[0], : size[1]]
    shade = 1 + 0.12 * np.where((row + column) % 4 < 2, 1, -1)
    shade = shade + 0.1 * noise(rng, size, octaves=6, slope=1.1)
    picture = _paint(shade, colour)
    if stripes:
        width = rng.uniform(0.15, 0.4, 2)
        across = (row * stripes / size[0]) % 1 < width[0]
        along = (column * stripes / size[1]) % 1 < width[1]
        share = 0.5 * (across.astype(np.float32) + along)[..., None]
        picture = picture * (1 - share) + _paint(shade, accent) * share
    return picture


def marks(rng, size: Size, paper, ink, *, line: int = 14) -> np.ndarray:
    """Text-like marks: words of random strokes in lines, on paper."""
    high, wide = size
    page = np.ones(size, np.float32)
    for top in range(line // 2, high - line, line):
        left = int(rng.integers(4, 12))
        while left < wide - 8:
            for _ in range(int(rng.integers(2, 9))):
                _stroke_letter(rng, page, top, left, line * 5 // 8)
                left += line // 2
                if left >= wide - 8:
                    break
            left += line // 2
        if rng.random() < 0.15:
            page[top + line - 3 : top + line - 1, 4 : wide - 4] = 0.3
    shade = 1 + 0.03 * noise(rng, size)
    return _paint(shade * page, paper) + _paint(1 - page, ink)


def poster(rng, size: Size) -> np.ndarray:
    """A picture no other wall has: a gradient, shapes of many sizes, a line of text, a frame."""
    high, wide = size
    row, column = np.mgrid[:high, :wide].astype(np.float32)
    one, two = rng.uniform(0.05, 0.95, (2, 3))
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * row / high + np.sin(angle) * column / wide
    ramp = (ramp - ramp.min()) / np.ptp(ramp) + 0.06 * noise(rng, size, octaves=6, slope=1.2)
    picture = one + np.clip(ramp, 0, 1)[..., None] * (two - one)
    for scale in (0.5, 0.3, 0.2, 0.12, 0.12, 0.07, 0.07, 0.07):
        y, x = rng.uniform(0, high), rng.uniform(0, wide)
        turn, ratio = rng.uniform(0, np.pi), rng.uniform(0.4, 1.0)
        a = (np.cos(turn) * (row - y) + np.sin(turn) * (column - x)) / (scale * min(size))
        b = (np.cos(turn) * (column - x) - np.sin(turn) * (row - y)) / (scale * ratio * min(size))
        inside = (a**2 + b**2 < 1) if rng.random() < 0.5 else (np.maximum(abs(a), abs(b)) < 0.8)
        picture = np.where(inside[..., None], rng.uniform(0, 1, 3), picture)
    band = slice(int(0.8 * high), int(0.93 * high))
    text = marks(rng, (band.stop - band.start, wide), (0.95, 0.95, 0.9), (0.05, 0.05, 0.1), line=10)
    picture[band] = text
    border = max(min(size) // 32, 2)
    edge = np.minimum(np.minimum(row, high - 1 - row), np.minimum(column, wide - 1 - column))
    picture = np.where((edge < border)[..., None], rng.uniform(0.02, 0.5, 3), picture)
    return np.clip(picture, 0, 1).astype(np.float32)


def _stroke_letter(rng, page: np.ndarray, top: int, left: int, height: int) -> None:
    """Two or three straight strokes in a cell."""
    width = max(height // 2, 3)
    for kind in rng.integers(0, 4, int(rng.integers(2, 4))):
        if kind == 0:  # upright
            x = left + int(rng.integers(0, width - 1))
            page[top : top + height, x : x + 2] = 0
        elif kind == 1:  # level
            y = top + int(rng.integers(0, height - 1))
            page[y : y + 2, left : left + width] = 0
        else:  # slanted, either way
            y = np.arange(height)
            x = y * (width - 1) // height
            x = x if kind == 2 else width - 1 - x
            x = np.minimum(left + x, page.shape[1] - 2)
            rows = np.minimum(top + y, page.shape[0] - 1)
            page[rows, x] = page[rows, x + 1] = 0


def _paint(shade: np.ndarray, colour) -> np.ndarray:
    return np.clip(shade[..., None] * np.asarray(colour, np.float32), 0, 1).astype(np.float32)


def _step(value: np.ndarray, edge: float, width: float) -> np.ndarray:
    return np.clip((value - edge) / width + 0.5, 0, 1)
