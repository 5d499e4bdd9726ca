"""Evaluate: `eval_main.py --workdir RUN [--split test]` or `--config C [--checkpoint PATH]`."""

from collections.abc import Sequence

from posejax import program


def main(arguments: Sequence[str]) -> int:
    from posejax import evaluate

    return evaluate.main(arguments)


if __name__ == "__main__":  # worker processes import this file
    program.run(main)
