"""Real 2-D laser scans of Radish ACES, scan to scan, without learning: read the Gaussian.

    python eval_main.py --config configs/georeg_zncc_radish.py --split all \\
        --data.root ACES

ACES holds the log (.npz or .clf) and its .relations table. `--split val` evaluates the relations
that `configs/georeg_radish.py` never trains on. Expected there: Gaussian 86.5 % within 0.2 m and
2 deg, median 0.040 m. Under a minute for `val` on two CPU cores.
"""

from posejax.config import Experiment
from posejax.systems.georeg import baselines


def get_config() -> Experiment:
    return Experiment(
        name="georeg_zncc_radish", system=baselines.radish(), train=baselines.read("gaussian")
    )
