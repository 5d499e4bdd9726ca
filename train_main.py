"""Train: `python train_main.py --config configs/georeg_sim.py [--train.steps 100 ...]`."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    from posejax import cli

    try:
        request = cli.parse_train(arguments)
    except cli.ConfigError as error:
        cli.fail(error)
    if request.print_config:
        print("\n\n".join(cli.describe(e) for e in request.experiments))
        return 0
    from posejax.train.door import run

    return run(request)


if __name__ == "__main__":  # worker processes import this file
    sys.exit(main(sys.argv[1:]))
