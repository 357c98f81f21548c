"""Count the kernels that the training programs launch on a GPU, without a GPU.

XLA can compile ahead of time from a description of the device. So the program that it makes for a GPU can be read on
any machine. Small programs in a loop are limited by launches, which take two to four microseconds each. So their number
predicts what a step costs.

    python -m benchmarks.kernels --target h200.txtpb                          # all three algorithms, one line each
    python -m benchmarks.kernels --target h200.txtpb --algo td3 --update-only # only the updates, in seconds
    python -m benchmarks.kernels --target h200.txtpb --env Ant-v5 --keep      # and add the rows to results/kernels.csv
    python -m benchmarks.kernels --target h200.txtpb --table                  # all rows of that file

The command needs JAX's CUDA plugin of the same version as jaxlib, and NVIDIA's compiler, but no CUDA device (see
README.md).
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

from benchmarks import bare, hlo, table
from benchmarks.training import plan_of, walk
from purerl import environments
from purerl.environments import brax
from purerl.environments.mujoco import tasks
from purerl.settings.registry import ALGORITHMS
from purerl.training import loop, mapping

TARGET = "PURERL_GPU_TARGET"  # environment variable with the default of --target
ROUNDS = 1000  # turns of a program's main loop
OPTIONS = {"xla_gpu_autotune_level": "0"}  # Autotuning needs a device.
COLUMNS = ("algo", "env", "backend", "num_seeds", "num_envs", "kernels_per_update", "kernels_per_env_step")
COLUMNS += ("conditionals", "unknown_loops", "ring_copies")
COLUMNS += ("kernels_per_bare_update", "kernels_per_cycle", "loops", "copies_per_cycle", "live_bytes")
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


def compiled(function, sharding, *args, **jit):
    """Compile `jax.jit(function)` for a GPU and for arguments like `args`, which may be abstract."""
    args = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), args)
    return jax.jit(function, **jit).lower(*args).compile(compiler_options=OPTIONS)


class Programs:
    """The training programs of one algorithm in one environment, and their parts.

    Each method compiles one of them for a GPU.
    """

    def __init__(self, sharding, algo, env, num_seeds, num_envs, widths=(256, 256), batch_size=256):
        self.sharding, self.env, self.num_seeds = sharding, env, num_seeds
        self.hyper, self.build = ALGORITHMS[algo].hyperparameters(), ALGORITHMS[algo].build
        self.delay = self.hyper.policy_delay
        self.plan = plan_of(
            ROUNDS * num_envs * max(1, self.delay // num_envs),  # an epoch of ROUNDS cycles
            num_envs,
            warmup_steps=max(batch_size, 1024),
            widths=widths,
            batch_size=batch_size,
        )
        self.programs = mapping.programs(self.plan, self.build, env, self.hyper, platform="cuda")
        self.numbers = mapping.flowing(self.hyper)
        self.run = loop.setup(self.plan, self.build(self.hyper, self.plan, env), env)
        self.carry = mapping.abstract_carry(self.programs, self.numbers, num_seeds)
        self.row = jax.ShapeDtypeStruct((), jnp.int32)
        self.turns = jax.ShapeDtypeStruct((num_seeds,), jnp.int32)

    def epoch(self):
        """Compile the training between two evaluations, as the command line runs it."""
        given = (self.numbers, self.carry, self.turns, self.row)
        return compiled(self.programs.cycles, self.sharding, *given, donate_argnums=1)

    def learning(self):
        """Compile the epoch without acting: cycles of sampling and updates on a fixed replay buffer."""

        def learn(carry, row):
            rows = row + jnp.arange(ROUNDS)
            return loop.scan_mean(lambda carry, row: loop.learn(self.run, carry, row), carry, rows)

        return compiled(jax.vmap(learn, in_axes=(0, None)), self.sharding, self.carry, self.row, donate_argnums=0)

    def updates(self):
        """Compile only the updates, on fixed batches."""
        keys = mapping.keys(0, self.num_seeds)
        agents = jax.eval_shape(partial(bare.agents, self.plan, self.build, self.env, self.hyper), keys)
        batches = jax.eval_shape(partial(bare.batches, self.plan, self.env, self.delay), keys)
        function = bare.updates(self.plan, self.build, self.env, self.hyper, ROUNDS)
        return compiled(function, self.sharding, self.numbers, agents, batches, keys, donate_argnums=1)


def per_round(counts):
    """Return the launches in one round of a program's main loop, by kind. XLA may have unrolled the loop.

    If its length is known only at run time, as for an epoch, one turn is a round.
    """
    loop = counts.main_loop
    return Counter({kind: number * (loop.trips or ROUNDS) / ROUNDS for kind, number in loop.launches.items()})


def live_bytes(program):
    stats = program.memory_analysis()
    return (
        stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes + stats.temp_size_in_bytes
    )


def measured(programs, update_only=False, keep=lambda name, text: None):
    """Return `{column: figure}`. `keep` is called with the name and the text of every program."""
    critic_updates = programs.run.cycle.critic_updates * programs.run.cycle.actor_updates

    def counted(name):
        program = getattr(programs, name)()
        keep(name, program.as_text())
        return program, hlo.count(program.as_text(), (programs.plan.rows, programs.plan.rows + 1))

    bare_updates, learning = (per_round(counted(name)[1]) for name in ("updates", "learning"))
    figures = {
        "kernels_per_bare_update": bare_updates.total() / programs.delay,
        "kernels_per_update": learning.total() / critic_updates,
    }
    if update_only:
        return figures
    epoch, counts = counted("epoch")
    cycle = per_round(counts)
    return figures | {
        "kernels_per_env_step": (cycle.total() - learning.total()) / programs.run.cycle.collects,
        "kernels_per_cycle": cycle.total(),
        "copies_per_cycle": cycle["copy"] + cycle["copy-start"],
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
    """Return `(algo, env, backend, num_seeds, num_envs)` of every row of results/kernels.csv.

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
    parser.add_argument("--update-only", action="store_true", help="compile only the updates")
    parser.add_argument("--text", metavar="FOLDER", type=Path, help="save XLA's text of the compiled programs")
    parser.add_argument("--keep", action="store_true", help="add the rows to results/kernels.csv")
    parser.add_argument("--table", action="store_true", help="measure and keep every row of that file")
    options = parser.parse_args(arguments)
    rows_of_a_table = ("algo", "env", "backend", "num_seeds", "num_envs")
    if options.table and any(getattr(options, name) != parser.get_default(name) for name in rows_of_a_table):
        parser.error("--table measures every row; leave out flags that select rows, or use --keep instead")
    if options.backend and not set(options.env) <= set(brax.names()):
        parser.error(f"--backend is for Brax's environments: {', '.join(brax.names())}")
    if options.update_only and (options.keep or options.table):
        parser.error("--update-only leaves most columns of results/kernels.csv empty; leave it out to keep rows there")
    return options


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

        programs = Programs(sharding, algo, environment(name, backend), num_seeds, num_envs)
        figures = measured(programs, options.update_only, keep)
        show(*job, figures)
        if options.table or options.keep:
            kept = dict(zip(COLUMNS, job, strict=False)) | figures
            table.add(
                "kernels",
                COLUMNS,
                [[kept[name] for name in COLUMNS]],
                device=DEVICE.search(Path(options.target).read_text())[1],
            )


if __name__ == "__main__":
    main()
