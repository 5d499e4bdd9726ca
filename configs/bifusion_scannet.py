"""Classes of ScanNet's points from single frames: half a CLIP and Res16UNet34C.

    python train_main.py --config bifusion_scannet --data.root DIR --data.train-scenes train.txt \\
        --data.val-scenes val.txt --model.clip-weights ViT-B-16.safetensors
    python eval_main.py --workdir runs/bifusion_scannet

DIR holds scans as ScanNet's exporter writes them (color, depth, pose, intrinsic, label-filt,
instance-filt), with --data.table scannetv2-labels.combined.tsv where labels are raw numbers. CLIP's
weights are OpenAI's; for open_clip's own add --model.activation gelu. ESAM's or MinkowskiEngine's
U-Net starts the points' branch with --model.points-weights FILE --model.points.rounding round.

CLIP is frozen for the first 30 % of the run; then its first convolution and two blocks are trained
at a tenth of the rate, its head at a fifth from the start. For GPUs: 40 GFLOP forward per frame by
count. Not run here: neither the data nor such an accelerator were at hand.
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
from posejax.systems.bifusion import Bifusion, ModelConfig, ScanNet


def get_config() -> Experiment:
    return Experiment(
        name="bifusion_scannet",
        system=Bifusion(data=ScanNet(size=(480, 640), points=20_000), model=ModelConfig()),
        train=TrainConfig(
            steps=60_000,
            batch_size=8,
            optimizer=Optimizer(
                schedule=Schedule("cosine", peak=1e-4, warmup=0.02),
                weight_decay=0.05,
                clip_norm=10.0,
                groups=(
                    Group(
                        r"^image/tower/(patch_conv|block[01])/",
                        name="clip",
                        lr=0.1,
                        unfreeze_at=0.3,
                    ),
                    Group(
                        r"^image/tower/(block[2-9]|norm_pre|class_|position_)",
                        name="clip, deep",
                        frozen=True,
                    ),
                    Group(r"^image/head/", name="clip, head", lr=0.2),
                    Group(r"^(?!image/)", name="rest"),
                ),
            ),
            data=Data(workers=8),
            evaluation=Evaluation(every_steps=5000),
            checkpoint=Checkpoint(every_steps=1000, best_metric="miou", best_mode="max"),
            columns=("loss", "miou", "accuracy", "fusion_2d_ratio", "valid_ratio"),
        ),
    )
