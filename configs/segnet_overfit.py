"""One key frame of nuScenes learnt by heart: does the chain hold, from files to maps?

    python train_main.py --config segnet_overfit --data.root DIR

DIR holds `infos.json` (MMDetection3D's info file as JSON) with its images and sweep beside it. Six
cameras of 208 x 112 pixels, a small network, 48 m x 48 m of half-metre cells, 300 steps of one
frame. For the grid of the full config add --data.grid.shape 200 8 200 --data.grid.lower -50 -4 -50
--data.grid.upper 50 6 50, which takes ten times as long. A calibration that is wrong is learnt by
heart as well: `python -m posejax check-rig DIR` is for that.
Expected: IoU of vehicles 0.99 on that frame (of nuScenes' sample; seed 0), which says nothing of
any other. 2 min 20 s of processor time, 1.4 GiB.
"""

from posejax.config import Checkpoint, Evaluation, Experiment, Optimizer, Schedule, TrainConfig
from posejax.systems.segnet import Augment, GridConfig, InfoFrames, ModelConfig, Segnet


def get_config() -> Experiment:
    nothing = Augment((1.0, 1.0), 0.0, False, flip_images=False, flip_maps=False)
    grid = GridConfig((96, 4, 96), (-24.0, -2.0, -24.0), (24.0, 3.0, 24.0), lift="plan")
    return Experiment(
        name="segnet_overfit",
        system=Segnet(
            data=InfoFrames(size=(112, 208), grid=grid, augment=nothing),
            model=ModelConfig("small", features=16, widths=(16, 32, 32)),
        ),
        train=TrainConfig(
            steps=300,
            batch_size=1,
            optimizer=Optimizer(
                schedule=Schedule("one_cycle", peak=3e-3, warmup=0.1, start=0.04),
                weight_decay=1e-7,
                clip_norm=5.0,
            ),
            evaluation=Evaluation(every_steps=100),
            checkpoint=Checkpoint(every_steps=100, best_metric="iou", best_mode="max"),
            columns=("loss", "iou", "segmentation", "offset"),
        ),
    )
