"""Compare purerl with other libraries: rejax (TD3, SAC; two versions), Brax's SAC, and SBX (TD3, SAC, DDPG).

`python -m benchmarks.peers [--venvs FOLDER]` installs each of them from the package index into a virtual environment of
its own. All train in turns on this machine. The command prints a table and adds to results/peers.csv. All of them train
in the same environment, which costs almost nothing. They use one environment per seed, one update per step, and equal
networks, batches and replay buffers. A stretch of training is compared, after everything was compiled.
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
from purerl.settings.registry import ALGORITHMS

ROOT = Path(__file__).parents[2]
WARMUP = 256
COLUMNS = ("peer", "algo", "num_seeds", "widths", "batch_size", "buffer_size", "env_steps_per_s", "updates_per_s")
COLUMNS += ("purerl_is_faster", "by_cpu_time", "start_seconds", "versions", "remark")


class Peer(NamedTuple):
    """The packages that pip installs, the `with_*.py` to run, its algorithms, and whether it trains seeds at once."""

    requirements: tuple[str, ...]
    program: str
    algos: tuple[str, ...]
    many_seeds: bool = False


# rejax 0.1.3 samples without replacement: it draws a number for every entry of the replay buffer. 0.1.2 draws indices.
PEERS = {
    "rejax": Peer(("rejax", "gymnax<1"), "rejax", ("td3", "sac"), many_seeds=True),  # 0.1.3 fails on gymnax 1.0
    "rejax-0.1.2": Peer(("rejax==0.1.2", "gymnax<1"), "rejax", ("td3", "sac"), many_seeds=True),
    "brax": Peer(("brax",), "brax", ("sac",)),
    "sbx": Peer(("sbx-rl", "torch==2.13.0"), "sbx", ("td3", "sac", "ddpg")),
}


class Case(NamedTuple):
    algo: str
    num_seeds: int
    width: int
    batch_size: int
    buffer_size: int


CASES = [Case(algo, 1, 256, 256, 1_000_000) for algo in ALGORITHMS]
CASES += [Case(algo, 8, 64, 64, 100_000) for algo in ("td3", "sac")]


class Failed(Exception):
    """A peer cannot be installed or run. The message is the last line that it printed."""


def installed(name, folder):
    """Return the Python of a peer's virtual environment, which is created if necessary. Raises Failed."""
    if name == "purerl":
        return sys.executable
    python, done = folder / name / "bin" / "python", folder / name / "requirements.json"
    wanted = json.dumps(PEERS[name].requirements)
    if not done.exists() or done.read_text() != wanted:
        print(f"installing {', '.join(PEERS[name].requirements)}", flush=True)
        for step in (
            [sys.executable, "-m", "venv", folder / name],
            [python, "-m", "pip", "install", "-q", *PEERS[name].requirements],
        ):
            made = subprocess.run(step, capture_output=True, text=True)
            if made.returncode:
                raise Failed(f"not installed: {last_line(made.stderr)}")
        done.write_text(wanted)
    return python


def command(name, python, job):
    """Return the command that starts the program of a peer, or of purerl."""
    program = PEERS[name].program if name in PEERS else name
    return [python, "-m", f"benchmarks.peers.with_{program}", json.dumps(job)]


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
        """Return the `timing.Taken` of a stretch, in which each seed must make the given number of updates."""
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


def compared(case, names, folder, steps, rounds):
    """Return one row of results/peers.csv per name. The first is purerl's."""
    workers, rows, times = {}, [], {}
    fixed = (case.algo, case.num_seeds, f"{case.width}x{case.width}", case.batch_size, case.buffer_size)

    def attempted(name, function, *args):
        """Return `function(*args)`. If it failed, return None and add a row that says why."""
        try:
            return function(*args)
        except Failed as error:
            if name == "purerl":
                raise
            rows.append((name, *fixed, "", "", "", "", "", "", str(error)))
            times.pop(name, None)
            return None

    def started(name):
        job = case._asdict() | {"warmup_steps": WARMUP, "steps": steps}
        workers[name], times[name] = Worker(name, installed(name, folder), job), []

    try:
        for name in ("purerl", *names):
            attempted(name, started, name)
        for _ in range(rounds):
            for name in list(times):
                if taken := attempted(name, workers[name].train, steps):
                    times[name].append(taken)
    finally:
        for worker in workers.values():
            worker.end()
    done = case.num_seeds * steps
    for name in times:
        worker, per_second = workers[name], done / timing.medians(times[name]).wall
        faster = timing.ratio(times[name], times["purerl"])
        versions = " ".join(f"{package} {version}" for package, version in worker.versions.items())
        figures = (f"{per_second:.1f}", f"{per_second:.1f}", f"{faster.wall:.3f}", f"{faster.cpu:.3f}")
        rows.append((name, *fixed, *figures, f"{worker.start_seconds:.1f}", versions, ""))
    return rows


def show(row):
    cells = dict(zip(COLUMNS, row, strict=True))
    print("{peer:>11} {algo:>5} {num_seeds:>3} seeds {widths:>8} batch {batch_size:>4}".format(**cells), end=" ")
    print("ring {buffer_size:>9,}:".format(**cells), end=" ")
    if cells["remark"]:
        print(cells["remark"], flush=True)
        return
    print(
        "{env_steps_per_s:>9} steps/s and updates/s; purerl is {purerl_is_faster} times as fast".format(**cells),
        end=" ",
    )
    print("({by_cpu_time} by CPU time); started in {start_seconds} s; {versions}".format(**cells), flush=True)


def takes(name, num_seeds):
    """Return whether a peer trains that many seeds at once."""
    return num_seeds == 1 or PEERS[name].many_seeds


def described(name):
    """Return a text that says what a peer trains."""
    peer = PEERS[name]
    return f"{name} has {', '.join(peer.algos)}" + ("" if peer.many_seeds else ", one seed at a time")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venvs", metavar="FOLDER", type=Path, default=Path("~/.cache/purerl/peers").expanduser())
    parser.add_argument("--peer", choices=PEERS, nargs="+", default=list(PEERS))
    parser.add_argument("--algo", choices=ALGORITHMS, nargs="+", default=list(ALGORITHMS))
    parser.add_argument("--seeds", type=int, choices=(1, 8), nargs="+", default=[1, 8])
    parser.add_argument("--steps", type=int, default=200, help="environment steps and updates per seed in a stretch")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    if options.steps % 2:
        parser.error(f"--steps {options.steps} is odd; there is one actor update per two critic updates")
    cases = {
        case: [name for name in options.peer if case.algo in PEERS[name].algos and takes(name, case.num_seeds)]
        for case in CASES
        if case.algo in options.algo and case.num_seeds in options.seeds
    }
    if not any(cases.values()):
        parser.error("none of the peers trains any of these cases: " + "; ".join(map(described, options.peer)))
    for case, names in cases.items():
        if names:
            rows = compared(case, names, options.venvs, options.steps, options.rounds)
            for row in rows:
                show(row)
            table.add("peers", COLUMNS, rows)


if __name__ == "__main__":
    main()
