"""Event cameras: representations, augmentations and windows as pure functions (docs/events.md).

Names load on first use. Packing and the rule of windows are NumPy's: data workers, which run
without jax, import them from here.
"""

from typing import TYPE_CHECKING

from posejax.lazy import attach

if TYPE_CHECKING:  # what editors see; at run time the names come through `__getattr__`
    from posejax.events.augmentation import AugmentRule, augment, augment_grid
    from posejax.events.events import (
        Dropped,
        Events,
        dropped_events,
        events_from_arrays,
        unpack_events,
    )
    from posejax.events.noise import (
        add_events,
        add_grid_noise,
        add_hot_pixels,
        add_leak_noise,
        flip_polarity,
        scale_time,
        thin,
    )
    from posejax.events.packing import pack_events
    from posejax.events.representations import (
        averaged_time_surface,
        event_frame,
        histogram,
        lnes,
        time_surface,
        voxel_grid,
    )
    from posejax.events.slicing import Slice, pose_at, row_at, slice_rows, slice_window
    from posejax.events.views import mirror, pan_tilt, roll, rotate_view
    from posejax.events.windows import (
        Window,
        query_of,
        sliding_windows,
        window_bounds,
        window_rows,
    )

__all__ = [
    "AugmentRule",
    "Dropped",
    "Events",
    "Slice",
    "Window",
    "add_events",
    "add_grid_noise",
    "add_hot_pixels",
    "add_leak_noise",
    "augment",
    "augment_grid",
    "averaged_time_surface",
    "dropped_events",
    "event_frame",
    "events_from_arrays",
    "flip_polarity",
    "histogram",
    "lnes",
    "mirror",
    "pack_events",
    "pan_tilt",
    "pose_at",
    "query_of",
    "roll",
    "rotate_view",
    "row_at",
    "scale_time",
    "slice_rows",
    "slice_window",
    "sliding_windows",
    "thin",
    "time_surface",
    "unpack_events",
    "voxel_grid",
    "window_bounds",
    "window_rows",
]

__getattr__, _ = attach(
    __name__,
    {
        "augmentation": (
            "AugmentRule",
            "augment",
            "augment_grid",
        ),
        "events": (
            "Dropped",
            "Events",
            "dropped_events",
            "events_from_arrays",
            "unpack_events",
        ),
        "noise": (
            "add_events",
            "add_grid_noise",
            "add_hot_pixels",
            "add_leak_noise",
            "flip_polarity",
            "scale_time",
            "thin",
        ),
        "packing": ("pack_events",),
        "representations": (
            "averaged_time_surface",
            "event_frame",
            "histogram",
            "lnes",
            "time_surface",
            "voxel_grid",
        ),
        "slicing": (
            "Slice",
            "pose_at",
            "row_at",
            "slice_rows",
            "slice_window",
        ),
        "views": (
            "mirror",
            "pan_tilt",
            "roll",
            "rotate_view",
        ),
        "windows": (
            "Window",
            "query_of",
            "sliding_windows",
            "window_bounds",
            "window_rows",
        ),
    },
)
