"""Compare purerl with other libraries: rejax (two versions), Brax, SBX, skrl, EvoRL, jaxnasium and RLtools.

`python -m benchmarks.peers [--venvs FOLDER]` installs each of them from the package index into a virtual environment of
its own. They train in turns on this machine. The command prints a table and adds to results/peers.csv. They use one
environment per seed, one update per step, and equal networks, batches and replay buffers. A stretch of training is
compared, after everything was compiled. All but RLtools train in the same environment, which costs almost nothing.
RLtools, which is written in C++, trains in its own pendulum, and purerl beside it in `Pendulum-v1`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks import table, timing
from benchmarks.command import WHOLE_TRACEBACKS, last_line
from purerl.cli.startup import num_cores

ROOT = Path(__file__).parents[2]
WARMUP = 256
FIGURES = ("env_steps_per_s", "updates_per_s", "updates_per_s_min", "updates_per_s_max")
FIGURES += ("purerl_is_faster", "purerl_is_faster_min", "purerl_is_faster_max", "by_cpu_time")
COLUMNS = ("peer", "algo", "environment", "num_seeds", "processes", "widths", "batch_size", "buffer_size", *FIGURES)
COLUMNS += ("start_seconds", "versions", "remark")


class Peer(NamedTuple):
    """A library and how it is used.

    Attributes:
        requirements: the packages that pip installs; none for purerl, which runs in this environment
        program: the `with_*.py` to run
        algos: the algorithms that it trains
        many_seeds: whether it trains several seeds at once
        environment: the environment in which it is compared
        process_per_seed: whether each seed is a process of its own
        part: divides the steps of a stretch, for a slow library
    """

    requirements: tuple[str, ...]
    program: str
    algos: tuple[str, ...]
    many_seeds: bool = False
    environment: str = "walk"
    process_per_seed: bool = False
    part: int = 1


ALGOS = ("td3", "sac", "ddpg")
# rejax 0.1.3 samples without replacement: it draws a number for every entry of the replay buffer. 0.1.2 draws indices.
PEERS = {
    "purerl": Peer((), "purerl", ALGOS, many_seeds=True),  # It trains every case, in the environment of its peers.
    "rejax": Peer(("rejax", "gymnax<1"), "rejax", ("td3", "sac"), many_seeds=True, part=2),  # fails on gymnax 1.0
    "rejax-0.1.2": Peer(("rejax==0.1.2", "gymnax<1"), "rejax", ("td3", "sac"), many_seeds=True),
    "brax": Peer(("brax",), "brax", ("sac",)),
    "sbx": Peer(("sbx-rl", "torch==2.13.0"), "sbx", ("td3", "sac", "ddpg")),
    "skrl": Peer(("skrl[jax]", "gymnasium"), "skrl", ("td3", "sac"), part=30),
    "evorl": Peer(("evorl-jax",), "evorl", ("td3", "sac", "ddpg"), many_seeds=True, part=2),
    "jaxnasium": Peer(("jaxnasium[algs]",), "jaxnasium", ("sac",), part=10),
    "rltools": Peer(
        ("rltools", "mkl", "mkl-include"),
        "rltools",
        ("td3", "sac"),
        many_seeds=True,
        environment="Pendulum-v1",
        process_per_seed=True,
    ),
}


class Case(NamedTuple):
    """What is trained. `steps` are the environment steps and updates per seed in a stretch."""

    algo: str
    environment: str
    num_seeds: int
    width: int
    batch_size: int
    buffer_size: int
    steps: int

    def steps_of(self, name):
        """Return the steps of a stretch of a peer: an even number, because TD3 updates the actor every second time."""
        return max(2, self.steps // PEERS[name].part // 2 * 2)

    def processes_of(self, name):
        """Return the number of processes that train the seeds of a peer."""
        return self.num_seeds if PEERS[name].process_per_seed else 1

    def taken_by(self, peer):
        """Return whether a peer trains this case."""
        seeds = self.num_seeds == 1 or peer.many_seeds
        return seeds and self.algo in peer.algos and self.environment == peer.environment


NUM_CORES = num_cores()  # RLtools trains one seed per core, and purerl makes one device per core.
CASES = [Case(algo, "walk", 1, 256, 256, 1_000_000, 300) for algo in ALGOS]
CASES += [Case(algo, "walk", 8, 64, 64, 100_000, 1000) for algo in ("td3", "sac")]
CASES += [Case(algo, "Pendulum-v1", NUM_CORES, 64, 64, 100_000, 8000) for algo in ("td3", "sac")]
CASES += [Case(algo, "Pendulum-v1", NUM_CORES, 256, 256, 1_000_000, 300) for algo in ("td3", "sac")]


class Failed(Exception):
    """A peer cannot be installed or run. The message is the last line that it printed."""


def installed(name, folder):
    """Return the Python of a peer's virtual environment, which is created if necessary. Raises Failed."""
    requirements = PEERS[name].requirements
    if not requirements:
        return sys.executable
    python, done = folder / name / "bin" / "python", folder / name / "requirements.json"
    wanted = json.dumps(requirements)
    if not done.exists() or done.read_text() != wanted:
        print(f"installing {', '.join(requirements)}", flush=True)
        for step in (
            [sys.executable, "-m", "venv", folder / name],
            [python, "-m", "pip", "install", "-q", *requirements],
        ):
            made = subprocess.run(step, capture_output=True, text=True)
            if made.returncode:
                raise Failed(f"not installed: {last_line(made.stderr)}")
        done.write_text(wanted)
    return python


def command(name, python, job):
    """Return the command that starts the program of a peer."""
    return [python, "-m", f"benchmarks.peers.with_{PEERS[name].program}", json.dumps(job)]


class Worker:
    """A peer in a separate process, compiled, which trains a stretch on request. Raises Failed."""

    def __init__(self, name, python, job):
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (`end` closes it)
        self.process = subprocess.Popen(
            command(name, python, job),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            cwd=ROOT,
            env=os.environ | WHOLE_TRACEBACKS | {"PYTHONPATH": str(ROOT)},
        )
        said = self.answer()
        self.versions, self.start_seconds = said["versions"], said["start_seconds"]

    def answer(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self.process.wait()
        self.errors.seek(0)
        raise Failed(f"does not run: {last_line(self.errors.read())}")

    def train(self, updates):
        """Return the `timing.Taken` of a stretch.

        The peer's own count of `updates` must agree. A peer without a count, as Brax, is believed. Raises Failed.
        """
        with suppress(BrokenPipeError):  # The answer gives the reason.
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        said = self.answer()
        if (made := said.pop("updates", updates)) != updates:
            raise Failed(f"made {made} updates of {updates}")
        return timing.Taken(**said)

    def end(self):
        self.process.stdin.close()
        self.process.wait()
        self.errors.close()


def compared(case, names, folder, rounds):
    """Return one row of results/peers.csv per name, purerl's first. A failed peer's row says why it failed."""
    workers, failures, times = {}, {}, {}

    def attempted(name, function, *args):
        """Return `function(*args)`. If it failed, return None and note why."""
        try:
            return function(*args)
        except Failed as error:
            if name == "purerl":
                raise
            failures[name] = str(error)
            times.pop(name, None)
            return None

    def started(name):
        job = case._asdict() | {"warmup_steps": WARMUP, "steps": case.steps_of(name)}
        workers[name], times[name] = Worker(name, installed(name, folder), job), []

    try:
        for name in ("purerl", *names):
            attempted(name, started, name)
        for _ in range(rounds):
            for name in list(times):
                if taken := attempted(name, workers[name].train, case.steps_of(name)):
                    times[name] += timing.per(case.num_seeds * case.steps_of(name), [taken])
    finally:
        for worker in workers.values():
            worker.end()

    def row(name):
        if name in failures:
            return *setting(case, name), *[""] * len(FIGURES), "", "", failures[name]
        versions = " ".join(f"{package} {version}" for package, version in workers[name].versions.items())
        measured = figures(times[name], times["purerl"])
        return *setting(case, name), *measured, f"{workers[name].start_seconds:.1f}", versions, ""

    return [row(name) for name in ("purerl", *names)]


def setting(case, name):
    """Return the first columns of the row of a peer."""
    widths = f"{case.width}x{case.width}"
    processes = case.processes_of(name)
    return name, case.algo, case.environment, case.num_seeds, processes, widths, case.batch_size, case.buffer_size


def figures(times, purerl):
    """Return the columns `FIGURES`, from the seconds per update in each round, of a peer and of purerl."""
    speed, ratios = sorted(1 / taken.wall for taken in times), timing.ratios(times, purerl)
    walls, middle = sorted(ratio.wall for ratio in ratios), timing.medians(ratios)
    per_second = f"{1 / timing.medians(times).wall:.1f}"
    faster = (f"{ratio:.3f}" for ratio in (middle.wall, walls[0], walls[-1], middle.cpu))
    return per_second, per_second, f"{speed[0]:.1f}", f"{speed[-1]:.1f}", *faster


def show(row):
    cells = dict(zip(COLUMNS, row, strict=True))
    print("{peer:>11} {algo:>4} {environment:>11} {num_seeds:>2} seeds {widths:>7}".format(**cells), end=" ")
    print("batch {batch_size:>3} ring {buffer_size:>9,}:".format(**cells), end=" ")
    if cells["remark"]:
        print(cells["remark"], flush=True)
        return
    print("{updates_per_s:>8} steps/s and updates/s".format(**cells), end=" ")
    print("({updates_per_s_min} to {updates_per_s_max});".format(**cells), end=" ")
    print("purerl is {purerl_is_faster} times as fast".format(**cells), end=" ")
    print("({purerl_is_faster_min} to {purerl_is_faster_max}; {by_cpu_time} by CPU time);".format(**cells), end=" ")
    print("started in {start_seconds} s; {processes} process(es); {versions}".format(**cells), flush=True)


def described(name):
    """Return a text that says what a peer trains."""
    peer = PEERS[name]
    where = "" if peer.environment == "walk" else f" in {peer.environment}, one seed per core"
    return f"{name} has {', '.join(peer.algos)}{where}" + ("" if peer.many_seeds else ", one seed at a time")


def main(arguments=None):
    numbers = sorted({case.num_seeds for case in CASES})
    others = [name for name in PEERS if name != "purerl"]
    folder = Path("~/.cache/purerl/peers").expanduser()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--venvs", metavar="FOLDER", type=Path, default=folder, help="the peers' virtual environments, made if missing"
    )
    parser.add_argument("--peer", choices=others, nargs="+", default=others, help="peers to compare with (all)")
    parser.add_argument("--algo", choices=ALGOS, nargs="+", default=list(ALGOS), help="algorithms to train (all)")
    parser.add_argument("--seeds", type=int, choices=numbers, nargs="+", default=numbers, help="cases to train (all)")
    parser.add_argument("--steps", type=int, help="environment steps and updates per seed in a stretch")
    parser.add_argument("--rounds", type=int, default=5, help="stretches per peer, in turns; the median counts")
    options = parser.parse_args(arguments)
    if options.steps is not None and (options.steps < 2 or options.steps % 2):
        parser.error(f"--steps {options.steps} is not a positive even number; TD3 updates the actor every second time")
    cases = [case for case in CASES if case.algo in options.algo and case.num_seeds in options.seeds]
    if options.steps is not None:
        cases = [case._replace(steps=options.steps) for case in cases]
    taken = [(case, [name for name in options.peer if case.taken_by(PEERS[name])]) for case in cases]
    if not any(names for _, names in taken):
        parser.error("none of the peers trains any of these cases: " + "; ".join(map(described, options.peer)))
    for case, names in taken:
        if names:
            rows = compared(case, names, options.venvs, options.rounds)
            for row in rows:
                show(row)
            table.add("peers", COLUMNS, rows)


if __name__ == "__main__":
    main()
