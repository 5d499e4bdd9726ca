"""A real Argoverse 2 sweep against its rasterised HD map, without learning: read the softmax.

    python eval_main.py --config configs/georeg_zncc_av2.py --calibrate 0 \\
        --data.root LOGS

LOGS holds log folders of the Argoverse 2 sensor data set. Expected on log adcf7d18: all 25 softmax
estimates within 0.4 m and 0.4 deg. About a minute on two CPU cores.
"""

from posejax.config import Experiment
from posejax.systems.georeg import baselines


def get_config() -> Experiment:
    return Experiment(
        name="georeg_zncc_av2", system=baselines.av2(), train=baselines.read("softmax")
    )
