"""Reference networks: their rule-made weights and the comparison with their outputs."""

import json
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest


class Reference:
    """One file of reference numbers: `state_dict` to load, `check` what a network makes of it."""

    def __init__(self, arrays):
        self.arrays = arrays
        self.meta = json.loads(str(arrays["meta"]))
        self.make = runpy.run_path(str(Path(arrays.zip.filename).with_name("weights.py")))["make"]

    def state_dict(self, architecture: str, gain: float = 1.0) -> dict[str, np.ndarray]:
        names = self.meta["names"][architecture]
        return {name: self.make(name, shape, gain=gain) for name, shape in names}

    def check(self, tap: str, got, factor: float = 20.0) -> None:
        """Compare `[..., C]` maps or vectors with a tap, whose maps are NCHW."""
        info = self.meta["taps"][tap]
        got = np.asarray(got, np.float64)
        got = np.moveaxis(got, -1, 1) if got.ndim == 4 else got
        assert list(got.shape) == info["shape"]
        want = self.arrays[tap].astype(np.float64)
        part = got.reshape(-1)[:: info["stride"]].reshape(want.shape)
        tolerance = max(factor * info.get("err64", 0.0), 1e-5 * info["absmax"])
        np.testing.assert_allclose(part, want, rtol=0, atol=tolerance, err_msg=tap)
        assert abs(got.mean() - info["mean"]) <= tolerance
        assert abs(got.std() - info["std"]) <= tolerance


@pytest.fixture(scope="session")
def reference(golden):
    return lambda name: Reference(golden(name))


@pytest.fixture(scope="session")
def image():
    """`image(seed, shape_nchw)`: the reference's input, channels last."""

    def make(seed, shape):
        x = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
        return np.moveaxis(x, 1, -1)

    return make


@pytest.fixture(scope="session")
def shapes_of():
    """`shapes_of(model, channels)`: shapes of its variables, without computing anything."""

    def make(model, channels=3):
        x = jax.ShapeDtypeStruct((1, 64, 64, channels), jnp.float32)
        return jax.eval_shape(lambda key, x: model.init(key, x, False), jax.random.key(0), x)

    return make


@pytest.fixture(scope="session")
def variables_of(shapes_of):
    """`variables_of(model, channels)`: starting values; spares the compilation of `init`."""
    rng = np.random.default_rng(0)

    def start(path, shape):
        match path[-1].key:
            case "kernel":
                scale = np.sqrt(2 / np.prod(shape.shape[:-1]))
                value = scale * rng.standard_normal(shape.shape)
            case "scale" | "var":
                value = np.ones(shape.shape)
            case _:
                value = np.zeros(shape.shape)
        return jnp.asarray(value, shape.dtype)

    return lambda model, channels=3: jax.tree_util.tree_map_with_path(
        start, shapes_of(model, channels)
    )
