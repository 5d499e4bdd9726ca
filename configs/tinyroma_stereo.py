"""Rectified stereo pairs: partners are looked for along the same row alone.

    python train_main.py --config configs/tinyroma_stereo.py --system.data.root DIR \\
        --system.model.weights WEIGHTS

DIR holds folders of rectified pairs with disparities (systems/tinyroma/sources/stereo.py), WEIGHTS
a network in Tiny RoMa's layout, or give --system.model.backbone XFEAT for the trunk alone. The
parameters are those of the full search: weights go either way. A rig that is a little off wants
--system.model.search.kind band. There is no pose to recover from a rectified pair.
"""

from posejax.config import Checkpoint, Evaluation, Experiment, Optimizer, Schedule, TrainConfig
from posejax.systems.tinyroma import Augment, ModelConfig, SearchConfig, StereoFolder, Tinyroma


def get_config() -> Experiment:
    return Experiment(
        name="tinyroma_stereo",
        system=Tinyroma(
            # Nothing that moves rows apart or turns left into right.
            data=StereoFolder(size=(320, 640), augment=Augment(swap=0, crop=0, flip=0)),
            # Disparities of up to 128 pixels at this size.
            model=ModelConfig(
                search=SearchConfig("rows", columns=(-16, 0)), frozen_norm=True, zero_out=True
            ),
        ),
        train=TrainConfig(
            steps=2000,
            batch_size=4,
            optimizer=Optimizer(
                schedule=Schedule(kind="cosine", peak=5e-4, warmup=0.05),
                weight_decay=0.01,
                clip_norm=0.1,
            ),
            columns=("loss", "within_3px", "pck1", "pck3", "epe_median"),
            evaluation=Evaluation(every_steps=500),
            checkpoint=Checkpoint(best_metric="pck3", best_mode="max"),
        ),
    )
