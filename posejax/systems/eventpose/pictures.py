"""Picture of one window: what the network saw, and the poses drawn into it."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from posejax.report import views
from posejax.report.figures import COLORS

Example = Mapping[str, np.ndarray]
Wireframe = tuple[np.ndarray, np.ndarray]

# Over grey events, so that only the poses have colour.
TRUTH, ESTIMATE, OTHER = COLORS[0], COLORS[4], COLORS[2]
_COUNTS = 0.1  # weight from which another hypothesis is drawn


def channel_kinds(example: Example) -> np.ndarray:
    """[C] in [0, 1]: OFF 0 and ON 1; of a frame, whose channels are slices of time, how late."""
    channels = example["grid"].shape[-1]
    if "image" in example:
        return np.linspace(0, 1, channels) if channels > 1 else np.full(1, 0.5)
    return (np.arange(channels) >= channels // 2) * 1.0


def pose_figure(example: Example, wireframe: Wireframe | None = None) -> Figure:
    """One window: what the network saw, the wireframe and the body axes at truth and estimate.

    Args:
      example: `grid` [H, W, C] as the network sees it, `pose` and `truth` [4, 4] camera_from_body,
        `view_rotation`, `view_intrinsics` [3, 3]; `image` if the grid is a frame; of heatmaps their
        modes `keypoints` [P, K, 2] and `keypoint_weight` [P, K], which are marked, and `hypotheses`
        [M, 4, 4] and `hypothesis_weight` [M], of which the second best is drawn if it counts.
      wireframe: points [P, 3] m of the body frame and edges [E, 2].
    """
    strength, share = views.strength_and_share(example["grid"], channel_kinds(example))
    names = ("earlier", "later") if "image" in example else ("OFF", "ON")
    poses = [
        views.Drawn("truth", example["truth"], TRUTH),
        views.Drawn("estimate", example["pose"], ESTIMATE, (0, (4, 2)), r"$\hat{{{}}}$"),
    ]
    marks = None
    if "keypoints" in example:
        marks = example["keypoints"].reshape(-1, 2), example["keypoint_weight"].reshape(-1)
        rest = np.array(example["hypothesis_weight"][1:])
        if rest.size and rest.max() >= _COUNTS:
            k = 1 + int(rest.argmax())
            label = f"or, weight {rest.max():.2f}"
            poses.append(views.Drawn(label, example["hypotheses"][k], OTHER, ":", r"${{{}}}'$"))
    return views.pose_panels(
        views.two_colors(strength, share),
        views.in_grey(strength),
        views.View(example["view_rotation"], example["view_intrinsics"]),
        poses,
        title="what the network sees",
        kinds=dict(zip(names, (views.FIRST, views.SECOND), strict=True)),
        wireframe=wireframe,
        marks=marks,
    )
