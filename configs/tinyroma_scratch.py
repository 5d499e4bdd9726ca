"""Dense matching from nothing: a small Tiny RoMa that starts from random weights.

python train_main.py --config configs/tinyroma_scratch.py
python eval_main.py --workdir runs/tinyroma_scratch --split test
"""

from posejax.config import Checkpoint, Evaluation, Experiment, Optimizer, Schedule, TrainConfig
from posejax.systems.tinyroma import (
    HomographyPairs,
    MixedPairs,
    ModelConfig,
    ObjectiveConfig,
    SimulatedPairs,
    Tinyroma,
)


def get_config() -> Experiment:
    return Experiment(
        name="tinyroma_scratch",
        system=Tinyroma(
            data=MixedPairs(
                parts=(SimulatedPairs(), HomographyPairs(angle_deg=30.0)),
                weights=(0.75, 0.25),
                size=(128, 160),
            ),
            model=ModelConfig(matcher=128, refine=2, zero_out=True),
            # The lengths of the released training, made for 1024 pixels, as as many pixels of 160.
            # Contrast against wrong cells is what teaches a trunk that starts from nothing.
            objective=ObjectiveConfig(c=6.4e-4, certain=6.4e-3, reach=0.4, contrast=1.0),
        ),
        train=TrainConfig(
            steps=2000,
            batch_size=8,
            ema=0.99,
            optimizer=Optimizer(
                schedule=Schedule(kind="cosine", peak=2e-3, warmup=0.05),
                weight_decay=0.01,
            ),
            columns=("loss", "within_3px", "auc10", "pck3", "epe_median"),
            evaluation=Evaluation(every_steps=500, examples=64),
            checkpoint=Checkpoint(best_metric="pck3", best_mode="max"),
        ),
    )
