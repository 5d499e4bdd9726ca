"""`python -m posejax train|eval|demo|export|check-rig|map`: a checkout's scripts, from a wheel."""

from collections.abc import Sequence

from posejax import program

USAGE = """usage: python -m posejax COMMAND [OPTION VALUE ...]

  train  --config NAME_OR_FILE     train an experiment, or continue its run
  eval   --workdir RUN             evaluate a run; or --config NAME_OR_FILE, without one
  demo   [SYSTEM]                  shipped weights on simulated worlds, and a report
  export RUN FILE [--which best]   weights of a run as one .npz or .safetensors file, or with
         [--program NAME]          what it computes, for other runtimes
  check-rig DIR [--out FOLDER]     whether cameras and boxes, or RGB-D frames, fit; what is wrong
  map    --weights RUN             RGB-D frames with poses, merged into a map of labelled points
         [--recording DIR]

Each lists its options with --help."""


def main(arguments: Sequence[str]) -> int:
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command == "train":
        from posejax import training

        return training.main(rest)
    if command == "eval":
        from posejax import evaluate

        return evaluate.main(rest)
    if command == "demo":
        from posejax import demo

        return demo.main(rest)
    if command == "export":
        from posejax import exporting

        return exporting.main(rest)
    if command == "check-rig":
        from posejax import checking

        return checking.main(rest)
    if command == "map":
        from posejax import mapping

        return mapping.main(rest)
    if command in ("-h", "--help"):
        print(USAGE)
        return 0
    from posejax import cli
    from posejax.config import no_such

    known = ["train", "eval", "demo", "export", "check-rig", "map"]
    cli.fail(f"{no_such(command, known, 'commands are') if command else 'no command'}\n{USAGE}")


if __name__ == "__main__":  # worker processes import this file
    program.run(main)
