"""Microsoft 7-Scenes (Shotton et al., Scene coordinate regression forests, CVPR 2013).

    SCENE/TrainSplit.txt, TestSplit.txt      a line each: sequence1
    SCENE/seq-01/frame-000000.color.png, .depth.png, .pose.txt      see `posejax.data.rgbd_frames`

Depth is 16-bit millimetres, 65535 where there is none; poses lead from the camera to the world.
Colour and depth are not registered: the common practice, which is followed here, is to use the
depth camera's intrinsics for both.
"""

import re
from pathlib import Path

from posejax.data.errors import DataError
from posejax.data.files import is_file
from posejax.data.rgbd_frames import FrameFiles, list_frames
from posejax.data.tables import read_words

#: (fx, fy, cx, cy) of the data set's page.
INTRINSICS = (585.0, 585.0, 320.0, 240.0)
_FILES = {"train": "TrainSplit.txt", "test": "TestSplit.txt"}


def list_sequences(scene: str | Path, split: str) -> list[tuple[str, list[FrameFiles]]]:
    """(name, frames) of the sequences of a scene's split.

    Args:
      scene: its folder; one that holds frames itself is one sequence, in every split.
      split: "train" or "test".

    Raises:
      DataError: no such folder or list, a line that names no sequence, a sequence without frames.
      ValueError: another split.
    """
    scene = Path(scene)
    if split not in _FILES:
        raise ValueError(f"split must be one of {', '.join(_FILES)}, got {split!r}")
    path = scene / _FILES[split]
    if not is_file(path) and any(scene.glob("frame-*.color.*")):
        return [(scene.name, list_frames(scene, INTRINSICS))]
    found = []
    for number, words in read_words(path, "sequence1, a line each"):
        match = re.fullmatch(r"sequence([0-9]{1,2})", " ".join(words))
        if match is None:
            raise DataError(path, f"line {number}", repr(" ".join(words)[:40]), "sequence1")
        name = f"seq-{int(match[1]):02d}"
        found.append((f"{scene.name}/{name}", list_frames(scene / name, INTRINSICS)))
    if not found:
        raise DataError(path, "lines", "none", "sequence1, a line each")
    return found
