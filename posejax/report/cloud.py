"""Clouds of points that a reader turns with the mouse: data and script in the page, no network."""

import base64
import html
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

_STEPS = 32767  # of a coordinate, either way


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points to be looked at from all sides.

    Attributes:
      points: [N, 3] metres, in the axes of a camera that looks at them (x right, y down, z ahead).
      colors: what the colours show -> [N, 3] in [0, 1]; the reader chooses.
      caption: under it.
      most: points that are shown; of more, an even choice.
    """

    points: np.ndarray
    colors: Mapping[str, np.ndarray]
    caption: str = ""
    most: int = 8000


def cloud_html(cloud: Cloud) -> str:
    """The figure of a cloud; `SCRIPT` must follow it somewhere on the page.

    A point takes 6 bytes, and 3 for each choice of colours; it is moved by up to 1/32767 of the
    largest coordinate, measured from the cloud's middle. Points that are not finite are left out.

    Raises:
      ValueError: no choice of colours, or arrays that do not fit.
    """
    points = np.asarray(cloud.points, np.float64)
    shapes = {np.shape(c) for c in cloud.colors.values()}
    if points.ndim != 2 or shapes != {points.shape} or points.shape[1] != 3:
        raise ValueError(f"points are [N, 3], colours too, got {points.shape}, {sorted(shapes)}")
    rows = np.flatnonzero(np.isfinite(points).all(1))
    count = min(len(rows), cloud.most)
    rows = rows[np.arange(count) * len(rows) // max(count, 1)]
    middle = np.median(points[rows], axis=0) if count else np.zeros(3)
    apart = points[rows] - middle
    far = float(np.abs(apart).max(initial=1e-9))
    radius = float(np.quantile(np.linalg.norm(apart, axis=1), 0.95)) if count else 1.0
    steps = np.round(apart / far * _STEPS).astype("<i2")
    colors = [
        np.round(255 * np.clip(np.asarray(c, np.float64)[rows], 0, 1)).astype(np.uint8)
        for c in cloud.colors.values()
    ]
    options = "".join(f"<option>{html.escape(name)}</option>" for name in cloud.colors)
    # The distance at which the camera stands that the axes are of.
    away = max(float(np.linalg.norm(middle)) / max(radius, 1e-9), 1.5)
    return (
        f'<figure class="cloud" data-points="{_text(steps)}" '
        f'data-colors="{" ".join(map(_text, colors))}" '
        f'data-scale="{far / max(radius, 1e-9) / _STEPS:.9g}" data-away="{away:.4g}">'
        f"<label>colours: <select>{options}</select></label>"
        '<canvas width="860" height="520" tabindex="0" '
        f'aria-label="{html.escape(cloud.caption or "a cloud of points")}"></canvas>'
        f"<figcaption>{html.escape(cloud.caption)} Drag to turn, scroll to come nearer."
        "</figcaption></figure>"
    )


def _text(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")


STYLE = """
.cloud canvas { display: block; width: 100%; max-width: 860px; background: #fff; cursor: grab;
  border: 1px solid var(--line); border-radius: 6px; touch-action: none; margin-top: .4rem; }
"""

# What is near goes with the pointer. Nearer points are painted over farther ones; a cloud is drawn
# when it comes into sight.
SCRIPT = """<script>
for (const figure of document.querySelectorAll("figure.cloud")) {
  const bytes = t => Uint8Array.from(atob(t), c => c.charCodeAt(0));
  const {points, colors, scale, away} = figure.dataset;
  const place = new Int16Array(bytes(points).buffer), n = place.length / 3;
  const tables = colors.split(" ").map(bytes);
  const canvas = figure.querySelector("canvas"), select = figure.querySelector("select");
  const context = canvas.getContext("2d"), {width, height} = canvas;
  const x = new Float32Array(n), y = new Float32Array(n), z = new Float32Array(n);
  const order = Uint32Array.from({length: n}, (_, i) => i);
  let yaw = 0.5, pitch = 0.35, zoom = 1, waits = false;
  function paint() {
    waits = false;
    const image = context.createImageData(width, height), data = image.data.fill(255);
    const color = tables[Math.max(select.selectedIndex, 0)];
    const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    for (let i = 0; i < n; i++) {
      const [a, b, c] = [place[3 * i] * scale, place[3 * i + 1] * scale, place[3 * i + 2] * scale];
      const ahead = cy * c + sy * a;
      x[i] = cy * a - sy * c;
      y[i] = cp * b - sp * ahead;
      z[i] = cp * ahead + sp * b + +away / zoom;
    }
    order.sort((i, j) => z[j] - z[i]);
    for (const i of order) {
      if (z[i] < 0.05) continue;
      const f = 0.55 * Math.max(+away, 1.5) * height / z[i];
      const u = Math.round(width / 2 + f * x[i]), v = Math.round(height / 2 + f * y[i]);
      const r = Math.min(Math.max(Math.round(f / 130), 1), 4);
      for (let q = v - r; q <= v + r; q++) {
        if (q < 0 || q >= height) continue;
        for (let p = Math.max(u - r, 0); p <= Math.min(u + r, width - 1); p++) {
          const k = 4 * (q * width + p);
          data[k] = color[3 * i]; data[k + 1] = color[3 * i + 1]; data[k + 2] = color[3 * i + 2];
        }
      }
    }
    context.putImageData(image, 0, 0);
  }
  const draw = () => { if (!waits) { waits = true; requestAnimationFrame(paint); } };
  const turn = (dx, dy) => {
    yaw += dx; pitch = Math.min(Math.max(pitch + dy, -1.5), 1.5); draw();
  };
  const approach = factor => { zoom = Math.min(Math.max(zoom * factor, 0.3), 12); draw(); };
  canvas.addEventListener("pointerdown", e => canvas.setPointerCapture(e.pointerId));
  canvas.addEventListener("pointermove", e => {
    if (e.buttons) turn(e.movementX / 160, e.movementY / 160);
  });
  canvas.addEventListener("wheel", e => {
    e.preventDefault(); approach(Math.exp(-e.deltaY / 600));
  }, {passive: false});
  canvas.addEventListener("keydown", e => {
    const keys = {ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1],
                  ArrowDown: [0, 0.1]};
    if (keys[e.key]) { e.preventDefault(); turn(...keys[e.key]); }
    if (e.key === "+") approach(1.15);
    if (e.key === "-") approach(1 / 1.15);
  });
  select.addEventListener("change", draw);
  new IntersectionObserver(seen => { if (seen.some(s => s.isIntersecting)) draw(); })
    .observe(canvas);
}
</script>"""
