"""Grey paint on flat sheets: boxes, polygons, frames and block letters, antialiased by area."""

import numpy as np

_FINE = 4  # painted at so many times the resolution, then averaged

# 5 x 7 block letters, one row of five bits each, top row first.
_LETTERS = {
    "A": "0e 11 11 1f 11 11 11",
    "E": "1f 10 10 1e 10 10 1f",
    "J": "07 02 02 02 02 12 0c",
    "N": "11 19 15 13 11 11 11",
    "O": "0e 11 11 11 11 11 0e",
    "P": "1e 11 11 1e 10 10 10",
    "S": "0f 10 10 0e 01 01 1e",
    "T": "1f 04 04 04 04 04 04",
    "V": "11 11 11 11 11 0a 04",
    "X": "11 11 0a 04 0a 11 11",
    "0": "0e 11 13 15 19 11 0e",
    "1": "04 0c 04 04 04 04 0e",
    "2": "0e 11 01 02 04 08 1f",
    "7": "1f 01 02 04 08 08 08",
}


class Sheet:
    """A rectangle to paint on; coordinates in metres from its lower left corner, v upwards.

    Args:
      wide, high: metres.
      value: reflectance of the bare sheet.
      cells: texels along either side.
    """

    def __init__(self, wide: float, high: float, value: float, cells: int = 256):
        self.wide, self.high = wide, high
        self._paint = np.full((cells * _FINE, cells * _FINE), value, np.float32)

    def box(self, u0: float, v0: float, u1: float, v1: float, value: float) -> None:
        """Fill the box between two corners."""
        (c0, c1), (r0, r1) = self._range(u0, u1, self.wide), self._range(v0, v1, self.high)
        self._paint[r0:r1, c0:c1] = value

    def frame(self, width: float, value: float) -> None:
        """Paint the border."""
        self.box(0, 0, self.wide, width, value)
        self.box(0, self.high - width, self.wide, self.high, value)
        self.box(0, 0, width, self.high, value)
        self.box(self.wide - width, 0, self.wide, self.high, value)

    def polygon(self, corners, value: float) -> None:
        """Fill a convex polygon [K, 2], corners in either order."""
        corners = np.asarray(corners, np.float64)
        count = len(self._paint)
        u = (np.arange(count) + 0.5) * (self.wide / count)
        v = (np.arange(count) + 0.5) * (self.high / count)
        edge = np.roll(corners, -1, axis=0) - corners
        side = [
            e[0] * (v[:, None] - p[1]) - e[1] * (u[None, :] - p[0])
            for p, e in zip(corners, edge, strict=True)
        ]
        side = np.stack(side)
        self._paint[(side >= 0).all(0) | (side <= 0).all(0)] = value

    def text(self, words: str, u: float, v: float, height: float, value: float) -> None:
        """Block letters with their lower left corner at (u, v); a letter is 5/7 as wide as high."""
        dot = height / 7
        for place, letter in enumerate(words):
            for row, bits in enumerate(_LETTERS[letter].split()):
                for column in range(5):
                    if int(bits, 16) >> (4 - column) & 1:
                        left, low = u + (6 * place + column) * dot, v + (6 - row) * dot
                        self.box(left, low, left + dot, low + dot, value)

    def texture(self, blur: float = 0.0) -> np.ndarray:
        """[cells, cells, 1] for `SceneBuilder.add_rectangle`, blurred by `blur` metres (sigma)."""
        cells = len(self._paint) // _FINE
        mean = self._paint.reshape(cells, _FINE, cells, _FINE).mean((1, 3))
        for size in (self.high, self.wide):  # rows, then columns
            mean = _smooth(mean, blur * cells / size).T
        return mean[..., None]

    def _range(self, start: float, stop: float, size: float) -> tuple[int, int]:
        cells = len(self._paint)
        low, high = np.clip(np.round(np.array([start, stop]) / size * cells), 0, cells)
        return int(low), int(high)


def _smooth(rows: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur along the first axis, sigma in cells; the border value goes on outside."""
    reach = int(np.ceil(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-9)) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    padded = np.pad(rows, ((reach, reach), (0, 0)), mode="edge")
    parts = [tap * padded[k : k + len(rows)] for k, tap in enumerate(taps)]
    return np.sum(parts, axis=0)
