"""Many runs as one program: the only place that maps over seeds and hyperparameters.

R is the number of runs, settings times seeds. Time has no run axis, so that all runs write their rings at one index; of
the hyperparameters, only those that are swept have one. Over several devices every device has its own share of the runs
and hears of no other.
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
from purerl.training.loop import Carry, Run, Work
from purerl.trees import Tree
from purerl.types import Constructor, IntScalar, Key, Keys

Turns = tuple[Int[Array, " R"], Carry]
Numbers = dict[str, Float[Array, "..."]]  # hyperparameters that flow, `[]`, or `[R]` where they are swept
Evaluations = dict[str, Num[Array, " R"]]  # the metrics of an evaluation, and of the epoch before it
Axes = dict[str, int | None]  # of the numbers over runs: 0, or None
Options = dict[str, int | str]  # of XLA's compiler

RUNS = "runs"  # the axis of the mesh of devices

# At level 3, the default, `begin` of the default job takes 10 s to compile and not 6.6; nothing runs faster for it.
COMPILER_OPTIONS: dict[str, Options] = {"cpu": {"xla_backend_optimization_level": 2}}

# Where several devices of a CPU compute side by side, YNNPACK's products keep 2.4 kB each until the program ends, 55 kB
# an update, if they are as large as this (jaxlib 0.10.2): gigabytes in an epoch. Smaller ones are faster by it.
LARGE_PRODUCT = 2**22
YNNPACK = "xla_cpu_experimental_ynn_fusion_type"  # what it computes; "" is nothing

# Bytes of the agents, two at least, that train side by side on a device, where its cache is so large. An update goes
# through all parameters and moments; where those of all runs do not fit, a run costs more beside others.
CACHE = {"cpu": 2 * 2**20}


class Programs(NamedTuple):
    """The parts of `loop.train`, jitted over runs. `numbers` are the hyperparameters that flow (`flowing`).

    Whatever takes long is done a part at a time, so that the host can stop in between. How it is cut changes no number.
    What begins episodes is in programs of its own, so that resetting is compiled with no other.

    Attributes:
        starts: `(keys [R], purpose, index, begun [R]) -> states [R, P, ...]`.
        initial_carry: `(numbers, keys [R], states) -> carry [R, ...]`; the states are donated.
        warm_up: `(numbers, carry, turns [R], end) -> (turns, carry)`, the rows of the warm-up up to turn `end`, or to
            where a pool runs low; the carry is donated.
        cycles: the same, of the cycles of training.
        begin_play: `(states) -> play [R, ...]`, an evaluation at its start.
        play_on: `(numbers, carry, play, count) -> play`, `count` strides of it at most; the play is donated.
        judged: `(numbers, carry, play, row) -> metrics [R]` of an evaluation, and of the epoch before it.
        begin_refill: `(numbers, carry without a ring, row) -> carry`; `row` is a Python int.
        refill: as `warm_up`, of the rows that fill that carry's ring.
        plan, cycle: how many rows and cycles there are.
        mesh: the devices over which runs are laid out, or None. R is then a multiple of their number.
        options: XLA's, by which they are compiled.
        carry: the abstract carry, where they are compiled for a number of runs.
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
        """The abstract carry. Raises ValueError where they are not compiled for a number of runs."""
        if self.carry is None:
            raise ValueError("the programs are not compiled for a number of runs yet")
        return self.carry

    def run_warm_up(self, numbers: Numbers, keys: Keys) -> Carry:
        """`(numbers, keys [R]) -> carry [R, ...]` after the warm-up."""
        carry = self.before_warm_up(numbers, keys)
        return self.advance("warm_up", numbers, carry, 0, self.plan.warmup_rows)

    def before_warm_up(self, numbers: Numbers, keys: Keys) -> Carry:
        """`(numbers, keys [R]) -> carry [R, ...]`."""
        return self.initial_carry(numbers, keys, self.starts(keys, loop.START, 0, none_begun(self.mesh, len(keys))))

    def advance(self, what: str, numbers: Numbers, carry: Carry, first: int, end: int) -> Carry:
        """The carry after the turns `first` to `end` of `what`: "warm_up", "cycles" or "refill"; `carry` is donated."""
        turns = laid_out(self.mesh, jnp.full(len(carry.diverged), first, jnp.int32))
        while True:
            turns, carry = getattr(self, what)(numbers, carry, turns, end)
            if (jax.device_get(turns) == end).all():
                return carry
            carry = self.with_pools(carry)

    def with_pools(self, carry: Carry) -> Carry:
        """`carry` with the next starts in the pools; `carry` is donated."""
        jax.tree.map(lambda x: x.delete(), carry.episodes.pool)
        pool = self.starts(carry.key, loop.START, 0, carry.episodes.begun)
        return carry._replace(episodes=episodes.with_pool(carry.episodes, pool))

    def run_epoch(self, numbers: Numbers, carry: Carry, index: int) -> tuple[Carry, Evaluations]:
        """`(numbers, carry, index) -> (carry, metrics [R])`; the carry is donated."""
        length = self.cycle.per_epoch
        carry = self.advance("cycles", numbers, carry, index * length, (index + 1) * length)
        return carry, loop.means(self.cycle, carry)

    def refilled(self, carry: Carry, acted: Carry) -> Carry:
        """`carry`, whose ring was not kept, with the one of `acted`, which `refill` has filled."""
        return self.with_pools(carry._replace(**{name: getattr(acted, name) for name in loop.REFILLED}))

    def evaluation(self, carry: Carry, index: int) -> Play:
        """Evaluation number `index` at its start: a play."""
        begun = none_begun(self.mesh, len(carry.diverged))
        return self.begin_play(self.starts(carry.key, loop.EVALUATION, index, begun))

    def run_evaluation(self, numbers: Numbers, carry: Carry, index: int) -> Evaluations:
        """`(numbers, carry, index) -> metrics [R]`."""
        play = self.play_on(numbers, carry, self.evaluation(carry, index), 2**30)
        return self.judged(numbers, carry, play, loop.row_of(self.plan, self.cycle, index))


def abstract_carry(programs: Programs, numbers: Numbers, num_runs: int) -> Carry:
    """The carry of `num_runs` runs as `jax.ShapeDtypeStruct`s."""
    return _abstract(programs.mesh, jax.eval_shape(programs.before_warm_up, numbers, keys(0, num_runs)))


def _abstract(mesh: Mesh | None, tree: Tree) -> Tree:
    """Abstract arrays `[R, ...]`, laid out over the devices of `mesh`."""
    if mesh is None:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec(RUNS))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def compiled(programs: Programs, numbers: Numbers, num_runs: int) -> Programs:
    """`Programs` for `num_runs` runs, one compiled while the next is traced."""
    carry = abstract_carry(programs, numbers, num_runs)
    with ThreadPoolExecutor() as workers:
        compiling = {
            name: workers.submit(getattr(programs, name).lower(*given).compile, programs.options)
            for name, given in arguments(programs, numbers, carry).items()
        }
        return programs._replace(carry=carry, **{name: program.result() for name, program in compiling.items()})


def arguments(programs: Programs, numbers: Numbers, carry: Carry) -> dict[str, tuple[Any, ...]]:
    """`{name: arguments}` of the programs that are compiled for an abstract `carry`."""
    numbers, own = laid_out(programs.mesh, numbers), laid_out(programs.mesh, keys(0, len(carry.diverged)))
    turns = jax.ShapeDtypeStruct(carry.diverged.shape, jnp.int32, sharding=carry.diverged.sharding)
    begun = none_begun(programs.mesh, len(carry.diverged))
    states = _abstract(programs.mesh, jax.eval_shape(programs.starts, own, loop.START, 0, begun))
    play = _abstract(programs.mesh, jax.eval_shape(programs.begin_play, states))
    return {
        "starts": (own, loop.START, 0, begun),
        "initial_carry": (numbers, own, states),
        "warm_up": (numbers, carry, turns, 0),
        "cycles": (numbers, carry, turns, 0),
        "begin_play": (states,),
        "play_on": (numbers, carry, play, 0),
        "judged": (numbers, carry, play, 0),
    }


def none_begun(mesh: Mesh | None, num_runs: int) -> UInt32[Array, " R"]:
    """How many episodes have begun before the first, `[R]`."""
    return laid_out(mesh, jnp.zeros(num_runs, jnp.uint32))


def mesh(num_devices: int) -> Mesh | None:
    """This process's first `num_devices` devices in a row; None of a single one, over which nothing is laid out."""
    if num_devices == 1:
        return None
    return jax.make_mesh((num_devices,), (RUNS,), (AxisType.Auto,), devices=jax.local_devices()[:num_devices])


def laid_out(mesh: Mesh | None, tree: Tree) -> Tree:
    """`tree` on the devices of `mesh`, its axes over runs laid out over them; what has no axis goes to every device."""
    if mesh is None:
        return jax.device_put(tree)
    return jax.device_put(tree, jax.tree.map(lambda x: NamedSharding(mesh, _spec(x.ndim)), tree))


def _spec(axes: int | bool) -> PartitionSpec:
    return PartitionSpec(RUNS) if axes else PartitionSpec()


def flowing(
    hyper: Hyperparameters, swept: Mapping[str, Sequence[float]] | None = None, settings: Sequence[int] = ()
) -> Numbers:
    """The numbers of `hyper` that flow through the program: changing one compiles nothing anew.

    `{name: []}`; of those that are `swept`, `{name: one of each setting}`, `[R]`, run i being of setting `settings[i]`.
    """
    values = {field.name: getattr(hyper, field.name) for field in dataclasses.fields(hyper)}
    numbers = {name: jnp.float32(value) for name, value in values.items() if flows(value)}
    return numbers | {name: jnp.float32(values)[jnp.asarray(settings)] for name, values in (swept or {}).items()}


class OneRun(NamedTuple):
    """The loop of one run, as functions of the hyperparameters that flow through it (`numbers`).

    The algorithm is made by `build(hyper, plan, env)` inside of each function, so that its numbers may be traced.
    """

    plan: Plan
    build: Constructor
    env: Environment
    hyper: Hyperparameters

    def setup(self, numbers: Numbers) -> Run:
        hyper = dataclasses.replace(self.hyper, **numbers)
        return loop.setup(self.plan, self.build(hyper, self.plan, self.env), self.env)

    def starts(self, key: Key, purpose: IntScalar, index: IntScalar, begun: IntScalar) -> PyTree:
        # Where episodes begin does not depend on what flows.
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
) -> Programs:
    """The `Programs` of the runs of `plan`; `build(hyper, plan, env)` makes the algorithm.

    The hyperparameters whose names are in `swept` have an axis over runs. `mesh` lays the runs out over devices. They
    are compiled for `platform`, for JAX's own where that is None.
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

    return Programs(
        starts=mapped(one.starts, 0, None, None, 0),
        initial_carry=mapped(one.initial_carry, axes, 0, 0, donate_argnums=2),
        warm_up=advancing(loop.warm_up),
        cycles=advancing(loop.cycles, cache),
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
    """`work(run, carry, turn, end)` of `loop`, for many runs: `(numbers, carry, turns, end) -> (turns, carry)`.

    As many runs as `cache` holds (`side_by_side`) train at a time, all of them without one. They are at one turn,
    which has no axis over runs.
    """

    def all_runs(numbers: Numbers, carry: Carry, turns: Int[Array, " R"], end: IntScalar) -> Turns:
        def one_group(numbers: Numbers, carry: Carry, turns: Int[Array, " G"]) -> tuple[Carry, Int[Array, " G"]]:
            each = jax.vmap(lambda numbers, carry: work(one.setup(numbers), carry, turns[0], end), (axes, 0), (None, 0))
            turn, carry = each(numbers, carry)
            return carry, jnp.full_like(turns, turn)

        carry, turns = in_groups(one_group, axes, side_by_side(carry.agent, cache), numbers, carry, turns)
        return turns, carry

    all_runs.__name__ = work.__name__  # what profilers and logs of compilation call it
    return all_runs


def compiler_options(plan: Plan, platform: str, mesh: Mesh | None) -> Options | None:
    """XLA's options for the programs of `plan` on the devices of `mesh`; None where there are none."""
    options = COMPILER_OPTIONS.get(platform)
    product = plan.batch_size * max(plan.widths, default=0) ** 2
    if platform == "cpu" and mesh is not None and product >= LARGE_PRODUCT and _knows(YNNPACK):
        options = (options or {}) | {YNNPACK: ""}
    return options


@functools.cache
def _knows(option: str) -> bool:
    """Whether this XLA has the compiler option of that name, whose value may be ""."""
    try:
        jax.jit(jnp.negative, compiler_options={option: ""}).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def over_devices(mesh: Mesh | None, function: Callable[..., Any], *axes: Any) -> Callable[..., Any]:
    """`function` of all runs, each device of `mesh` calling it for its own. `axes` are those over runs, 0 or None."""
    if mesh is None:
        return function
    specs = jax.tree.map(lambda axis: _spec(axis is not None), axes, is_leaf=lambda axis: axis is None)
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(RUNS), check_vma=False)


def in_groups(
    train: Callable[..., tuple[Tree, Any]], axes: Axes, size: int, numbers: Numbers, carry: Tree, *more: PyTree
) -> tuple[Tree, Any]:
    """`train(numbers, carry [R, ...], *more [R]) -> (carry, metrics [R])`, one group of `size` runs after another.

    Those of `numbers` whose axis in `axes` is 0 have an axis over runs.
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
    """How many of `agents`, a tree of arrays `[R, ...]`, to train at a time: a divisor of R, R without `cache`."""
    leaves = jax.tree.leaves(agents)
    num_runs, size = len(leaves[0]), sum(x.size * x.dtype.itemsize for x in leaves)
    fits = num_runs if cache is None else max(2, num_runs * cache // size)
    return largest_divisor(num_runs, fits)


def largest_divisor(number: int, most: int) -> int:
    """Of `number`, and not over `most`; 0 where that is under 1."""
    return max((n for n in range(1, min(number, most) + 1) if number % n == 0), default=0)


def keys(seed: int, num_seeds: int) -> Keys:
    """One key per run, `[R]`. Run i is the run of the integer seed + i, whatever its neighbours."""
    return keys_of(seed + jnp.arange(num_seeds))


def keys_of(seeds: Sequence[int] | Int[Array, " R"]) -> Keys:
    """The keys of the runs of the integers `seeds`, `[R]`."""
    return jax.vmap(jax.random.key)(jnp.asarray(seeds))
