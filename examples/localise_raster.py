"""Where in a map is what a LiDAR sees? One sweep or raster of your own against one map.

    python examples/localise_raster.py SWEEP MAP --prior X Y YAW_DEG [--out where.png]

SWEEP is an Argoverse 2 sweep (.feather), a KITTI scan (.bin) or a finished bird's-eye raster (.npz
with values and mask, .npy, .png). MAP is a log folder with a photograph or a vector map (in the
layout of Argoverse 2), or a raster, whose cells are --map-cell metres and whose origin is its
centre. The prior says where the sensor is thought to be in the map frame (m, m, deg); the search
covers the window that the weights were trained for, about it.

The channels must be those of the weights (--weights: shipped name, exported file or run folder).
--learning-free correlates the rasters as they are instead, with masked ZNCC: for two rasters of the
same kind, such as intensity and a grey photograph. x runs along columns, y along rows, yaw from x
to y. Prints the pose of the sensor in the map with its standard deviations, and draws it.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

import posejax
from posejax.config import ConfigError, Experiment, replace
from posejax.data import av2, kitti, se2
from posejax.data.errors import DataError
from posejax.data.map_layers import read_map_raster
from posejax.data.raster_folder import read_raster
from posejax.data.rasters import MapRaster, crop_raster
from posejax.loading import Loaded, Predictor
from posejax.report import rasters
from posejax.systems.georeg import Av2Logs, Georeg, ModelConfig, RasterFolder, calibration
from posejax.systems.georeg.data import Draw
from posejax.systems.georeg.pictures import Setting, registration_figure
from posejax.train import CheckpointError


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sweep", type=Path, help="sweep or raster")
    parser.add_argument("map", type=Path, help="log folder or raster")
    parser.add_argument(
        "--prior", type=float, nargs=3, default=(0, 0, 0), metavar=("X", "Y", "YAW_DEG")
    )
    parser.add_argument("--weights", default="georeg_sim", help="shipped name, file or run folder")
    parser.add_argument("--learning-free", action="store_true", help="masked ZNCC, no weights")
    parser.add_argument("--cell", type=float, help="of the online raster (m), with a raster")
    parser.add_argument("--map-cell", type=float, help="of a raster map (m); default: --cell")
    parser.add_argument("--out", type=Path, default=Path("where.png"), help="picture to write")
    options = parser.parse_args()
    try:
        run(options)
    except (CheckpointError, ConfigError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run(options: argparse.Namespace) -> None:
    system, predict = learning_free(options) if options.learning_free else trained(options)
    online, online_mask = online_raster(options.sweep, system)
    # The window may have another size than in training: everything is convolutional.
    system = replace(system, **{"data.online_shape": online.shape[:2]})
    system.check()
    predict = Predictor(replace(predict.experiment, system=system), predict.params, predict.state)
    data = system.data
    whole = map_raster(options, system)
    x, y, yaw = options.prior
    prior = np.array([x, y, np.deg2rad(yaw)])
    shape = tuple(n + 2 * data.geo_margin for n in data.online_shape)
    geo, geo_mask = crop_raster(whole, prior, shape=shape, cell_size=data.cell_size)
    if not geo_mask.any():
        raise DataError(options.map, "map", f"nothing about the prior {x:g}, {y:g}", "valid cells")
    pair = {"online": online, "online_mask": online_mask, "geo": geo, "geo_mask": geo_mask}
    example = {k: np.asarray(v, np.float32) for k, v in pair.items()}
    outputs = predict({k: v[None] for k, v in example.items()})
    found = {k: np.asarray(v)[0] for k, v in outputs.items()}
    pose = se2.compose(prior, np.asarray(found["softmax"], np.float64))
    sigma = np.sqrt(np.diag(found["covariance"]))
    print(
        f"map_from_sensor: x {pose[0]:.2f} m, y {pose[1]:.2f} m, yaw {np.rad2deg(pose[2]):.2f} deg"
    )
    print(
        f"standard deviations: {sigma[0]:.2f} m, {sigma[1]:.2f} m, {np.rad2deg(sigma[2]):.2f} deg"
    )
    if found["abstain"]:
        print("the system abstains: a rival place explains the raster nearly as well")
    draw({**example, **found}, system, options.out)
    print(f"picture: {options.out}")


def trained(options: argparse.Namespace) -> Loaded:
    loaded = posejax.load(options.weights)
    if not isinstance(loaded.system, Georeg):
        name = type(loaded.system).__name__
        raise ConfigError(f"{options.weights}: weights of {name}, not of Georeg")
    if options.cell and not np.isclose(options.cell, loaded.system.data.cell_size):
        raise ConfigError(f"--cell: the weights see cells of {loaded.system.data.cell_size:g} m")
    return loaded


def learning_free(options: argparse.Namespace) -> Loaded:
    """Nothing to load: the rasters themselves are the features."""
    system = Georeg(
        RasterFolder(cell_size=options.cell or 0.2),
        ModelConfig(encoder="identity", score="zncc", min_overlap=0.3),
    )
    state = {"calibration": calibration.identity()}
    return Loaded(system, Predictor(Experiment("learning_free", system), {}, state))


def online_raster(path: Path, system: Georeg) -> tuple[np.ndarray, np.ndarray]:
    """Values [H, W, C] and mask of what the sensor sees, sensor at the centre."""
    if path.suffix not in (".feather", ".bin"):
        values, mask = read_raster(path)
        return values * np.float32(1 / 255 if values.dtype == np.uint8 else 1), mask
    if not isinstance(system.data, Av2Logs):
        raise ConfigError("--learning-free reads rasters, not sweeps: raster the sweep first")
    record: dict[str, Any] = {"ring": None}
    if path.suffix == ".feather":
        sweep = av2.read_sweep(path)
        intensity = sweep.intensity * np.float32(1 / 255)
        record |= {"xyz": sweep.xyz, "intensity": intensity, "ring": sweep.laser_number}
    else:
        record["xyz"], record["intensity"] = kitti.read_velodyne(path)
    return system.data.online(record, Draw(0.0, None))


def map_raster(options: argparse.Namespace, system: Georeg) -> MapRaster:
    """The whole map."""
    data = system.data
    if options.map.is_dir():
        if not isinstance(data, Av2Logs):
            raise ConfigError("--learning-free reads rasters, not logs")
        width = data.mark_width
        return read_map_raster(options.map, data.layers, cell_size=data.cell_size, mark_width=width)
    values, mask = read_raster(options.map)
    cell = options.map_cell or data.cell_size
    rows, columns = values.shape[:2]
    return MapRaster(values, mask, -columns / 2 * cell, -rows / 2 * cell, cell)


def draw(example: dict[str, Any], system: Georeg, path: Path) -> None:
    """Rasters, the overlay at the estimate, the volume."""
    data = system.data
    setting = Setting(
        data.cell_size, system.cell_size, np.asarray(system.angles), system.radius,
        *data.channel_names,
    )  # fmt: skip
    shown = {
        kind: rasters.choose_display(
            [example[kind]],
            [example[f"{kind}_mask"]],
            rasters.channel_names(names, example[kind].shape[-1]),
        )
        for kind, names in zip(("online", "geo"), data.channel_names, strict=True)
    }
    registration_figure(example, setting, shown).savefig(path, dpi=80)


if __name__ == "__main__":
    sys.exit(main())
