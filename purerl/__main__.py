"""`purerl COMMAND ...`: all commands under one name. `purerl train` is `python -m purerl.train`."""

import importlib
import os
import sys
from collections.abc import Sequence

from purerl.cli.parser import fail
from purerl.errors import closest

COMMANDS = {
    "train": "train agents with many seeds",
    "sweep": "train and compare the settings of a sweep file",
    "plot": "draw learning curves of runs",
    "report": "write the report page of a run again",
    "evaluate": "measure the return of trained policies",
    "render": "draw an episode of a trained policy",
    "export": "write a trained policy as an ONNX, StableHLO or NumPy file",
    "keep": "copy settings, curves and some policies of a run, without checkpoints",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `purerl COMMAND ARGUMENTS`. Returns the exit status of the command; bad input ends it with 2."""
    first, *rest = [*(sys.argv[1:] if arguments is None else arguments)] or ["--help"]
    if first in ("-h", "--help"):
        print(usage(), end="")
        return 0
    if first == "--version":
        from importlib.metadata import version

        print(f"purerl {version('purerl')}")
        return 0
    if first not in COMMANDS:
        fail(f"unknown command {first!r}{closest(first, tuple(COMMANDS))}")
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())  # As `python -m` does: modules of the user are found in the current folder.
    return importlib.import_module(f"purerl.{first}").main(rest)


def usage() -> str:
    """What `purerl --help` prints."""
    lines = [f"  {name:<10}{text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: purerl COMMAND ...",
            "",
            "Train DDPG, TD3, SAC, TQC, REDQ, DroQ and CrossQ on the accelerator, many seeds side by side.",
            "",
            "commands:",
            *lines,
            "",
            "purerl COMMAND --help shows the flags of a command; purerl --version the version.",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
