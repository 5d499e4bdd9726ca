"""Small valid data sets of image pairs in every layout, and a plane whose images tell their pixels.

Used by the tests of the readers and by the fuzz cases.
"""

import json
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from posejax.data.rigid import se3_exp, se3_inverse

SIZE = (48, 64)
K = np.array([[50.0, 0, 32.0], [0, 50, 24], [0, 0, 1]])
POSES = [np.eye(4), se3_exp([0.2, 0.05, 0.1, 0.02, -0.1, 0.05]), se3_exp([0.1, 0, 0, 0, 0.1, 0])]
NORMAL = np.array([0.1, -0.2, 1.0])  # of the plane n.x = 2 in the world, the first camera's frame


def plane_depth(world_from_camera: np.ndarray, size=SIZE, k=K) -> np.ndarray:
    x, y = np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(k).T
    rays = rays @ world_from_camera[:3, :3].T
    return ((2 - world_from_camera[:3, 3] @ NORMAL) / (rays @ NORMAL)).astype(np.float32)


def telling(size=SIZE) -> np.ndarray:
    """[H, W, 3] uint8: red grows along columns, green along rows, three levels a pixel."""
    x, y = np.meshgrid(np.arange(size[1]), np.arange(size[0]))
    return np.stack([3 * x + 30, 3 * y + 30, np.full_like(x, 128)], -1).astype(np.uint8)


def told(colour: np.ndarray) -> np.ndarray:
    """Pixels [..., 2] of the original picture that a colour [..., 3] came from."""
    return (colour[..., :2].astype(float) - 30) / 3 + 0.5


def _text(path: Path, matrix: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, matrix, fmt="%.12g")


def _png16(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(values).astype(np.uint16)).save(path)


def write_seven_scenes(folder: Path, pairs: bool = False) -> Path:
    for number, pose in enumerate(POSES):
        place = f"frame-{number:06d}"
        Image.fromarray(telling()).save(folder / f"{place}.color.png")
        _png16(folder / f"{place}.depth.png", 1000 * plane_depth(pose))
        _text(folder / f"{place}.pose.txt", pose)
    _text(folder / "camera-intrinsics.txt", K - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    if pairs:
        text = "a,b,overlap\nframe-000000,frame-000001,0.8\nframe-000002,frame-000000,\n"
        (folder / "pairs.csv").write_text(text)
    return folder


def write_scannet_export(folder: Path) -> Path:
    """Colour twice as large as depth, whose camera is its own."""
    half = [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
    for number, pose in enumerate(POSES):
        (folder / "color").mkdir(exist_ok=True)
        fine = telling().repeat(2, 0).repeat(2, 1)
        Image.fromarray(fine).save(folder / f"color/{number}.jpg", quality=95, subsampling=0)
        _png16(folder / f"depth/{number}.png", 1000 * plane_depth(pose))
        _text(folder / f"pose/{number}.txt", pose)
    for name, k in (("depth", K - half), ("color", np.diag([2, 2, 1]) @ K - half)):
        full = np.eye(4)
        full[:3, :3] = k
        _text(folder / f"intrinsic/intrinsic_{name}.txt", full)
    return folder


def write_pair_list(folder: Path) -> Path:
    for name in ("a.png", "b.png"):
        Image.fromarray(telling()).save(folder / name)
    k = (K - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]).tolist()
    pose = se3_inverse(POSES[1]).tolist()
    pair = {"image0": "a.png", "image1": "b.png", "K0": k, "K1": k, "T_0to1": pose}
    (folder / "pairs.json").write_text(json.dumps([{**pair, "size_wh": [64, 48]}, pair], indent=1))
    numbers = " ".join(f"{v:.12g}" for m in (k, k, pose) for v in np.ravel(m))
    (folder / "pairs.txt").write_text(f"a.png b.png 0 0 {numbers}\n")
    return folder / "pairs.json"


def disparity() -> np.ndarray:
    """Of a slanted plane; two pixels were not measured."""
    values = np.broadcast_to(np.linspace(4, 8, SIZE[1], dtype=np.float32), SIZE).copy()
    values[0, :2] = np.inf
    return values


def write_stereo(folder: Path, suffix: str = ".pfm") -> Path:
    for name in ("im0.png", "im1.png") if suffix == ".pfm" else ("left.png", "right.png"):
        Image.fromarray(telling()).save(folder / name)
    if suffix == ".pfm":
        raw = disparity()[::-1].astype("<f4").tobytes()
        (folder / "disp0.pfm").write_bytes(b"Pf\n64 48\n-1.0\n" + raw)
        (folder / "calib.txt").write_text(
            "cam0=[50 0 31.5; 0 50 23.5; 0 0 1]\ncam1=[50 0 33.5; 0 50 23.5; 0 0 1]\n"
            "doffs=2\nbaseline=120\nwidth=64\nheight=48\n"
        )
        return folder / "disp0.pfm"
    if suffix == ".npy":
        np.save(folder / "disp.npy", disparity())
    elif suffix == ".npz":
        np.savez(folder / "disp.npz", disparity())
    else:
        _png16(folder / "disp.png", np.where(np.isfinite(disparity()), 256 * disparity(), 0))
    return folder / f"disp{suffix}"


def write_megadepth(folder: Path) -> Path:
    index = folder / "index/scene_info_0.1_0.7"
    index.mkdir(parents=True)
    (folder / "images").mkdir()
    for number, pose in enumerate(POSES):
        Image.fromarray(telling()).save(folder / f"images/{number}.png")
        with h5py.File(folder / f"images/{number}.h5", "w") as file:
            file["depth"] = plane_depth(pose)
    paths = [f"images/{n}" for n in range(3)]
    np.savez(
        index / "0001_0.1_0.3.npz",
        image_paths=np.array([*(f"{p}.png" for p in paths), ""]),
        depth_paths=np.array([*(f"{p}.h5" for p in paths), ""]),
        intrinsics=np.array([K, K, K, np.full((3, 3), np.nan)]),
        poses=np.array([*map(se3_inverse, POSES), np.full((4, 4), np.nan)]),
        pairs=np.array([[0, 1], [1, 2], [2, 0]]),
        overlaps=np.array([0.2, 0.005, 0.9]),
    )
    return index / "0001_0.1_0.3.npz"
