"""Train: `python train_main.py --config configs/georeg_sim.py [--train.steps 100 ...]`."""

from collections.abc import Sequence

from posejax import program


def main(arguments: Sequence[str]) -> int:
    from posejax import training

    return training.main(arguments)


if __name__ == "__main__":  # worker processes import this file
    program.run(main)
