"""A spacecraft's pose in real SPADES frames: the end of a sequence from its beginning.

    python train_main.py --config configs/eventpose_rt002.py --data.root DIR
    python eval_main.py --workdir runs/eventpose_rt002

DIR holds labels.csv, camera.json and frames/ of one sequence (docs/eventpose.md); of RT002 the
first 400 frames train and the rest is predicted.

Two CPU cores: 9 minutes, 1.8 GiB. On the last 80 frames (SPADES imagery of one sequence, so no
independent samples) three seeds gave scores of 0.141, 0.098 and 0.156 (mean 0.131, E_t 0.024, 6.1
deg); the pose of the last training frame: 0.186. See docs/results.md.
"""

from posejax.config import Checkpoint, Evaluation, Experiment, Optimizer, Schedule, TrainConfig
from posejax.systems.eventpose import Eventpose, Frames, InputConfig, ModelConfig


def get_config() -> Experiment:
    return Experiment(
        name="eventpose_rt002",
        system=Eventpose(
            data=Frames(),
            input=InputConfig(size=(96, 96)),
            model=ModelConfig(widths=(32, 64, 96, 128), pool="flatten"),
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
            columns=("loss", "position_m", "rotation_deg", "score", "smoothed/score"),
            evaluation=Evaluation(every_epochs=10),
            checkpoint=Checkpoint(best_metric="score"),
        ),
    )
