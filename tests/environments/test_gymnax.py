"""Environments in gymnax's style, of either of its step signatures, none of which is a stand-in for the other."""

import dataclasses
import sys
import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from flax.core import FrozenDict

from purerl import environments
from purerl.environments import episodes, gymnax


class Params(NamedTuple):
    max_steps_in_episode: int = 5
    wall: float = 3.0

    def replace(self, **changes):
        return self._replace(**changes)


class Position(NamedTuple):
    x: jax.Array
    time: jax.Array


class Box(NamedTuple):
    low: Any
    high: Any
    shape: tuple


class Old:
    """A walk along a line, as gymnax had it up to 0.0.9: `done` is set at the wall and at the time limit."""

    default_params = Params()

    def reset_env(self, key, params):
        state = Position(jax.random.uniform(key), jnp.int32(0))
        return self.observe(state), state

    def step_env(self, key, state, action, params):
        state = Position(state.x + action[0] + 0.01 * jax.random.normal(key), state.time + 1)
        done = (state.x > params.wall) | (state.time >= params.max_steps_in_episode)
        return self.observe(state), state, -jnp.abs(state.x), done, {"discount": 1.0 - done}

    def observe(self, state):
        return jnp.stack([state.x, state.time.astype(float)])

    def action_space(self, params):
        return Box(-2.0, 4.0, (1,))


class New(Old):
    """The same as gymnax has it from 1.0 on."""

    def step_env(self, key, state, action, params):
        observation, state, reward, _, info = super().step_env(key, state, action, params)
        return observation, state, reward, state.x > params.wall, info

    def is_truncated(self, state, params):
        return (state.time >= params.max_steps_in_episode) | (state.x < -50.0)


class Six(New):
    """The same with truncation among what a step gives."""

    is_truncated = None

    def step_env(self, key, state, action, params):
        observation, state, reward, terminated, info = super().step_env(key, state, action, params)
        return observation, state, reward, terminated, state.x < -50.0, info


class Discrete(Old):
    def action_space(self, params):
        return NamedTuple("Discrete", [("n", int)])(3)


KINDS = (Old, New, Six)


def walk(env, action, steps):
    """The transitions `[steps, E]` of two copies that always take `action`."""
    begun = episodes.begin(env, 2, jax.random.key(0))

    def step(state, _):
        return episodes.step(env, state, jnp.full((2, 1), action))

    return jax.lax.scan(step, begun, None, steps)[1]


@pytest.mark.parametrize("kind", KINDS)
def test_their_time_limit_truncates_and_does_not_terminate(kind):
    env = gymnax.from_gymnax(kind())
    seen = walk(env, -1 / 3, 12)  # An action of 0 in their units: nobody reaches the wall.
    assert env.episode_length == 5 and not seen.terminated.any()
    assert seen.truncated[:, 0].tolist() == ([False] * 4 + [True]) * 2 + [False] * 2
    assert gymnax.from_gymnax(kind(), episode_length=7).episode_length == 7


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_observation_is_kept_and_the_wall_terminates(kind):
    seen = walk(gymnax.from_gymnax(kind()), 1.0, 4)  # 4 in their units: at the wall after a step.
    assert seen.terminated.all() and not seen.truncated.any()
    assert (seen.next_observation[..., 0] > 3.9).all() and (seen.next_observation[..., 1] == 1).all()
    assert (seen.observation[..., 0] < 1).all() and (seen.observation[..., 1] == 0).all()


@pytest.mark.parametrize("kind", (New, Six))
def test_another_truncation_than_the_time_limit_is_one(kind):
    env = gymnax.from_gymnax(kind())
    state = env.reset(jax.random.key(0))
    state, outcome = env.step(state._replace(state=Position(jnp.float32(-60.0), jnp.int32(0))), jnp.zeros(1))
    assert outcome.truncated and not outcome.terminated and env.truncates


def test_steps_draw_anew():
    env = gymnax.from_gymnax(Old())
    state, moves = env.reset(jax.random.key(0)), []
    for _ in range(3):
        after, _ = env.step(state, jnp.zeros(1))
        moves.append(float(after.observation[0] - state.observation[0]))
        state = after
    assert len(set(moves)) == 3 and np.abs(moves).max() < 0.1


def test_one_of_ones_own_is_known_by_name():
    env = environments.make(f"{__name__}:New")
    assert (env.name, env.obs_size, env.action_size, env.episode_length) == (f"{__name__}:New", 2, 1, 5)
    assert environments.make(f"{__name__}:Old", episode_length=9).episode_length == 9


def test_what_cannot_be_learned_is_one_line(monkeypatch):
    with pytest.raises(ValueError, match=r"Discrete: its action space is .*need a box of numbers"):
        gymnax.from_gymnax(Discrete())
    monkeypatch.setattr(Old, "action_space", lambda self, params: Box(-np.inf, np.inf, (1,)))
    with pytest.raises(ValueError, match="bounds must be finite"):
        gymnax.from_gymnax(Old())
    with pytest.raises(ValueError, match=r"gymnax:Pendulum-v1 needs the package gymnax; pip install -e '.*\[gymnax\]'"):
        monkeypatch.setitem(sys.modules, "gymnax", None)
        environments.make("gymnax:Pendulum-v1")
    with pytest.raises(ValueError, match=r"no 'Nwe' that is an Environment.*; did you mean New"):
        environments.make(f"{__name__}:Nwe")


# What depends on the time limit


class Timed(Old):
    """It observes the share of the time that is over, pays 10 at the end of it, and dies at the wall."""

    def limit(self, params):
        return params["max_steps_in_episode"] if hasattr(params, "keys") else params.max_steps_in_episode

    def reset_env(self, key, params):
        state = Position(jax.random.uniform(key), 0)
        return self.observe(state, params), state

    def step_env(self, key, state, action, params):
        state = Position(state.x + action[0], state.time + 1)
        over, dead = state.time >= self.limit(params), state.x > 3.0
        return self.observe(state, params), state, jnp.where(over, 10.0, 0.0), *self.ends(dead, over), {}

    def ends(self, dead, over):
        return (dead | over,)

    def observe(self, state, params):
        return jnp.stack([state.x, state.time / self.limit(params)])


class TimedNew(Timed):
    def ends(self, dead, over):
        return (dead,)

    def is_truncated(self, state, params):
        return state.time >= self.limit(params)


class TimedSix(Timed):
    def ends(self, dead, over):
        return dead, over


@struct.dataclass
class Flax:
    max_steps_in_episode: int = 5


@dataclasses.dataclass(frozen=True)
class Frozen:
    max_steps_in_episode: int = 5
    share: float = dataclasses.field(init=False, default=0.2)

    def __post_init__(self):
        object.__setattr__(self, "share", 1.0 / self.max_steps_in_episode)


@dataclasses.dataclass
class Strange:
    """Made in a way of its own."""

    max_steps_in_episode: int

    def __init__(self):
        self.max_steps_in_episode = 5


class Slots:
    __slots__ = ("max_steps_in_episode",)

    def __init__(self):
        self.max_steps_in_episode = 5


class Five:
    max_steps_in_episode = 5


PARAMS = [
    Params(),
    Flax(),
    Frozen(),
    dataclasses.make_dataclass("Plain", [("max_steps_in_episode", int, 5)])(),
    Strange(),
    {"max_steps_in_episode": 5},
    FrozenDict(max_steps_in_episode=5),
    types.SimpleNamespace(max_steps_in_episode=5),
    Slots(),
    Five(),
    Five,
    Flax(np.int64(5)),
    Flax(jnp.int32(5)),
    Flax(5.0),
]


@pytest.mark.parametrize("length", [None, 3, 8])
@pytest.mark.parametrize("kind", [Timed, TimedNew, TimedSix])
def test_observations_and_rewards_see_the_time_limit_there_is(kind, length):
    env = gymnax.from_gymnax(kind(), episode_length=length)
    limit = length or 5
    seen = walk(env, -1 / 3, limit)
    assert env.episode_length == limit
    np.testing.assert_allclose(seen.next_observation[:, 0, 1], np.arange(1, limit + 1) / limit, rtol=1e-6)
    assert seen.reward[:, 0].tolist() == [0.0] * (limit - 1) + [10.0]
    assert seen.truncated[:, 0].tolist() == [False] * (limit - 1) + [True] and not seen.terminated.any()


@pytest.mark.parametrize("kind", [Timed, TimedNew, TimedSix])
def test_death_at_the_time_limit_is_death(kind):
    seen = walk(gymnax.from_gymnax(kind(), episode_length=1), 1.0, 1)
    assert seen.terminated.all() and not seen.truncated.any() and (seen.reward == 10.0).all()


@pytest.mark.parametrize("params", PARAMS, ids=lambda params: type(params).__name__)
def test_parameters_of_any_kind_are_understood(params):
    env = gymnax.from_gymnax(Timed(), params)
    state = env.reset(jax.random.key(0))
    state, outcome = env.step(state._replace(state=state.state._replace(time=jnp.int32(4))), jnp.zeros(1))
    assert (env.episode_length, float(state.observation[1]), float(outcome.reward)) == (5, 1.0, 10.0)
    assert not outcome.terminated
    assert gymnax.from_gymnax(Timed(), params, 9).episode_length == 9
    assert Timed().limit(params) == 5  # The user's own are as they were.


class Timeless(Old):
    """It has no parameters, and no time limit."""

    default_params = None

    def step_env(self, key, state, action, params):
        assert params is None
        state = Position(state.x + action[0], state.time + 1)
        return self.observe(state), state, -state.x, state.x > 3.0, {}


class Bare:
    """Nor does it say so."""

    reset_env, step_env, observe = Old.reset_env, Timeless.step_env, Old.observe
    action_space = Old.action_space


@pytest.mark.parametrize("kind", [Timeless, Bare])
def test_parameters_may_be_none(kind):
    assert gymnax.from_gymnax(kind()).episode_length == 1000
    assert walk(gymnax.from_gymnax(kind(), episode_length=2), -1 / 3, 2).truncated[1].all()


class Fixed:
    """Its limit cannot be changed."""

    max_steps_in_episode = property(lambda self: 5)


@pytest.mark.parametrize(
    "params, words",
    [
        (Flax(0), "max_steps_in_episode is 0; it must be a positive int"),
        (Flax(5.5), "max_steps_in_episode is 5.5; it must be a positive int"),
        (Flax(float("inf")), "max_steps_in_episode is inf; it must be a positive int"),
        (Flax("5"), "max_steps_in_episode is '5'; it must be a positive int"),
        (Flax(True), "max_steps_in_episode is True; it must be a positive int"),
        (Fixed(), "setting max_steps_in_episode of a Fixed fails: AttributeError"),
    ],
)
def test_a_time_limit_that_is_none_is_refused(params, words):
    with pytest.raises(ValueError, match=words):
        gymnax.from_gymnax(Timed(), params)


def changed(**changes):
    """`Old` whose step gives something else: functions of what it gave."""

    def step_env(self, *arguments):
        return tuple(
            changes.get(field, lambda x: x)(x)
            for field, x in zip(
                ("seen", "state", "reward", "done", "info"), Old.step_env(self, *arguments), strict=True
            )
        )

    return type("Changed", (Old,), {"step_env": step_env})()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"reward": lambda x: jnp.stack([x, x])}, r"reward must be a scalar, not of shape \(2,\)"),
        ({"reward": lambda x: x + 1j}, "reward must be real numbers, not complex64"),
        ({"done": lambda x: jnp.stack([x, x])}, r"done must be a scalar, not of shape \(2,\)"),
        ({"seen": lambda x: x[:1]}, r"\.observation is float32\[2\] after reset and float32\[1\] after step"),
        ({"seen": lambda x: {"x": {"y": x}}}, "the entry 'x' of an observation is a dict; it must be a flat vector"),
        ({"state": lambda x: x._replace(x=x.x > 0)}, r"\.x is float32\[\] after reset and bool\[\] after step"),
    ],
)
def test_a_broken_environment_is_told_what_is_wrong_with_it(change, words):
    with pytest.raises(ValueError, match=words) as error:
        gymnax.from_gymnax(changed(**change))
    assert "\n" not in str(error.value) and str(error.value).startswith("Changed: ")


def test_a_reward_in_a_vector_of_one_is_a_reward():
    env = gymnax.from_gymnax(changed(reward=lambda x: x[None], done=lambda x: x[None]))
    assert walk(env, -1 / 3, 1).reward.shape == (1, 2)


# Environments that reset by themselves


class Resetting(Old):
    """Its `step_env` is what gymnax calls `step`, up to 0.0.9."""

    def step_env(self, key, state, action, params):
        observation, after, reward, done, info = super().step_env(key, state, action, params)
        fresh_observation, fresh = self.reset_env(key, params)
        after = jax.tree.map(lambda x, y: jnp.where(done, x, y), fresh, after)
        return jnp.where(done, fresh_observation, observation), after, reward, done, info


def test_a_step_env_that_resets_is_refused():
    with pytest.raises(ValueError, match="Resetting: its step resets by itself: where an episode ends, its state"):
        gymnax.from_gymnax(Resetting())


def test_gymnaxs_own_step_in_the_place_of_step_env_is_refused():
    pendulum = pytest.importorskip("gymnax").make("Pendulum-v1")[0]
    theirs = type(pendulum)

    class Same(theirs):
        def step_env(self, key, state, action, params):
            return theirs().step(key, state, action, params)

    assert gymnax.from_gymnax(pendulum).episode_length == 200
    with pytest.raises(ValueError, match="Same: its step resets by itself"):
        gymnax.from_gymnax(Same())


def test_a_wrapper_that_would_be_passed_over_is_refused():
    wrappers = pytest.importorskip("gymnax.wrappers")
    names = ("LogWrapper", "FlattenObservationWrapper", "LegacyStepAPIWrapper")  # the last one since gymnax 1.0
    for wrapper in (getattr(wrappers, name) for name in names if hasattr(wrappers, name)):
        with pytest.raises(ValueError, match=f"{wrapper.__name__} has no reset_env.* of its own; give the env"):
            gymnax.from_gymnax(wrapper(Old()))


def test_one_that_is_made_already_is_taken():
    assert environments.make(Timed(), episode_length=4).episode_length == 4
    with pytest.raises(ValueError, match=r"'Timed' has no backend 'spring'; leave the backend out"):
        environments.make(Timed(), "spring")
