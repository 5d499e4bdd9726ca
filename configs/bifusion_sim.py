"""Classes of points in simulated rooms never seen, from RGB-D frames: image and points together.

    python train_main.py --config bifusion_sim
    python eval_main.py --workdir runs/bifusion_sim --split test
    python train_main.py --config bifusion_sim --name bifusion_sim_image --model.mode image
    python train_main.py --config bifusion_sim --name bifusion_sim_points --model.mode points
    python eval_main.py --config bifusion_sim --split test --calibrate 720 \\
        --system.baseline prior                                                  # looks at nothing

Rooms hold pieces that the image alone, or the points alone, cannot tell apart; three trainings as
above show what each branch is worth. 3,000 points in voxels of 8 cm, images of 192 x 144 pixels, a
small encoder of the image from scratch and a narrow sparse U-Net.

Expected (simulated, split test, three seeds each): mIoU 50.8, image alone 31.4, points alone
35.1, the prior 2.3. Two CPU cores: 1 s of one to simulate each of 180 rooms, once; 900 steps of
half a second, 10 minutes of processor time; alone 4 (image) and 6 (points). 12 to 14 minutes were
seen beside other work; 2.5 GiB.
"""

from posejax.config import Checkpoint, Evaluation, Experiment, Optimizer, Schedule, TrainConfig
from posejax.systems.bifusion import Bifusion, ModelConfig, PointsConfig, SimulatedRooms


def get_config() -> Experiment:
    return Experiment(
        name="bifusion_sim",
        system=Bifusion(
            data=SimulatedRooms(
                size=(144, 192),
                points=3000,
                image=(144, 192),
                rooms=(120, 20, 40),
                frames_a_room=6,
            ),
            model=ModelConfig(
                image="small",
                image_size=None,
                grid=None,
                points=PointsConfig(
                    0.08,
                    stem=16,
                    widths=(16, 32, 48, 48, 32, 32),
                    blocks=(1, 1, 1, 1, 1, 1),
                    rows=(1.0, 0.5, 0.2, 0.08),
                ),
                features=64,
            ),
        ),
        train=TrainConfig(
            epochs=5,
            batch_size=4,
            optimizer=Optimizer(
                schedule=Schedule("one_cycle", peak=3e-3, warmup=0.1, start=0.04),
                weight_decay=1e-2,
                clip_norm=5.0,
            ),
            evaluation=Evaluation(every_epochs=2),
            checkpoint=Checkpoint(best_metric="miou", best_mode="max"),
            columns=("loss", "miou", "accuracy", "semantic", "offset"),
        ),
    )
