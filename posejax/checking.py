"""The command line of `python -m posejax check-rig`: is the calibration of a data set right?"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from PIL import Image, ImageDraw

from posejax import cli
from posejax.config import ConfigError, no_such
from posejax.data.carla import read_carla
from posejax.data.errors import DataError
from posejax.data.files import is_file
from posejax.data.images import read_image
from posejax.data.mmdet_infos import read_infos
from posejax.data.nuscenes import read_nuscenes
from posejax.data.rgbd_check import check_rgbd, some_of, view_of
from posejax.data.rgbd_frames import has_frames, list_frames, read_frame, tracked
from posejax.data.rgbd_mistakes import RgbdView
from posejax.data.rgbd_points import into_image
from posejax.data.rig_frame import RigFrame
from posejax.data.rig_points import read_lidar
from posejax.data.rigid import se3_inverse
from posejax.data.sevenscenes import INTRINSICS

_UNIT = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
# Corners that differ in one coordinate share an edge.
_EDGES = [(i, j) for i in range(8) for j in range(i) if bin(i ^ j).count("1") == 1]
_NO_BOX = (
    "a calibration is judged by what another sensor sees: boxes in the images, for CARLA from an "
    'instance segmentation camera ("boxes" of an image), or how many returns of the LiDAR are in '
    'each box ("lidar_points" of an actor)'
)
_GIVEN, _MENDED, _ANNOTATED = (235, 70, 60), (60, 200, 90), (250, 220, 60)


@dataclass(frozen=True)
class CheckRigCommand:
    """Compare boxes in the world with boxes in the images and with the LiDAR's returns, and name
    what is wrong between them.

    Reads DIR/infos.json (MMDetection3D's infos as JSON, images beside it), DIR/frames.json
    (recorded in CARLA) or DIR/VERSION/*.json (nuScenes' tables, image_annotations among them). Exit
    status 1 if a mistake is found. With --out, a picture of every camera: annotated boxes yellow,
    projected ones red, and green with the mistakes undone.

    A folder of RGB-D frames (7-Scenes' names, or those of ScanNet's exporter) is judged by how its
    frames agree in depth. With --out, pictures of one frame's points in the next one's image.

    Attributes:
      folder: of infos.json, frames.json, nuScenes' tables or RGB-D frames.
      frame: which key frame of the file; of RGB-D frames the first that is looked at.
      reference: name of the camera whose frame a bird's-eye grid will lie in.
      mounted: use the poses as mounted, without the vehicle's motion between the stamps.
      out: folder for the pictures.
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    frame: int = 0
    reference: str | None = None
    mounted: bool = False
    out: Path | None = None


def main(arguments: Sequence[str]) -> int:
    """What the arguments ask for; the exit status of the program."""
    try:
        command = cli.parse(CheckRigCommand, arguments, program=cli.command("check-rig"))
        return _run(command)
    except (ConfigError, DataError) as error:
        cli.fail(error)


def _run(command: CheckRigCommand) -> int:
    if has_frames(command.folder):
        return _run_rgbd(command)
    frames = read_frames(command.folder)
    if not 0 <= command.frame < len(frames):
        raise ConfigError(f"--frame {command.frame}: the file has {len(frames)} key frames")
    frame = frames[command.frame]
    names = list(frame.cameras)
    if command.reference is not None and command.reference not in names:
        raise ConfigError(f"--reference: {no_such(command.reference, names, 'cameras are')}")
    lidar = lidar_report(frame)
    if lidar is not None:
        print(lidar)
        if not any(len(seen.box) for seen in frame.image_boxes.values()):
            print("no box in any image: the cameras are not judged")
            return 0 if lidar.ok else 1
    report = check(frame, reference=command.reference, mounted=command.mounted)
    print(report)
    if command.out is not None:
        command.out.mkdir(parents=True, exist_ok=True)
        given = np.stack(list(_poses(frame, command.mounted).values()))
        for row, name in enumerate(names):
            path = command.out / f"{name}.jpg"
            picture(frame, name, given[row], report.mended, row).save(path, quality=90)
            print(path)
    return 0 if report.ok and (lidar is None or lidar.ok) else 1


def _run_rgbd(command: CheckRigCommand) -> int:
    files = list_frames(command.folder, INTRINSICS)
    if isinstance(files[0].intrinsics, tuple):
        print(f"no camera-intrinsics.txt: those of 7-Scenes are taken, {files[0].intrinsics}")
    if not 0 <= command.frame < len(files):
        raise ConfigError(f"--frame {command.frame}: the folder has {len(files)} RGB-D frames")
    files = files[command.frame :]
    files = [files[place] for place in some_of(len(files))]
    known = [one for one in files if tracked(one.pose)]
    lost, files = len(files) - len(known), known
    print(f"{len(files)} frames are looked at" + (f", {lost} have no pose" if lost else ""))
    views = [view_of(read_frame(one)) for one in files]
    try:
        report = check_rgbd(views)
    except ValueError as error:
        raise DataError(command.folder, "depth", str(error), "frames with depth") from None
    print(report)
    if command.out is not None:
        command.out.mkdir(parents=True, exist_ok=True)
        for k in range(len(files) - 1):
            path = command.out / f"{files[k].name}-in-{files[k + 1].name}.jpg"
            overlay(views[k], views[k + 1]).save(path, quality=90)
            print(path)
    return 0 if report.ok else 1


def overlay(one: RgbdView, two: RgbdView) -> Image.Image:
    """The image of one frame, and beside it the points of another in their colours on it."""
    found = into_image(one.points, two.intrinsics, two.camera_from_world, two.size)
    order = np.argsort(-found.z, kind="stable")
    order = order[found.valid[order]]  # the nearest last
    column, row = np.minimum(found.xy[order].astype(int), (two.size[1] - 1, two.size[0] - 1)).T
    drawn = two.image // 3
    drawn[row, column] = np.rint(255 * one.colors[order])
    return Image.fromarray(np.concatenate([two.image, drawn], axis=1))


def lidar_report(frame: RigFrame) -> Any:
    """`posejax.bev.check_lidar` of a frame, or None where its boxes tell no counts of returns, or
    no sweep lies there."""
    from posejax.bev import check_lidar

    boxes = frame.boxes
    if not (boxes.points >= 5).any() or frame.lidar is None or not is_file(frame.lidar):
        return None
    points = read_lidar(frame.lidar)[:, :3]
    return check_lidar(points, frame.ego_from_lidar, boxes.size, boxes.ego_from_box, boxes.points)


def read_frames(folder: Path) -> Sequence[RigFrame]:
    """Key frames of a folder, by the reader of what lies in it.

    Raises:
      DataError: what no reader knows, two versions of nuScenes' tables, or damaged files.
    """
    if is_file(folder / "frames.json"):
        return read_carla(folder)
    if is_file(folder / "infos.json"):
        return read_infos(folder / "infos.json")
    tables = sorted(folder.glob("*/sample_data.json"))
    if not tables:
        found = "none that is known" if folder.is_dir() else "no such folder"
        known = (
            "infos.json, frames.json or VERSION/sample_data.json; of RGB-D frames "
            "frame-*.color.jpg or color/*.jpg"
        )
        raise DataError(folder, "files", found, known)
    if len(tables) > 1:
        found = ", ".join(path.parent.name for path in tables)[:200]
        raise DataError(folder, "versions", found, "one folder of tables")
    return read_nuscenes(folder, tables[0].parent.name)


def check(frame: RigFrame, *, reference: str | None = None, mounted: bool = False):
    """`posejax.bev.check_rig` of a frame that a reader returns.

    Raises:
      DataError: no box in any image, or images of several sizes.
    """
    from posejax.bev import check_rig

    names, poses = list(frame.cameras), _poses(frame, mounted)
    sizes = {frame.cameras[name].camera.size for name in names}
    if len(sizes) != 1:
        raise DataError(frame.file.parent, "images", f"sizes {sorted(sizes)}", "one size")
    rows: list[tuple[int, int, np.ndarray]] = []
    for row, name in enumerate(names):
        if name in frame.image_boxes:
            seen = frame.image_boxes[name]
            rows += [(row, b, c) for b, c in zip(seen.box, seen.corners, strict=True) if b >= 0]
    if not rows:
        raise DataError(
            frame.file.parent, "boxes", "none in any image", "annotated images", _NO_BOX
        )
    camera, box, corners = (np.array(values) for values in zip(*rows, strict=True))
    now = np.stack([frame.cameras[name].ego_from_camera for name in names])
    return check_rig(
        np.stack([frame.cameras[name].camera.intrinsics for name in names]),
        np.stack(list(poses.values())),
        frame.boxes.size,
        frame.boxes.ego_from_box,
        camera=camera,
        box=box,
        corners=corners,
        image_size=sizes.pop(),
        ego_motion=now @ se3_inverse(np.stack([frame.mounted[name] for name in names])),
        world_from_ego=frame.world_from_ego,
        reference=None if reference is None else names.index(reference),
    )


def picture(frame: RigFrame, name: str, given: np.ndarray, mended: Any, row: int) -> Image.Image:
    """An image with its annotations, and the boxes projected as given and as mended."""
    image = Image.fromarray(read_image(frame.images[name], convert="RGB"))
    draw = ImageDraw.Draw(image)
    rig = frame.cameras[name].camera
    seen = frame.image_boxes.get(name)
    for left, top, right, bottom in [] if seen is None else seen.corners:
        draw.rectangle([left, top, right, bottom], outline=_ANNOTATED, width=2)
    views = [(given, rig.intrinsics, frame.boxes.size, frame.boxes.ego_from_box, _GIVEN)]
    after = mended.ego_from_camera[row], mended.intrinsics[row], mended.size, mended.ego_from_box
    if not all(np.array_equal(a, b) for a, b in zip(views[0][:4], after, strict=True)):
        views.append((*after, _MENDED))
    for pose, k, size, boxes, colour in views:
        for box, extent in zip(np.linalg.inv(pose) @ boxes, size, strict=True):
            local = (_UNIT * extent) @ box[:3, :3].T + box[:3, 3]
            if (local[:, 2] < 0.5).any():
                continue
            xy = (local / local[:, 2:]) @ k[:2].T
            if (np.abs(xy - xy.mean(0)) > max(rig.size)).any():
                continue
            for i, j in _EDGES:
                draw.line([tuple(xy[i]), tuple(xy[j])], fill=colour, width=2)
    return image


def _poses(frame: RigFrame, mounted: bool) -> dict[str, np.ndarray]:
    if mounted:
        return {name: frame.mounted[name] for name in frame.cameras}
    return {name: camera.ego_from_camera for name, camera in frame.cameras.items()}
