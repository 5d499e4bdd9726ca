"""Event cameras: representations, augmentations and windows as pure functions (docs/events.md)."""

from posejax.data.event_files import AuditReport, audit
from posejax.data.event_files import pack as pack_events
from posejax.events.augment import AugmentRule, augment, augment_grid
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
from posejax.events.representations import (
    averaged_time_surface,
    event_frame,
    histogram,
    lnes,
    time_surface,
    voxel_grid,
)
from posejax.events.slicing import (
    Slice,
    Window,
    pose_at,
    query_of,
    row_at,
    slice_rows,
    slice_window,
    sliding_windows,
    window_bounds,
)
from posejax.events.views import mirror, pan_tilt, roll, rotate_view

__all__ = [
    "AuditReport",
    "AugmentRule",
    "Dropped",
    "Events",
    "Slice",
    "Window",
    "add_events",
    "add_grid_noise",
    "add_hot_pixels",
    "add_leak_noise",
    "audit",
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
]
