"""Simulated sequences of a spacecraft, as the event camera of SPADES would have seen it."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SimulatedSequences:
    """Sequences of a spacecraft on trajectories that no other split has.

    Attributes:
      train: number of training sequences; one more makes only that one.
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
