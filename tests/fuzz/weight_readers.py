"""Readers of weights, scores and exported programs.

What needs jax is imported when it runs: most processes start without.
"""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from posejax.config import ConfigError
from posejax.data.errors import DataError
from tests.fuzz.cases import Case

_LOADED = (DataError, ConfigError)  # a weights file may ask for classes that are not imported


def weights(suffix: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        from posejax.train.weights import save_weights

        rng = np.random.default_rng(0)
        params = {"dense": {"kernel": rng.normal(size=(8, 6)).astype(np.float32)}}
        return save_weights(folder / f"w{suffix}", params, {"mean": np.ones(6, np.float16)})

    return write


def check_weights(path: Path) -> None:
    from posejax.train.weights import load_weights

    load_weights(path)


def check_state_dict(path: Path) -> None:
    from posejax.nn import load_state_dict

    assert all(isinstance(v, np.ndarray) for v in load_state_dict(path).values())


def write_checkpoint(folder: Path) -> Path:
    from tests.nn.torch_files import torch_save

    rng = np.random.default_rng(0)
    state = {f"module.{k}": rng.normal(size=(4, 3)).astype(k) for k in ("f4", "f2", "i8", "b1")}
    return torch_save(folder / "net.pth", {"epoch": 3, "model": state})


def check_scores(path: Path) -> None:
    from posejax.train.comparison import read_scores

    assert read_scores(path).examples is not None


def write_scores(folder: Path) -> Path:
    scores = {"experiment": "a", "split": "val", "checkpoint": "step 1", "examples": 3}
    scores["metrics"] = {"error": 0.5, "share": None}
    (folder / "metrics.json").write_text(json.dumps(scores))
    return folder / "metrics.json"


def write_program(folder: Path) -> Path:
    import jax.numpy as jnp

    from posejax import deploy

    def mix(weights, image):
        return {"mixed": jnp.tanh(image @ weights["kernel"])}

    weights = {"kernel": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)}
    program = deploy.Program(mix, weights, {"image": deploy.Input((1, "height", "width", 3))})
    deploy.write(folder / "net.jaxexport", program, (4, 6), platforms=("cpu",))
    return folder / "net.jaxexport"


def check_program(path: Path) -> None:
    from posejax import deploy

    exported = deploy.load_program(path)
    assert len(exported.in_avals) == exported.in_tree.num_leaves
    assert len(exported.out_avals) == exported.out_tree.num_leaves


WEIGHT_CASES: dict[str, Case] = {
    "weights_npz": Case(weights(".npz"), check_weights, refusals=_LOADED),
    "weights_safetensors": Case(weights(".safetensors"), check_weights, refusals=_LOADED),
    "state_dict_npz": Case(weights(".npz"), check_state_dict, ("xfeat_weights/xfeat_folded.npz",)),
    "state_dict_safetensors": Case(weights(".safetensors"), check_state_dict),
    "state_dict_pth": Case(write_checkpoint, check_state_dict, refusals=(DataError,)),
    "scores": Case(write_scores, check_scores),
}  # fmt: skip
if find_spec("flatbuffers"):
    WEIGHT_CASES["program"] = Case(write_program, check_program)
