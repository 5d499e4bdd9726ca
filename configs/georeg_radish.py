"""Register real 2-D laser scans of one building (Radish ACES), validated on places never seen.

    python train_main.py --config configs/georeg_radish.py --data.root ACES

ACES holds the log (.npz or .clf) and its .relations table. 457 steps took 46 minutes on two CPU
cores shared with other trainings, and 3.2 GiB. Expected on 223 validation relations:
softmax 94.6 % within 0.2 m and 2 deg, 90.6 % within 0.2 m and 1 deg, median 0.047 m.
"""

from posejax.config import Checkpoint, Evaluation, Experiment, Optimizer, Schedule, TrainConfig
from posejax.systems.georeg import Georeg, ModelConfig, ObjectiveConfig, RadishLog, SearchConfig


def get_config() -> Experiment:
    return Experiment(
        name="georeg_radish",
        system=Georeg(
            data=RadishLog(
                history=0.0,
                style="planes",
                cell_size=0.1,
                online_shape=(300, 300),
                # 0.1 m cells carry the detail, 0.2 m features the volume: the read-out is sub-cell.
                search=SearchConfig(max_offset=2.0, max_yaw_deg=10.0, stride=2),
            ),
            model=ModelConfig(widths=(8, 16, 32), features=4),
            objective=ObjectiveConfig(nll_weight=1.0, xy_weight=1.0, yaw_weight=5.0),
        ),
        train=TrainConfig(
            epochs=4,
            batch_size=8,
            optimizer=Optimizer(schedule=Schedule(kind="cosine", peak=3e-3, warmup=0.05)),
            columns=("loss", "xy_m", "yaw_deg", "softmax/rms_xy_m", "softmax/rms_yaw_deg"),
            evaluation=Evaluation(every_epochs=1),
            checkpoint=Checkpoint(best_metric="softmax/rms_xy_m"),
        ),
    )
