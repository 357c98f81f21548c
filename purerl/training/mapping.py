"""Many runs as one program. This is the only module that maps over seeds and hyperparameters.

R is the number of runs: settings times seeds. Time has no axis over runs, so that all runs write their rings at the
same index. Only swept hyperparameters have an axis over runs. With several devices, each device computes its share of
the runs. Devices do not communicate.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Num, PyTree, Shaped, UInt32

from purerl.environments import episodes
from purerl.environments.base import Environment
from purerl.environments.episodes import Play
from purerl.settings.hyperparameters import Hyperparameters
from purerl.settings.kinds import flows
from purerl.settings.schema import Cycle, Plan
from purerl.training import loop
from purerl.training.loop import Acting, Carry, Run, Work
from purerl.trees import Tree
from purerl.types import Constructor, IntScalar, Key, Keys

Turns = tuple[Int[Array, " R"], Carry]
Numbers = dict[str, Float[Array, "..."]]  # hyperparameters that are traced arrays: `[]`, or `[R]` if swept
Evaluations = dict[str, Num[Array, " R"]]  # the metrics of an evaluation, and of the epoch before it
Axes = dict[str, int | None]  # axis over runs of each hyperparameter: 0, or None
Options = dict[str, int | str]  # options of XLA's compiler

RUNS = "runs"  # the axis of the mesh of devices

# At level 3, the default, `warm_up` of the default job compiled in 10 s instead of 6.6 s, and nothing runs faster.
COMPILER_OPTIONS: dict[str, Options] = {"cpu": {"xla_backend_optimization_level": 2}}

# With several CPU devices, each matrix product of YNNPACK of this size or larger keeps 2.4 kB of memory until the
# program ends (jaxlib 0.10.2). That is 55 kB per update, and gigabytes per epoch. Smaller products do not, and are
# faster with YNNPACK.
LARGE_PRODUCT = 2**22
YNNPACK = "xla_cpu_experimental_ynn_fusion_type"  # the operations that YNNPACK computes; "" means none

# XLA for GPUs makes one product of two with the same weights, for example of π(s) and π(s') in SAC. Then it adds the
# biases in kernels of their own, which read and write all values again. With 64 seeds that is 6 % of an update's memory
# traffic. If the operands and the result of a product have up to `MERGED` MB, it is still merged: there, launches cost
# more. 256x256 with batches of 256 reaches this size at 11 seeds.
DOT_MERGER = "xla_gpu_dot_merger_threshold_mb"
MERGED = "8"

# Bytes of agents that train at the same time on a device with a cache of that size; at least two agents do. An update
# reads all parameters and moments. If those of all runs do not fit into the cache, each run takes longer.
CACHE = {"cpu": 2 * 2**20}


class Programs(NamedTuple):
    """The parts of `loop.train`, jitted and mapped over runs. `numbers` are the traced hyperparameters (`flowing`).

    Long computations are split into parts, so that the host can stop between them. The split does not change the
    results. Separate programs draw the initial states of episodes, so that no other program compiles the reset.

    Attributes:
        starts: `(keys [R], purpose, index, begun [R]) -> states [R, P, ...]`.
        initial_carry: `(numbers, keys [R], states) -> carry [R, ...]`; the states are donated.
        warm_up: `(numbers, carry, rows [R], end) -> (rows, carry)`, the warm-up up to row `end`, or until a pool runs
            low; the carry is donated.
        cycles: the same for training, from the beginning of a cycle up to the end of another. On a CPU it is the same
            program as `warm_up`.
        begin_play: `(states) -> play [R, ...]`, an evaluation at its start.
        play_on: `(numbers, carry, play, count) -> play`, at most `count` strides of it; the play is donated.
        judged: `(numbers, carry, play, row) -> metrics [R]` of an evaluation, and of the epoch before it.
        begin_refill: `(numbers, carry without a ring, row) -> carry`; `row` is a Python int.
        refill: the same as `warm_up` for the rows that fill the ring of that carry.
        plan, cycle: the plan and its cycle.
        mesh: the devices that share the runs, or None. With a mesh, R is a multiple of the number of devices.
        options: compiler options of XLA.
        carry: the abstract carry, after compilation for a number of runs.
    """

    starts: Callable[[Keys, IntScalar, IntScalar, UInt32[Array, " R"]], PyTree]
    initial_carry: Callable[[Numbers, Keys, PyTree], Carry]
    warm_up: Callable[[Numbers, Carry, Int[Array, " R"], IntScalar], Turns]
    cycles: Callable[[Numbers, Carry, Int[Array, " R"], IntScalar], Turns]
    begin_play: Callable[[PyTree], Play]
    play_on: Callable[[Numbers, Carry, Play, IntScalar], Play]
    judged: Callable[[Numbers, Carry, Play, IntScalar], Evaluations]
    begin_refill: Callable[[Numbers, Carry, int], Carry]
    refill: Callable[[Numbers, Carry, Int[Array, " R"], IntScalar], Turns]
    plan: Plan
    cycle: Cycle
    mesh: Mesh | None = None
    options: Options | None = None
    carry: Carry | None = None

    @property
    def known_carry(self) -> Carry:
        """The abstract carry. Raises ValueError if the programs are not compiled for a number of runs."""
        if self.carry is None:
            raise ValueError("the programs are not compiled for a number of runs yet")
        return self.carry

    def run_warm_up(self, numbers: Numbers, keys: Keys) -> Carry:
        """Return the carry `[R, ...]` after the warm-up."""
        carry = self.before_warm_up(numbers, keys)
        return self.advance("warm_up", numbers, carry, 0, self.plan.warmup_rows)

    def before_warm_up(self, numbers: Numbers, keys: Keys) -> Carry:
        """Return the carry `[R, ...]` before the warm-up."""
        return self.initial_carry(numbers, keys, self.starts(keys, loop.START, 0, none_begun(self.mesh, len(keys))))

    def advance(self, what: str, numbers: Numbers, carry: Carry, first: int, end: int) -> Carry:
        """Return the carry after rows `first` to `end` of `what`: "warm_up", "cycles" or "refill".

        `carry` is donated.
        """
        rows = laid_out(self.mesh, jnp.full(len(carry.diverged), first, jnp.int32))
        while True:
            rows, carry = getattr(self, what)(numbers, carry, rows, end)
            if (jax.device_get(rows) == end).all():
                return carry
            carry = self.with_pools(carry)

    def with_pools(self, carry: Carry) -> Carry:
        """Return `carry` with the next initial states in the pools; `carry` is donated."""
        jax.tree.map(lambda x: x.delete(), carry.episodes.pool)
        pool = self.starts(carry.key, loop.START, 0, carry.episodes.begun)
        return carry._replace(episodes=episodes.with_pool(carry.episodes, pool))

    def run_epoch(self, numbers: Numbers, carry: Carry, index: int) -> tuple[Carry, Evaluations]:
        """Train epoch `index`. Returns `(carry, metrics [R])`; the given carry is donated."""
        first, end = (loop.row_of(self.plan, self.cycle, i) for i in (index, index + 1))
        carry = self.advance("cycles", numbers, carry, first, end)
        return carry, loop.means(self.cycle, carry)

    def refilled(self, carry: Carry, acted: Carry) -> Carry:
        """Return `carry`, whose ring was not saved, with the ring of `acted`, which `refill` has filled."""
        return self.with_pools(carry._replace(**{name: getattr(acted, name) for name in loop.REFILLED}))

    def evaluation(self, carry: Carry, index: int) -> Play:
        """Return evaluation `index` at its start, a `Play`."""
        begun = none_begun(self.mesh, len(carry.diverged))
        return self.begin_play(self.starts(carry.key, loop.EVALUATION, index, begun))

    def run_evaluation(self, numbers: Numbers, carry: Carry, index: int) -> Evaluations:
        """Run evaluation `index`. Returns its metrics `[R]`."""
        play = self.play_on(numbers, carry, self.evaluation(carry, index), 2**30)
        return self.judged(numbers, carry, play, loop.row_of(self.plan, self.cycle, index))


def abstract_carry(programs: Programs, numbers: Numbers, num_runs: int) -> Carry:
    """Return the carry of `num_runs` runs as `jax.ShapeDtypeStruct`s."""
    return _abstract(programs.mesh, jax.eval_shape(programs.before_warm_up, numbers, keys(0, num_runs)))


def _abstract(mesh: Mesh | None, tree: Tree) -> Tree:
    """Return the abstract arrays `[R, ...]` of `tree`, sharded over the devices of `mesh`."""
    if mesh is None:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec(RUNS))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def compiled(programs: Programs, numbers: Numbers, num_runs: int) -> Programs:
    """Return `programs` compiled for `num_runs` runs. One is compiled while the next is traced."""
    carry = abstract_carry(programs, numbers, num_runs)
    with ThreadPoolExecutor() as workers:
        compiling = {
            name: workers.submit(getattr(programs, name).lower(*given).compile, programs.options)
            for name, given in arguments(programs, numbers, carry).items()
        }
        done = {name: program.result() for name, program in compiling.items()}
    done.setdefault("warm_up", done["cycles"])
    return programs._replace(carry=carry, **done)


def arguments(programs: Programs, numbers: Numbers, carry: Carry) -> dict[str, tuple[Any, ...]]:
    """Return `{name: arguments}` with which the programs are compiled for an abstract `carry`.

    The program that takes longest comes first. A program with two names has one entry.
    """
    numbers, own = laid_out(programs.mesh, numbers), laid_out(programs.mesh, keys(0, len(carry.diverged)))
    rows = jax.ShapeDtypeStruct(carry.diverged.shape, jnp.int32, sharding=carry.diverged.sharding)
    begun = none_begun(programs.mesh, len(carry.diverged))
    states = _abstract(programs.mesh, jax.eval_shape(programs.starts, own, loop.START, 0, begun))
    play = _abstract(programs.mesh, jax.eval_shape(programs.begin_play, states))
    warm_up = {} if programs.warm_up is programs.cycles else {"warm_up": (numbers, carry, rows, 0)}
    return {
        "cycles": (numbers, carry, rows, 0),
        **warm_up,
        "starts": (own, loop.START, 0, begun),
        "initial_carry": (numbers, own, states),
        "begin_play": (states,),
        "play_on": (numbers, carry, play, 0),
        "judged": (numbers, carry, play, 0),
    }


def none_begun(mesh: Mesh | None, num_runs: int) -> UInt32[Array, " R"]:
    """Return zeros `[R]`: the number of episodes that have begun in a new run."""
    return laid_out(mesh, jnp.zeros(num_runs, jnp.uint32))


def mesh(num_devices: int) -> Mesh | None:
    """Return a mesh of the first `num_devices` devices of this process, or None for a single device."""
    if num_devices == 1:
        return None
    return jax.make_mesh((num_devices,), (RUNS,), (AxisType.Auto,), devices=jax.local_devices()[:num_devices])


def laid_out(mesh: Mesh | None, tree: Tree) -> Tree:
    """Return `tree` on the devices of `mesh`. Arrays are sharded over runs; scalars are copied to every device."""
    if mesh is None:
        return jax.device_put(tree)
    return jax.device_put(tree, jax.tree.map(lambda x: NamedSharding(mesh, _spec(x.ndim)), tree))


def _spec(axes: int | bool) -> PartitionSpec:
    return PartitionSpec(RUNS) if axes else PartitionSpec()


def flowing(
    hyper: Hyperparameters, swept: Mapping[str, Sequence[float]] | None = None, settings: Sequence[int] = ()
) -> Numbers:
    """Return the hyperparameters that are traced arrays, `{name: array}`. A new value needs no new program.

    Arrays are `[]`. Those in `swept`, `{name: one value per setting}`, are `[R]`: run i has the setting `settings[i]`.
    """
    values = {field.name: getattr(hyper, field.name) for field in dataclasses.fields(hyper)}
    numbers = {name: jnp.float32(value) for name, value in values.items() if flows(value)}
    return numbers | {name: jnp.float32(values)[jnp.asarray(settings)] for name, values in (swept or {}).items()}


class OneRun(NamedTuple):
    """The loop of one run, as functions of the traced hyperparameters `numbers`.

    Each function creates the algorithm by `build(hyper, plan, env)`, so that its hyperparameters may be traced.
    """

    plan: Plan
    build: Constructor
    env: Environment
    hyper: Hyperparameters

    def setup(self, numbers: Numbers) -> Run:
        hyper = dataclasses.replace(self.hyper, **numbers)
        return loop.setup(self.plan, self.build(hyper, self.plan, self.env), self.env)

    def starts(self, key: Key, purpose: IntScalar, index: IntScalar, begun: IntScalar) -> PyTree:
        # The initial states do not depend on the traced hyperparameters.
        return loop.starts(self.setup({}), key, purpose, index, begun)

    def initial_carry(self, numbers: Numbers, key: Key, states: PyTree) -> Carry:
        return loop.initial_carry(self.setup(numbers), key, states)

    def initial_play(self, states: PyTree) -> Play:
        return loop.initial_play(self.setup({}), states)

    def play_on(self, numbers: Numbers, carry: Carry, play: Play, count: IntScalar) -> Play:
        return loop.evaluate_on(self.setup(numbers), carry, play, count)

    def judged(self, numbers: Numbers, carry: Carry, play: Play, row: IntScalar) -> loop.Evaluation:
        run = self.setup(numbers)
        return loop.judged(run, carry, play, row) | loop.means(run.cycle, carry)


def programs(
    plan: Plan,
    build: Constructor,
    env: Environment,
    hyper: Hyperparameters,
    swept: Iterable[str] = (),
    mesh: Mesh | None = None,
    platform: str | None = None,
    warming_up: Acting = loop.at_random,
) -> Programs:
    """Return the `Programs` for the runs of `plan`. `build(hyper, plan, env)` creates the algorithm.

    The hyperparameters in `swept` have an axis over runs. `mesh` shares the runs among devices. The programs are
    compiled for `platform`; None means the default of JAX. `warming_up` selects the actions of the warm-up:
    `loop.at_random`, or `loop.exploring` if there is a policy before.
    """
    platform = platform or jax.default_backend()
    cache, options = CACHE.get(platform), compiler_options(plan, platform, mesh)
    one, axes = OneRun(plan, build, env, hyper), {name: 0 if name in swept else None for name in flowing(hyper)}

    def mapped(function: Callable[..., Any], *over: Any, **jit: Any) -> Callable[..., Any]:
        return jax.jit(over_devices(mesh, jax.vmap(function, over), *over), **jit)

    def advancing(work: Work, cache: int | None = None, **jit: Any) -> Callable[..., Any]:
        function = over_devices(mesh, in_turns(one, axes, work, cache), axes, 0, 0, None)
        return jax.jit(function, donate_argnums=1, **jit)

    def begin_refill(numbers: Numbers, carry: Carry, row: int) -> Carry:
        begun = jax.vmap(lambda numbers, carry: loop.begin_refill(one.setup(numbers), carry, row), (axes, 0))
        return over_devices(mesh, begun, axes, 0)(numbers, carry)

    if platform == "cpu":  # One program less compiles the physics. A GPU would copy the agent in every cycle.
        warm_up = cycles = advancing(loop.one_loop(warming_up), cache)
    else:
        warm_up = advancing(loop.collecting(warming_up))
        cycles = advancing(loop.cycles, cache)

    return Programs(
        starts=mapped(one.starts, 0, None, None, 0),
        initial_carry=mapped(one.initial_carry, axes, 0, 0, donate_argnums=2),
        warm_up=warm_up,
        cycles=cycles,
        begin_play=mapped(one.initial_play, 0),
        play_on=mapped(one.play_on, axes, 0, 0, None, donate_argnums=2),
        judged=mapped(one.judged, axes, 0, 0, None),
        begin_refill=jax.jit(begin_refill, static_argnums=2),
        refill=advancing(loop.refill, compiler_options=options),
        plan=plan,
        cycle=one.setup({}).cycle,
        mesh=mesh,
        options=options,
    )


def in_turns(
    one: OneRun, axes: Axes, work: Work, cache: int | None = None
) -> Callable[[Numbers, Carry, Int[Array, " R"], IntScalar], Turns]:
    """Map `work(run, carry, row, end)` of `loop` over runs: `(numbers, carry, rows, end) -> (rows, carry)`.

    As many runs as fit into `cache` [bytes] train at the same time (`side_by_side`); with None, all of them. Runs that
    train together are at the same row, which has no axis over runs.
    """

    def all_runs(numbers: Numbers, carry: Carry, rows: Int[Array, " R"], end: IntScalar) -> Turns:
        def one_group(numbers: Numbers, carry: Carry, rows: Int[Array, " G"]) -> tuple[Carry, Int[Array, " G"]]:
            each = jax.vmap(lambda numbers, carry: work(one.setup(numbers), carry, rows[0], end), (axes, 0), (None, 0))
            row, carry = each(numbers, carry)
            return carry, jnp.full_like(rows, row)

        carry, rows = in_groups(one_group, axes, side_by_side(carry.agent, cache), numbers, carry, rows)
        return rows, carry

    all_runs.__name__ = work.__name__  # the name in profilers and compilation logs
    return all_runs


def compiler_options(plan: Plan, platform: str, mesh: Mesh | None) -> Options | None:
    """Return XLA's compiler options for the programs of `plan` on the devices of `mesh`, or None."""
    options = COMPILER_OPTIONS.get(platform)
    product = plan.batch_size * max(*plan.actor_layers.widths, *plan.critic_layers.widths) ** 2
    if platform == "cpu" and mesh is not None and product >= LARGE_PRODUCT and _knows(YNNPACK, ""):
        options = (options or {}) | {YNNPACK: ""}
    if platform in ("cuda", "gpu") and _knows(DOT_MERGER, MERGED):
        options = (options or {}) | {DOT_MERGER: MERGED}
    return options


@functools.cache
def _knows(option: str, value: str) -> bool:
    """Return whether this XLA has the compiler option `option`, with `value` as a valid value."""
    try:
        jax.jit(jnp.negative, compiler_options={option: value}).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def over_devices(mesh: Mesh | None, function: Callable[..., Any], *axes: Any) -> Callable[..., Any]:
    """Return `function` of all runs, called on each device of `mesh` for its runs.

    `axes` are the axes over runs of the arguments, 0 or None.
    """
    if mesh is None:
        return function
    specs = jax.tree.map(lambda axis: _spec(axis is not None), axes, is_leaf=lambda axis: axis is None)
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(RUNS), check_vma=False)


def in_groups(
    train: Callable[..., tuple[Tree, Any]], axes: Axes, size: int, numbers: Numbers, carry: Tree, *more: PyTree
) -> tuple[Tree, Any]:
    """Apply `train(numbers, carry [R, ...], *more [R]) -> (carry, metrics [R])` to one group of `size` runs at a time.

    `axes` has 0 for each of `numbers` with an axis over runs.
    """
    num_runs = len(jax.tree.leaves(carry)[0])
    if size == num_runs:
        return train(numbers, carry, *more)

    def group(carry: Tree, start: Int[Array, ""]) -> tuple[Tree, Any]:
        def own(x: Shaped[Array, "R ..."]) -> Shaped[Array, "G ..."]:
            return jax.lax.dynamic_slice_in_dim(x, start, size)

        numbers_here = {name: x if axes[name] is None else own(x) for name, x in numbers.items()}
        trained, metrics = train(numbers_here, *jax.tree.map(own, (carry, *more)))
        put = partial(jax.lax.dynamic_update_slice_in_dim, start_index=start, axis=0)
        return jax.tree.map(put, carry, trained), metrics

    carry, metrics = jax.lax.scan(group, carry, jnp.arange(0, num_runs, size))
    return carry, jax.tree.map(lambda x: x.reshape(num_runs, *x.shape[2:]), metrics)


def side_by_side(agents: PyTree, cache: int | None) -> int:
    """Return how many of `agents`, a tree of arrays `[R, ...]`, train at the same time: a divisor of R.

    Without `cache` [bytes], the result is R.
    """
    leaves = jax.tree.leaves(agents)
    num_runs, size = len(leaves[0]), sum(x.size * x.dtype.itemsize for x in leaves)
    fits = num_runs if cache is None else max(2, num_runs * cache // size)
    return largest_divisor(num_runs, fits)


def largest_divisor(number: int, most: int) -> int:
    """Return the largest divisor of `number` that is at most `most`, or 0 if `most` is below 1."""
    return max((n for n in range(1, min(number, most) + 1) if number % n == 0), default=0)


def keys(seed: int, num_seeds: int) -> Keys:
    """Return one key per run, `[R]`. Run i has the seed `seed + i`, and does not depend on the other runs."""
    return keys_of(seed + jnp.arange(num_seeds))


def keys_of(seeds: Sequence[int] | Int[Array, " R"]) -> Keys:
    """Return the keys of the runs with the integer `seeds`, `[R]`."""
    return jax.vmap(jax.random.key)(jnp.asarray(seeds))
