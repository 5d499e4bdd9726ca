"""Beacons: `python train_main.py --config beacons_config.py`; 2 s on a CPU, rms below 0.1 m."""

from beacons.system import Beacons

from posejax.config import Checkpoint, Evaluation, Experiment, Optimizer, Schedule, TrainConfig


def get_config() -> Experiment:
    return Experiment(
        name="beacons",
        system=Beacons(),
        train=TrainConfig(
            epochs=20,
            batch_size=16,
            optimizer=Optimizer(schedule=Schedule("cosine", peak=2e-2, warmup=0.1)),
            evaluation=Evaluation(every_epochs=5),
            checkpoint=Checkpoint(best_metric="rms"),
        ),
    )
