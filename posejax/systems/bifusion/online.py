"""Online mode: one RGB-D frame after the other through the network into one map of the world.

The map (`posejax.sparse.VoxelMap`) keeps of every voxel the mean of the fused features, of the
classes' log-probabilities, of colours, of the gate and of where its thing's centre is. A frame
costs the same whatever came before it: nothing in here grows.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from posejax.config import check_range
from posejax.data.rigid import se3_apply, se3_inverse
from posejax.sparse import VoxelMap, corner, empty_map, merge_frame, query_map
from posejax.systems.bifusion.frames import moved, upright_from_world
from posejax.train.system import Batch, System

# A frame is cut to one of these parts of an example's points, the smallest that holds its own: a
# stream compiles three programs at most, and one to read.
BUCKETS = (4, 2, 1)
MOST_VOXELS = 2**24  # with 256 features, 18 GB
_POINTWISE = ("points", "colors", "mask", "semantic", "instance")


@dataclass(frozen=True)
class OnlineConfig:
    """How frames become a map. Time is counted in frames.

    Attributes:
      capacity: voxels at most; of more, those not seen for longest go, and are counted.
      voxel_size: metres; 0: the network's.
      weight: of a point: "count" 1; "depth" the inverse square of its depth beyond 1 m, as a depth
        camera's errors grow; "gate" the image's share of its features: points that are not on the
        image have none, and are not in the map.
      half_life: frames in which the weight of what was seen halves.
      most_age: frames after which a voxel that was not seen again is forgotten.
    """

    capacity: int = 65_536
    voxel_size: float = 0.0
    weight: Literal["count", "depth", "gate"] = "count"
    half_life: float = math.inf
    most_age: float = math.inf

    def check(self) -> None:
        """Raise ConfigError for a setting out of range."""
        check_range("--capacity", self.capacity, 1, MOST_VOXELS)
        check_range("--voxel-size", self.voxel_size, 0)
        if self.half_life != math.inf:
            check_range("--half-life", self.half_life, 0, above=True)
        if self.most_age != math.inf:
            check_range("--most-age", self.most_age, 0)


class Seen(NamedTuple):
    """What is known of a frame's N points once it is in the map.

    Attributes:
      alone: [N] int32, classes by this frame alone.
      merged: [N] int32, by the map; -1 where it holds nothing.
      fits: whether the frame's voxels had room in the network; if not, it changed nothing.
    """

    alone: Any
    merged: Any
    fits: Any


class Mapper:
    """Compiled steps of a system with its weights; it holds no map.

    Attributes:
      traces: programs compiled so far; at most one for each of `BUCKETS`, and one to read.
    """

    def __init__(self, system: System, params: Any, state: Any, config: OnlineConfig, size: float):
        """Args: size: voxels of the network, metres."""
        self.system, self.params, self.state = system, params, state
        self.config = dataclasses.replace(config, voxel_size=config.voxel_size or size)
        self.traces = 0
        self._step = jax.jit(self._merge, donate_argnums=2)
        self._read = jax.jit(self._classes)

    def start(self, record: Mapping[str, Any]) -> tuple[VoxelMap, np.ndarray]:
        """An empty map, and `map_from_world` [4, 4], for a recording with this first frame.

        In the map z is up, as networks know it, and its zero is near that frame's camera: float32
        then suffices however far the world's.
        """
        frame = record["frame"]
        map_from_world = upright_from_world(frame.up)
        place = se3_apply(map_from_world, se3_inverse(frame.camera_from_world)[:3, 3])
        origin = np.floor(place / self.config.voxel_size).astype(np.int64)
        example = {k: jax.ShapeDtypeStruct(*v) for k, v in self._spec(record).items()}
        shapes = jax.eval_shape(self._values, self.params, self.state, Batch(example))[0]
        size = self.config.voxel_size
        capacity = self.config.capacity
        world = empty_map(shapes, voxel_size=size, capacity=capacity, origin=origin)
        map_from_world[:3, 3] -= corner(world)
        return world, map_from_world

    def example(
        self, map_from_world: np.ndarray, record: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """The network's example of a record, in the map's own coordinates."""
        near = {**record, "frame": moved(record["frame"], map_from_world)}
        return self.system.data.transform(near, np.random.default_rng(0), False)

    def step(
        self, world: VoxelMap, example: Mapping[str, np.ndarray], time: float
    ) -> tuple[VoxelMap, Seen]:
        """The map with a frame merged in; the old one is gone.

        A frame of few points runs through a smaller program, unless its voxels do not fit there.
        """
        total, there = len(example["mask"]), int(np.flatnonzero(example["mask"]).max(initial=-1))
        seen = None
        for part in BUCKETS:
            rows = -(-total // part)
            if there >= rows:
                continue
            batch = {k: v[:rows] if k in _POINTWISE else v for k, v in example.items()}
            batch = Batch({k: v[None] for k, v in batch.items()})
            world, seen = self._step(self.params, self.state, world, batch, np.float32(time))
            if seen.fits:
                break
        assert seen is not None  # the last bucket takes all points
        rest = (0, total - len(seen.alone))

        def whole(said: Any) -> np.ndarray:
            return np.pad(np.asarray(said), rest, constant_values=-1)

        return world, Seen(whole(seen.alone), whole(seen.merged), bool(seen.fits))

    def read(
        self, world: VoxelMap, example: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The map's classes at the points of an example, and their rows in it.

        Returns:
          [N] int32, -1 where the map holds nothing; [N] int32, the capacity there.
        """
        said, row = self._read(world, example["points"], example["mask"])
        return np.asarray(said), np.asarray(row)

    def _spec(self, record: Mapping[str, Any]) -> dict[str, tuple]:
        example = self.system.data.transform(dict(record), np.random.default_rng(0), False)
        return {k: ((1, *v.shape), v.dtype) for k, v in example.items()}

    def _values(self, params: Any, state: Any, batch: Batch) -> tuple[Any, dict[str, jax.Array]]:
        out = {k: v[0] for k, v in self.system.predict(params, state, batch).items()}
        return {
            "fused": out["fused"],
            "log_probability": jax.nn.log_softmax(out["logits"].astype(jnp.float32)),
            "color": batch.examples["colors"][0],
            "gate": out["gate"][:, None],
            "center": batch.examples["points"][0] + out["offset"],
        }, out

    def _merge(
        self, params: Any, state: Any, world: VoxelMap, batch: Batch, time: jax.Array
    ) -> tuple[VoxelMap, Seen]:
        self.traces += 1  # Python runs this once for every program
        values, out = self._values(params, state, batch)
        points, mask = batch.examples["points"][0], batch.examples["mask"][0]
        fits = jnp.all(jnp.isfinite(out["logits"]) | ~mask[:, None])
        weight = {
            "count": lambda: jnp.ones(mask.shape),
            "depth": lambda: 1 / jnp.square(jnp.maximum(out["depth"], 1)),
            "gate": lambda: out["gate"],
        }[self.config.weight]()
        c = self.config
        world = merge_frame(
            world, points, values, mask & fits, time,
            weight=weight, half_life=c.half_life, most_age=c.most_age,
        )  # fmt: skip
        merged, _ = classes_at(world, points, mask)
        return world, Seen(jnp.where(mask & fits, out["class"], -1), merged, fits)

    def _classes(self, *arguments: Any) -> tuple[jax.Array, jax.Array]:
        self.traces += 1
        return classes_at(*arguments)


def classes_at(world: VoxelMap, points: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Classes of a map at points [N, 3] from its zero: [N] int32, -1 where it holds nothing; and
    their rows [N]."""
    best = jnp.argmax(world.values["log_probability"], axis=1).astype(jnp.int32)
    found = query_map(world._replace(values=best), points, mask)
    return jnp.where(found.found, found.values, -1), found.row
