"""Count the kernels that the training programs launch on a GPU, and the bytes that they move, without a GPU.

XLA can compile ahead of time from a description of the device. So the program that it makes for a GPU can be read on
any machine. Small programs in a loop are limited by launches: 1.3 to 1.8 microseconds each were measured on an H200. So
their number predicts what a step costs. With many seeds the limit is memory traffic, so `benchmarks/traffic.py` models
the time of an update from the bytes, with fitted constants.

    python -m benchmarks.kernels --target h200.txtpb                          # every algorithm, one line each
    python -m benchmarks.kernels --target h200.txtpb --algo td3 --update-only # only the updates, in seconds
    python -m benchmarks.kernels --target h200.txtpb --env Ant-v5 --keep      # and add the rows to results/kernels.csv
    python -m benchmarks.kernels --target h200.txtpb --table                  # one row per job of `jobs_of_the_table`

The command needs JAX's CUDA plugin of the same version as jaxlib, and NVIDIA's compiler, but no CUDA device (see
docs/benchmarks_kernels.md).
"""

import argparse
import os
import re
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmarks import bare, hlo, table, traffic
from benchmarks.command import refusing
from benchmarks.training import plan_of, walk
from purerl import environments
from purerl.algorithms.networks import PRECISIONS
from purerl.environments import brax
from purerl.environments.mujoco import tasks
from purerl.settings.registry import ALGORITHMS
from purerl.training import loop, mapping

TARGET = "PURERL_GPU_TARGET"  # environment variable with the default of --target
TURNS = 1000  # of a program's main loop: cycles, or rounds of the bare updates
OPTIONS = {"xla_gpu_autotune_level": "0"}  # Autotuning needs a device.
JOB = ("algo", "env", "backend", "num_seeds", "num_envs")
COLUMNS = (*JOB, "kernels_per_update", "kernels_per_env_step")
COLUMNS += ("conditionals", "unknown_loops", "ring_copies")
COLUMNS += ("kernels_per_bare_update", "kernels_per_cycle", "loops", "copies_per_cycle", "live_bytes")
COLUMNS += ("precision", "us_per_round", "mb_per_round", *(f"mb_{kind}" for kind in traffic.KINDS))
COLUMNS += ("us_per_bare_round", "mb_per_bare_round")
DEVICE = re.compile(r'^  name: "([^"]*)"', re.MULTILINE)
PLUGIN = (
    "JAX has no CUDA compiler here; install, in a virtual environment of its own, purerl and "
    "'jax-cuda13-plugin=={0}' 'jax-cuda13-pjrt=={0}' nvidia-cuda-nvcc nvidia-nvvm"
)


def device(path):
    """Return the sharding that places arrays on the one GPU that the file at `path` describes."""
    from jax.experimental import topologies

    if path is None:
        raise ValueError(
            f"name a description of the GPU by --target or {TARGET}: the text of an XLA GpuTargetConfigProto, for an "
            "H200 the file xla/backends/gpu/target_config/specs/h200.txtpb of github.com/openxla/xla"
        )
    try:
        config = Path(path).read_text()
    except OSError as error:
        raise ValueError(f"target {path!r} cannot be read: {error.strerror}") from None
    try:
        topology = topologies.get_topology_desc(platform="cuda", target_config=config, topology="1x1x1")
    except NotImplementedError:
        raise ValueError(PLUGIN.format(jax.__version__)) from None
    mesh = topologies.make_mesh(topo=topology, mesh_shape=(1,), axis_names=("x",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())


class Programs:
    """The training programs of one algorithm in one environment, and their parts.

    Each method compiles one of them for a GPU. `more` are fields of the `Plan`.
    """

    def __init__(self, sharding, algo, env, num_seeds, num_envs, **more):
        self.sharding, self.env, self.num_seeds = sharding, env, num_seeds
        self.hyper, self.build = ALGORITHMS[algo].hyperparameters(), ALGORITHMS[algo].build
        self.delay = self.hyper.policy_delay
        self.plan = plan_of(
            TURNS * num_envs * max(1, self.delay // num_envs),  # an epoch of TURNS cycles
            num_envs,
            **{"widths": (256, 256), "batch_size": 256} | more,
        )
        self.programs = mapping.programs(self.plan, self.build, env, self.hyper, platform="cuda")
        self.numbers = mapping.flowing(self.hyper)
        self.run = loop.setup(self.plan, self.build(self.hyper, self.plan, env), env)
        self.carry = mapping.abstract_carry(self.programs, self.numbers, num_seeds)
        self.rows = jax.ShapeDtypeStruct((num_seeds,), jnp.int32)  # the row of each run
        self.row = jax.ShapeDtypeStruct((), jnp.int32)  # the number of any row

    def compiled(self, function, *args, **jit):
        """Compile `jax.jit(function)` for the GPU and for arguments like `args`, which may be abstract."""
        args = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.sharding), args)
        options = OPTIONS | (mapping.compiler_options(self.plan, "cuda", mesh=None) or {})
        return jax.jit(function, **jit).lower(*args).compile(compiler_options=options)

    def epoch(self):
        """Compile the training between two evaluations, as the command line runs it."""
        end = self.row
        return self.compiled(self.programs.cycles, self.numbers, self.carry, self.rows, end, donate_argnums=1)

    def learning(self):
        """Compile the epoch without acting: cycles of sampling and updates on a fixed replay buffer."""

        def learn(carry, row):
            rows = row + jnp.arange(TURNS)
            return loop.scan_mean(lambda carry, row: loop.learn(self.run, carry, row), carry, rows)

        return self.compiled(jax.vmap(learn, in_axes=(0, None)), self.carry, self.row, donate_argnums=0)

    def updates(self):
        """Compile only the updates, on fixed batches."""
        keys = mapping.keys(0, self.num_seeds)
        agents = jax.eval_shape(partial(bare.agents, self.plan, self.build, self.env, self.hyper), keys)
        batches = jax.eval_shape(partial(bare.batches, self.plan, self.env, self.delay), keys)
        function = bare.updates(self.plan, self.build, self.env, self.hyper, TURNS)
        return self.compiled(function, self.numbers, agents, batches, keys, donate_argnums=1)


def per_turn(counts):
    """Return `{instruction: launches}` in one turn of a program's main loop. XLA may have unrolled the loop.

    If its length is known only at run time, as for an epoch, one trip is a turn.
    """
    loop = counts.main_loop
    return Counter({made: number * (loop.trips or TURNS) / TURNS for made, number in loop.launched.items()})


def traffic_of(text, launched, rounds):
    """Return the predicted time [us], the memory traffic [MB] and `{kind: [MB]}` of one of the `rounds` of a turn."""
    kernels = traffic.kernels(text, launched)
    by_kind = {kind: round(moved / rounds / 1e6, 2) for kind, moved in traffic.bytes_by_kind(kernels).items()}
    return round(traffic.predicted(kernels) / rounds * 1e6, 1), round(sum(by_kind.values()), 1), by_kind


def live_bytes(program):
    stats = program.memory_analysis()
    return (
        stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes + stats.temp_size_in_bytes
    )


def measured(programs, update_only=False, keep=lambda name, text: None):
    """Return `{column: figure}`. `keep` is called with the name and the text of every program.

    A round is the critic updates of one actor update, and that actor update.
    """
    cycle = programs.run.cycle

    def counted(name):
        program = getattr(programs, name)()
        keep(name, program.as_text())
        return program, hlo.count(program.as_text(), (programs.plan.rows, programs.plan.rows + 1))

    (bare, bare_counts), (learning, learning_counts) = counted("updates"), counted("learning")
    bare_turn, turn = per_turn(bare_counts), per_turn(learning_counts)
    us, mb, by_kind = traffic_of(learning.as_text(), turn, cycle.actor_updates)
    bare_us, bare_mb, _ = traffic_of(bare.as_text(), bare_turn, 1)
    figures = {
        "kernels_per_bare_update": bare_turn.total() / programs.delay,
        "kernels_per_update": turn.total() / (cycle.critic_updates * cycle.actor_updates),
        "us_per_round": us,
        "mb_per_round": mb,
        **{f"mb_{kind}": moved for kind, moved in by_kind.items()},
        "us_per_bare_round": bare_us,
        "mb_per_bare_round": bare_mb,
    }
    if update_only:
        return figures
    epoch, counts = counted("epoch")
    whole = per_turn(counts)
    return figures | {
        "kernels_per_env_step": (whole.total() - turn.total()) / cycle.collects,
        "kernels_per_cycle": whole.total(),
        "copies_per_cycle": sum(number for made, number in whole.items() if made.opcode in ("copy", "copy-start")),
        "loops": len(counts.loops),
        "conditionals": counts.conditionals,
        "unknown_loops": counts.unknown_loops,
        "ring_copies": len(counts.large_copies),
        "live_bytes": live_bytes(epoch),
    }


def show(algo, env, backend, num_seeds, num_envs, figures):
    shown = ", ".join(f"{name.replace('_', ' ')} {value:,.10g}" for name, value in figures.items())
    where = f"{env}, {backend}" if backend else env
    print(f"{algo} on {where}, {num_seeds} seeds x {num_envs} envs: {shown}", flush=True)


def jobs_of_the_table():
    """Return `(algo, env, backend, num_seeds, num_envs)` of the rows that `--table` adds to results/kernels.csv.

    They are in tf32 and have 64 seeds. `--keep` adds others, one command each.
    The launches of learning do not depend on physics, and those of physics do not depend on the algorithm.
    """
    learning = [(algo, "walk", None, 64, num_envs) for algo in ALGORITHMS for num_envs in (1, 16, 64)]
    physics = [(name, None) for name in tasks.TASKS if name.endswith("-v5")]
    for backend in ("spring", "positional", "generalized", "mjx"):
        names = (name for name in brax.names() if name != "fast")
        physics += [(name, backend) for name in names if backend in brax.RESTRICTED.get(name, brax.BACKENDS)]
    return learning + [("td3", env, backend, 64, 1) for env, backend in physics]


def environment(name, backend):
    return walk() if name == "walk" else environments.make(name, backend)


def parsed(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", metavar="FILE", default=os.environ.get(TARGET), help="description of the GPU")
    parser.add_argument("--algo", choices=ALGORITHMS, nargs="+", default=list(ALGORITHMS))
    parser.add_argument("--env", nargs="+", default=["walk"], help="as in training, or walk, which is cheap")
    parser.add_argument("--backend", choices=brax.BACKENDS, default=None)
    parser.add_argument("--num-seeds", type=int, default=64)
    parser.add_argument("--num-envs", type=int, nargs="+", default=[1])
    parser.add_argument("--precision", choices=PRECISIONS, default="tf32", help="of matrix products")
    parser.add_argument("--update-only", action="store_true", help="compile only the updates")
    parser.add_argument("--text", metavar="FOLDER", type=Path, help="save XLA's text of the compiled programs")
    parser.add_argument("--keep", action="store_true", help="add the rows to results/kernels.csv")
    parser.add_argument(
        "--table", action="store_true", help="add 64 seeds of every algorithm and of every task, in tf32"
    )
    options = parser.parse_args(arguments)
    if options.table and any(getattr(options, name) != parser.get_default(name) for name in (*JOB, "precision")):
        parser.error("--table measures its own rows; leave out flags that select rows, or use --keep instead")
    if options.backend and not set(options.env) <= set(brax.names()):
        parser.error(f"--backend is for Brax's environments: {', '.join(brax.names())}")
    if options.update_only and (options.keep or options.table):
        parser.error("--update-only leaves most columns of results/kernels.csv empty; leave it out to keep rows there")
    return options


@refusing
def main(arguments=None):
    options = parsed(arguments)
    jax.config.update("jax_platforms", "cpu")  # The plugin can compile here, but not run.
    try:
        sharding = device(options.target)
    except ValueError as error:
        sys.exit(f"error: {error}")
    jobs = [
        (algo, env, options.backend, options.num_seeds, num_envs)
        for algo in options.algo
        for env in options.env
        for num_envs in options.num_envs
    ]
    for job in jobs_of_the_table() if options.table else jobs:
        algo, name, backend, num_seeds, num_envs = job

        def keep(program, text, job=job):
            if options.text:
                options.text.mkdir(parents=True, exist_ok=True)
                (options.text / "-".join(str(part or "") for part in (*job, f"{program}.txt"))).write_text(text)

        programs = Programs(
            sharding, algo, environment(name, backend), num_seeds, num_envs, precision=options.precision
        )
        figures = measured(programs, options.update_only, keep)
        show(*job, figures)
        if options.table or options.keep:
            kept = dict(zip(JOB, job, strict=True)) | {"precision": options.precision} | figures
            table.add(
                "kernels",
                COLUMNS,
                [[kept[name] for name in COLUMNS]],
                device=DEVICE.search(Path(options.target).read_text())[1],
            )


if __name__ == "__main__":
    main()
