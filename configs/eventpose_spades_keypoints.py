"""Keypoints for the real SPADES / SPARK-2026 sequences, of which no mesh of the craft is published.

    python train_main.py --config configs/eventpose_spades_keypoints.py --data.root DIR
    python eval_main.py --workdir runs/eventpose_spades_keypoints --split test
    python examples/pose_from_events.py RECORDING --run RUN --out poses.csv

DIR as in configs/eventpose_spades.py. The points are those of a box around the craft
(`--keypoints.half`, `--keypoints.middle`): the labels say where they project to. The network and
its view are those of configs/eventpose_sim.py, but windows come from the sequences.
`--model.heads direct` regresses by the same network.

Not run to its end: the files were not at hand. A few steps on simulated sequences of the same
layout, an evaluation and a submission were (tests/systems/eventpose/test_stages.py). For the 240
sequences of 598 windows and some 5 million events, from measured parts: reading and packing, 0.065
s of one core per million events, 80 s in all; packed events 9.6 GB beside 2.2 GB of everything
else; a step of 64, 1.4 s of one core, 2,242 steps an epoch: 53 minutes of one core, and 9 hours for
the 10 epochs, which an accelerator is for.
"""

from posejax.config import (
    Checkpoint,
    Data,
    Evaluation,
    Experiment,
    Optimizer,
    Schedule,
    TrainConfig,
)
from posejax.events import AugmentRule
from posejax.systems.eventpose import (
    Eventpose,
    InputConfig,
    KeypointConfig,
    ModelConfig,
    Recordings,
    WindowRule,
)


def get_config() -> Experiment:
    return Experiment(
        name="eventpose_spades_keypoints",
        system=Eventpose(
            data=Recordings(rule=WindowRule(capacity=16384)),
            input=InputConfig(
                size=(128, 128),
                upright=True,
                roll=0.3,
                augment=AugmentRule(roll=0.0, keep=(0.5, 1.0), polarity_flip=0.1, grid_noise=0.0),
            ),
            model=ModelConfig(
                heads="both", backbone="event_unet", widths=(64, 96, 192, 384), pool="flatten"
            ),
            keypoints=KeypointConfig(middle=(0.0, 0.0, -0.05)),
        ),
        train=TrainConfig(
            epochs=10,
            batch_size=64,
            ema=0.999,
            optimizer=Optimizer(
                schedule=Schedule(kind="cosine", peak=2e-3, warmup=0.02),
                weight_decay=0.05,
                clip_norm=0.5,
            ),
            columns=(
                "loss",
                "position_m",
                "keypoint_px",
                "rotation_deg",
                "score",
                "tracked/score",
            ),
            data=Data(threads=4, prefetch=4),
            evaluation=Evaluation(every_epochs=2, batch_size=64),
            checkpoint=Checkpoint(keep_latest=2, keep_best=1, best_metric="score"),
        ),
    )
