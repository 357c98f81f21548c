"""Measure the time before the first training step: tracing, compiling, and the whole start of the command.

`python -m benchmarks.compile` prints tables. It adds one row per program to results/compile.csv. It also adds one row
per start of `python -m purerl.train --algo td3 --num-seeds 64`, cold and with a warm compilation cache, to
results/start.csv. Arguments after `--` are added to that command.

`--against CHECKOUT` also times the starts of another checkout, in turns. Its rows are named after its commit.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks import table
from benchmarks.command import refusing

ROOT = Path(__file__).parents[1]
COMMAND = ["--algo", "td3", "--num-seeds", "64"]


def programs(arguments):
    """Yield `(program, seconds of tracing, seconds of compiling)` of the programs that the command line compiles."""

    from purerl import train
    from purerl.cli.startup import tune_cpu
    from purerl.runs import fitting, runner
    from purerl.settings import config
    from purerl.training import mapping

    tune_cpu()
    flags, options = train.parse(arguments)
    settings = config.resolve(flags, options.config)
    env, build = runner.prepare(settings)
    made, numbers = fitting.programs_of(settings, env, build, settings.num_runs), mapping.flowing(settings.hyper)
    carry = mapping.abstract_carry(made, numbers, settings.group_size)
    for name, given in mapping.arguments(made, numbers, carry).items():
        begun = time.perf_counter()
        lowered = getattr(made, name).lower(*given)
        traced = time.perf_counter()
        lowered.compile(made.options)
        yield name, traced - begun, time.perf_counter() - traced


def started(checkout, arguments, cache, folder):
    """Return the seconds to the first line, to the end of compiling and to the first training step, and of CPU time.

    The command runs with the modules of `checkout`, and is then killed.
    """
    command = [sys.executable, "-u", "-m", "purerl.train", *arguments, "--compilation-cache", cache, "--out", folder]
    begun, clock, before = time.perf_counter(), time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    modules = os.environ | {"PYTHONPATH": str(checkout)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=checkout, env=modules
    )
    first_line = process.stdout.readline()
    spoke, events = time.perf_counter() - begun, {}
    while "evaluation" not in events:  # That of the untrained agents; the first training step follows.
        if process.poll() is not None:
            sys.exit(f"error: the command ended early: {first_line}{process.stdout.read()}".rstrip())
        time.sleep(0.1)
        log = Path(folder, "log.jsonl")
        lines = map(json.loads, log.read_text().splitlines()) if log.exists() else ()
        events = {line["event"]: line["time"] - clock for line in lines}
    process.kill()
    process.communicate()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spoke, events["compiled"], events["evaluation"], cpu


def commit(checkout):
    """Return the short name of the commit of a checkout. Raises ValueError if it is not a checkout of purerl."""
    asked = subprocess.run(["git", "-C", checkout, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    if asked.returncode or not Path(checkout, "purerl").is_dir():
        raise ValueError(f"--against {str(checkout)!r} is not a checkout of purerl; name the folder of a clone")
    return asked.stdout.strip()


@refusing
def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=2, help="cold starts, each followed by a warm one")
    parser.add_argument("--against", metavar="CHECKOUT", type=Path, help="time the starts of this checkout, too")
    parser.add_argument("more", nargs="*", help="arguments for purerl.train, after --")
    options = parser.parse_args(arguments)
    checkouts = {"": ROOT}
    if options.against:
        checkouts[f" at {commit(options.against)}"] = options.against.resolve()
    train, rows = [*COMMAND, *options.more], []
    for name, traced, compiled in programs(train):
        print(f"{name:>8}: traced in {traced:6.2f} s, compiled in {compiled:6.2f} s", flush=True)
        rows.append((name, " ".join(train), f"{traced:.3f}", f"{compiled:.3f}"))
    table.add("compile", ("program", "command", "trace_seconds", "compile_seconds"), rows)
    rows, training = [], {}
    for _ in range(options.starts):
        for name, checkout in checkouts.items():
            with tempfile.TemporaryDirectory() as scratch:
                for start in (f"cold{name}", f"cached{name}"):
                    times = started(checkout, train, f"{scratch}/cache", f"{scratch}/{start}")
                    shown = "compiled after {1:.2f} s, first training step after {2:.2f} s ({3:.2f} s of CPU time)"
                    print(f"{start:>8}: {shown.format(*times)}", flush=True)
                    rows.append((start, " ".join(train), *(f"{x:.3f}" for x in times)))
                    training.setdefault(start, []).append(times[2])
    table.add(
        "start", ("start", "command", "to_first_line", "to_compiled", "to_first_training_step", "cpu_seconds"), rows
    )
    for start, seconds in training.items():
        spread = f"{min(seconds):.2f} to {max(seconds):.2f} s"
        print(f"{start}: first training step after {median(seconds):.2f} s, median of {len(seconds)} ({spread})")


if __name__ == "__main__":
    main()
