"""What `SYSTEM=bifusion make demo` shows: shipped weights on frames of four rooms never seen.

    python -m posejax demo bifusion           (or: SYSTEM=bifusion make demo)
    python -m posejax eval --config configs/demo_bifusion.py --calibrate 0

24 RGB-D frames of 192 x 144 pixels: 15 s of processor time, and on a fresh machine half a minute
more to simulate them and to compile.
Simulated. Four rooms of val are a handful: the README's numbers are of the 40 rooms of test.
"""

import dataclasses

from bifusion_sim import get_config as trained

from posejax.config import Experiment, replace


def get_config() -> Experiment:
    demo = dataclasses.replace(trained(), name="demo_bifusion")
    settings = {"train.init_from": "bifusion_sim", "system.data.rooms": (120, 4, 40)}
    return replace(demo, **settings)
