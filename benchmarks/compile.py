"""Measure the time before the first training step: tracing, compiling, and the whole start of the command.

`python -m benchmarks.compile` prints tables. It adds one row per program to results/compile.csv. It also adds one row
per start of `python -m purerl.train --algo td3 --num-seeds 64`, cold and with a warm compilation cache, to
results/start.csv. Arguments after `--` are added to that command.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import table

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


def started(arguments, cache, folder):
    """Return the seconds to the first line, to the end of compiling and to the first training step, and of CPU time.

    The command is then killed.
    """
    command = [sys.executable, "-u", "-m", "purerl.train", *arguments, "--compilation-cache", cache, "--out", folder]
    begun, clock, before = time.perf_counter(), time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
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


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=2, help="cold starts, each followed by a warm one")
    parser.add_argument("more", nargs="*", help="arguments for purerl.train, after --")
    options = parser.parse_args(arguments)
    train, rows = [*COMMAND, *options.more], []
    for name, traced, compiled in programs(train):
        print(f"{name:>8}: traced in {traced:6.2f} s, compiled in {compiled:6.2f} s", flush=True)
        rows.append((name, " ".join(train), f"{traced:.3f}", f"{compiled:.3f}"))
    table.add("compile", ("program", "command", "trace_seconds", "compile_seconds"), rows)
    rows = []
    for _ in range(options.starts):
        with tempfile.TemporaryDirectory() as scratch:
            for start in ("cold", "cached"):
                times = started(train, f"{scratch}/cache", f"{scratch}/{start}")
                shown = "compiled after {1:.2f} s, first training step after {2:.2f} s ({3:.2f} s of CPU time)"
                print(f"{start:>8}: {shown.format(*times)}", flush=True)
                rows.append((start, " ".join(train), *(f"{x:.3f}" for x in times)))
    table.add(
        "start", ("start", "command", "to_first_line", "to_compiled", "to_first_training_step", "cpu_seconds"), rows
    )


if __name__ == "__main__":
    main()
