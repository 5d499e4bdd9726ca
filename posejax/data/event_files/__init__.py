"""Event-camera recordings: readers, writers, packing and the audit, in NumPy.

`read_recording(path)` tells the format itself; see docs/event_files.md.
"""

from posejax.data.event_files.packing import pack, pack_recording, unpack
from posejax.data.event_files.recording import EventRecording, PoseTrack
from posejax.data.event_files.spark import SparkFile, read_spark, write_spark

__all__ = [
    "EventRecording",
    "PoseTrack",
    "SparkFile",
    "pack",
    "pack_recording",
    "read_spark",
    "unpack",
    "write_spark",
]
