"""Keypoints in real SPADES frames: the end of a sequence from its beginning, beside regression.

    python train_main.py --config configs/eventpose_rt002_keypoints.py --data.root DIR
    python train_main.py --config configs/eventpose_rt002_keypoints.py --data.root DIR \\
        --model.heads direct --workdir runs/rt002_direct

DIR as in configs/eventpose_rt002.py. The points are those of a box around the craft, of which no
mesh is published: the labels say where they project to. The second command regresses the pose by
the same network, view and steps. Seed 0, the last 80 frames: score 0.134 (E_t 0.017, 6.7 deg), and
0.198 (0.024, 10.0 deg) by regression. Two CPU cores: 0.3 to 0.4 s a step, some 15 minutes; 2 GiB.
"""

from posejax.config import Checkpoint, Evaluation, Experiment, Optimizer, Schedule, TrainConfig
from posejax.systems.eventpose import (
    Eventpose,
    Frames,
    InputConfig,
    KeypointConfig,
    ModelConfig,
)


def get_config() -> Experiment:
    return Experiment(
        name="eventpose_rt002_keypoints",
        system=Eventpose(
            data=Frames(),
            input=InputConfig(size=(128, 128)),
            model=ModelConfig(
                heads="keypoints",
                backbone="event_unet",
                widths=(64, 96, 192, 384),
                pool="flatten",
            ),
            keypoints=KeypointConfig(),
        ),
        train=TrainConfig(
            epochs=100,
            batch_size=16,
            ema=0.995,
            optimizer=Optimizer(
                schedule=Schedule(kind="cosine", peak=1e-3, warmup=0.05),
                weight_decay=0.02,
                clip_norm=0.5,
            ),
            columns=("loss", "score", "rotation_deg", "relative_position"),
            evaluation=Evaluation(every_epochs=25),
            checkpoint=Checkpoint(best_metric="score"),
        ),
    )
