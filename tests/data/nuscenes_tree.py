"""A data set in nuScenes' layout, made by hand: two scenes, three key frames, three sensors."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from posejax.data.radar_pcd import RADAR_FIELDS, write_radar

VERSION = "v1.0-mini"
START = 1_500_000_000_000_000  # microseconds
HALF = 0.5**0.5
CAMERA = [0.5, -0.5, 0.5, -0.5]  # w first: looks ahead
LIDAR = [HALF, 0, 0, -HALF]  # x right, y forward


def tables() -> dict[str, list[dict]]:
    """Sample 0 and 1 are of scene-a, 2 of scene-b; sensors at START + 500 ms each."""
    sensors = {"CAM_FRONT": "camera", "LIDAR_TOP": "lidar", "RADAR_FRONT": "radar"}
    mounts = {
        "CAM_FRONT": ([1.5, 0.0, 1.5], CAMERA, [[50.0, 0, 31.5], [0, 50.0, 23.5], [0, 0, 1]]),
        "LIDAR_TOP": ([1.0, 0.0, 1.8], LIDAR, []),
        "RADAR_FRONT": ([3.5, 0.0, 0.5], [1.0, 0, 0, 0], []),
    }
    out: dict[str, list[dict]] = {
        "log": [{"token": "log", "location": "boston-seaport"}],
        "scene": [
            {"token": f"s{x}", "name": f"scene-{x}", "description": "A street", "log_token": "log"}
            for x in "ab"
        ],
        "sensor": [{"token": n, "channel": n, "modality": m} for n, m in sensors.items()],
        "calibrated_sensor": [
            {"token": f"c{n}", "sensor_token": n, "translation": t, "rotation": q,
             "camera_intrinsic": k}
            for n, (t, q, k) in mounts.items()
        ],
        "category": [{"token": "car", "name": "vehicle.car"}],
        "instance": [{"token": "thing", "category_token": "car"}],
        "visibility": [{"token": str(i), "level": "v", "description": ""} for i in range(1, 5)],
        "sample": [], "sample_data": [], "ego_pose": [], "sample_annotation": [],
    }  # fmt: skip
    for i, scene in enumerate(["sa", "sa", "sb"]):
        time = START + 500_000 * i
        out["sample"].append({"token": f"k{i}", "scene_token": scene, "timestamp": time})
        for name, lag, folder, end in (
            ("CAM_FRONT", -40_000, "samples", "png"),
            ("LIDAR_TOP", 0, "samples", "pcd.bin"),
            ("RADAR_FRONT", 10_000, "samples", "pcd"),
            ("LIDAR_TOP", -50_000, "sweeps", "pcd.bin"),
            ("LIDAR_TOP", -100_000, "sweeps", "pcd.bin"),
        ):
            token = f"d{i}{name}{lag}"
            out["sample_data"].append(
                {"token": token, "sample_token": f"k{i}", "ego_pose_token": token,
                 "calibrated_sensor_token": f"c{name}", "timestamp": time + lag,
                 "is_key_frame": folder == "samples", "filename": f"{folder}/{token}.{end}",
                 "height": 48 if end == "png" else 0, "width": 64 if end == "png" else 0}
            )  # fmt: skip
            # Ten metres per second to the north (the world's y), where the ego's x points.
            at = [600.0, 1000.0 + 1e-5 * (time + lag - START), 0.0]
            out["ego_pose"].append(
                {"token": token, "timestamp": time + lag, "translation": at,
                 "rotation": [HALF, 0, 0, HALF]}
            )  # fmt: skip
        out["sample_annotation"].append(
            {"token": f"a{i}", "sample_token": f"k{i}", "instance_token": "thing",
             "visibility_token": str(i + 1), "translation": [598.0, 1020.0, 0.75],
             "size": [1.9, 4.5, 1.5], "rotation": [1.0, 0, 0, 0], "num_lidar_pts": 5 + i}
        )  # fmt: skip
    return out


def write(root: Path, content: dict[str, list[dict]] | None = None) -> Path:
    """Write the tables and what they name; the folder of the tables."""
    content = tables() if content is None else content
    folder = root / VERSION
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in content.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    for name in ("samples", "sweeps"):
        (root / name).mkdir(exist_ok=True)
    for row in tables()["sample_data"]:
        path = root / row["filename"]
        if path.suffix == ".png":
            Image.new("RGB", (64, 48)).save(path)
        elif path.suffix == ".bin":
            np.ones((3, 5), np.float32).tofile(path)
        else:
            write_radar(path, np.ones((4, len(RADAR_FIELDS))))
    return folder
