"""The learning-free baseline on simulated streets: masked ZNCC of intensity and brightness.

python eval_main.py --config configs/georeg_zncc.py
"""

from posejax.config import Experiment, replace
from posejax.systems.georeg import baselines


def get_config() -> Experiment:
    streets = baselines.streets(train_worlds=64, val_worlds=12, test_worlds=12, repeats=2)
    # The rasters of georeg_sim, so that the two results stand side by side.
    return Experiment(
        name="georeg_zncc",
        system=replace(streets, **{"data.online_shape": (160, 160)}),
        train=baselines.read("softmax"),
    )
