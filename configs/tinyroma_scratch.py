"""Dense matching from nothing: a small Tiny RoMa that starts from random weights.

    python train_main.py --config configs/tinyroma_scratch.py
    python eval_main.py --workdir runs/tinyroma_scratch --split test

Made for 20 minutes on two free cores after some 4 minutes of simulation, at 160 x 128 pixels, with
half of the coarse matcher's channels (1,365,242 parameters); timed only on cores that much other
work shared, where a step took 0.9 to 6 s. 1.8 GiB.
Expected, simulated, split test (356 pairs with a pose): AUC@5/10/20 of the pose 2.5/6.8/13.5; of
the cells that B sees 9, 29 and 39 % within 1, 3 and 5 px. It shows that a network learns from
nothing here, and no more: to match, start from published weights (tinyroma_sim.py).
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
