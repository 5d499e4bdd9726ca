"""One of two processes that train together; the parent passes PORT INDEX WORKDIR."""

import sys
from pathlib import Path

import jax

from posejax import cli
from posejax.config import ConfigError, Distributed, Log, RunOptions, replace
from posejax.train import train

if __name__ == "__main__":
    port, index, folder, config, *changed = sys.argv[1:]
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
    for setting in changed:  # what only this process was told
        name, _, value = setting.partition("=")
        experiment = replace(experiment, **{name: float(value)})
    options = RunOptions(
        workdir=workdir, cache="off", log=Log(view="plain", every=1),
        distributed=Distributed("manual", f"localhost:{port}", 2, int(index)),
    )  # fmt: skip
    try:
        train(experiment, options)
    except ConfigError as error:
        print(f"error: {error}", flush=True)
        raise SystemExit(1) from None
    jax.distributed.shutdown()
