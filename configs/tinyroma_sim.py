"""Dense matching of two images and their relative pose, on simulated rooms and streets.

    python train_main.py --config configs/tinyroma_sim.py --system.model.backbone DIR
    python eval_main.py --workdir runs/tinyroma_sim --split test

DIR holds XFeat's weights (a file xfeat*.npz, .safetensors or .pth). Without the option the trunk
starts from random weights and needs a longer training: then give --train.steps 20000. What needs no
training is evaluated by

    python eval_main.py --config configs/tinyroma_sim.py --system.baseline xfeat \\
        --system.model.backbone DIR --system.match.threshold 4

By default pictures are drawn for the homographies; --system.data.parts.1.root DIR takes
photographs.

Two CPU cores that other work shares: 71 minutes, 1.6 GiB, after some 4 minutes of simulation. With
33 photographs, seed 0, split test (356 pairs of unseen simulated worlds): AUC@5/10/20 of the pose
43/54/63, training-free 15/26/37. On real pairs it beats training-free matching indoors
(scannet_pairs), not on magsac_h. See docs/results.md.
"""

from posejax.config import (
    Checkpoint,
    Evaluation,
    Experiment,
    Group,
    Optimizer,
    Schedule,
    TrainConfig,
)
from posejax.systems.tinyroma import (
    Augment,
    HomographyPairs,
    MixedPairs,
    ModelConfig,
    ObjectiveConfig,
    SimulatedPairs,
    Tinyroma,
)


def get_config() -> Experiment:
    return Experiment(
        name="tinyroma_sim",
        system=Tinyroma(
            # Turns and zooms that rooms and streets lack, and cameras that are held aslant.
            data=MixedPairs(
                parts=(SimulatedPairs(), HomographyPairs(angle_deg=45.0)),
                weights=(0.6, 0.4),
                augment=Augment(roll_deg=25.0),
                size=(256, 320),
            ),
            # Training starts at the training-free expectation and XFeat's own features.
            model=ModelConfig(refine=2, frozen_norm=True, zero_out=True),
            # The lengths of the released training, made for 1024 pixels, as as many pixels of 320.
            objective=ObjectiveConfig(c=3.2e-4, certain=3.2e-3, reach=0.2, contrast=0.1),
        ),
        train=TrainConfig(
            steps=3000,
            batch_size=4,
            ema=0.995,
            optimizer=Optimizer(
                schedule=Schedule(kind="cosine", peak=1e-3, warmup=0.05),
                weight_decay=0.01,
                clip_norm=0.1,
                groups=(
                    Group("^trunk/", name="trunk", lr=0.1),
                    Group("^(coarse|fine)_", name="matchers"),
                ),
            ),
            columns=("loss", "within_3px", "auc10", "pck3", "epe_median"),
            evaluation=Evaluation(every_steps=1000, examples=64),
            checkpoint=Checkpoint(best_metric="pck3", best_mode="max"),
        ),
    )
