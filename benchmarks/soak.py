"""Test whether a long run leaks memory or open files. A run with many epochs writes a checkpoint after each.

`python -m benchmarks.soak [--minutes N]` trains for N minutes (default 30). It prints how much resident memory and open
files changed after the first epoch, and adds one row per minute to results/soak.csv.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks import table
from purerl.results import run_folder
from purerl.runs import checkpoints

FLAGS = "--algo td3 --num-seeds 4 --num-evals 1000001 --checkpoint-every 1 --eval-episodes 2 --buffer-size 64000"
STEPS = 1_200 + 1_000_000 * 16 * 64


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=int, default=30)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run")
        command = [
            sys.executable,
            "-m",
            "purerl.train",
            *FLAGS.split(),
            "--total-steps",
            str(STEPS),
            "--out",
            str(path),
        ]
        process = psutil.Process(subprocess.Popen(command, stdout=subprocess.DEVNULL).pid)
        while not checkpoints.numbers(path):
            time.sleep(1.0)
        rows, begun = [], time.monotonic()
        for minute in range(int(minutes) + 1):
            time.sleep(max(0.0, begun + 60 * minute - time.monotonic()))
            epochs = len(set(run_folder.read_curves(path)["env_step"])) - 1
            rows.append((minute, epochs, process.memory_info().rss, process.num_fds()))
        process.terminate()
        process.wait()
    _, epochs, memory, files = zip(*rows, strict=True)
    print(f"{epochs[-1]} epochs, each with a checkpoint, in {minutes} minutes")
    for name, values in (("resident memory [MiB]", [x / 2**20 for x in memory]), ("open files", files)):
        share = [f"{x / values[0]:.3f}" for x in (min(values), max(values))]
        print(f"{name}: {values[0]:.0f} after the first epoch, then from {share[0]} to {share[1]} of that")
    table.add("soak", ("minute", "epochs", "resident_bytes", "open_files"), rows)


if __name__ == "__main__":
    main()
