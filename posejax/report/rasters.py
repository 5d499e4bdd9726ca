"""Rasters, maps and features in colour, scores over the plane, with markers and their ellipses.

Rows grow with y and are drawn upwards, so +y is up and angles turn counter-clockwise on the page.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse
from matplotlib.patheffects import withStroke

from posejax.report.figures import COLORS

_OUTLINE = [withStroke(linewidth=3, foreground="#000000")]  # bright signs on a bright peak


class Display(NamedTuple):
    """Which channels of a raster are shown, and the values drawn black and white.

    channels: three for a colour photograph, one for a grey picture, or several map layers.
    weights: brightness of each map layer; empty for photographs and grey pictures.
    """

    channels: tuple[int, ...]
    low: float
    high: float
    name: str
    weights: tuple[float, ...] = ()


class Marker(NamedTuple):
    """A point on a heat-map: place, label, matplotlib marker sign, colour.

    covariance: [2, 2] of the place in the axes' units, drawn as its 95 % ellipse.
    """

    x: float
    y: float
    label: str
    sign: str = "o"
    color: str = COLORS[0]
    covariance: np.ndarray | None = None


def channel_names(channels: Sequence[str], count: int) -> list[str]:
    """One name per channel; "aerial" may stand for its three colours; no names: numbers.

    Raises:
      ValueError: names and channels do not match in number.
    """
    names = list(channels) or [f"channel {i}" for i in range(count)]
    if len(names) != count:
        names = [
            part
            for name in names
            for part in ((f"{name} {c}" for c in "rgb") if name == "aerial" else (name,))
        ]
    if len(names) != count:
        raise ValueError(f"{len(channels)} channel names {list(channels)} for {count} channels")
    return names


def choose_display(
    rasters: Sequence[np.ndarray], masks: Sequence[np.ndarray], names: Sequence[str]
) -> Display:
    """Colours of an aerial photograph, all layers of a vector map, else one channel.

    Layers (several channels, nearly every cell on or off) lie over each other, sparse ones
    brightest: paint shines on the drivable area. One channel is the most informative one, by the
    entropy of the valid cells' values in 32 classes. All examples are pooled, so that every
    picture of a report shows the same thing.

    Args:
      rasters, masks: [H, W, C] and [H, W] of at least one example.
      names: of the channels, see `channel_names`.
    """
    names = channel_names(names, rasters[0].shape[-1])
    colour = [k for k, name in enumerate(names) if name.startswith("aerial")]
    if len(colour) == 3:
        return Display(tuple(colour), 0.0, 1.0, "aerial photograph")
    pooled = np.concatenate([r[m > 0.5] for r, m in zip(rasters, masks, strict=True)])
    pooled = pooled[np.isfinite(pooled).all(1)]
    if not len(pooled):
        return Display((0,), 0.0, 1.0, names[0])
    least, most = pooled.min(), pooled.max()
    decided = (pooled < least + 0.1 * (most - least)) | (pooled > most - 0.1 * (most - least))
    if len(names) > 1 and decided.mean(0).min() > 0.8 and most > least:
        order = np.argsort(-pooled.mean(0), kind="stable")  # widest first
        weights = np.linspace(0.35, 1, len(names))
        layers = " < ".join([names[int(k)] for k in order])
        return Display(tuple(order.tolist()), least, most, layers, tuple(weights.tolist()))
    low, high = np.quantile(pooled, [0.01, 0.99], axis=0)
    # Sparse layers (painted marks) can be constant up to the 99th percentile.
    flat = high - low < 1e-6
    low, high = np.where(flat, pooled.min(0), low), np.where(flat, pooled.max(0), high)
    entropies = []
    for k in range(len(names)):
        share = np.histogram(pooled[:, k], 32, (low[k], max(high[k], low[k] + 1e-6)))[0]
        share = share[share > 0] / max(share.sum(), 1)
        entropies.append(-np.sum(share * np.log(share)))
    best = int(np.argmax(entropies))
    return Display((best,), float(low[best]), float(high[best]), names[best])


def choose_displays(
    examples: Sequence[Mapping[str, np.ndarray]], channels: Mapping[str, Sequence[str]]
) -> dict[str, Display]:
    """`choose_display` for each raster of some examples that have `NAME` and `NAME_mask`.

    Args:
      examples: all of a report; without any there is nothing to choose.
      channels: NAME -> names of the channels.
    """
    return {
        name: choose_display([e[name] for e in examples], [e[f"{name}_mask"] for e in examples], c)
        for name, c in channels.items()
        if examples
    }


def paint(raster: np.ndarray, mask: np.ndarray, display: Display) -> np.ndarray:
    """Raster [H, W, C] as the shown channel(s) scaled to [0, 1]: [H, W, 3], 0 where invalid."""
    shown = np.nan_to_num(raster[..., list(display.channels)].astype(np.float64))
    shown = np.clip((shown - display.low) / max(display.high - display.low, 1e-6), 0, 1)
    if display.weights:
        shown = np.max(shown * np.array(display.weights), axis=-1, keepdims=True)
    return np.broadcast_to(shown, (*shown.shape[:2], 3)) * (mask > 0)[..., None]


def feature_colors(*maps: np.ndarray) -> list[np.ndarray]:
    """Feature maps [h, w, C] as RGB by their three leading principal components.

    The components are common to all maps, so equal colours mean equal features. Cells without
    any feature (all zero, masked) are left out of the fit and drawn black.
    """
    flat = np.concatenate([m.reshape(-1, m.shape[-1]) for m in maps]).astype(np.float64)
    used = np.isfinite(flat).all(1) & (np.abs(flat).max(1) > 0)
    colors = np.zeros((len(flat), 3))
    if used.sum() > 1:
        centred = flat[used] - flat[used].mean(0)
        directions = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :3]
        # Eigenvectors have no sign of their own: fix one, so that colours repeat between runs.
        largest = np.argmax(np.abs(directions), axis=0)
        directions *= np.sign(directions[largest, np.arange(directions.shape[1])])
        parts = centred @ directions
        low, high = np.quantile(parts, [0.02, 0.98], axis=0)
        parts = np.clip((parts - low) / np.maximum(high - low, 1e-12), 0, 1)
        colors[used, : parts.shape[1]] = parts
    ends = np.cumsum([m.shape[0] * m.shape[1] for m in maps])[:-1]
    parts = np.split(colors, ends)
    return [c.reshape(*m.shape[:2], 3) for c, m in zip(parts, maps, strict=True)]


def signed_colors(values: np.ndarray) -> np.ndarray:
    """[H, W] as RGB: red above zero, blue below, full at the 99.5th percentile of the sizes."""
    bound = max(float(np.quantile(np.abs(values), 0.995)), 1e-12)
    return colormaps["bwr"](0.5 + 0.5 * np.clip(values / bound, -1, 1))[..., :3]


def show_raster(axes: Axes, picture: np.ndarray, cell_size: float, title: str) -> None:
    """A coloured raster [H, W, 3] in [0, 1], its origin in the middle, axes in metres."""
    height, width = picture.shape[:2]
    extent = (-width / 2, width / 2, -height / 2, height / 2)
    axes.imshow(
        picture, origin="lower", extent=tuple(cell_size * e for e in extent), vmin=0, vmax=1
    )
    axes.set_title(title, fontsize=10, loc="left")
    axes.set(xlabel="x (m)", ylabel="y (m)")
    axes.tick_params(labelsize=8)


def show_features(axes: Sequence[Axes], maps: Mapping[str, np.ndarray], cell_size: float) -> None:
    """Feature maps [h, w, C] in common colours, title -> map, and the product of the last two."""
    for panel, title, picture in zip(axes, maps, feature_colors(*maps.values()), strict=False):
        show_raster(panel, picture, cell_size, title)
    one, other = list(maps.values())[-2:]
    product = signed_colors(np.sum(one * other, axis=-1))
    show_raster(axes[-1], product, cell_size, "their product: red for, blue against")


def log_sum(log_prob: np.ndarray, axis: int) -> np.ndarray:
    """log(sum(exp(.))) along an axis; NaN counts as impossible, and that as -1e4: drawable."""
    possible = np.where(np.isnan(log_prob), -np.inf, np.asarray(log_prob, np.float64))
    return np.maximum(np.logaddexp.reduce(possible, axis=axis), -1e4)


def show_log_scores(
    whole: Axes,
    zoom: Axes,
    log_scores: np.ndarray,
    cell_size: float,
    markers: Sequence[Marker],
    depth: float = 12.0,
) -> None:
    """Log-probabilities over the plane in all, and closer around the markers.

    Args:
      whole, zoom: where to draw.
      log_scores: [H, W], its middle cell at the origin.
      cell_size: m.
      markers: see `heat_map`.
      depth: nats below the peak at which all is black (exp(-12) = 6e-6).
    """
    y, x = (size * cell_size / 2 for size in log_scores.shape)
    titles = (f"log-probability (black: {depth:.0f} nats below)", "the same, closer")
    for axes, title in zip((whole, zoom), titles, strict=True):
        heat_map(axes, log_scores - log_scores.max(), (-x, x, -y, y), markers, vmin=-depth, vmax=0)
        axes.set_title(title, fontsize=10, loc="left")
    whole.legend(fontsize=8, loc="upper left", facecolor="#333333", labelcolor="white")
    zoom_to_markers(zoom, markers, least=2.5 * cell_size, most=max(x, y))


def heat_map(
    axes: Axes,
    image: np.ndarray,
    extent: tuple[float, float, float, float],
    markers: Sequence[Marker] = (),
    *,
    vmin: float | None = None,
    vmax: float | None = None,
    cmap: str = "magma",
    unit: str = "m",
):
    """Scores over the plane, rows growing upwards, with markers and their 95 % ellipses.

    Args:
      axes: where to draw.
      image: [H, W]; row 0 is drawn at the bottom, as y grows with rows.
      extent: (left, right, bottom, top) of the image's outer edges.
      markers: drawn in order with a dark outline; what cannot be seen stays in the legend as
        "(outside)" or "(not finite)".
      vmin, vmax: range of the colours.
      cmap: matplotlib colour map.
      unit: of the axes.

    Returns:
      The image artist, for a colour bar.
    """
    drawn = axes.imshow(
        image, origin="lower", extent=extent, cmap=cmap, vmin=vmin, vmax=vmax, aspect="equal"
    )
    for marker in markers:
        finite = np.isfinite([marker.x, marker.y]).all()
        inside = extent[0] <= marker.x <= extent[1] and extent[2] <= marker.y <= extent[3]
        remark = "" if inside else " (outside)" if finite else " (not finite)"
        open_sign = marker.sign in "os^Dv"
        face: dict[str, Any] = {"mfc": "none"} if open_sign else {}
        axes.plot(
            marker.x if finite else np.nan,
            marker.y if finite else np.nan,
            marker.sign,
            color=marker.color,
            markersize=9,
            markeredgewidth=1.8,
            linestyle="none",
            label=marker.label + remark,
            path_effects=_OUTLINE,
            **face,
        )
        if finite and marker.covariance is not None:
            ellipse = confidence_ellipse(marker)
            if ellipse is not None:
                axes.add_patch(ellipse)
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(extent[2], extent[3])
    axes.set_xlabel(f"x ({unit})")
    axes.set_ylabel(f"y ({unit})")
    axes.tick_params(labelsize=8)
    return drawn


def zoom_to_markers(axes: Axes, markers: Sequence[Marker], *, least: float, most: float) -> None:
    """Square limits around the markers and their ellipses, from `least` to `most` in half width."""
    seen = [m for m in markers if np.isfinite([m.x, m.y]).all()]
    places = np.array([[m.x, m.y] for m in seen])
    centre = (places.min(0) + places.max(0)) / 2
    half = 0.75 * np.max(places.max(0) - places.min(0), initial=0)
    for marker in markers:
        if marker.covariance is not None and np.isfinite(marker.covariance).all():
            half = max(half, 3 * np.sqrt(np.max(np.diagonal(marker.covariance), initial=0)))
    half = min(max(half, least), most)
    axes.set_xlim(centre[0] - half, centre[0] + half)
    axes.set_ylim(centre[1] - half, centre[1] + half)


def confidence_ellipse(marker: Marker, level: float = 0.95) -> Ellipse | None:
    """Outline that holds `level` of the normal law at the marker; None for a bad covariance."""
    covariance = np.asarray(marker.covariance, np.float64)
    if not np.isfinite(covariance).all():
        return None
    variances, axes = np.linalg.eigh(covariance)  # increasing
    if variances[0] < 0:
        return None
    # A 2-D normal puts 1 - exp(-d^2 / 2) within the Mahalanobis distance d.
    minor, major = 2 * np.sqrt(-2 * np.log1p(-level) * variances)
    angle = np.rad2deg(np.arctan2(axes[1, 1], axes[0, 1]))
    return Ellipse(
        (marker.x, marker.y),
        width=major,
        height=minor,
        angle=angle,
        fill=False,
        edgecolor=marker.color,
        linewidth=1.5,
        path_effects=_OUTLINE,
    )
