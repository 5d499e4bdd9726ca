"""A spacecraft's pose from an event camera, on simulated sequences.

python train_main.py --config configs/eventpose_sim.py
python eval_main.py --workdir runs/eventpose_sim
"""

from posejax.config import Checkpoint, Evaluation, Experiment, Optimizer, Schedule, TrainConfig
from posejax.systems.eventpose.config import EventposeConfig, ModelConfig, TrajectoryConfig
from posejax.systems.eventpose.data import Simulated
from posejax.systems.eventpose.inputs import InputConfig
from posejax.systems.eventpose.simulated import SimulatedSequences


def get_config() -> Experiment:
    return Experiment(
        name="eventpose_sim",
        system=EventposeConfig(
            data=Simulated(sequences=SimulatedSequences()),
            input=InputConfig(size=(96, 96)),
            model=ModelConfig(widths=(32, 64, 96, 128), pool="flatten"),
            trajectory=TrajectoryConfig(method="rts"),
        ),
        train=TrainConfig(
            epochs=8,
            batch_size=32,
            optimizer=Optimizer(
                schedule=Schedule(kind="cosine", peak=2e-3, warmup=0.05),
                weight_decay=0.02,
                clip_norm=0.5,
            ),
            columns=("loss", "position_m", "rotation_deg", "score", "smoothed/score"),
            evaluation=Evaluation(every_epochs=1, batch_size=64),
            checkpoint=Checkpoint(best_metric="score"),
        ),
    )
