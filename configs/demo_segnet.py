"""What `SYSTEM=segnet make demo` shows: shipped weights on drives through three towns never seen.

    python -m posejax demo segnet           (or: SYSTEM=segnet make demo)
    python -m posejax eval --config configs/demo_segnet.py --calibrate 0

24 key frames of six cameras of 224 x 128 pixels; simulating them takes some ten seconds of a core.
Simulated. Three towns of val are a handful: the README's numbers are of the 12 towns of test.
"""

import dataclasses

from segnet_sim import get_config as trained

from posejax.config import Experiment, replace


def get_config() -> Experiment:
    demo = dataclasses.replace(trained(), name="demo_segnet")
    return replace(demo, **{"train.init_from": "segnet_sim", "system.data.val_scenes": 3})
