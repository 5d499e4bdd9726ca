"""Bird's-eye segmentation of vehicles on nuScenes, as Simple-BEV was trained.

    python train_main.py --config segnet_nuscenes --data.root DIR \\
        --data.train-scenes train.txt --data.val-scenes val.txt \\
        --model.backbone-weights resnet101.pth
    python eval_main.py --workdir runs/segnet_nuscenes

DIR is the data set (`samples`, `sweeps`, `v1.0-trainval`), the text files hold the names of the 700
and 150 official scenes, one in a line, and the weights are torchvision's ResNet-101 of ImageNet.
With radar add --data.radar --model.radar meta, with LiDAR --data.lidar --model.lidar
--data.sweeps 5 --data.lidar-points 150000, with both all of it. Released weights of Simple-BEV
start a training with --model.weights FILE --data.grid.compat simple_bev --data.grid.frame camera
--data.extrinsics mounted; to evaluate them as they are, there is no way yet.

Needs: 250 GB of data; 1.4 TFLOP forward per frame, so GPUs: 1.0 million frames are 4.2 EFLOP, by
count of FLOPs some three hours of one H200 at 40 % of its bfloat16 rate (--model.bfloat16).
Not run here: the data are not at hand. The paper reports an IoU of 47.4 for cameras, 55.7 with
radar, 60.8 with LiDAR.
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
from posejax.systems.segnet import ModelConfig, NuScenes, Segnet


def get_config() -> Experiment:
    return Experiment(
        name="segnet_nuscenes",
        system=Segnet(data=NuScenes(size=(448, 800)), model=ModelConfig("res101")),
        train=TrainConfig(
            steps=25_000,
            batch_size=40,
            accumulate=5,
            optimizer=Optimizer(
                # Of the released checkpoints; the original's code says 3e-4.
                schedule=Schedule("one_cycle", peak=5e-4, warmup=0.05, start=0.04),
                weight_decay=1e-7,
                no_decay=(),
                # The original clips the sum of its five micro-batches at 5; this is their mean.
                clip_norm=1.0,
            ),
            data=Data(workers=12),
            evaluation=Evaluation(every_steps=2500, batch_size=8),
            checkpoint=Checkpoint(every_steps=1000, best_metric="iou", best_mode="max"),
            columns=("loss", "iou", "segmentation", "offset"),
        ),
    )
