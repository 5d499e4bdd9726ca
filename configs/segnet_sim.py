"""Vehicles from above, of six cameras, on simulated drives through towns never seen.

    python train_main.py --config segnet_sim
    python eval_main.py --workdir runs/segnet_sim --split test
    python eval_main.py --config segnet_sim --split test --calibrate 512 \\
        --system.baseline prior                                    # looks at nothing
    python train_main.py --config segnet_sim --name segnet_sim_ipm --data.grid.shape 96 1 96 \\
        --data.grid.lower -24 1 -24 --data.grid.upper 24 2 24      # inverse perspective mapping
    python eval_main.py --config segnet_sim --checkpoint runs/segnet_sim --split test \\
        --data.rig van --data.cameras CAM_FRONT_LEFT CAM_FRONT CAM_FRONT_RIGHT CAM_BACK_LEFT \\
        CAM_BACK_RIGHT                                             # another vehicle's five cameras
    python eval_main.py --config segnet_sim --checkpoint runs/segnet_sim --split test \\
        --data.hide CAM_FRONT                                      # one camera less

With LiDAR add --data.lidar --model.lidar, with radar --data.radar --model.radar occupancy.
48 m x 48 m of half-metre cells. By count some 10 GFLOP a frame, 512 frames of 12 epochs.
Not measured yet: neither the time nor the numbers.
"""

from posejax.config import Checkpoint, Evaluation, Experiment, Optimizer, Schedule, TrainConfig
from posejax.systems.segnet import Augment, GridConfig, ModelConfig, Segnet, SimulatedDrives


def get_config() -> Experiment:
    drives = SimulatedDrives(
        grid=GridConfig((96, 4, 96), (-24.0, -2.0, -24.0), (24.0, 3.0, 24.0)),
        most_boxes=64,
        lidar_points=24_000,
        augment=Augment((0.9, 1.15), 0.1, True, drop_camera=0.1, drop_lidar=0.2, drop_radar=0.2),
    )
    return Experiment(
        name="segnet_sim",
        system=Segnet(data=drives, model=ModelConfig("small", features=32, widths=(32, 32, 64))),
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
