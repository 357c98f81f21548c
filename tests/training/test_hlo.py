"""What XLA makes of an epoch: the ring stays in place, and nothing in it is conditional.

Two releases of XLA have copied the whole ring at every write (jax issue 40101, xla issue 45912).
"""

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import pytest
from commands import AS_SHIPPED
from toys import BUILD, HYPERS, learner, steered

from benchmarks import hlo
from purerl.settings.schema import Plan
from purerl.training import loop, mapping, replay
from purerl.training.mapping import keys
from purerl.types import Transition

ROWS = 1013  # No other array has such an axis.
SEEDS = 4
CALLED = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
A_MATRIX = r"tensor<\d+x\d+[\dx]*xi32>"  # the indices of a scatter to many places
SCATTER = re.compile(rf"\(tensor<[\dx]*{ROWS}x[^>]*>, {A_MATRIX}, .*-> tensor<[\dx]*{ROWS}x")
GATHER = re.compile(rf'(%\d+) = "stablehlo.gather".*\(tensor<\d+x{ROWS}x')


def looped(computations):
    """The names of all computations that run inside a while loop, fused ones included."""
    texts = {name: [instruction.text for instruction in made] for name, made in computations.items()}
    ahead = [body for lines in texts.values() for line in lines for body in hlo.BODY.findall(line)]
    reached = set()
    while ahead:
        name = ahead.pop()
        if name not in reached:
            reached.add(name)
            ahead += [called for line in texts[name] for called in CALLED.findall(line)]
    return reached


def operations(instructions):
    """`(opcode, whether the result is as long as the ring)` of every instruction."""
    return [(made.opcode, bool(re.search(rf"[\[,]{ROWS}[,\]]", made.result))) for made in instructions]


def flaws(function, *args):
    """What must not be in the program of `function`, whose first argument is donated.

    JAX traces a mapped write as a scatter. Where it goes to one place, XLA makes a dynamic-update-slice of it; where
    every seed has its own, XLA for the CPU makes it a loop, so that only the traced program tells.
    """
    lowered = jax.jit(function, donate_argnums=0).lower(*args)
    text = lowered.compile(AS_SHIPPED).as_text()
    found, _ = hlo.parse(text)
    everything = [op for instructions in found.values() for op in operations(instructions)]
    inside = [op for name in looped(found) for op in operations(found[name])]
    signs = {
        "conditional": any(name == "conditional" for name, _ in everything),
        "scatter": bool(SCATTER.search(lowered.as_text())) or ("scatter", True) in everything,
        "copy": ("copy", True) in inside,
        "not written in place": ("dynamic-update-slice", True) not in inside,
        "not aliased": "input_output_alias={" not in text,
    }
    return [sign for sign, present in signs.items() if present]


@cache
def run(algo="td3", updates_per_step=2, ring="compact"):
    rows = ROWS - (ring == "compact")  # The compact ring has one place more.
    plan = Plan(
        ring=ring,
        total_steps=64 + 160,
        num_envs=4,
        updates_per_step=updates_per_step,
        batch_size=16,
        buffer_size=4 * rows,
        warmup_steps=64,
        num_evals=2,
        widths=(8,),
    )
    env = steered()._replace(truncates=False)
    return loop.setup(plan, learner(algo, plan, env), env)


def carries(setup, seeds=SEEDS):
    return jax.eval_shape(jax.vmap(partial(loop.warmed_up, setup)), keys(0, seeds))


@pytest.mark.parametrize(
    "algo, updates_per_step, seeds",
    [
        ("td3", 2, SEEDS),
        pytest.param("td3", 1, SEEDS, marks=pytest.mark.slow),
        pytest.param("td3", 1, 1, marks=pytest.mark.slow),
        pytest.param("td3", 4, SEEDS, marks=pytest.mark.slow),
        ("ddpg", 1, SEEDS),
        ("sac", 1, SEEDS),
    ],
)
@pytest.mark.parametrize("ring", ["compact", pytest.param("plain", marks=pytest.mark.slow)])
def test_an_epoch_of_many_seeds_writes_its_rings_in_place_and_decides_nothing(algo, updates_per_step, seeds, ring):
    setup = run(algo, updates_per_step, ring)
    epoch = jax.vmap(partial(loop.epoch, setup), in_axes=(0, None))
    assert flaws(epoch, carries(setup, seeds), jnp.int32(0)) == []


def test_the_ring_is_aliased_with_its_successor():
    epoch = jax.jit(jax.vmap(partial(loop.epoch, run()), in_axes=(0, None)), donate_argnums=0)
    carry = jax.jit(jax.vmap(partial(loop.warmed_up, run())))(keys(0, SEEDS))
    place = carry.ring.data.unsafe_buffer_pointer()
    assert epoch(carry, jnp.int32(0))[0].ring.data.unsafe_buffer_pointer() == place


def add(ring, time, value):
    """Write a row, as the ring does."""
    buffer = replay.plain(replay.Shape(ROWS, 1, 1, 2, 5, "float32"))
    row, never = jnp.full((4, 1), value, float), jnp.zeros(4, bool)
    return buffer.add(ring, time, Transition(row, jnp.tile(row, 2), row[:, 0], never, never, row), row)


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("kind", [replay.plain, replay.compact])
def test_rows_are_read_from_a_ring_once_and_stored_before_they_are_used(kind, n_step):
    rows = ROWS - (kind is replay.compact)  # The compact ring has one place more.
    buffer = kind(replay.Shape(rows, n_step, 1, 2, 5, "float32"))
    ring = jax.eval_shape(jax.vmap(partial(buffer.empty, 0)), jnp.zeros((SEEDS, 4, 1)))

    def sample(ring, key):
        return buffer.sample(ring, jnp.int32(40), key, (2, 16))

    text = jax.jit(jax.vmap(sample)).lower(ring, keys(0, SEEDS)).as_text()
    lines = text.split("func.func private")[0].splitlines()  # Each function numbers its values from 0.
    (found,) = [gather[1] for line in lines if (gather := GATHER.search(line))]
    users = [line for line in lines if re.search(rf"{found}\b(?! =)", line)]
    assert len(users) == 1 and f"optimization_barrier {found} " in users[0]


def write(ring, added):
    """A ring written to five times in a loop: what an epoch does, and no more."""

    return jax.lax.scan(lambda ring, time: (add(ring, time, time), None), ring, added + jnp.arange(5))[0]


def write_or_not(ring, added):
    def maybe(ring, time):
        return jax.lax.cond(time > 3, lambda x: add(x, time, 1.0), lambda x: x, ring), None

    return jax.lax.scan(maybe, ring, added + jnp.arange(5))[0]


def write_and_keep(ring, added):
    """The old ring is still read after the write, so the write needs a copy."""

    def both(ring, time):
        new = add(ring, time, time)
        return new, (new * ring[::-1]).sum()

    return jax.lax.scan(both, ring, added + jnp.arange(5))


@pytest.mark.parametrize(
    "function, clock, expected",
    [
        (write, None, None),
        (write, 0, "scatter"),
        (write_or_not, None, "conditional"),
        (write_and_keep, None, "copy"),
    ],
    ids=["a shared clock", "a clock per seed", "a condition", "a copy"],
)
def test_these_signs_tell_a_good_program_from_a_bad_one(function, clock, expected):
    """A clock with a seed axis makes the write a scatter; the other faults are what they are called."""
    ring = jnp.zeros((SEEDS, ROWS, 4, 6))
    added = jnp.zeros(() if clock is None else SEEDS, jnp.int32)
    found = flaws(jax.vmap(function, in_axes=(0, clock)), ring, added)
    assert found == [] if expected is None else expected in found


def test_the_command_line_donates_the_carry_of_an_epoch():
    setup, hyper = run(), HYPERS["td3"]()
    programs, numbers = mapping.programs(setup.plan, BUILD["td3"], setup.env, hyper), mapping.flowing(hyper)
    carry = programs.run_warm_up(numbers, keys(0, 2))
    programs.run_epoch(numbers, carry, 0)
    assert carry.ring.data.is_deleted() and all(x.is_deleted() for x in jax.tree.leaves(carry.episodes))


@pytest.mark.parametrize("platform, expected", [("cpu", ["conditional"]), ("cuda", [])])
def test_the_command_lines_epoch_writes_its_rings_in_place(platform, expected):
    """On a CPU one conditional separates the warm-up from training. A GPU decides nothing."""
    setup, hyper = run(), HYPERS["td3"]()
    programs = mapping.programs(setup.plan, BUILD["td3"], setup.env, hyper, platform=platform)
    numbers = mapping.flowing(hyper)
    carry = mapping.abstract_carry(programs, numbers, SEEDS)
    cycles = mapping.arguments(programs, numbers, carry)["cycles"]
    assert flaws(lambda carry, *more: programs.cycles(numbers, carry, *more)[::-1], *cycles[1:]) == expected


@pytest.mark.parametrize(
    "platform, stepping", [("cpu", ["cycles", "play_on"]), ("cuda", ["cycles", "warm_up", "play_on"])]
)
def test_one_program_resets_and_two_step_the_environment_on_a_cpu(platform, stepping):
    setup, hyper = run(), HYPERS["td3"]()

    def reset(key):
        state = setup.env.reset(key)
        return state._replace(start=jnp.sinh(state.start))

    def step(state, action):
        return setup.env.step(state, jnp.cosh(action))

    env = setup.env._replace(reset=reset, step=step)
    programs = mapping.programs(setup.plan, BUILD["td3"], env, hyper, platform=platform)
    numbers = mapping.flowing(hyper)
    given = mapping.arguments(programs, numbers, mapping.abstract_carry(programs, numbers, 2))
    texts = {name: getattr(programs, name).lower(*each).as_text() for name, each in given.items()}
    assert [name for name, text in texts.items() if "sinh" in text] == ["starts"]
    assert [name for name, text in texts.items() if "cosh" in text] == stepping
