"""Pictures of one registration: rasters, overlays in the geo frame, the volume and its readings.

Rows grow with y and are drawn upwards, so +y is up and yaw turns counter-clockwise on the page.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from posejax.data import se2
from posejax.data.rasters import MapRaster, crop_raster
from posejax.report.figures import COLORS, Marker, heat_map, tidy

Example = Mapping[str, np.ndarray]

TRUTH, ESTIMATE = "#00b36b", "#e6007e"  # their sum is near white: what agrees turns pale
_DEPTH = 12.0  # nats below the peak at which the heat-map turns black (exp(-12) = 6e-6)


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


class Setting(NamedTuple):
    """What the pictures of one evaluation share; lengths in metres, angles in radians.

    cell_size: of the rasters. volume_cell_size: of the pose volume. angles: [K].
    """

    cell_size: float
    volume_cell_size: float
    angles: np.ndarray
    radius: int
    online: Display
    geo: Display


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
    """
    colour = [k for k, name in enumerate(names) if name.startswith("aerial")]
    if len(colour) == 3:
        return Display(tuple(colour), 0.0, 1.0, "aerial photograph")
    valid = [r[m > 0.5] for r, m in zip(rasters, masks, strict=True)]
    pooled = np.concatenate(valid) if valid else np.zeros((0, len(names)))
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


def paint(raster: np.ndarray, mask: np.ndarray, display: Display) -> np.ndarray:
    """Raster [H, W, C] as the shown channel(s) scaled to [0, 1]: [H, W, 3], 0 where invalid."""
    shown = np.nan_to_num(raster[..., list(display.channels)].astype(np.float64))
    shown = np.clip((shown - display.low) / max(display.high - display.low, 1e-6), 0, 1)
    if display.weights:
        shown = np.max(shown * np.array(display.weights), axis=-1, keepdims=True)
    return np.broadcast_to(shown, (*shown.shape[:2], 3)) * (mask > 0)[..., None]


def into_geo_frame(
    online: np.ndarray,
    mask: np.ndarray,
    geo_from_online: np.ndarray,
    geo_shape: tuple[int, int],
    cell_size: float,
) -> np.ndarray:
    """Online raster [H, W, C] as it lies in the geo raster at a pose: [Hg, Wg, C], 0 outside."""
    height, width = mask.shape
    source = MapRaster(
        online.astype(np.float32),
        mask.astype(np.float32),
        x_min=-width / 2 * cell_size,
        y_min=-height / 2 * cell_size,
        cell_size=cell_size,
    )
    online_from_geo = se2.inverse(np.asarray(geo_from_online, np.float64))
    values, weight = crop_raster(source, online_from_geo, shape=geo_shape, cell_size=cell_size)
    return values * weight[..., None]


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


def registration_figure(example: Example, setting: Setting) -> Figure:
    """All pictures of one example: rasters, overlays, volume, yaw and, if given, features."""
    features = "online_features" in example and "geo_features" in example
    rows = 3 if features else 2
    figure = Figure(figsize=(15.2, 3.9 * rows), layout="constrained")
    axes = figure.subplots(rows, 4)
    cell = setting.cell_size
    online = paint(example["online"], example["online_mask"], setting.online)
    geo = paint(example["geo"], example["geo_mask"], setting.geo)
    _raster(axes[0, 0], online, cell, f"online: {setting.online.name}")
    axes[0, 0].set(xlabel="x, forward (m)", ylabel="y, left (m)")
    _raster(axes[0, 1], geo, cell, f"geo: {setting.geo.name}")

    ground = np.repeat(geo.mean(2, keepdims=True), 3, axis=2)
    strength = {}
    for name in ("pose", "softmax"):
        if np.isfinite(example[name]).all():
            # The square root lifts the many faint cells of a laser raster out of the dark.
            brightness = np.sqrt(online.mean(2, keepdims=True))
            strength[name] = into_geo_frame(
                brightness, example["online_mask"], example[name], geo.shape[:2], cell
            )
        else:
            strength[name] = np.zeros((*geo.shape[:2], 1))
    shown = (("pose", TRUTH, "at the truth"), ("softmax", ESTIMATE, "at the softmax estimate"))
    for panel, (name, color, title) in zip(axes[0, 2:], shown, strict=True):
        light = strength[name]
        picture = 0.7 * ground * (1 - light) + _rgb(color) * light
        _raster(panel, picture, cell, f"online over geo {title}")
    both = sum(_rgb(color) * strength[name] for name, color, _ in shown)
    _raster(axes[1, 0], np.clip(both, 0, 1), cell, "truth (green), estimate (pink), both (pale)")

    _volume(axes[1, 1], axes[1, 2], example, setting)
    _yaw(axes[1, 3], example, setting)
    if features:
        _features(axes[2], example, setting)
    return figure


def _features(axes: np.ndarray, example: Example, setting: Setting) -> None:
    """Features in common colours, and where the score at the softmax estimate comes from."""
    cell = setting.volume_cell_size
    online, geo = (np.asarray(example[f"{n}_features"], np.float64) for n in ("online", "geo"))
    moved = np.zeros_like(geo)
    if np.isfinite(example["softmax"]).all():
        moved = into_geo_frame(
            online, np.ones(online.shape[:2]), example["softmax"], geo.shape[:2], cell
        )
    pictures = feature_colors(online, geo, moved)
    titles = ("online features", "geo features", "online features at the estimate")
    for panel, picture, title in zip(axes, pictures, titles, strict=False):
        _raster(panel, picture, cell, title)
    product = np.sum(moved * geo, axis=-1)
    bound = max(float(np.quantile(np.abs(product), 0.995)), 1e-12)
    shown = 0.5 + 0.5 * np.clip(product / bound, -1, 1)
    red_blue = np.stack([shown, 1 - 2 * np.abs(shown - 0.5), 1 - shown], -1)
    red_blue[..., (0, 2)] = np.minimum(2 * red_blue[..., (0, 2)], 1)
    _raster(axes[3], red_blue, cell, "their product: red for, blue against")


def _raster(axes: Axes, picture: np.ndarray, cell: float, title: str) -> None:
    height, width = picture.shape[:2]
    extent = (-width * cell / 2, width * cell / 2, -height * cell / 2, height * cell / 2)
    axes.imshow(picture, origin="lower", extent=extent, vmin=0, vmax=1)
    axes.set_title(title, fontsize=10, loc="left")
    axes.set(xlabel="x (m)", ylabel="y (m)")
    axes.tick_params(labelsize=8)


def _markers(example: Example) -> list[Marker]:
    def at(name, label, sign, color, covariance=None):
        x, y = (float(v) for v in example[name][:2])
        return Marker(x, y, label, sign, color, covariance)

    covariance = example["covariance"][:2, :2] if "covariance" in example else None
    return [
        at("pose", "truth", "+", "#4dff9e"),
        at("argmax", "argmax", "s", "#ffffff"),
        at("softmax", "softmax, 95 %", "o", "#ff5ab4", covariance),
        at("gaussian", "gaussian", "x", "#5ac8ff"),
    ]


def _volume(whole: Axes, zoom: Axes, example: Example, setting: Setting) -> None:
    """Log-volume summed over yaw: the whole window, and the surroundings of the readings."""
    log_prob = np.asarray(example["log_prob"], np.float64)
    marginal = log_prob_sum(log_prob, axis=0)
    marginal = marginal - np.max(marginal)
    reach = (setting.radius + 0.5) * setting.volume_cell_size
    extent = (-reach, reach, -reach, reach)
    markers = _markers(example)
    titles = (f"log-probability (black: {_DEPTH:.0f} nats below)", "the same, closer")
    for axes, title in zip((whole, zoom), titles, strict=True):
        heat_map(axes, marginal, extent, markers, vmin=-_DEPTH, vmax=0)
        axes.set_title(title, fontsize=10, loc="left")
    whole.legend(fontsize=8, loc="upper left", facecolor="#333333", labelcolor="white")

    places = np.array([[m.x, m.y] for m in markers if np.isfinite([m.x, m.y]).all()])
    centre = (places.min(0) + places.max(0)) / 2
    half = 0.75 * np.max(places.max(0) - places.min(0), initial=0)
    if "covariance" in example and np.isfinite(example["covariance"]).all():
        half = max(half, 3 * np.sqrt(np.max(np.diagonal(example["covariance"])[:2], initial=0)))
    half = min(max(half, 2.5 * setting.volume_cell_size), reach)
    zoom.set_xlim(centre[0] - half, centre[0] + half)
    zoom.set_ylim(centre[1] - half, centre[1] + half)


def _yaw(axes: Axes, example: Example, setting: Setting) -> None:
    """Probability of each yaw, summed over the window, with the readings."""
    degrees = np.rad2deg(setting.angles)
    log_prob = np.asarray(example["log_prob"], np.float64)
    weight = np.exp(log_prob_sum(log_prob.reshape(len(log_prob), -1), axis=1))
    weight = weight / max(weight.sum(), 1e-300)
    tidy(axes, "yaw (deg)", "probability", "yaw, summed over the window")
    step = degrees[1] - degrees[0] if len(degrees) > 1 else 1.0
    axes.bar(degrees, weight, width=0.9 * step, color="#b9c2cf")
    lines = (
        ("pose", "truth", TRUTH, "-"),
        ("argmax", "argmax", "#1c2330", ":"),
        ("softmax", "softmax, 95 %", ESTIMATE, "--"),
        ("gaussian", "gaussian", COLORS[0], "-."),
    )
    for name, label, color, dash in lines:
        yaw = np.rad2deg(float(example[name][2]))
        if np.isfinite(yaw):
            axes.axvline(yaw, color=color, linestyle=dash, linewidth=1.8, label=label)
    if "covariance" in example and np.isfinite(example["covariance"][2, 2]):
        yaw = np.rad2deg(float(example["softmax"][2]))
        half = 1.96 * np.rad2deg(np.sqrt(max(float(example["covariance"][2, 2]), 0.0)))
        if np.isfinite(yaw):
            axes.axvspan(yaw - half, yaw + half, color=ESTIMATE, alpha=0.12, linewidth=0)
    axes.set_box_aspect(1)
    axes.set_xlim(degrees[0] - step, degrees[-1] + step)
    axes.legend(fontsize=8, frameon=False)


def log_prob_sum(log_prob: np.ndarray, axis: int) -> np.ndarray:
    """log(sum(exp(.))) along an axis, shifted by the maximum; NaN counts as impossible (-inf)."""
    log_prob = np.where(np.isnan(log_prob), -np.inf, log_prob)
    peak = np.max(log_prob, axis=axis, keepdims=True)
    peak = np.where(np.isfinite(peak), peak, 0.0)
    total = np.sum(np.exp(log_prob - peak), axis=axis)
    # 1e-300 instead of 0: impossible stays drawable, hundreds of nats below any peak.
    return np.log(np.maximum(total, 1e-300)) + np.squeeze(peak, axis)


def _rgb(color: str) -> np.ndarray:
    return np.array([int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)])
