"""Bird's-eye segmentation of vehicles on Argoverse 2, by its seven ring cameras.

    python train_main.py --config segnet_av2 --data.root DIR --model.backbone-weights resnet101.pth
    python eval_main.py --workdir runs/segnet_av2

DIR is the sensor data set as published: `train` and `val`, a folder for each log. Images of
1550 x 2048 pixels become 480 x 640, the upright one of the front as well, each side by its own
factor, which the intrinsics follow. With LiDAR add --data.lidar --model.lidar --data.lidar-points
100000.

Needs: 1 TB of data, a GPU. Not run here: of the data set, one sweep with its boxes is at hand.
"""

import dataclasses

from segnet_nuscenes import get_config as published

from posejax.config import Experiment
from posejax.systems.segnet import Argoverse2, ModelConfig, Segnet


def get_config() -> Experiment:
    system = Segnet(data=Argoverse2(size=(480, 640)), model=ModelConfig("res101"))
    return dataclasses.replace(published(), name="segnet_av2", system=system)
