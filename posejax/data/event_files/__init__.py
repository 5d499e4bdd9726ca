"""Event-camera recordings: readers, writers and the audit, in NumPy.

`read_recording(path)` tells the format itself; see docs/event_files.md.
"""

from posejax.data.event_files.audit import AuditReport, Finding, audit
from posejax.data.event_files.dsec import (
    DsecFile,
    read_dsec,
    read_rectify_map,
    rectify,
    write_dsec,
)
from posejax.data.event_files.event_npz import read_event_npz, write_event_npz
from posejax.data.event_files.evt import read_evt, write_evt
from posejax.data.event_files.pose_table import read_pose_table, write_pose_table
from posejax.data.event_files.reading import format_of, read_recording
from posejax.data.event_files.recording import EventRecording, PoseTrack
from posejax.data.event_files.rpg import Calibration, read_calibration, read_rpg, write_rpg
from posejax.data.event_files.spades_csv import (
    read_spades_csv,
    read_spades_labels,
    write_spades_csv,
)
from posejax.data.event_files.spark import SparkFile, read_spark, write_spark
from posejax.data.event_files.ticks import infer_tick

__all__ = [
    "AuditReport",
    "Calibration",
    "DsecFile",
    "EventRecording",
    "Finding",
    "PoseTrack",
    "SparkFile",
    "audit",
    "format_of",
    "infer_tick",
    "read_calibration",
    "read_dsec",
    "read_event_npz",
    "read_evt",
    "read_pose_table",
    "read_recording",
    "read_rectify_map",
    "read_rpg",
    "read_spades_csv",
    "read_spades_labels",
    "read_spark",
    "rectify",
    "write_dsec",
    "write_event_npz",
    "write_evt",
    "write_pose_table",
    "write_rpg",
    "write_spades_csv",
    "write_spark",
]
