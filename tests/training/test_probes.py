"""Probe environments, one per way to be wrong, whose values are known: the critics must find them.

All probes of an algorithm are trained in one program, as an axis beside the seeds. γ = 0.9 throughout.
"""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import BUILD, Probe, learner, probe

from purerl.algorithms.networks import Critic, Critics, critic_torso
from purerl.settings.schema import Plan
from purerl.training import loop, mapping

GAMMA = 0.9
SEEDS = 2
FOREVER = 1e6
PROBES = {
    "constant": Probe(every=2.0),
    "late": Probe(life=3.0, last=1.0),
    "action": Probe(every=1.0, fixed=1.0),
    "context": Probe(every=1.0, shown=1.0),
    "time limit": Probe(life=FOREVER, every=1.0, sees_step=0.0),
    "termination": Probe(life=5.0, every=1.0),
}
HYPER = {"actor_lr": 3e-3, "critic_lr": 3e-3, "gamma": GAMMA, "tau": 0.05}
HYPERS = {
    "ddpg": HYPER | {"exploration_noise": 0.3},
    "td3": HYPER | {"exploration_noise": 0.3},
    "sac": HYPER | {"alpha": 1e-3},  # Its entropy is worth less than 0.01.
    "tqc": HYPER | {"alpha": 1e-3, "num_quantiles": 5, "dropped_quantiles": 1},
    "redq": HYPER | {"alpha": 1e-3, "num_critics": 4, "policy_delay": 2},
    "droq": HYPER | {"alpha": 1e-3, "policy_delay": 2},
    "crossq": {
        "actor_lr": 3e-3,
        "critic_lr": 3e-3,
        "gamma": GAMMA,
        "alpha": 1e-3,
        "policy_delay": 2,
        "lr_schedule": "cosine",
        "renorm_warmup": 1000,
    },
}
CASES = [*((name, 1) for name in BUILD), ("td3", 3)]
MARKS = dict.fromkeys(((name, 1) for name in BUILD), pytest.mark.slow)
EVERY = pytest.mark.parametrize(
    "name, n_step", [pytest.param(*case, id=f"{case[0]}-{case[1]}", marks=MARKS.get(case, ())) for case in CASES]
)


def plan(n_step=1):
    return Plan(
        total_steps=512 + 8 * 512,
        num_envs=8,
        updates_per_step=8,
        batch_size=64,
        buffer_size=8192,
        warmup_steps=512,
        num_evals=2,
        n_step=n_step,
        widths=(32, 32),
    )


def algorithm(name, n_step, values):
    return learner(name, plan(n_step), probe(values), **HYPERS[name])


@cache
def trained(name, n_step):
    """The agents of every probe and seed, `{probe: agent [S, ...]}`."""

    def train(values, key):
        carry, _ = loop.train(plan(n_step), algorithm(name, n_step, values), probe(values), key)
        return carry.agent

    over_seeds = jax.vmap(train, in_axes=(None, 0))
    values = jax.tree.map(lambda *x: jnp.asarray(x), *PROBES.values())
    keys = jax.vmap(jax.random.key)(jnp.arange(SEEDS))
    in_all = jax.jit(jax.vmap(over_seeds, in_axes=(0, None)), compiler_options=mapping.COMPILER_OPTIONS["cpu"])
    agents = in_all(values, keys)
    return {probe: jax.tree.map(lambda x, i=i: x[i], agents) for i, probe in enumerate(PROBES)}


def q(name, n_step, probe, observations, actions):
    """Every critic of every seed, `[S, N, B]`, for observations `[B, 2]` and actions `[B]`. Quantiles: their mean."""
    critic = critics(name)
    observation, action = jnp.asarray(observations), jnp.asarray(actions)[:, None]

    def values(agent):
        found = critic.apply(dict(agent.critic.params, **dict(agent.critic.variables)), observation, action)
        return found.mean(axis=-1) if name == "tqc" else found

    return jax.vmap(values)(trained(name, n_step)[probe])


def critics(name):
    """The critics of an algorithm, without dropout."""
    torso = critic_torso(plan())
    if name == "droq":
        torso = replace(torso, layer_norm=True, norm_epsilon=1e-5)
    if name == "crossq":
        torso = replace(torso, renorm_warmup=1)
    counts = {"ddpg": 1, "tqc": 5, "redq": 4}
    return Critics(counts.get(name, 2), Critic(torso, 5 if name == "tqc" else None))


def acts(name, n_step, probe, observations):
    """The deterministic action of every seed, `[S, B]`."""
    learned = algorithm(name, n_step, PROBES[probe])
    agents = trained(name, n_step)[probe]
    return jax.vmap(lambda agent: learned.act(learned.policy(agent), jnp.asarray(observations)))(agents)[..., 0]


def greedy(name, n_step, probe, observations):
    """Q of the action that the first seed takes: what the value of a state is."""
    return q(name, n_step, probe, observations, acts(name, n_step, probe, observations)[0])[0]


def assert_value(values, expected):
    np.testing.assert_allclose(values, np.broadcast_to(expected, values.shape), rtol=0.05)


@EVERY
def test_a_constant_reward_is_its_own_value(name, n_step):
    assert_value(q(name, n_step, "constant", [[-0.5, 0.0], [0.5, 0.0]], [-0.5, 0.5]), 2.0)


@EVERY
def test_a_late_reward_is_discounted_once_per_step(name, n_step):
    """γ², γ and 1 before the last of three steps."""
    for step, value in enumerate((0.81, 0.9, 1.0)):
        assert_value(q(name, n_step, "late", [[0.2, step / 5]], [0.0]), value)


@EVERY
def test_the_best_action_is_found_and_every_action_has_its_value(name, n_step):
    """The reward is 1 − (a − 0.5)²."""
    observations = [[0.0, 0.0]] * 3
    assert_value(q(name, n_step, "action", observations, [0.0, 0.5, 1.0]), [0.75, 1.0, 0.75])
    np.testing.assert_allclose(acts(name, n_step, "action", observations), 0.5, atol=0.1)


@EVERY
def test_the_best_action_follows_what_is_observed(name, n_step):
    """The reward is 1 − (a − context)²."""
    context = np.array([-0.6, 0.0, 0.6])
    observations = np.stack([context, np.zeros(3)], axis=1)
    assert_value(greedy(name, n_step, "context", observations), 1.0)
    np.testing.assert_allclose(acts(name, n_step, "context", observations), [context] * SEEDS, atol=0.15)


@EVERY
def test_running_out_of_time_does_not_end_the_value_and_termination_does(name, n_step):
    """1 per step is worth 1 / (1 − γ) = 10 where only time ends the episode, (1 − γ⁵) / (1 − γ) where it terminates."""
    assert_value(q(name, n_step, "time limit", [[0.2, 0.0]], [0.0]), 10.0)
    for step in range(5):
        assert_value(q(name, n_step, "termination", [[0.2, step / 5]], [0.0]), (1 - GAMMA ** (5 - step)) / (1 - GAMMA))
