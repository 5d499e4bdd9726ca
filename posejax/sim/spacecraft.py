"""A small satellite for the pose simulators: no two of its sides look alike, not even mirrored.

Size and habit of the Proba-2 class: a box with two wings in one plane, 1.6 x 0.6 x 1.04 m over all.
Body frame (metres): x along the wings, y the side that the solar cells face, z towards the launch
ring; the origin is the middle of the body. Right-handed; the camera-frame label of the real data
sets is the pose of such a frame.
"""

import functools

import numpy as np

from posejax.sim.builder import SceneBuilder
from posejax.sim.scene import Material, Scene
from posejax.sim.sheet import Sheet

#: Half sizes of the body's box and the height of its middle along y.
HALF = np.array([0.30, 0.28, 0.40])
MIDDLE = np.array([0.0, -0.02, 0.0])
#: (x from, x to, z from, z to) of the wings; they lie at WING_Y and are 2 cm thick.
WINGS = ((-0.80, -0.33, -0.38, 0.38), (0.33, 0.80, -0.38, 0.28))
WING_Y = 0.245
RING_RADIUS, RING_TOP = 0.20, 0.47
NOZZLE = (0.06, -0.05, 0.075, -0.57)  # x, y, radius, end along z

FOIL = Material(0.45, (0.45, 0.45, 0.45), (0.025, 0.45))
WHITE = Material(0.80, (0.80, 0.80, 0.80))
GREY = Material(0.40, (0.40, 0.40, 0.40))
DARK = Material(0.06, (0.06, 0.06, 0.06))
METAL = Material(0.60, (0.60, 0.60, 0.60))

# (centre x, z, half x, half z, height, material) of the boxes on the side between the wings.
_EQUIPMENT = (
    (-0.18, 0.27, 0.08, 0.07, 0.040, WHITE),
    (-0.20, 0.08, 0.06, 0.08, 0.025, FOIL),
    (-0.06, 0.11, 0.05, 0.05, 0.035, GREY),
    (0.13, 0.25, 0.04, 0.09, 0.030, METAL),
    (0.20, 0.02, 0.06, 0.06, 0.040, DARK),
    (0.03, -0.10, 0.09, 0.04, 0.020, WHITE),
    (-0.17, -0.24, 0.09, 0.05, 0.030, GREY),
    (0.16, -0.28, 0.07, 0.06, 0.015, FOIL),
)


@functools.cache
def spacecraft_scene(blur: float = 0.0) -> Scene:
    """The satellite in its body frame, about 40 primitives and 10 textures.

    Args:
      blur: metres (sigma) by which the paint is smoothed: about half a pixel's footprint, so that
        the thin contacts of the solar cells do not flicker. The shapes of the arrays stay.
    """
    builder = SceneBuilder()
    for centre, u, v, half, sheet in _skin():
        builder.add_rectangle(centre, u, v, half, sheet.texture(blur))
    for x0, x1, z0, z1 in WINGS:
        centre = (0.5 * (x0 + x1), WING_Y, 0.5 * (z0 + z1))
        builder.add_box(centre, (0.5 * (x1 - x0), 0.01, 0.5 * (z1 - z0)), WHITE)
    for x in (-0.315, 0.315):  # hinges, not at the same height
        builder.add_box((x, WING_Y, 0.22 if x < 0 else -0.05), (0.016, 0.012, 0.04), METAL)
    top = MIDDLE[1] + HALF[1]
    for x, z, half_x, half_z, height, material in _EQUIPMENT:
        builder.add_box((x, top + height / 2, z), (half_x, height / 2, half_z), material)
    _add_ends(builder)
    return builder.build()


def _add_ends(builder: SceneBuilder) -> None:
    """Launch ring (+z), engine and telescope (-z), dish (-y), star trackers and antennas."""
    end = HALF[2]
    middle = 0.5 * (end + RING_TOP)
    builder.add_cylinder((0, MIDDLE[1], middle), RING_RADIUS, RING_TOP - middle, METAL)
    builder.add_cylinder((0, MIDDLE[1], RING_TOP), RING_RADIUS - 0.03, 0.001, DARK)
    builder.add_cylinder((0.03, MIDDLE[1] + 0.05, RING_TOP), 0.05, 0.012, WHITE)
    x, y, radius, low = NOZZLE
    builder.add_cylinder((x, y, 0.5 * (low - end)), radius, 0.5 * (-end - low), GREY)
    builder.add_cylinder((x, y, low), radius - 0.015, 0.001, DARK)
    builder.add_box((-0.17, 0.12, -end - 0.05), (0.07, 0.09, 0.05), WHITE)
    builder.add_cylinder((-0.17, 0.12, -end - 0.10), 0.05, 0.001, DARK)
    # The dish looks along -y beside the middle; half of it lies within the wall.
    bottom = MIDDLE[1] - HALF[1]
    builder.add_ellipsoid((-0.11, bottom + 0.005, 0.16), (0.13, 0.03, 0.13), WHITE)
    builder.add_cylinder(
        (-0.11, bottom - 0.01, 0.16), 0.02, 0.03, DARK, rotation=_z_to((0.0, 1.0, 0.0))
    )
    for x, z, tilt in ((0.24, -0.33, 0.5), (0.24, -0.20, -0.35)):
        axis = (np.sin(0.6), -0.4 * np.cos(0.6), np.sin(tilt))
        place = (x + 0.06, bottom + 0.12, z)
        builder.add_cylinder(place, 0.045, 0.06, DARK, rotation=_z_to(axis))
    # Rods at one outer corner of each wing.
    builder.add_box((-0.79, WING_Y + 0.02, 0.405), (0.008, 0.03, 0.03), METAL)
    builder.add_box((0.785, WING_Y - 0.03, -0.37), (0.015, 0.035, 0.015), WHITE)


def _z_to(axis) -> np.ndarray:
    """A rotation that turns z to `axis`."""
    z = np.asarray(axis, np.float64) / np.linalg.norm(axis)
    x = np.cross(z, np.eye(3)[np.argmin(np.abs(z))])
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)


def _skin() -> list:
    """(centre, u, v, half size, sheet) of every painted plane; seen from outside, u goes right."""
    x, y, z = np.eye(3)
    a, b, c = HALF
    planes = [
        (MIDDLE + b * y, -x, z, (a, c), _deck(2 * a, 2 * c)),
        (MIDDLE - b * y, x, z, (a, c), _radiator(2 * a, 2 * c)),
        (MIDDLE + a * x, y, z, (b, c), _name_side(2 * b, 2 * c)),
        (MIDDLE - a * x, -y, z, (b, c), _louver_side(2 * b, 2 * c)),
        (MIDDLE + c * z, x, y, (a, b), _ring_side(2 * a, 2 * b)),
        (MIDDLE - c * z, -x, y, (a, b), _engine_side(2 * a, 2 * b)),
    ]
    for number, (x0, x1, z0, z1) in enumerate(WINGS):
        centre = np.array([0.5 * (x0 + x1), WING_Y, 0.5 * (z0 + z1)])
        half = 0.5 * (x1 - x0), 0.5 * (z1 - z0)
        size = 2 * half[0], 2 * half[1]
        # Half a millimetre above the wing's box.
        planes.append((centre + 0.0105 * y, -x, z, half, _cells(*size, number)))
        planes.append((centre - 0.0105 * y, x, z, half, _wing_back(*size, number)))
    return planes


def _cells(wide: float, high: float, number: int) -> Sheet:
    """Solar cells in strings: thin bright contacts on dark glass, two bare bands."""
    sheet = Sheet(wide, high, 0.07)
    pitch = high / 26
    for row in range(26):
        if row in ((7, 8, 18) if number else (5, 13, 14, 21)):
            continue
        for column in range(12):
            left, low = wide / 12 * column, pitch * row
            shade = 0.08 if (row + column + number) % 2 else 0.26
            sheet.box(left + 0.003, low + 0.003, left + wide / 12 - 0.003, low + pitch, shade)
            sheet.box(left + 0.003, low + pitch * 0.4, left + wide / 12, low + pitch * 0.65, 0.72)
    sheet.frame(0.012, 0.75)
    return sheet


def _wing_back(wide: float, high: float, number: int) -> Sheet:
    sheet = Sheet(wide, high, 0.34)
    sheet.frame(0.02, 0.62)
    for k in range(4 + number):  # stiffeners
        sheet.box(0.0, high * (k + 0.6) / 5.2, wide, high * (k + 0.6) / 5.2 + 0.018, 0.7)
    sheet.box(wide * (0.2 + 0.45 * number), 0.0, wide * (0.2 + 0.45 * number) + 0.03, high, 0.12)
    for k in range(7):  # cable clamps
        sheet.box(
            wide * 0.55 - 0.02 * number, 0.03 + 0.1 * k, wide * 0.55 + 0.02, 0.055 + 0.1 * k, 0.08
        )
    sheet.text("P1" if number else "P2", 0.05, high * 0.72, 0.07, 0.95)
    return sheet


def _deck(wide: float, high: float) -> Sheet:
    sheet = Sheet(wide, high, 0.16)
    for k in range(8):
        sheet.box(0.04 + 0.07 * k, 0.02, 0.055 + 0.07 * k, high - 0.02, 0.24)
    sheet.frame(0.015, 0.6)
    sheet.box(0.05, 0.33, 0.30, 0.36, 0.7)
    sheet.box(0.33, 0.10, 0.35, 0.62, 0.6)
    return sheet


def _radiator(wide: float, high: float) -> Sheet:
    sheet = Sheet(wide, high, 0.62)
    for k in range(9):  # inclined stripes on the lower half
        sheet.polygon(
            [
                (0.07 * k, 0.03),
                (0.07 * k + 0.03, 0.03),
                (0.07 * k + 0.13, 0.3),
                (0.07 * k + 0.1, 0.3),
            ],
            0.12,
        )
    sheet.box(0.0, 0.33, wide, 0.35, 0.1)
    sheet.text("EVENT", 0.08, 0.66, 0.09, 0.08)
    sheet.frame(0.012, 0.2)
    return sheet


def _name_side(wide: float, high: float) -> Sheet:
    sheet = Sheet(wide, high, 0.22)
    sheet.text("POSE", 0.06, 0.55, 0.13, 0.9)
    sheet.text("JAX", 0.06, 0.38, 0.13, 0.9)
    for k in range(5):
        sheet.box(0.06, 0.05 + 0.055 * k, 0.2 + 0.06 * k, 0.075 + 0.055 * k, 0.6)
    sheet.frame(0.015, 0.5)
    return sheet


def _louver_side(wide: float, high: float) -> Sheet:
    sheet = Sheet(wide, high, 0.5)
    for k in range(14):  # louvers on one half, a dark window and a number on the other
        sheet.box(0.03, 0.04 + 0.05 * k, 0.28, 0.062 + 0.05 * k, 0.14)
    sheet.box(0.33, 0.08, 0.5, 0.34, 0.05)
    sheet.box(0.36, 0.12, 0.44, 0.22, 0.7)
    sheet.text("02", 0.33, 0.5, 0.15, 0.06)
    sheet.frame(0.01, 0.8)
    return sheet


def _ring_side(wide: float, high: float) -> Sheet:
    sheet = Sheet(wide, high, 0.10)
    sheet.frame(0.014, 0.6)
    sheet.text("PJ", 0.03, high - 0.11, 0.08, 0.85)
    sheet.text("7", wide - 0.09, 0.03, 0.08, 0.85)
    for k in range(6):  # marks around the ring, a gap at one side
        angle = 0.5 + 0.85 * k
        x = wide / 2 + 0.24 * np.cos(angle)
        y = high / 2 + 0.24 * np.sin(angle)
        sheet.box(x - 0.018, y - 0.012, x + 0.018, y + 0.012, 0.9)
    sheet.box(0.02, 0.03, 0.14, 0.05, 0.5)
    sheet.box(0.02, 0.07, 0.09, 0.09, 0.5)
    return sheet


def _engine_side(wide: float, high: float) -> Sheet:
    sheet = Sheet(wide, high, 0.32)
    for k in range(6):
        for j in range(6):  # quilted foil, a chequerboard
            if (k + j) % 2:
                sheet.box(0.02 + 0.09 * k, 0.02 + 0.085 * j, 0.1 + 0.09 * k, 0.1 + 0.085 * j, 0.55)
    sheet.box(0.42, 0.3, 0.56, 0.5, 0.06)
    sheet.text("A", 0.45, 0.34, 0.12, 0.9)
    sheet.frame(0.012, 0.15)
    return sheet


def spacecraft_wireframe() -> tuple[np.ndarray, np.ndarray]:
    """Edges for drawing a pose over a picture.

    Returns:
      points [P, 3] float64 metres, body frame; edges [E, 2] int64 rows of points.
    """
    points: list[np.ndarray] = []
    edges: list[tuple[int, int]] = []

    def loop(corners) -> int:
        first, count = len(points), len(corners)
        points.extend(np.asarray(corners, np.float64))
        edges.extend((first + k, first + (k + 1) % count) for k in range(count))
        return first

    corner = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    for side in (-1, 1):
        loop([MIDDLE + HALF * (*xy, side) for xy in corner])
    edges += [(k, k + 4) for k in range(4)]
    for x0, x1, z0, z1 in WINGS:
        loop([(x, WING_Y, z) for x, z in ((x0, z0), (x1, z0), (x1, z1), (x0, z1))])
    turn = np.arange(16) * (2 * np.pi / 16)
    circle = np.stack([np.cos(turn), np.sin(turn), np.zeros(16)], axis=1)
    loop(circle * RING_RADIUS + (0.0, MIDDLE[1], RING_TOP))
    x, y, radius, low = NOZZLE
    loop(circle * radius + (x, y, low))
    return np.array(points), np.array(edges, np.int64)
