"""2-D laser logs: CARMEN text logs, the same log as arrays, and tables of verified relations.

    PARAM name value ...
    ODOM x y theta tv rv accel ipc_time host logger_time
    FLASER n r_1 ... r_n x y theta odom_x odom_y odom_theta ipc_time host logger_time

Lengths in metres, angles in radians. The n beams cover 180 degrees counter-clockwise from the
right (-90 degrees) of the scanner's x axis, one per 180/n degrees (180/(n - 1) where n is odd).
A relation is the pose of the scan at time t2 in the frame of the scan at t1.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posejax.data import arrays
from posejax.data.errors import DataError
from posejax.data.tables import finite_numbers, read_words

_KEYS = ("ranges_cm", "beam_angles_deg", "odom", "laser_pose", "t")
_FARTHEST = 1e4  # m: no planar laser sees as far


@dataclass(frozen=True)
class LaserLog:
    """Scans of a planar laser in time order.

    Attributes:
      ranges: [N, B] float32 metres; a reading at the scanner's maximum (`no_return`) saw nothing.
      angles: [B] float64, direction of each beam, radians from x towards y.
      laser_pose: [N, 3] float64 (x, y, yaw) of the scanner by odometry.
      odom: [N, 3] float64 (x, y, yaw) of the robot by odometry.
      time: [N] float64 s, the log's ipc time, to which relations refer.
      no_return: range from which on a reading is no return (m).
    """

    ranges: np.ndarray
    angles: np.ndarray
    laser_pose: np.ndarray
    odom: np.ndarray
    time: np.ndarray
    no_return: float = 50.0

    def __len__(self) -> int:
        return len(self.ranges)

    def points(self, index: int, max_range: float = np.inf) -> np.ndarray:
        """Hits [M, 2] (m) of a scan in its own frame, without readings that saw nothing."""
        ranges = self.ranges[index].astype(np.float64)
        hit = (ranges < min(self.no_return, max_range)) & (ranges > 0)
        ranges, angles = ranges[hit], self.angles[hit]
        return np.stack([ranges * np.cos(angles), ranges * np.sin(angles)], axis=1)

    def index_at(self, time: float) -> int | None:
        """Scan whose time is `time` to 1 ms, or None."""
        i = int(np.searchsorted(self.time, time - 1e-3))
        return i if i < len(self.time) and self.time[i] <= time + 1e-3 else None


@dataclass(frozen=True)
class Relations:
    """Verified relative poses: `pose[i]` [3] = (x, y, yaw) of scan `t2[i]` in scan `t1[i]`."""

    t1: np.ndarray
    t2: np.ndarray
    pose: np.ndarray

    def __len__(self) -> int:
        return len(self.t1)


def beam_angles(count: int) -> np.ndarray:
    """[count] radians: the directions of a scanner that sweeps 180 degrees."""
    step = 180 / (count - 1) if count % 2 else 180 / count
    return np.deg2rad(-90 + step * np.arange(count))


def read_clf(path: str | Path, no_return: float = 50.0) -> LaserLog:
    """Read the front-laser scans of a CARMEN text log; other messages are passed over.

    Raises:
      DataError: missing file, no FLASER line, or (with its line number) a FLASER line that is cut
        off, not numeric, not finite, of another beam count, or earlier than the one before.
    """
    scans, tails, times = [], [], []
    for number, words in read_words(path, "a CARMEN log"):
        if words[0] != "FLASER":
            continue
        field = f"line {number}"
        count = _count(words[1]) if len(words) > 1 else 0
        if count < 2:
            found = f"FLASER {' '.join(words[1:2])[:40]}"
            raise DataError(path, field, found, "a beam count >= 2")
        if len(words) < count + 9:
            found = f"{len(words)} words for {count} beams"
            raise DataError(path, field, found, f"at least {count + 9}", "is the log cut off?")
        values = finite_numbers(path, field, words[2 : count + 9])
        if not all(abs(r) <= _FARTHEST for r in values[:count]):
            raise DataError(path, field, f"a range beyond {_FARTHEST:g} m", "ranges in metres")
        if scans and len(scans[0]) != count:
            raise DataError(path, field, f"{count} beams", f"{len(scans[0])} as in the first scan")
        if times and values[-1] < times[-1]:
            raise DataError(path, field, f"time {values[-1]} after {times[-1]}", "time order")
        scans.append(values[:count])
        tails.append(values[count : count + 6])
        times.append(values[-1])
    if not scans:
        raise DataError(path, "FLASER lines", "none", "at least one scan")
    pose = np.array(tails)
    return LaserLog(
        ranges=np.array(scans, np.float32),
        angles=beam_angles(len(scans[0])),
        laser_pose=pose[:, :3],
        odom=pose[:, 3:],
        time=np.array(times),
        no_return=no_return,
    )


def write_clf(path: str | Path, log: LaserLog) -> None:
    """Write scans as FLASER lines (ranges in whole centimetres, as in the published logs)."""
    lines = []
    for i in range(len(log)):
        ranges = " ".join(f"{r:.2f}" for r in log.ranges[i])
        poses = " ".join(f"{v:.6f}" for v in (*log.laser_pose[i], *log.odom[i]))
        time = f"{log.time[i]:.6f}"
        lines.append(f"FLASER {log.ranges.shape[1]} {ranges} {poses} {time} nohost {time}\n")
    Path(path).write_text("".join(lines))


def read_npz(path: str | Path, no_return: float = 50.0) -> LaserLog:
    """Read a log stored as arrays: ranges_cm [N, B] integer, beam_angles_deg [B], odom and
    laser_pose [N, 3], t [N].

    Raises:
      DataError: missing file or array, wrong shape or dtype, non-finite value, unordered time.
    """
    data = arrays.read_npz(path, _KEYS, ())
    ranges = data["ranges_cm"]
    if ranges.ndim != 2 or not np.issubdtype(ranges.dtype, np.integer):
        raise DataError(path, "ranges_cm", f"{ranges.dtype}{ranges.shape}", "integers [N, B]")
    if not ranges.size or ranges.shape[1] < 2:
        raise DataError(path, "ranges_cm", f"shape {ranges.shape}", "scans of two beams or more")
    if int(ranges.max()) > 100 * _FARTHEST:
        raise DataError(path, "ranges_cm", int(ranges.max()), f"at most {100 * _FARTHEST:g}")
    scans, beams = ranges.shape
    shapes = {"beam_angles_deg": (beams,), "odom": (scans, 3), "laser_pose": (scans, 3)}
    for key, shape in {**shapes, "t": (scans,)}.items():
        if data[key].shape != shape:
            raise DataError(path, key, f"shape {data[key].shape}", f"{shape}")
        if data[key].dtype.kind not in "iuf":
            raise DataError(path, key, f"dtype {data[key].dtype}", "numbers")
        if not np.isfinite(data[key]).all():
            raise DataError(path, key, "non-finite values", "finite numbers")
    if (np.diff(data["t"]) < 0).any():
        raise DataError(path, "t", "decreasing times", "time order")
    return LaserLog(
        ranges=ranges.astype(np.float32) / 100,
        angles=np.deg2rad(data["beam_angles_deg"].astype(np.float64)),
        laser_pose=data["laser_pose"].astype(np.float64),
        odom=data["odom"].astype(np.float64),
        time=data["t"].astype(np.float64),
        no_return=no_return,
    )


def write_npz(path: str | Path, log: LaserLog) -> None:
    """Write the arrays that `read_npz` reads (ranges in whole centimetres)."""
    np.savez_compressed(
        path,
        ranges_cm=np.rint(log.ranges * 100).astype(np.uint16),
        beam_angles_deg=np.rad2deg(log.angles),
        odom=log.odom,
        laser_pose=log.laser_pose,
        t=log.time,
    )


def read_relations(path: str | Path) -> Relations:
    """Read lines "t1 t2 x y z roll pitch yaw".

    Raises:
      DataError: missing file, no rows, or (with its line number) a row of another length, not
        numeric, not finite, or with z, roll or pitch, which a planar log cannot have.
    """
    rows = []
    for number, words in read_words(path, "a table of relations"):
        if words[0].startswith("#"):
            continue
        field = f"line {number}"
        if len(words) != 8:
            raise DataError(path, field, f"{len(words)} numbers", "t1 t2 x y z roll pitch yaw")
        row = finite_numbers(path, field, words)
        if any(row[4:7]):
            raise DataError(path, field, f"z, roll, pitch = {row[4:7]}", "0: the log is planar")
        rows.append(row)
    if not rows:
        raise DataError(path, "rows", "none", "at least one relation")
    table = np.array(rows)
    return Relations(table[:, 0], table[:, 1], table[:, [2, 3, 7]])


def write_relations(path: str | Path, relations: Relations) -> None:
    """Write the table that `read_relations` reads."""
    rows = [
        f"{t1:.6f} {t2:.6f} {x:.6f} {y:.6f} 0 0 0 {yaw:.6f}\n"
        for t1, t2, (x, y, yaw) in zip(relations.t1, relations.t2, relations.pose, strict=True)
    ]
    Path(path).write_text("".join(rows))


def _count(word: str) -> int:
    return int(word) if word.isascii() and word.isdecimal() and len(word) < 6 else 0
