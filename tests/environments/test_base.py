"""What is refused when an environment is made, in one line and before anything is compiled, and what is not."""

from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import environments
from purerl.environments.base import Environment, Outcome

NO = jnp.asarray(False)
State = namedtuple("State", "x start key time")


def made(advance=None, limit=20, **fields):
    """A point that moves by its action, begun at random. `advance` makes `(State, Outcome)` of the step's."""

    def reset(key):
        x = jax.random.normal(key, (2,))
        return State(x, x, jax.random.key_data(key), 0)

    def step(state, action):
        after = state._replace(x=state.x + 0.1 * action, time=state.time + 1)
        outcome = Outcome(-jnp.square(after.x).sum(), jnp.abs(after.x).max() > 5.0, after.time >= 7)
        return (after, outcome) if advance is None else advance(state, after, outcome)

    env = Environment(reset, step, lambda state: state.x, 2, 2, limit, "point")
    return env._replace(**fields)


def refused(make):
    """The one line with which `make()` is refused."""
    with pytest.raises(ValueError) as error:
        make()
    assert "\n" not in str(error.value)
    return str(error.value)


FIELDS = {  # what is changed in `made`, and what the error must say
    "no limits": ({"action_range": (-np.inf, np.inf)}, "action_range is (-inf, inf); the bounds must be finite"),
    "half a limit": ({"action_range": (-1.0, np.asarray([1.0, np.nan]))}, "the bounds must be finite"),
    "crossed": (
        {"action_range": (1.0, -1.0)},
        "action_range is (1.0, -1.0); the bounds must be finite in float32, with",
    ),
    "equal": ({"action_range": (jnp.zeros(2), jnp.asarray([1.0, 0.0]))}, "with low below high"),
    "too wide": ({"action_range": (-3e38, 3e38)}, "finite in float32"),
    "equal in float32": ({"action_range": (1.0, 1.0 + 1e-9)}, "in float32, with low below high"),
    "too many": (
        {"action_range": (-np.ones(3), np.ones(3))},
        "of float64[3]; low and high must be numbers, or",
    ),
    "too few": ({"action_range": ([-1.0], [1.0])}, "arrays of shape (2,)"),
    "three": ({"action_range": (0.0, 1.0, 2.0)}, "action_range is (0.0, 1.0, 2.0); it must be a pair (low, high)"),
    "none": ({"action_range": None}, "action_range is None; it must be a pair (low, high)"),
    "text": ({"action_range": ("-1", "1")}, "low and high must be numbers"),
    "nothing to see": ({"obs_size": 0}, "obs_size is 0; it must be a positive int"),
    "half a size": ({"obs_size": 2.0}, "obs_size is 2.0; it must be a positive int"),
    "no action": ({"action_size": -1}, "action_size is -1; it must be a positive int"),
    "true": ({"action_size": True}, "action_size is True; it must be a positive int"),
    "no time": ({"limit": 0}, "episode_length is 0; it must be a positive int, up to 2147483647"),
    "half a step": ({"limit": 10.0}, "episode_length is 10.0; it must be a positive int"),
    "too long": ({"limit": 2**31}, "episode_length is 2147483648; it must be a positive int, up to 2147483647"),
    "no limit": ({"limit": None}, "episode_length is None"),
    "no function": ({"observe": jnp.zeros(2)}, "observe is Array([0., 0.], dtype=float32); it must be a function"),
    "no name": ({"name": None}, "name is None; it must be a str"),
    "no flag": ({"truncates": "no"}, "truncates is 'no'; it must be True or False"),
    "no scene": ({"scene": 3}, "scene is of int; it must be a Scene or None"),
    "other size": ({"obs_size": 3}, "observe(state) is float32[2]; it must be float32[3]"),
    "integers": ({"observe": lambda s: s.x.astype(int)}, "observe(state) is int32[2]; it must be float32[2]"),
    "two": ({"observe": lambda s: (s.x, s.x)}, "observe(state) is tuple; it must be float32[2]"),
    "no state": ({"reset": lambda key: ()}, "reset(key) returns (); a state must hold at least one array"),
    "string": ({"reset": lambda key: "start"}, "reset(key) fails"),
    "copies": ({"advance": lambda _, s, o: (s, o._replace(reward=s.x))}, "reward is float32[2]; it must be float32[]"),
    "whole": ({"advance": lambda _, s, o: (s, o._replace(reward=1))}, "reward is int32[]; it must be float32[]"),
    "end": ({"advance": lambda _, s, o: (s, o._replace(terminated=1.0))}, "terminated is float32[]; it must be bool[]"),
    "time": (
        {"advance": lambda _, s, o: (s, o._replace(truncated=s.x > 9))},
        "truncated is bool[2]; it must be",
    ),
    "three values": (
        {"advance": lambda _, s, o: (s, o, {})},
        "returns (State, Outcome, dict); it must",
    ),
    "no outcome": (
        {"advance": lambda _, s, o: (s, tuple(o))},
        "returns (State, tuple); it must return (state",
    ),
    "other kind": (
        {"advance": lambda _, s, o: (s._replace(x=s.x > 0), o)},
        ".x is float32[2] after reset and bool[2]",
    ),
}


@pytest.mark.parametrize("changes, words", FIELDS.values(), ids=FIELDS.keys())
def test_a_field_that_is_wrong_is_named_with_what_was_found_and_what_is_allowed(changes, words):
    env = made(**changes)
    for make in (lambda: environments.make(env), lambda: purerl.VectorEnv(env)):
        assert words in refused(make)


@pytest.mark.parametrize("value", [0, -3, True, 2.5, 2**31, "7"])
def test_a_time_limit_that_somebody_gives_is_checked_in_every_family(value):
    for name in (made(), "fast", "Pendulum-v1", "inverted_pendulum", "InvertedPendulum-v5", "gymnax:Pendulum-v1"):
        message = refused(lambda name=name: environments.make(name, episode_length=value))
        assert f"episode_length is {value!r}; it must be a positive int" in message


def test_what_is_right_is_taken_as_it_is():
    low, high = np.asarray([-1, 0]), jnp.asarray([2.0, 3.0])
    env = made(action_range=(low, high), obs_size=np.int64(2), limit=2**31 - 1)
    checked = environments.make(env)
    assert (checked.obs_size, checked.episode_length, checked.name) == (2, 2**31 - 1, "point")
    assert type(checked.obs_size) is int and np.array_equal(checked.action_range, [[-1, 0], [2, 3]])
    assert environments.make(checked).step is checked.step  # Nothing is wrapped twice.
    assert environments.make(env, episode_length=3).episode_length == 3
    assert purerl.VectorEnv(env).single_action_space.high.tolist() == [2.0, 3.0]


def test_what_is_no_environment_is_said_to_be_none():
    for value in (None, 5, dict, Environment):
        assert "an environment is a name or an Environment, not of" in refused(
            lambda value=value: environments.make(value)
        )
    assert "'point' has no backend 'spring'; leave the backend out" in refused(
        lambda: environments.make(made(), "spring")
    )


def test_a_state_that_begins_weakly_typed_is_carried_as_any_other():
    env = environments.make(made())
    after, _ = env.step(env.reset(jax.random.key(0)), jnp.zeros(2))
    assert not any(x.weak_type for x in jax.tree.leaves((env.reset(jax.random.key(0)), after)))


def test_nothing_is_compiled_before_what_is_wrong_is_said(caplog):
    with jax.log_compiles():
        refused(lambda: environments.make(made(obs_size=3)))
        assert "XLA compilation" not in caplog.text
        jax.jit(made().reset)(jax.random.key(0))
        assert "XLA compilation" in caplog.text


# Environments that reset by themselves


def begun_anew(state):
    key, carried = jax.random.split(jax.random.wrap_key_data(state.key))
    x = jax.random.normal(key, (2,))
    return State(x, x, jax.random.key_data(carried), 0)


def over(outcome):
    return outcome.terminated | outcome.truncated


def chosen(condition, yes, no):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def by_cond(before, after, outcome):
    state = jax.lax.cond(over(outcome), lambda: begun_anew(before), lambda: after._replace(time=jnp.int32(after.time)))
    return state, outcome


RESETS = {
    "drawn anew": lambda before, after, outcome: (chosen(over(outcome), begun_anew(before), after), outcome),
    "in a cond": by_cond,
    "not over": lambda before, after, outcome: (chosen(~over(outcome), after, begun_anew(before)), outcome),
    "at one of the ends": lambda before, after, outcome: (
        chosen(outcome.truncated, begun_anew(before), after),
        outcome,
    ),
    "asked twice": lambda before, after, outcome: (
        chosen((jnp.abs(after.x).max() > 5.0) | (after.time >= 7), begun_anew(before), after),
        outcome,
    ),
    "of ones and zeros": lambda before, after, outcome: (
        chosen(jnp.where(over(outcome), 1.0, 0.0) > 0.5, begun_anew(before), after),
        outcome,
    ),
    "put aside": lambda before, after, outcome: (
        after._replace(x=jnp.where(over(outcome), before.start, after.x)),
        outcome,
    ),
    "in a jit": lambda before, after, outcome: (
        jax.jit(chosen)(over(outcome), jax.jit(begun_anew)(before), after),
        outcome,
    ),
}

HONEST = {  # all of these let the last state of an episode be
    "plain": lambda before, after, outcome: (after, outcome),
    "noise": lambda before, after, outcome: (
        after._replace(x=after.x + jax.random.normal(jax.random.wrap_key_data(before.key), (2,))),
        outcome,
    ),
    "frozen at the end": lambda before, after, outcome: (chosen(over(outcome), before, after), outcome),
    "blank at the end": lambda before, after, outcome: (
        after._replace(x=jnp.where(over(outcome), 0.0, after.x)),
        outcome,
    ),
    "a new goal at the end": lambda before, after, outcome: (
        after._replace(start=jnp.where(over(outcome), begun_anew(before).x, before.start)),
        outcome,
    ),
    "a lap": lambda before, after, outcome: (  # a respawn that ends no episode
        chosen(after.x[0] > 2.0, begun_anew(before)._replace(time=after.time), after),
        outcome._replace(terminated=NO),
    ),
    "back home": lambda before, after, outcome: (
        after._replace(x=jnp.where(after.x[1] < -1.0, before.start, after.x)),
        outcome,
    ),
    "random at the end": lambda before, after, outcome: (
        after,
        outcome._replace(terminated=jax.random.bernoulli(jax.random.wrap_key_data(before.key))),
    ),
}


@pytest.mark.parametrize("advance", RESETS.values(), ids=RESETS.keys())
def test_a_step_that_begins_new_episodes_is_refused(advance):
    assert "point: its step resets by itself: where an episode ends" in refused(
        lambda: environments.make(made(advance))
    )


@pytest.mark.parametrize("advance", HONEST.values(), ids=HONEST.keys())
def test_a_step_that_leaves_the_last_state_be_is_taken(advance):
    assert environments.make(made(advance)).name == "point"


def test_a_bandit_whose_episodes_are_one_step_is_no_reset():
    def step(context, action):
        return context, Outcome(-jnp.square(action - context).sum(), jnp.asarray(True), NO)

    env = Environment(lambda key: jax.random.normal(key, (2,)), step, lambda state: state, 2, 2, 1, "bandit", False)
    assert environments.make(env).episode_length == 1
