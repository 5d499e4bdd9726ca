"""The recipe for the real SPADES / SPARK-2026 sequences: EfficientNet-B0 on 10 x 256 x 256 voxels.

    python train_main.py --config configs/eventpose_spades.py --data.root DIR
    python eval_main.py --workdir runs/eventpose_spades

DIR holds h5/RT000.h5 ... RT299.h5 (240 train, 30 val, 30 test, in name order). For one GPU of
24 GB: the packed events (8 bytes each, about 10 GB for the training split) stay in the host's
memory, which reader threads share; --data.rule.resident puts them on the accelerator, too. The
recipe is that of a pretrained backbone: --model.weights FILE names ImageNet weights (timm's
efficientnet_b0 as .safetensors), frozen for the first 5 of 60 epochs and then trained at a tenth of
the rate. Without them a random backbone gets the same treatment, which wastes it.
Interrupted runs continue with the same command. Not run to its end: neither the files nor such an
accelerator were at hand; a few steps on simulated sequences of the same layout were.
"""

from posejax.config import (
    Checkpoint,
    Data,
    Evaluation,
    Experiment,
    Group,
    Optimizer,
    Schedule,
    TrainConfig,
)
from posejax.systems.eventpose import (
    Eventpose,
    InputConfig,
    ModelConfig,
    ObjectiveConfig,
    Recordings,
)


def get_config() -> Experiment:
    schedule = Schedule(
        kind="cosine_restarts", peak=3e-4, warmup=2 / 60, period=10 / 60, period_factor=2.0
    )
    return Experiment(
        name="eventpose_spades",
        system=Eventpose(
            data=Recordings(),
            input=InputConfig(size=(256, 256)),
            model=ModelConfig(backbone="efficientnet_b0", dropout=0.2, bfloat16=True),
            objective=ObjectiveConfig(rotation="6d", rot_weight=3.0),
        ),
        train=TrainConfig(
            epochs=60,
            batch_size=64,
            optimizer=Optimizer(
                kind="adamw",
                schedule=schedule,
                weight_decay=1e-4,
                clip_norm=0.5,
                groups=(
                    Group(r"^backbone/", name="backbone", lr=0.1, unfreeze_at=5 / 60),
                    Group(r"^(?!backbone/)", name="head"),
                ),
            ),
            columns=("loss", "position_m", "rotation_deg", "score", "smoothed/score"),
            data=Data(threads=4, prefetch=4),
            evaluation=Evaluation(every_epochs=1),
            checkpoint=Checkpoint(keep_latest=2, keep_best=1, best_metric="score"),
        ),
    )
