"""Small valid files of RGB-D data sets, for tests and fuzz cases."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

VERTICES = np.array(
    [(0, 0, 0, 255, 0, 10), (1, 0, 0, 0, 128, 20), (0, 2, 0, 9, 9, 30), (0, 0, 3, 1, 2, 3)]
)
LABELS = (1, 2, 0, 40)
TRIANGLES = ((0, 1, 2), (1, 2, 3))


def ply_text(form: str, *, labels: bool = False, faces: bool = True, header: str = "") -> bytes:
    """A file of `VERTICES` and `TRIANGLES` in one of the three forms."""
    head = [f"ply\nformat {form} 1.0\ncomment made up{header}\nelement vertex {len(VERTICES)}"]
    head += [f"property float {name}" for name in "xyz"]
    head += [f"property uchar {name}" for name in ("red", "green", "blue")]
    head += ["property ushort label"] if labels else []
    if faces:
        head += [f"element face {len(TRIANGLES)}", "property list uchar int vertex_indices"]
    text = ("\n".join(head) + "\nend_header\n").encode()
    order = ">" if form == "binary_big_endian" else "<"
    fields = [(n, "f4") for n in "xyz"] + [(n, "u1") for n in "rgb"] + [("label", "u2")] * labels
    if form == "ascii":
        rows = [" ".join(map(str, [*v, *([k] if labels else [])])) for v, k in _rows()]
        rows += [f"3 {a} {b} {c}" for a, b, c in TRIANGLES] if faces else []
        return text + ("\n".join(rows) + "\n").encode()
    kind = np.dtype(fields).newbyteorder(order)
    table = [tuple([*v, *([k] if labels else [])]) for v, k in _rows()]
    body = np.array(table, kind).tobytes()
    if faces:
        kind = np.dtype([("n", "u1"), ("at", "i4", 3)]).newbyteorder(order)
        body += np.array([(3, t) for t in TRIANGLES], kind).tobytes()
    return text + body


def _rows():
    return zip(VERTICES.tolist(), LABELS, strict=True)


def write_ply(folder: Path, form: str = "binary_little_endian") -> Path:
    path = folder / "scene0000_00_vh_clean_2.ply"
    path.write_bytes(ply_text(form))
    return path


def write_label_table(folder: Path) -> Path:
    path = folder / "scannetv2-labels.combined.tsv"
    rows = ["id\traw_category\tnyu40id\tnyu40class", "1\twall\t1\twall", "2\tchair\t5\tchair"]
    path.write_text("\n".join([*rows, '1163\tan 8" object\t40\totherprop', ""]))
    return path


def write_sunrgbd(folder: Path) -> Path:
    """A level camera that looks along y: 40 points and one box around the first ten."""
    rng = np.random.default_rng(0)
    points = np.column_stack(
        [rng.uniform(-1, 1, 40), rng.uniform(2, 4, 40), rng.uniform(-1, 1, 40)]
    )
    points[:10] = np.array([0.3, 3.0, 0.2]) + rng.uniform(-0.1, 0.1, (10, 3))
    values = np.concatenate([points, rng.random((40, 3))], 1).astype("<f4")
    (folder / "points").mkdir(exist_ok=True)
    values.tofile(folder / "points/000001.bin")
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(folder / "000001.jpg")
    # u = (50 x + 32 y) / y and v = (-50 z + 24 y) / y
    info = {
        "images": {"CAM0": {"img_path": "000001.jpg", "depth2img": [
            [50, 32, 0], [0, 24, -50], [0, 1, 0]]}},
        "lidar_points": {"lidar_path": "000001.bin", "num_pts_feats": 6},
        "instances": [{"bbox_label_3d": 3, "bbox_3d": [0.3, 3.0, 0.2, 0.5, 0.3, 0.4, 0.1]}],
    }  # fmt: skip
    (folder / "infos.json").write_text(json.dumps({"data_list": [info]}))
    return folder / "infos.json"
