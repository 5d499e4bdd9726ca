"""One of two processes that train together; the parent passes PORT INDEX WORKDIR."""

import sys
from pathlib import Path

import jax

from posejax import cli
from posejax.config import Distributed, Log, RunOptions, replace
from posejax.train import train

if __name__ == "__main__":
    port, index, folder, config = sys.argv[1:]
    workdir = Path(folder)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    experiment = replace(
        cli.load_config(config),
        **{
            "train.steps": 12,
            "train.checkpoint.every_steps": 6,
            "train.evaluation.examples": 20,
            "train.optimizer.eps": 1e-4,  # the usual 1e-8 makes steps of gradients' rounding
        },
    )
    options = RunOptions(
        workdir=workdir, cache="off", log=Log(view="plain", every=1),
        distributed=Distributed("manual", f"localhost:{port}", 2, int(index)),
    )  # fmt: skip
    train(experiment, options)
    jax.distributed.shutdown()
