"""Tiny RoMa's own training: MegaDepth at 768 x 1024, two million pairs.

    python train_main.py --config configs/tinyroma_megadepth.py --system.data.root DIR \\
        --system.model.backbone XFEAT

DIR is MegaDepth as the LoFTR split lists it (systems/tinyroma/sources/megadepth.py);
XFEAT a file or folder of XFeat's weights. For GPUs: 250,000 steps of batch 8; memory is not
measured (the volume of correlations is never stored). Not run here. Published, with PoseLib at
1 px: AUC 56.4 / 69.5 / 79.5 at 5 / 10 / 20 degrees on MegaDepth-1500.

The original normalises by each batch in XFeat, too; its weights with folded norms cannot start so,
hence frozen_norm. A file with norms of their own can: --model.no-frozen-norm.
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
from posejax.systems.tinyroma import Augment, MegaDepth, ModelConfig, Tinyroma


def get_config() -> Experiment:
    return Experiment(
        name="tinyroma_megadepth",
        system=Tinyroma(
            data=MegaDepth(
                size=(768, 1024),
                length=2_000_000,
                augment=Augment(
                    shift=32,
                    flip=0.5,
                    swap=0,
                    crop=0,
                    gain=0,
                    contrast=0,
                    gamma=0,
                    grey=0,
                    noise=0,
                    blur=0,
                ),
            ),
            model=ModelConfig(frozen_norm=True),
        ),
        train=TrainConfig(
            steps=250_000,
            batch_size=8,
            optimizer=Optimizer(
                schedule=Schedule(kind="multi_step", peak=1e-4, milestones=(0.9,)),
                weight_decay=0.01,
                no_decay=(),
                clip_norm=0.01,
            ),
            data=Data(workers=8),
            columns=("loss", "within_3px", "auc5", "auc10", "pck3"),
            evaluation=Evaluation(every_steps=3125, examples=50),
            checkpoint=Checkpoint(every_steps=3125, best_metric="auc5", best_mode="max"),
        ),
    )
