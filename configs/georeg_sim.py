"""Localise a LiDAR sweep in an aerial photograph and lane map, on simulated streets.

    python train_main.py --config configs/georeg_sim.py        (or: make train)
    python eval_main.py --workdir runs/georeg_sim

Two CPU cores, shared: two minutes to simulate the streets once, 27 minutes to train, 2.2 GiB.
Expected on the 192 examples of the test split, from worlds never seen (simulated): softmax RMS
0.057 m in x and in y, 0.17 deg; Gaussian 0.050 m, 0.043 m, 0.20 deg; within 0.2 m and 1 deg: 99 %.
"""

from posejax.config import Checkpoint, Evaluation, Experiment, Optimizer, Schedule, TrainConfig
from posejax.systems.georeg import Georeg, ModelConfig, ObjectiveConfig, SearchConfig, Streets


def get_config() -> Experiment:
    streets = Streets(
        layers=("aerial", "marks", "crossings"),
        train_worlds=64,
        val_worlds=12,
        test_worlds=12,
        repeats=2,
        # 32 m a side: on a straight street a smaller view may hold nothing but equal dashes.
        online_shape=(160, 160),
        search=SearchConfig(stride=2),
    )
    return Experiment(
        name="georeg_sim",
        system=Georeg(
            data=streets,
            model=ModelConfig(widths=(8, 24, 64), features=8),
            # The NLL finds the mode; the expectation losses pull in the tails that the mean feels.
            objective=ObjectiveConfig(nll_weight=1.0, xy_weight=1.0, yaw_weight=5.0),
        ),
        train=TrainConfig(
            epochs=8,
            batch_size=8,
            optimizer=Optimizer(schedule=Schedule(kind="cosine", peak=2e-3, warmup=0.05)),
            columns=("loss", "xy_m", "yaw_deg", "softmax/rms_xy_m", "softmax/rms_yaw_deg"),
            evaluation=Evaluation(every_epochs=2),
            checkpoint=Checkpoint(best_metric="softmax/rms_xy_m"),
        ),
    )
