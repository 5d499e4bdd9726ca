"""Evaluate: `eval_main.py --workdir RUN [--split test]` or `--config C [--checkpoint PATH]`."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    from posejax import evaluate

    return evaluate.main(arguments)


if __name__ == "__main__":  # worker processes import this file
    sys.exit(main(sys.argv[1:]))
