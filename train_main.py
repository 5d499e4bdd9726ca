"""Train: `python train_main.py --config configs/georeg_sim.py [--train.steps 100 ...]`."""

from collections.abc import Sequence

from posejax import program


def main(arguments: Sequence[str]) -> int:
    from posejax import cli

    try:
        request = cli.parse_train(arguments)
        if request.print_config:
            print("\n\n".join(cli.describe(e) for e in request.experiments))
            return 0
        cli.check_trainable(request)
    except cli.ConfigError as error:
        cli.fail(error)
    from posejax.train.door import run

    return run(request)


if __name__ == "__main__":  # worker processes import this file
    program.run(main)
