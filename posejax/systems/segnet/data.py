"""All kinds of frames that a config names; no jax here, this runs in data workers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posejax.config import ConfigError
from posejax.data.mmdet_infos import read_infos
from posejax.data.rig_frame import RigFrame
from posejax.systems.segnet.frames import NUSCENES_CAMERAS, VEHICLES, RigFrames

__all__ = ["NUSCENES_CAMERAS", "VEHICLES", "InfoFrames", "RigFrames"]


@dataclass(frozen=True, kw_only=True)
class InfoFrames(RigFrames):
    """Key frames of MMDetection3D's info file as JSON, images and sweeps beside it.

    Attributes:
      root: folder of `infos.json`; all splits are its frames, which is for a few of them (to see
        that a network can learn one by heart).
    """

    root: str = ""

    @property
    def kind(self) -> str:
        return f"nuScenes key frames of {Path(self.root).name or 'no folder'}"

    def check(self) -> None:
        super().check()
        if not self.root:
            raise ConfigError("system.data.root: not given; expected a folder with infos.json")

    def frames(self, split: str) -> tuple[Sequence[RigFrame], np.ndarray]:
        found = read_infos(Path(self.root) / "infos.json")
        return found, np.arange(len(found))
