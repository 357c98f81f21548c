"""Short trainings to be timed, in a cheap environment: the real programs, and only the updates of an algorithm."""

from functools import partial

import jax
import jax.numpy as jnp

from benchmarks import bare
from purerl.cli.startup import tune_cpu
from purerl.environments.base import Environment, Outcome
from purerl.settings.registry import ALGORITHMS
from purerl.settings.schema import Plan, cycle
from purerl.training import mapping

tune_cpu()  # as the command lines do


def mesh_for(num_seeds):
    """Return the devices over which the command lines distribute `num_seeds`, if the devices divide this number."""
    return mapping.mesh(mapping.largest_divisor(num_seeds, jax.local_device_count()))


def walk(obs_size=17, action_size=6):
    """Return an environment of HalfCheetah's sizes, deterministic after the reset, that costs almost nothing."""

    def step(state, action):
        state = 0.9 * state + 0.1 * jnp.resize(action, state.shape)
        return state, Outcome(state.sum(), jnp.bool_(False), jnp.bool_(False))

    def reset(key):
        return jax.random.normal(key, (obs_size,))

    return Environment(reset, step, lambda state: state, obs_size, action_size, 1000, "walk", truncates=False)


def plan_of(steps, num_envs=1, warmup_steps=1024, buffer_size=1_000_000, **more):
    """Return a `Plan` of one update per transition, with one epoch of `steps` environment steps. Raises ValueError.

    The warm-up is rounded up, and the replay buffer down, to whole rows.
    """
    warmup_steps = -(-warmup_steps // num_envs) * num_envs
    return Plan(
        num_envs=num_envs,
        updates_per_step=num_envs,
        warmup_steps=warmup_steps,
        total_steps=warmup_steps + steps,
        num_evals=2,
        buffer_size=buffer_size // num_envs * num_envs,
        **more,
    )


class Training:
    """A call trains the epoch of `plan` for all seeds, and continues from the last call."""

    def __init__(self, algo, plan, num_seeds, env=None):
        hyper = ALGORITHMS[algo].hyperparameters()
        mesh = mesh_for(num_seeds)
        programs = mapping.programs(plan, ALGORITHMS[algo].build, env or walk(), hyper, mesh=mesh)
        self.plan, self.num_seeds, self.numbers = plan, num_seeds, mapping.laid_out(mesh, mapping.flowing(hyper))
        self.compiled = mapping.compiled(programs, self.numbers, num_seeds)
        self.carry = self.compiled.run_warm_up(self.numbers, mapping.laid_out(mesh, mapping.keys(0, num_seeds)))
        self()

    @property
    def updates(self):
        """Critic updates of a call, summed over seeds."""
        return self.plan.num_updates * self.num_seeds

    @property
    def env_steps(self):
        """Environment steps of a call, summed over seeds and environments."""
        return (self.plan.total_steps - self.plan.warmup_steps) * self.num_seeds

    def __call__(self):
        self.carry, _ = jax.block_until_ready(self.compiled.run_epoch(self.numbers, self.carry, 0))


class Updates:
    """A call makes as many updates as a `Training` of `plan`, and nothing else.

    Runs are distributed over devices, grouped and compiled as in `mapping.programs`.
    """

    def __init__(self, algo, plan, num_seeds, env=None):
        env, hyper, mesh = env or walk(), ALGORITHMS[algo].hyperparameters(), mesh_for(num_seeds)
        keys, delay = mapping.laid_out(mesh, mapping.keys(0, num_seeds)), hyper.policy_delay
        cycles = cycle(plan, delay)
        self.updates, self.numbers = plan.num_updates * num_seeds, mapping.laid_out(mesh, mapping.flowing(hyper))
        agents = jax.jit(partial(bare.agents, plan, ALGORITHMS[algo].build, env, hyper))(keys)
        self.state = agents, jax.jit(partial(bare.batches, plan, env, delay))(keys), keys
        updates = bare.updates(plan, ALGORITHMS[algo].build, env, hyper, cycles.per_epoch * cycles.actor_updates)
        platform = jax.default_backend()

        def update(numbers, state):
            agents, metrics = updates(numbers, *state)
            return (agents, *state[1:]), metrics

        def update_all(numbers, state):
            size = mapping.side_by_side(state[0], mapping.CACHE.get(platform))
            return mapping.in_groups(update, dict.fromkeys(numbers), size, numbers, state)

        self.function = jax.jit(
            mapping.over_devices(mesh, update_all, None, 0),
            donate_argnums=1,
            compiler_options=mapping.compiler_options(plan, platform, mesh),
        )
        self()

    @property
    def agents(self):
        return self.state[0]

    def __call__(self):
        self.state, _ = jax.block_until_ready(self.function(self.numbers, self.state))
