"""Policies as JAX functions, and the environment in which they act.

`policies` is a `purerl.policies.kept.Policies`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from purerl.policies.layers import Nested
from purerl.settings import registry
from purerl.settings.schema import Config

if TYPE_CHECKING:
    from jaxtyping import Float

    from purerl.environments.base import Environment
    from purerl.policies.kept import Policies
    from purerl.types import Algorithm, Array

    Act = Callable[[Nested, Nested, Float[Array, "*batch obs"]], Float[Array, "*batch A"]]
    Trained = Callable[[Float[Array | np.ndarray, "*batch obs"]], Float[Array, "*batch A"]]


def environment(settings: Config, name: str | None = None) -> "Environment":
    """Return the environment of a run, or another one called `name`, with the time limit of evaluations.

    Importing physics takes seconds.
    """
    from purerl import environments
    from purerl.training import loop

    job = settings.job
    own = name in (None, job.env)
    env = environments.make(job.env, job.backend, job.episode_length) if own else environments.make(name)
    return env._replace(episode_length=loop.longest(settings.plan, env))


def check_sizes(policies: "Policies", env: "Environment", remedy: str) -> None:
    """Raise ValueError if the environment does not have the sizes of `policies`. `remedy` ends the message.

    Only the size of the actor's observation counts. What else a critic reads does not matter to a policy.
    """
    from purerl.types import actor_obs_size

    size = actor_obs_size(env)
    if (size, env.action_size) != (policies.obs_size, policies.action_size):
        raise ValueError(
            f"the policies of {policies.path} were trained on {policies.settings.job.env}, with {policies.obs_size} "
            f"observations and {policies.action_size} actions, but {env.name} has {size} and "
            f"{env.action_size}; {remedy}"
        )


def act(policies: "Policies") -> "Act":
    """Return a JAX function `(actor, statistics, observation) -> action [..., action_size]`.

    The observation is `[..., obs_size]`, the actor's part, or a whole one of the environment. Actions are in [-1, 1].
    `actor` and `statistics` belong to one policy (`one`). Matrix products use float32, whatever the precision of the
    training was.
    """
    from purerl.training.normalizer import Statistics, normalizer
    from purerl.types import actor_part

    settings, sizes = policies.settings, policies.sizes
    plan = replace(settings.plan, precision="float32")
    algorithm, scaling = registry.find_algorithm(settings.job.algo).build(settings.hyper, plan, sizes), normalizer(plan)

    _check_fits(policies, algorithm)

    def apply(
        actor: Nested, statistics: Nested, observation: "Float[Array, '*batch obs']"
    ) -> "Float[Array, '*batch A']":
        seen = actor_part(observation, policies.obs_size)
        return algorithm.act(actor, scaling.apply(statistics and Statistics(**statistics), seen))

    return apply


def _check_fits(policies: "Policies", algorithm: "Algorithm") -> None:
    """Raise ValueError if the arrays of `policies` do not match the policy of the algorithm."""
    import jax

    like = jax.eval_shape(lambda key: algorithm.policy(algorithm.init(key)), jax.random.key(0))
    here = {jax.tree_util.keystr(path): x.shape for path, x in jax.tree_util.tree_leaves_with_path(like)}
    there = {jax.tree_util.keystr(path): x.shape[1:] for path, x in jax.tree_util.tree_leaves_with_path(policies.actor)}
    if differs := [name for name in there | here if there.get(name) != here.get(name)]:
        name, algo = differs[0], policies.settings.job.algo
        older = f"of {algo.partition(':')[0]} or purerl" if ":" in algo else "of purerl"
        raise ValueError(
            f"policies in {str(policies.path)!r} are from an older version {older}: {name} is "
            f"{there.get(name, 'absent')} there and {here.get(name, 'absent')} here; use the commit that its run.toml "
            "names"
        )


def trained(policies: "Policies", index: int) -> "Trained":
    """Return the trained policy as a JAX function, with actions in the environment's units.

    Exported files are compared with it.
    """
    import jax.numpy as jnp

    from purerl.environments.base import scaled

    apply, policy = act(policies), one(policies, index)

    def function(observation: "Float[Array | np.ndarray, '*batch obs']") -> "Float[Array, '*batch A']":
        return scaled(apply(*policy, jnp.asarray(observation)), policies.action_range)

    return function


def one(policies: "Policies", index: int | Int[np.ndarray, " chosen"]) -> tuple[Nested, Nested]:
    """Return `(actor, statistics)` of one policy, or of several if `index` is an array.

    The statistics are those of the part of an observation that the actor reads.
    """
    statistics = _at(policies.statistics, index)
    seen = {name: x[..., : policies.obs_size] for name, x in statistics.items() if name != "count"}
    return _at(policies.actor, index), statistics | seen


def _at(tree: Nested, index: int | Int[np.ndarray, " chosen"]) -> Nested:
    return {name: _at(x, index) if isinstance(x, dict) else x[index] for name, x in tree.items()}
