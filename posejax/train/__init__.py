"""The training engine: knows no system by name, gives every system the same care."""

from posejax.train.checkpoint import CheckpointError, Checkpoints
from posejax.train.evaluation import Evaluated, Evaluator
from posejax.train.journal import NonFiniteError
from posejax.train.lock import InUseError
from posejax.train.loop import train
from posejax.train.rundir import ResumeError
from posejax.train.step import TrainState, init_state, make_step
from posejax.train.system import Batch, LossOutput, Params, State, System
from posejax.train.weights import Weights, export, load, load_weights, save_weights

__all__ = [
    "Batch",
    "CheckpointError",
    "Checkpoints",
    "Evaluated",
    "Evaluator",
    "InUseError",
    "LossOutput",
    "NonFiniteError",
    "Params",
    "ResumeError",
    "State",
    "System",
    "TrainState",
    "Weights",
    "export",
    "init_state",
    "load",
    "load_weights",
    "make_step",
    "save_weights",
    "train",
]
