"""A made-up corner seen again and again, and a system whose guesses are truth and noise."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posejax.data.rigid import se3_from_rotation_translation, so3_exp
from posejax.systems.bifusion.data import RgbdFrames
from posejax.systems.bifusion.frames import FrameRecord, FrameSource, moved
from tests.systems.bifusion.made_up import CLASSES, SIZE, corner

#: Far from the world's zero: float32 knows these places to half a metre.
FAR = (5e6, -5e6, 40.0)


class Again(FrameSource):
    """The corner of one seed in every frame, a few points each time others; frame `blind` sees
    next to nothing. The room's corner is at `zero` of a world in which it is turned."""

    def __init__(self, frames: int, zero, blind: int = -1, turn=(0.0, 0.0, 0.0)):
        self.blind, self.sequence = blind, np.zeros(frames, np.int32)
        self.world_from_room = se3_from_rotation_translation(so3_exp(turn), np.array(zero))

    def __len__(self) -> int:
        return len(self.sequence)

    def recording(self, number: int) -> str:
        return "corner"

    def frame(self, index: int) -> FrameRecord:
        found, rng = corner(0), np.random.default_rng(index)
        count = 12 if index == self.blind else 1100
        rows = np.sort(rng.choice(len(found["points"]), count, replace=False))
        frame = FrameRecord(
            found["points"][rows].astype(np.float64),
            found["colors"][rows],
            found["image"],
            found["intrinsics"].astype(np.float64),
            found["camera_from_world"].astype(np.float64),
            found["semantic"][rows],
            found["instance"][rows],
            np.array([0, 0, 1.0]),
        )
        return moved(frame, self.world_from_room)


@dataclass(frozen=True, kw_only=True)
class Corner(RgbdFrames):
    size: tuple[int, int] = SIZE
    points: int = 400
    classes: tuple[str, ...] = CLASSES
    length: int = 5
    zero: tuple[float, float, float] = (0.0, 0.0, 0.0)
    blind: int = -1
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def kind(self) -> str:
        return "a made-up corner"

    def frames(self, split: str) -> Again:
        return Again(self.length, self.zero, self.blind, self.turn)


def noisy(data: RgbdFrames, noise: float = 2.0) -> Any:
    """What `Mapper` needs of a system: its logits are right on average, its features are one for
    each class, its offsets none. The state is the index of a frame that does not fit (-1: none)."""

    def predict(params, state, batch):
        examples = batch.examples
        label, classes = examples["semantic"], len(data.classes)
        key = jax.random.fold_in(jax.random.key(0), examples["index"][0])
        logits = 2 * jax.nn.one_hot(label, classes)
        logits += noise * jax.random.normal(key, logits.shape)
        # As an overflow of the network's voxels shows itself; only the smaller program has one.
        full = (examples["index"] == state) & (label.shape[1] < data.points)
        logits = jnp.where(full[:, None, None], jnp.nan, logits)
        return {
            "logits": logits,
            "class": jnp.argmax(logits, -1).astype(jnp.int32),
            "fused": jax.nn.one_hot(label, 4),
            "gate": jnp.full(label.shape, 0.5),
            "depth": jnp.full(label.shape, 2.0),
            "offset": jnp.zeros((*label.shape, 3)),
        }

    return SimpleNamespace(data=data, predict=predict)
