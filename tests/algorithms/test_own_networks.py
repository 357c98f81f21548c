"""Networks from a user's factory: what is taken, and what is refused before anything is compiled."""

from functools import partial
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from purerl.algorithms.ddpg import ddpg
from purerl.algorithms.sac import sac
from purerl.algorithms.td3 import td3
from purerl.runs import algorithm_check
from purerl.settings import config
from purerl.settings.hyperparameters import DDPG, SAC, TD3
from purerl.settings.registry import AlgorithmSpec
from purerl.settings.schema import Plan
from purerl.types import Batch

ENV = SimpleNamespace(obs_size=3, action_size=2)
PLAN = Plan(num_envs=4, widths=(8,))
BUILD = {"ddpg": (DDPG, ddpg), "td3": (TD3, td3), "sac": (SAC, sac)}


class Actor(nn.Module):
    """Layers from `setup`, with a submodule among the fields."""

    size: int
    body: nn.Module
    end: str = "tanh"

    def setup(self):
        self.last = nn.Dense(self.size)

    def __call__(self, observation):
        return getattr(nn, self.end)(self.last(self.body(observation)))


class Gaussian(nn.Module):
    size: int

    @nn.compact
    def __call__(self, observation):
        return nn.Dense(self.size)(observation), nn.softplus(nn.Dense(self.size)(observation))


class Critic(nn.Module):
    """A value, with a layer for each input."""

    body: nn.Module
    keep: bool = False

    @nn.compact
    def __call__(self, observation, action):
        x = self.body(observation) + nn.Dense(8)(action)
        return nn.Dense(1)(x) if self.keep else nn.Dense(1)(x)[..., 0]


class Flat(nn.Module):
    """It takes a batch with one axis only."""

    @nn.compact
    def __call__(self, observation):
        batch, _ = observation.shape
        return jnp.tanh(nn.Dense(2)(observation).reshape(batch, 2))


class Forgetful(nn.Module):
    """It drops all axes but one."""

    @nn.compact
    def __call__(self, observation):
        return jnp.tanh(nn.Dense(2)(observation.reshape(-1, 3)[0]))


class Still(nn.Module):
    def __call__(self, observation):
        return jnp.zeros((*observation.shape[:-1], 2))


def actor(plan, env):
    return Actor(env.action_size, nn.Dense(plan.widths[0]))


def gaussian(plan, env):
    return Gaussian(env.action_size)


def critic(plan, env):
    return Critic(nn.Dense(8))


def build(name, **networks):
    hyper, constructor = BUILD[name]
    return constructor(hyper(), PLAN, ENV, **networks)


@pytest.mark.parametrize(("name", "own", "count"), [("ddpg", actor, 1), ("td3", actor, 2), ("sac", gaussian, 2)])
def test_a_learner_trains_the_networks_that_it_is_given(name, own, count):
    algorithm = build(name, actor=own, critic=critic)

    def one_update(key):
        state = algorithm.init(key)
        x, action, ones = jnp.ones((1, 4, 3)), jnp.ones((1, 4, 2)), jnp.ones((1, 4))
        batch = Batch(x, action, ones, ones, x)
        value = algorithm.next_value(state, batch, key)
        first = jax.tree.map(lambda x: x[0], batch)
        after, _ = algorithm.update_critic(state, first, value[0], key)
        return state, algorithm.update_actor(after, first, key)[0], algorithm.act(algorithm.policy(state), x)

    before, after, action = jax.eval_shape(one_update, jax.random.key(0))
    assert jax.tree.structure(before) == jax.tree.structure(after) and action.shape == (1, 4, 2)
    assert before.critic.params["params"]["body"]["kernel"].shape == (count, 3, 8)
    assert "torso" not in before.actor.params["params"]


REFUSED = {
    "too many": ("td3", {"actor": lambda plan, env: Actor(3, nn.Dense(8))}, "the actor Actor returns float32[3] for"),
    "a pair": ("td3", {"actor": gaussian}, "(float32[2], float32[2]) for float32[3]; it must return float32[2], the"),
    "no pair": ("sac", {"actor": actor}, "returns float32[2] for float32[3]; it must return (float32[2], float32[2]),"),
    "a column": (
        "sac",
        {"critic": lambda plan, env: Critic(nn.Dense(8), True)},
        "the critic Critic returns float32[1]",
    ),
    "one axis": (
        "td3",
        {"actor": lambda plan, env: Flat()},
        "the actor Flat, called with float32[3], fails: ValueError",
    ),
    "axes lost": ("td3", {"actor": lambda plan, env: Forgetful()}, "float32[2] for float32[3,5,3]; it must return"),
    "a type": (
        "td3",
        {"actor": lambda plan, env: nn.Dense(2, dtype=jnp.bfloat16)},
        "returns bfloat16[2] for float32[3]",
    ),
    "state": (
        "ddpg",
        {"actor": lambda plan, env: Actor(2, nn.BatchNorm(use_running_average=True))},
        "the actor Actor has the variables 'batch_stats' besides 'params'; only parameters are trained",
    ),
    "critic's state": (
        "td3",
        {"critic": lambda plan, env: Critic(nn.Sequential([nn.Dense(8), nn.BatchNorm(use_running_average=True)]))},
        "the critic Critic has the variables 'batch_stats' besides 'params'",
    ),
    "random": (
        "td3",
        {"actor": lambda plan, env: Actor(2, nn.Dropout(0.1, deterministic=False))},
        "the actor Actor, called with float32[3], fails: InvalidRngError",
    ),
    "no layers": ("td3", {"actor": lambda plan, env: Still()}, "the actor Still has no parameters"),
    "nothing": ("td3", {"actor": lambda plan, env: None}, "actor(plan, env) returns a NoneType; it must return a flax"),
    "fails": ("td3", {"critic": lambda plan: None}, "critic(plan, env) fails: TypeError"),
    "a module": ("td3", {"actor": Actor(2, nn.Dense(8))}, "actor is a Actor; it must be a function of (plan, env)"),
    "a class": ("sac", {"critic": Critic}, "critic is the class Critic; it must be a function of (plan, env)"),
}


@pytest.mark.parametrize(("name", "networks", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_one_line(name, networks, words):
    with pytest.raises(ValueError) as error:
        build(name, **networks)
    message = str(error.value).replace("float32[3, 5, 3]", "float32[3,5,3]")
    assert words in message and "\n" not in message


def test_an_actor_without_an_end_in_its_range_is_refused():
    settings = config.resolve({"env": "Pendulum-v1"})

    def loose(plan, env):
        return Actor(env.action_size, nn.Dense(8), end="relu")

    env = SimpleNamespace(obs_size=3, action_size=1)
    check = partial(algorithm_check._check_range, env=env)
    with pytest.raises(ValueError, match=r"my:own: act returns \d.*; actions should be in \[-1, 1\]; end with a tanh"):
        check("my:own", td3(settings.hyper, settings.plan, env, actor=loose))
    check("my:own", td3(settings.hyper, settings.plan, env, actor=actor))


def test_a_record_of_partial_is_told_from_purerls_own():
    assert AlgorithmSpec(TD3, partial(td3, actor=actor)).origin == "partial(purerl.algorithms.td3:td3)"
    assert AlgorithmSpec(TD3, td3).origin == "purerl.algorithms.td3:td3"
