"""Vehicles from above by six cameras, LiDAR and radar, on simulated drives through unseen towns.

    python train_main.py --config segnet_sim
    python eval_main.py --workdir runs/segnet_sim --split test
    python eval_main.py --workdir runs/segnet_sim --split test --data.hide LIDAR RADAR   # cameras
    python eval_main.py --workdir runs/segnet_sim --split test --data.hide LIDAR RADAR CAM_FRONT

One network for any subset of its sensors: six of ten training frames lack the LiDAR, as many the
radar, one of ten each camera. Expected IoU (simulated, split test): all 0.53, cameras alone 0.40,
with LiDAR 0.51, with radar 0.50. Another vehicle, five cameras, higher and with other lenses:

    python eval_main.py --workdir runs/segnet_sim --split test --data.hide LIDAR RADAR \\
        --data.rig van --data.cameras CAM_FRONT_LEFT CAM_FRONT CAM_FRONT_RIGHT CAM_BACK_LEFT \\
        CAM_BACK_RIGHT                        # 0.32; with --data.calibrated-as nuscenes 0.10

What it is to be read beside, a map that looks at nothing and inverse perspective mapping:

    python eval_main.py --config segnet_sim --split test --calibrate 512 \\
        --system.baseline prior
    python train_main.py --config segnet_sim --name segnet_sim_ipm --data.grid.shape 96 1 96 \\
        --data.grid.lower -24 -0.5 -24 --data.grid.upper 24 0.5 24 \\
        --data.no-lidar --data.no-radar --model.no-lidar --model.radar none

48 m x 48 m of half-metre cells, 512 frames of 12 epochs. Two CPU cores: up to 14 s of one core
to simulate each of 88 towns, once; 1,536 steps of 1.4 s, 36 minutes (52 were seen beside other
work); 2.7 GiB.
"""

from posejax.config import Checkpoint, Evaluation, Experiment, Optimizer, Schedule, TrainConfig
from posejax.systems.segnet import Augment, GridConfig, ModelConfig, Segnet, SimulatedDrives


def get_config() -> Experiment:
    drives = SimulatedDrives(
        grid=GridConfig((96, 4, 96), (-24.0, -3.5, -24.0), (24.0, 1.5, 24.0), frame="ground"),
        most_boxes=64,
        lidar=True,
        radar=True,
        lidar_points=12_000,
        # More often without LiDAR or radar than with: one network that is asked for any subset.
        augment=Augment((0.9, 1.15), 0.1, True, drop_camera=0.1, drop_lidar=0.6, drop_radar=0.6),
    )
    model = ModelConfig("small", 32, (32, 32, 64), lidar=True, radar="occupancy")
    return Experiment(
        name="segnet_sim",
        system=Segnet(data=drives, model=model),
        train=TrainConfig(
            epochs=12,
            batch_size=4,
            optimizer=Optimizer(
                schedule=Schedule("one_cycle", peak=2e-3, warmup=0.1, start=0.04),
                weight_decay=1e-4,
                clip_norm=5.0,
            ),
            evaluation=Evaluation(every_epochs=3),
            checkpoint=Checkpoint(best_metric="iou", best_mode="max"),
            columns=("loss", "iou", "segmentation", "offset"),
        ),
    )
