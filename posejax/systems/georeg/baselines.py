"""Registration without learning: whole configs whose rasters are correlated as they are.

They run through the same evaluation as a trained network, so that every learned number stands
beside one that needed no training.
"""

from posejax.config import TrainConfig
from posejax.systems.georeg.config import ModelConfig, SearchConfig
from posejax.systems.georeg.sources import Av2Logs, RadishLog, Streets
from posejax.systems.georeg.system import Georeg


def read(readout: str) -> TrainConfig:
    """Nothing to train: only the numbers of a readout, which an evaluation then prints first."""
    names = ("rms_xy_m", "median_xy_m", "rms_yaw_deg", "recall_0.2m_1deg", "recall_0.5m_2deg")
    return TrainConfig(columns=tuple(f"{readout}/{name}" for name in names))


def streets(**source) -> Georeg:
    """Mean LiDAR intensity of the ground against the gray aerial photograph, masked ZNCC."""
    return Georeg(
        data=Streets(channels=("ground_intensity",), layers=("gray",), ground_only=True, **source),
        model=ModelConfig(encoder="identity", score="zncc", min_overlap=0.3, temperature=0.02),
    )


def av2(root: str = "", repeats: int = 25) -> Georeg:
    """Paint contrast of the ground points against painted lane marks, masked ZNCC.

    Read the softmax: along a street the score is a flat, ragged ridge, whose expectation is three
    times closer than its highest point. 45 m on each side, as marks that slant or end are rare.
    """
    search = SearchConfig(
        max_offset=10.0, max_yaw_deg=5.0, yaw_step_deg=0.5, margin=1.0, margin_yaw_deg=1.0
    )
    return Georeg(
        data=Av2Logs(
            root=root,
            channels=("paint",),
            layers=("marks",),
            ground_only=True,
            repeats=repeats,
            cell_size=0.25,
            online_shape=(360, 360),
            search=search,
        ),
        model=ModelConfig(encoder="identity", score="zncc", min_overlap=0.3, temperature=0.02),
    )


def radish(root: str = "", history: float = 0.0) -> Georeg:
    """Scan to scan (or to `history` metres of earlier scans) with free space as evidence.

    Read the Gaussian peak. The masks stay out of the score: the rasters carry them in their
    values. 0.1 m cells over 30 m x 30 m: the far ends of a corridor decide the position along it,
    so extent is worth more than finer cells.
    """
    search = SearchConfig(max_offset=2.0, max_yaw_deg=10.0, margin=0.4, margin_yaw_deg=2.0)
    return Georeg(
        data=RadishLog(
            root=root,
            history=history,
            style="evidence",
            cell_size=0.1,
            online_shape=(300, 300),
            search=search,
        ),
        model=ModelConfig(encoder="identity", score="dot", masked=False, temperature=2e-5),
    )
