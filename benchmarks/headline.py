"""Measure 64 seeds x 1M steps of every algorithm in three Brax tasks on one GPU: the total time, and where it goes.

    python -m benchmarks.headline                                   # nine jobs, up to --minutes each, then extrapolated
    python -m benchmarks.headline --algo td3 --env halfcheetah --flags all --profile FOLDER
    python -m benchmarks.headline --env HalfCheetah-v5 --num-seeds 10 --num-envs 16 --updates-per-step 16
    python -m benchmarks.headline --small                           # tests the command on a CPU, in seconds

Settings are those of the papers, with many environments. Flags of `purerl.train` for the plan and the hyperparameters
override them. Every job and every set of XLA flags runs in a separate process. `--at-once` jobs start and compile
together, which saves time on a machine that is lent by the minute. A job that is being timed holds `--lock`, so that it
has the device to itself.

If not all epochs of a job fit into its minutes, its time is extrapolated from the median of the epochs that ran. The
column `epochs` says how many ran. The first epoch also loads the program, so it is left out if there is another.
Figures are added to results/headline.csv. The rates that a large product and a large copy reach on the same device are
added to results/limits.csv. `--small` writes nothing.
"""

import argparse
import fcntl
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

from benchmarks import table, timing
from benchmarks.command import WHOLE_TRACEBACKS, last_line
from purerl import train
from purerl.algorithms.networks import PRECISIONS
from purerl.errors import closest
from purerl.settings.kinds import fields
from purerl.settings.registry import ALGORITHMS
from purerl.settings.schema import Plan

ROOT = Path(__file__).parents[1]
HONOURED = ("preset", "backend", "episode_length", "num_seeds")  # settings outside the plan that are used here
FLAGS = {
    "none": "",
    "while in graphs": "--xla_gpu_enable_command_buffer=+WHILE",
    "no graphs": "--xla_gpu_enable_command_buffer=",
    "latency hiding": "--xla_gpu_enable_latency_hiding_scheduler=true",
    "triton gemm": "--xla_gpu_triton_gemm_any=true",
}
SETTINGS = {
    "preset": "paper",
    "num_seeds": 64,
    "num_envs": 64,
    "updates_per_step": 64,
    "warmup_steps": 25_600,
    "total_steps": 1_025_600,
    "num_evals": 26,
    "buffer_size": 1_024_000,
    "widths": "256,256",
    "batch_size": 256,
}
SMALL = {
    "num_seeds": 2,
    "num_envs": 2,
    "updates_per_step": 2,
    "warmup_steps": 64,
    "total_steps": 192,
    "num_evals": 5,
    "buffer_size": 256,
    "widths": "8",
    "batch_size": 16,
    "episode_length": 20,
}
COLUMNS = ("algo", "env", "num_seeds", "num_envs", "total_steps", "num_evals", "precision", "flags")
COLUMNS += ("minutes", "epochs", "compile_s", "warmup_s", "acting_s", "updates_s", "evaluation_s", "updates_per_s")
COLUMNS += ("env_steps_per_s", "kernels_per_cycle", "us_per_kernel", "flops_per_s", "bytes_per_s", "peak_bytes")
COLUMNS += ("return_mean", "remark")


def measured(settings, seconds, folder, lock):
    """Return the figures of one job as a `dict`.

    Training takes at most `seconds`. A profile of an epoch is written to `folder`. The process that holds the file
    `lock` has the device to itself.
    """
    import jax

    from purerl.runs import runner
    from purerl.settings import config
    from purerl.training import loop, mapping

    settings = config.resolve(settings)
    plan, hyper, size = settings.plan, settings.hyper, settings.job.num_seeds
    env, build = runner.prepare(settings)
    numbers, keys = mapping.flowing(hyper), mapping.keys(0, size)
    begun = time.perf_counter()
    compiled = mapping.compiled(mapping.programs(plan, build, env, hyper), numbers, size)
    took = {"compile": time.perf_counter() - begun}
    run = loop.setup(plan, build(hyper, plan, env), env)
    learning = learning_alone(run, compiled.carry)
    kernels = kernels_per_cycle(compiled)
    flops, accessed = costs_of_an_epoch(plan, build, env, hyper, numbers, keys)
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        carry, values, warmup, epochs, evaluations = trained(compiled, numbers, keys, plan.num_epochs, seconds)
        stats = jax.devices()[0].memory_stats() or {}
        if folder:
            with jax.profiler.trace(folder):
                carry, _ = jax.block_until_ready(compiled.run_epoch(numbers, carry, len(epochs) - 1))
        for _ in range(2):  # The first call also loads the program.
            (carry, _), updating = clocked(learning, carry, plan.warmup_rows)
    epoch, evaluation = (median(times[1:] or times) for times in (epochs, evaluations))
    took |= {
        "warmup": warmup,
        "acting": (epoch - updating) * plan.num_epochs,
        "updates": updating * plan.num_epochs,
        "evaluation": evaluation * plan.num_evals,
    }
    return {f"{name}_s": round(value, 4) for name, value in took.items()} | {
        "minutes": round(sum(took.values()) / 60, 4),
        "epochs": f"{len(epochs)} of {plan.num_epochs}",
        "updates_per_s": round(plan.num_updates / plan.num_epochs * size / epoch, 1),
        "env_steps_per_s": round((plan.total_steps - plan.warmup_steps) / plan.num_epochs * size / epoch, 1),
        "kernels_per_cycle": kernels,
        "us_per_kernel": kernels and round(epoch / run.cycle.per_epoch / kernels * 1e6, 3),
        "flops_per_s": round(flops / updating),
        "bytes_per_s": round(accessed / updating),
        "peak_bytes": stats.get("peak_bytes_in_use", ""),
        "return_mean": round(float(values["return_mean"].mean()), 3),
    }


def kernels_per_cycle(compiled):
    """Return the kernels that a cycle launches on a GPU, or None on a CPU.

    A turn of the program's main loop is a cycle on a GPU, but a row on a CPU (`mapping.programs`).
    """
    import jax

    from benchmarks import hlo

    return None if jax.default_backend() == "cpu" else hlo.count(compiled.cycles.as_text()).main_loop.kernels


def trained(compiled, numbers, keys, num_epochs, seconds):
    """Return `(carry, last metrics, seconds of warm-up, of each epoch, of each evaluation)`. It stops after `seconds`.

    At least two epochs run, if there are two, because the first also loads the program.
    """
    carry, warmup = clocked(compiled.run_warm_up, numbers, keys)
    values, _ = clocked(compiled.run_evaluation, numbers, carry, 0)
    epochs, evaluations, deadline = [], [], time.perf_counter() + seconds
    for index in range(num_epochs):
        (carry, _), epoch = clocked(compiled.run_epoch, numbers, carry, index)
        values, evaluation = clocked(compiled.run_evaluation, numbers, carry, index + 1)
        epochs.append(epoch)
        evaluations.append(evaluation)
        if index and time.perf_counter() > deadline:
            break
    return carry, values, warmup, epochs, evaluations


def learning_alone(run, carry):
    """Compile `loop.learn` for one epoch: `(carry [R, ...], row) -> (carry, metrics)`. The carry is donated."""
    import jax

    from purerl.training import loop

    def learn(carry, row):
        return jax.lax.scan(lambda carry, _: loop.learn(run, carry, row), carry, None, run.cycle.per_epoch)

    return jax.jit(jax.vmap(learn, in_axes=(0, None)), donate_argnums=0).lower(carry, 0).compile()


def costs_of_an_epoch(plan, build, env, hyper, numbers, keys):
    """Return `(FLOP, bytes)` that XLA counts for the bare updates of an epoch of all runs."""
    import jax

    from benchmarks import bare

    delay = hyper.policy_delay
    agents = jax.eval_shape(partial(bare.agents, plan, build, env, hyper), keys)
    batches = jax.eval_shape(partial(bare.batches, plan, env, delay), keys)
    one_round, arguments = jax.jit(bare.updates(plan, build, env, hyper, 1)), (numbers, agents, batches, keys)
    cpu = jax.local_devices(backend="cpu")[0]  # A GPU's client analyzes only compiled programs.
    with jax.default_device(cpu):
        flops = one_round.lower(*jax.eval_shape(lambda *x: x, *arguments)).cost_analysis()["flops"]
    accessed = one_round.lower(*arguments).compile().cost_analysis()["bytes accessed"]
    rounds = plan.num_updates // delay / plan.num_epochs
    return flops * rounds, accessed * rounds


def clocked(function, *args):
    """Return `(result, seconds)` of a call."""
    import jax

    begun = time.perf_counter()
    result = jax.block_until_ready(function(*args))
    return result, time.perf_counter() - begun


def limits(small):
    """Yield `(name, rate)` of a large product in each precision, in FLOP/s, and of a large copy, in bytes/s."""
    import jax
    import jax.numpy as jnp

    n, rounds = (256, 3) if small else (8192, 7)
    for dtype, precision in (("float32", "highest"), ("float32", "default"), ("bfloat16", "default")):
        a = jnp.ones((n, n), dtype)
        product = jax.jit(partial(jnp.matmul, precision=precision))
        yield f"product of {n}x{n} {dtype} {precision} [FLOP/s]", 2 * n**3 / seconds_of(product, a, a, rounds=rounds)
    a = jnp.ones(n * n * (1 if small else 8))
    yield f"copy of {a.nbytes} bytes [bytes/s]", 2 * a.nbytes / seconds_of(jax.jit(lambda x: x + 1.0), a, rounds=rounds)


def seconds_of(function, *args, rounds):
    """Return the median seconds of a call, after one call that compiles."""
    import jax

    times = timing.interleaved({"it": lambda: jax.block_until_ready(function(*args))}, rounds + 1)["it"]
    return timing.medians(times[1:]).wall


def top_kernels(folder, count=15):
    """Return `(seconds, calls, name)` of the slowest device kernels in the newest profile under `folder`."""
    from jax.profiler import ProfileData

    path = max(Path(folder).rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    planes = list(ProfileData.from_file(str(path)).planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:GPU")]
    total = {}
    for plane in devices or [plane for plane in planes if plane.name == "/host:CPU"]:
        for line in plane.lines:
            for event in line.events:
                name = re.sub(r"[._]\d+$", "", event.name)
                seconds, calls = total.get(name, (0.0, 0))
                total[name] = seconds + event.duration_ns * 1e-9, calls + 1
    return sorted(((seconds, calls, name) for name, (seconds, calls) in total.items()), reverse=True)[:count]


def in_a_process_of_its_own(job, flags):
    """Return what `measured(**job)` returns under the XLA `flags`, or `{"remark": error}`."""
    command = [sys.executable, "-m", "benchmarks.headline", "--one", json.dumps(job)]
    both = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()}
    environ = os.environ | WHOLE_TRACEBACKS | both
    made = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environ)
    if made.returncode:
        print(made.stderr, file=sys.stderr)
        return {"remark": f"failed: {last_line(made.stderr, f'status {made.returncode}')}"}
    return json.loads(made.stdout.splitlines()[-1])


def show(title, figures, folder):
    print(f"{title}:", figures.get("remark", ""))
    for column in COLUMNS[COLUMNS.index("minutes") : -1]:
        if figures.get(column) is not None:
            print(f"  {column.replace('_', ' '):>18} {figures[column]}")
    if folder and "remark" not in figures:
        for seconds, calls, kernel in top_kernels(folder):
            print(f"  {seconds * 1e3:10.2f} ms {calls:>8} x {kernel[:80]}")


def parsed(arguments):
    """Return `(options, settings)`. The settings come from the flags of `purerl.train`.

    A flag that would be ignored is an error.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--algo", choices=ALGORITHMS, nargs="+", default=list(ALGORITHMS))
    parser.add_argument("--env", nargs="+", default=["halfcheetah", "hopper", "ant"], help="environments")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["tf32"], help="precisions to compare")
    parser.add_argument("--flags", nargs="+", choices=[*FLAGS, "all"], default=["none"], help="XLA flags to compare")
    parser.add_argument("--minutes", type=float, default=15.0, help="minutes of training per job, without compiling")
    parser.add_argument("--at-once", type=int, default=1, help="number of jobs that compile at the same time")
    parser.add_argument("--lock", metavar="FILE", help="lock shared with other commands (default: a temporary file)")
    parser.add_argument("--profile", metavar="FOLDER", help="profile an epoch of each job and print the top kernels")
    parser.add_argument("--small", action="store_true", help="use tiny sizes, to test that the command works")
    parser.add_argument("--one", metavar="JSON", help=argparse.SUPPRESS)
    options, others = parser.parse_known_args(arguments)
    known = {*HONOURED, *fields(Plan), *(name for spec in ALGORITHMS.values() for name in fields(spec.hyperparameters))}
    for word in others:
        name = word.removeprefix("--").partition("=")[0].replace("-", "_")
        if word.startswith("--") and name not in known:
            parser.error(f"unknown argument {word!r}{closest(name, sorted(known))}")
    try:
        return options, train.parse(others)[0]
    except ValueError as error:
        parser.error(error)


def main(arguments=None):
    options, others = parsed(arguments)
    if options.one:
        print(json.dumps(measured(**json.loads(options.one))))
        return
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # The jobs and this process share the device's memory.
    rates = list(limits(options.small))
    for name, rate in rates:
        print(f"{name}: {rate:.4g}", flush=True)
    if not options.small:
        table.add("limits", ("what", "rate"), [(name, f"{rate:.6g}") for name, rate in rates])
    flags = FLAGS if "all" in options.flags else options.flags
    with tempfile.NamedTemporaryFile() as lock, ThreadPoolExecutor(options.at_once) as processes:

        def figures_of(algo, env, precision, name):
            settings = (SMALL if options.small else SETTINGS) | others
            settings |= {"algo": algo, "env": env, "precision": precision}
            kept = f"{algo}-{env}-{precision}-{name}".replace(" ", "-")
            folder = options.profile and str(Path(options.profile, kept))
            job = {"settings": settings, "seconds": 60 * options.minutes, "folder": folder}
            made = in_a_process_of_its_own(job | {"lock": options.lock or lock.name}, FLAGS[name])
            return settings | {"flags": name} | made, folder

        jobs = product(options.algo, options.env, options.precision, flags)
        for figures, folder in processes.map(lambda job: figures_of(*job), jobs):
            show("{algo} on {env} in {precision}, XLA flags: {flags}".format(**figures), figures, folder)
            if not options.small:
                table.add("headline", COLUMNS, [[figures.get(column, "") for column in COLUMNS]])


if __name__ == "__main__":
    main()
