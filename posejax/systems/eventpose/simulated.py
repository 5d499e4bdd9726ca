"""Simulated sequences of a spacecraft, as the event camera of SPADES would have seen it.

Whole sequences, and independent windows of such sequences, to train with.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from posejax.events import Window


@dataclass(frozen=True)
class SimulatedSequences:
    """Sequences of a spacecraft on trajectories that no other split has.

    Attributes:
      train: number of training sequences; one more makes only that one. Training reads none of them
        where it has independent windows (`windows.train`).
      val: number of validation sequences.
      test: number of test sequences.
      seconds: length of a sequence, labelled 10 times a second. Many short ones teach more than a
        few long ones: a minute of one trajectory shows one side of the craft under one sun.
      root: folder of the recordings; the user's cache folder if empty.
      seed: of the trajectories, the sun and the sensor.
    """

    train: int = 160
    val: int = 20
    test: int = 20
    seconds: float = 6.0
    root: str = ""
    seed: int = 0

    def files(self, split: str) -> tuple[list[Path], list[float]]:
        """Recordings of a split, made if they are not there yet, and the light of each.

        Light is the number of the stratum of the sun's phase angle: 0 has the sun behind the
        camera, the last one behind the craft.
        """
        from posejax.sim import SpacecraftSettings, ensure_sequences  # with jax: not in workers

        settings = SpacecraftSettings(duration_s=self.seconds, seed=self.seed)
        count = {"train": self.train, "val": self.val, "test": self.test}[split]
        paths = ensure_sequences(self.root or None, settings, split, count)
        about = [json.loads(path.with_suffix(".json").read_text()) for path in paths]
        return paths, [float(a["light"]) for a in about]


@dataclass(frozen=True)
class SimulatedWindows:
    """Independent windows: each of its own motion, sun and sensor, drawn as for the sequences.

    Attributes:
      train: number of windows to train with, rounded up to whole files of 250; more of them keep
        those that are there.
      val: number of windows that stand in for the sequences of the validation split; 0 for none.
      test: the same for the test split.
      seconds: length of the sequences whose windows they could be.
      root: folder of the recordings; the user's cache folder if empty.
      seed: of the trajectories, the suns and the sensors.
    """

    train: int = 16000
    val: int = 0
    test: int = 0
    seconds: float = 6.0
    root: str = ""
    seed: int = 0

    def count(self, split: str) -> int:
        """Windows of a split; 0 where its sequences are used."""
        return {"train": self.train, "val": self.val, "test": self.test}[split]

    def files(self, split: str, window: Window) -> tuple[list[Path], list[list[float]]]:
        """Recordings of a split, made if they are not there yet, and the light of each window.

        Args:
          split: one of which `count` is not 0.
          window: that clips hold.

        Raises:
          ValueError: a window of so many events: how long its clip must be is not known.
        """
        from posejax.sim import SpacecraftSettings, WindowSettings, ensure_windows, read_clips

        if window.count is not None:
            raise ValueError(f"independent windows last so many seconds, not {window.count} events")
        sequence = SpacecraftSettings(duration_s=self.seconds, seed=self.seed)
        settings = WindowSettings(sequence=sequence, clip_s=window.reach())
        paths = ensure_windows(self.root or None, settings, split, self.count(split))
        return paths, [read_clips(path).light.astype(float).tolist() for path in paths]
