"""Bird's-eye segmentation of vehicles on your own recordings of CARLA.

    python -m posejax check-rig DIR/val/DRIVE                  # first: is the calibration right?
    python train_main.py --config segnet_carla --data.root DIR --model.backbone-weights FILE.pth \\
        --data.cameras FRONT LEFT RIGHT BACK --data.grid.reference FRONT      # your names of them
    python eval_main.py --workdir runs/segnet_carla

DIR/train and DIR/val hold a folder for each recording, with the frames.json that
`posejax.data.carla` describes: what CARLA's API says, as it says it. Four cameras of 672 x 448
pixels, 100 m x 100 m of cells of 0.25 m: features lifted at half of that take a quarter of the time
(--data.grid.shape 200 8 200).

Needs: a GPU. Not run here: recordings are not at hand, tests run on one that they write.
"""

import dataclasses

from segnet_nuscenes import get_config as published

from posejax.config import Experiment
from posejax.systems.segnet import CarlaDrives, GridConfig, ModelConfig, Segnet


def get_config() -> Experiment:
    data = CarlaDrives(size=(448, 672), grid=GridConfig((400, 8, 400), reference="FRONT"))
    system = Segnet(data=data, model=ModelConfig("res101"))
    return dataclasses.replace(published(), name="segnet_carla", system=system)
