"""A spacecraft's pose from an event camera by keypoints, on simulated windows.

    python train_main.py --config configs/eventpose_sim.py
    python eval_main.py --workdir runs/eventpose_sim --split test

Trains on 16,000 independent windows of 0.1 s, each with its own motion, sun and sensor, and is
evaluated on whole sequences of 6 s whose trajectories, suns and sensors training never saw.
Expected on 20 of them (simulated, split test): rotation 8.8 deg on average and 2.4 in the median,
E_t 0.014, score 0.167; of 80 7.6 and 2.1 deg, 0.153; of hypotheses chosen over time, on the 80,
3.3 and 1.7 deg, 0.070 (docs/results.md).

Two CPU cores: 0.10 to 0.11 s of one core per window to simulate, once (some 14 minutes for all),
and 0.40 s per step, so 34 minutes to train (twice that beside other work); 3.3 GiB.

What else can be asked of it, each by one option:

    --model.heads direct               regression on the same windows
    --keypoints.points box             virtual points alone, which need no model of the craft
    --data.windows.train 64000         more windows at the same number of steps
    --keypoints.use surface            which points answer      (this and the next: eval_main too)
    --keypoints.hypotheses 1           one pose per window
    --keypoints.no-half-turn           heatmaps of one view alone
    --keypoints.align 0.1              poses aligned to the events along the craft's edges
"""

from posejax.config import Checkpoint, Evaluation, Experiment, Optimizer, Schedule, TrainConfig
from posejax.events import AugmentRule
from posejax.systems.eventpose import (
    Eventpose,
    InputConfig,
    KeypointConfig,
    ModelConfig,
    Simulated,
    SimulatedWindows,
    TrajectoryConfig,
    WindowRule,
)


def get_config() -> Experiment:
    return Experiment(
        name="eventpose_sim",
        system=Eventpose(
            data=Simulated(windows=SimulatedWindows(), rule=WindowRule(capacity=8192)),
            input=InputConfig(
                size=(128, 128),
                upright=True,
                roll=0.3,
                augment=AugmentRule(roll=0.0, keep=(0.5, 1.0), polarity_flip=0.1, grid_noise=0.0),
            ),
            model=ModelConfig(
                heads="both", backbone="event_unet", widths=(64, 96, 192, 384), pool="flatten"
            ),
            keypoints=KeypointConfig(points=("box", "surface"), middle=(0.0, 0.0, -0.05)),
            trajectory=TrajectoryConfig(method="rts"),
        ),
        train=TrainConfig(
            steps=5000,
            batch_size=32,
            ema=0.995,
            optimizer=Optimizer(
                schedule=Schedule(kind="cosine", peak=2e-3, warmup=0.05),
                weight_decay=0.05,
                clip_norm=0.5,
            ),
            columns=(
                "loss",
                "position_m",
                "keypoint_px",
                "rotation_deg",
                "score",
                "smoothed/score",
            ),
            evaluation=Evaluation(every_steps=2500, batch_size=64),
            checkpoint=Checkpoint(best_metric="score"),
        ),
    )
