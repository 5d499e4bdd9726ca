"""Readers of event recordings, of the poses, cameras and frames beside them, of submissions."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from posejax.data.event_files import (
    DsecFile,
    EventRecording,
    PoseTrack,
    SparkFile,
    audit,
    read_calibration,
    read_pose_table,
    read_recording,
    read_rectify_map,
    read_spades_labels,
    write_dsec,
    write_event_npz,
    write_evt,
    write_pose_table,
    write_rpg,
    write_spades_csv,
    write_spark,
)
from posejax.systems.eventpose.frames import FrameSource, read_camera
from posejax.systems.eventpose.submission import pose_ids, read_submission, write_submission
from tests.fuzz.cases import Case, finite

SIZE = (48, 64)


def recording(count: int = 200) -> EventRecording:
    rng = np.random.default_rng(0)
    quat = rng.normal(size=(7, 4))
    labels = PoseTrack(
        t_seconds=np.arange(7) / 10,
        translation=rng.normal((0, 0, 5), 1, (7, 3)),
        quat_xyzw=quat / np.linalg.norm(quat, axis=1, keepdims=True),
        names=tuple(f"img{i:03d}_RT000.png" for i in range(7)),
    )
    x, y = rng.integers(0, 64, count), rng.integers(0, 48, count)
    t, p = np.sort(rng.integers(0, 6000, count)), rng.integers(0, 2, count)
    return EventRecording(x, y, t, p, 1e-4, SIZE, labels, "RT000")


def check_events(found: EventRecording) -> None:
    """What the class promises, asked once more and in other words."""
    dtypes = {"x": np.uint16, "y": np.uint16, "t": np.int64, "p": np.uint8}
    for key, dtype in dtypes.items():
        values = getattr(found, key)
        assert values.dtype == dtype and values.shape == (len(found),)
    assert (found.x < found.sensor_size[1]).all() and (found.y < found.sensor_size[0]).all()
    assert (np.diff(found.t) >= 0).all() and (found.t >= 0).all()
    assert np.isin(found.p, (0, 1)).all() and 0 < found.tick_seconds < np.inf
    if found.labels is not None:
        check_track(found.labels)
    assert dataclasses.replace(found).t is not None
    assert audit(found, refuse=False).text()


def check_track(track: PoseTrack) -> None:
    assert np.isfinite(track.translation).all() and (np.diff(track.t_seconds) > 0).all()
    np.testing.assert_allclose(np.linalg.norm(track.quat_xyzw, axis=1), 1, atol=1e-9)


def old_style_spark(path: Path, found: EventRecording) -> None:
    """As other programs write it: no checksums anywhere."""
    write_spark(path, found)
    with h5py.File(path) as file:
        columns = {f"events/{key}": file[f"events/{key}"][:] for key in ("xs", "ys", "ts", "ps")}
        table = file["labels/data"][:]
    with h5py.File(path, "w", libver="earliest") as file:
        for name, values in columns.items():
            file.create_dataset(name, data=values, chunks=(64,), compression="gzip")
        text = [
            (n, h5py.string_dtype() if n == "filename" else table.dtype[n])
            for n in table.dtype.names
        ]
        file["labels/data"] = table.astype(text)
        file.attrs["time_unit_seconds"] = 1e-4
        file.attrs["remark"] = "text of variable length"
        file.attrs["sensor_size_wh"] = SIZE[::-1]


def events(suffix: str, write: Callable, real: tuple[str, ...] = (), **options) -> Case:
    def write_one(folder: Path) -> Path:
        write(folder / f"events{suffix}", recording())
        return folder / f"events{suffix}"

    return Case(write_one, lambda path: check_events(read_recording(path, **options)), real)


def windows(write: Callable, open_file: Callable) -> Case:
    def write_one(folder: Path) -> Path:
        write(folder / "events.h5", recording())
        return folder / "events.h5"

    def read(path: Path) -> None:
        file = open_file(path)
        try:
            for start in (-0.1, 0.05, 0.3):
                check_events(file.window(start, start + 0.2))
            assert file.counts([0, 0.1, 0.2]).shape == (2,)
        finally:
            file.close()

    return Case(write_one, read)


def write_labels(folder: Path) -> Path:
    write_spades_csv(folder / "events.csv", recording(), labels=folder / "labels.csv")
    return folder / "labels.csv"


def write_track(folder: Path) -> Path:
    write_pose_table(folder / "poses.txt", recording().labels)
    return folder / "poses.txt"


def write_calibration(folder: Path) -> Path:
    (folder / "calib.txt").write_text("199.1 198.8 132.2 110.7 -0.36 0.15 -0.0003 -0.0005 0.0\n")
    return folder / "calib.txt"


def write_rectify(folder: Path) -> Path:
    with h5py.File(folder / "map.h5", "w") as file:
        file.create_dataset("rectify_map", data=np.ones((*SIZE, 2), np.float32), chunks=True)
    return folder / "map.h5"


def write_frames(folder: Path) -> Path:
    (folder / "frames").mkdir()
    rng = np.random.default_rng(0)
    text = "filename,Tx,Ty,Tz,Qx,Qy,Qz,Qw\n"
    for i in range(4):
        text += f"img{i:03d}.png,0.1,0.2,{4 + i},0,0,0,1\n"
        pixels = rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"frames/img{i:03d}.png")
    (folder / "labels.csv").write_text(text)
    return folder / "labels.csv"


def read_frames(path: Path) -> None:
    source = FrameSource(path.parent, (0, 4))
    check_track(source.track)
    assert source[0]["image"].shape[2] == 3


def write_camera(folder: Path) -> Path:
    camera = {"cameraMatrix": [[125.0, 0, 64], [0, 125.0, 36], [0, 0, 1]], "Nu": 128, "Nv": 72}
    (folder / "camera.json").write_text(json.dumps(camera))
    return folder / "camera.json"


def write_table(folder: Path) -> Path:
    translation = np.random.default_rng(0).normal((0, 0, 6), 0.5, (5, 3))
    ids, quat = pose_ids("RT901", 5), np.tile([0.5, 0.5, -0.5, 0.5], (5, 1))
    write_submission(folder / "poses.csv", ids, translation, quat)
    return folder / "poses.csv"


def check_submission(path: Path) -> None:
    found = read_submission(path)
    finite(found.translation, found.quat_xyzw)


EVENT_CASES: dict[str, Case] = {
    "spark": events(".h5", write_spark, ("spades_rt002/RT002_reconstructed.h5",)),
    "spark_plain": events(".h5", lambda p, r: write_spark(p, r, compression=None)),
    "spark_old": events(".h5", old_style_spark),
    "spark_windows": windows(old_style_spark, SparkFile),
    "dsec": events(".h5", write_dsec, sensor_size=SIZE),
    "dsec_windows": windows(write_dsec, lambda path: DsecFile(path, sensor_size=SIZE)),
    "dsec_rectify": Case(write_rectify, lambda p: finite(read_rectify_map(p, SIZE))),
    "event_npz": events(".npz", write_event_npz),
    "evt2": events(".raw", lambda p, r: write_evt(p, r, version=2)),
    "evt3": events(".raw", write_evt, ("prophesee_evt3/evt3_sample.raw",)),
    "spades_csv": events(".csv", write_spades_csv, sensor_size=SIZE, n_poses=6),
    "spades_labels": Case(write_labels, lambda p: check_track(read_spades_labels(p)),
                          ("spades_rt002/labels.csv",)),
    "rpg": events(".txt", lambda p, r: write_rpg(p.parent, r),
                  ("slider_depth/events_chunk.txt",), sensor_size=(180, 240)),
    "rpg_calibration": Case(write_calibration, lambda p: finite(*read_calibration(p)),
                            ("slider_depth/calib.txt",)),
    "pose_table": Case(write_track, lambda p: check_track(read_pose_table(p)),
                       ("slider_depth/groundtruth.txt",)),
    "frames": Case(write_frames, read_frames),
    "frames_picture": Case(lambda f: write_frames(f).parent / "frames/img001.png",
                           lambda p: read_frames(p.parents[1] / "labels.csv")),
    "frames_camera": Case(write_camera, lambda p: finite(read_camera(p).intrinsics),
                          ("spades_rt002/camera.json",)),
    "submission": Case(write_table, check_submission),
}  # fmt: skip
