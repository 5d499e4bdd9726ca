"""A spacecraft's pose from an event camera by direct regression, on simulated sequences.

    python train_main.py --config configs/eventpose_direct.py
    python eval_main.py --workdir runs/eventpose_direct

Two CPU cores: 9 minutes to simulate 180 sequences of 6 s once, 20 minutes to train, 2.8 GiB.
Expected on 20 sequences whose trajectories training never saw (simulated, split test): score 1.06
(a constant answer: 2.19), E_t 0.057, rotation 57 deg on average and 30 in the median. In training
it is 12 deg: the windows of a sequence are near copies. configs/eventpose_sim.py, keypoints on
independent windows, has a sixth of its score: this one is what it is compared with.
"""

from posejax.config import Checkpoint, Evaluation, Experiment, Optimizer, Schedule, TrainConfig
from posejax.events import AugmentRule
from posejax.systems.eventpose import (
    Eventpose,
    InputConfig,
    ModelConfig,
    Simulated,
    SimulatedSequences,
    TrajectoryConfig,
    WindowRule,
)


def get_config() -> Experiment:
    return Experiment(
        name="eventpose_direct",
        system=Eventpose(
            data=Simulated(sequences=SimulatedSequences(), rule=WindowRule(capacity=16384)),
            input=InputConfig(
                size=(96, 96),
                upright=True,
                roll=0.3,
                augment=AugmentRule(roll=0.0, keep=(0.5, 1.0), polarity_flip=0.1),
            ),
            model=ModelConfig(widths=(32, 64, 96, 128), pool="flatten"),
            trajectory=TrajectoryConfig(method="rts"),
        ),
        train=TrainConfig(
            epochs=9,
            batch_size=32,
            ema=0.995,
            optimizer=Optimizer(
                schedule=Schedule(kind="cosine", peak=2e-3, warmup=0.05),
                weight_decay=0.05,
                clip_norm=0.5,
            ),
            columns=("loss", "position_m", "rotation_deg", "score", "smoothed/score"),
            evaluation=Evaluation(every_epochs=3, batch_size=64),
            checkpoint=Checkpoint(best_metric="score"),
        ),
    )
