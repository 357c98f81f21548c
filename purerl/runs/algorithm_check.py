"""Check that an algorithm does what it declares: its functions, its metrics and the policy that is saved.

Everything is traced with abstract arrays, as in the training loop. Nothing is compiled, except the policy of a custom
algorithm.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from purerl.environments.base import Environment
from purerl.errors import attempt, closest
from purerl.results.run_folder import COLUMNS
from purerl.settings.registry import ALGORITHMS
from purerl.settings.schema import Config, Plan
from purerl.training.mapping import Numbers, flowing
from purerl.types import Agent, Algorithm, Constructor, EnvSizes, Key, Transition, actor_obs_size


def check_algorithm(name: str, build: Constructor, settings: Config, env: Environment) -> None:
    """Raise ValueError, in one line, if the algorithm that `build` makes does not do what it declares.

    `name` is the name of the algorithm. Its numeric hyperparameters are traced, as they are in the compiled program.
    """
    numbers = flowing(settings.hyper)
    jax.eval_shape(lambda numbers, key: _check(name, build, settings, env, numbers, key), numbers, jax.random.key(0))
    if name not in ALGORITHMS:
        _check_range(name, build(settings.hyper, settings.plan, env), env)


def _check_range(name: str, algorithm: Algorithm, env: EnvSizes) -> None:
    """Raise ValueError if an untrained policy leaves [-1, 1] where observations are large."""

    @jax.jit
    def furthest(key: Key) -> Float[Array, ""]:
        observation = 1e3 * jax.random.normal(key, (64, actor_obs_size(env)))
        return jnp.abs(algorithm.act(algorithm.policy(algorithm.init(key)), observation)).max()

    found = float(furthest(jax.random.key(0)))
    if found > 1 + 1e-5:
        raise ValueError(f"{name}: act returns {found:.3g}; actions should be in [-1, 1]; end with a tanh")


def _check(name: str, build: Constructor, settings: Config, env: Environment, numbers: Numbers, key: Key) -> None:
    plan = settings.plan
    hyper = dataclasses.replace(settings.hyper, **numbers)
    algorithm = attempt(f"{name}: its constructor", lambda: build(hyper, plan, env))
    _check_record(name, algorithm, settings.hyper.policy_delay)

    def call(function: str, *arguments: Any, of: Any = algorithm, but: str = "") -> Any:
        return attempt(f"{name}: {function}{but}", lambda: getattr(of, function)(*arguments))

    state = call("init", key)
    batch = call("to_batch", _window(plan, env))
    batches = jax.tree.map(lambda x: jnp.broadcast_to(x, (algorithm.policy_delay, *x.shape)), batch)
    values = call("next_value", state, batches, key)
    _check_values(name, values, algorithm.policy_delay)
    value = jax.tree.map(lambda x: x[0], values)
    critic = _metrics(name, "update_critic", state, call("update_critic", state, batch, value, key))
    actor = _metrics(name, "update_actor", state, call("update_actor", state, batch, key))
    for metric in algorithm.metrics:
        _check_name(name, metric)
    _check_metrics(name, algorithm.metrics, critic, actor)
    policy = call("policy", state)
    _check_policy(name, policy)
    observation, shape = jnp.zeros((plan.num_envs, actor_obs_size(env))), (plan.num_envs, env.action_size)
    noise_state, noise = call("draw", call("init", of=algorithm.noise), 0.0, key, of=algorithm.noise)
    call("restart", noise_state, jnp.zeros(plan.num_envs, bool), of=algorithm.noise)
    seen = "" if actor_obs_size(env) == env.obs_size else _partly(env)
    _check_action(name, "explore", call("explore", state, observation, noise, key, but=seen), shape)
    _check_action(name, "act", call("act", policy, observation, but=seen), shape)


def _partly(env: Environment) -> str:
    """Return a text which says that the actor of `env` reads only a part of an observation."""
    return (
        f", which gets the first actor_obs_size {actor_obs_size(env)} of the {env.obs_size} numbers of an observation "
        "(use purerl.types.actor_part for those of a batch),"
    )


def _check_record(name: str, algorithm: Any, delay: int) -> None:
    if not isinstance(algorithm, Algorithm):
        raise ValueError(f"{name}: its constructor returns {type(algorithm).__name__}; it should be an Algorithm")
    if isinstance(algorithm.metrics, str) or not isinstance(algorithm.metrics, tuple | list):
        raise ValueError(f"{name}: metrics is {algorithm.metrics!r}; it should be a tuple of names")
    if type(algorithm.policy_delay) is not int or algorithm.policy_delay != delay:
        raise ValueError(
            f"{name}: its policy_delay is {algorithm.policy_delay}, but {delay} in its hyperparameters; "
            "the constructor should use the hyperparameter"
        )


def _window(plan: Plan, env: Environment) -> Transition:
    """Return a window of steps, as the replay buffer returns it."""
    lead = (plan.n_step, plan.batch_size)
    observation, action = (jnp.zeros((*lead, size), jnp.float32) for size in (env.obs_size, env.action_size))
    reward, no = jnp.zeros(lead, jnp.float32), jnp.zeros(lead, bool)
    return Transition(observation, action, reward, no, no, observation)


def _metrics(name: str, function: str, state: Agent, returned: Any) -> dict[str, Any]:
    """Return the metrics that an update returned next to the new state."""
    if not isinstance(returned, tuple) or len(returned) != 2 or not isinstance(returned[1], dict):
        raise ValueError(f"{name}: {function} should return (state, metrics), where metrics is a dict")
    _check_state(name, function, state, returned[0])
    return returned[1]


def _check_values(name: str, values: PyTree, count: int) -> None:
    for path, x in jax.tree_util.tree_leaves_with_path(values):
        if jnp.shape(x)[:1] != (count,):
            raise ValueError(
                f"{name}: next_value returns {list(jnp.shape(x))} {jax.tree_util.keystr(path)}; the first axis should "
                f"be that of the {count} critic updates; return () if they share nothing"
            )


def _check_state(name: str, function: str, before: Agent, after: Agent) -> None:
    """Raise ValueError if an update changes the structure, the shapes or the dtypes of the state.

    The training loop carries the state, so they must stay the same.
    """
    there, here = _parts(before), _parts(after)
    for part in there | here:
        if there.get(part) != here.get(part):
            raise ValueError(
                f"{name}: {function} returns a state of another structure: {part} is {here.get(part, 'absent')} "
                f"and was {there.get(part, 'absent')}"
            )


def _parts(tree: PyTree) -> dict[str, str]:
    """Return `{name: dtype and shape}` of the arrays of a tree."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): f"{jnp.result_type(x)}{list(jnp.shape(x))}" for path, x in leaves}


def _check_action(name: str, function: str, action: Any, shape: tuple[int, ...]) -> None:
    if jnp.shape(action) != shape:
        raise ValueError(f"{name}: {function} returns {list(jnp.shape(action))}; actions should be {list(shape)}")


def _check_name(name: str, metric: Any) -> None:
    if not isinstance(metric, str) or not metric.isidentifier():
        raise ValueError(f"{name}: the metric {metric!r} is not a valid name; it should be letters, digits and _")
    if metric in COLUMNS:
        raise ValueError(
            f"{name}: the metric {metric!r} has the name of a column of every curves.csv; "
            f"choose a name other than {', '.join(COLUMNS)}"
        )


def _check_metrics(name: str, declared: Sequence[str], critic: dict[str, Any], actor: dict[str, Any]) -> None:
    returned = {**critic, **actor}
    for metric, count in ((metric, declared.count(metric)) for metric in declared):
        if count > 1:
            raise ValueError(f"{name}: metrics names {metric!r} twice")
    for metric in critic.keys() & actor.keys():
        raise ValueError(f"{name}: update_critic and update_actor both return the metric {metric!r}; rename one")
    for metric in returned:
        if metric not in declared:
            raise ValueError(
                f"{name}: its updates return the metric {metric!r}, which its field `metrics` does not name"
                f"{closest(metric, declared)}"
            )
    for metric in declared:
        if metric not in returned:
            raise ValueError(
                f"{name}: its field `metrics` names {metric!r}, which its updates do not return"
                f"{closest(metric, tuple(returned))}"
            )
    for metric, x in returned.items():
        if x.shape or not (jnp.issubdtype(x.dtype, jnp.floating) or jnp.issubdtype(x.dtype, jnp.integer)):
            raise ValueError(f"{name}: the metric {metric!r} is {x.dtype}{list(x.shape)}; it should be a number, []")


def _check_policy(name: str, policy: Any) -> None:
    """Raise ValueError if a policy is not nested dicts of arrays.

    Policies are saved and loaded by the names in these dicts.
    """
    for path, _ in jax.tree_util.tree_leaves_with_path(policy):
        for entry in path:
            key = getattr(entry, "key", None)
            if not isinstance(entry, jax.tree_util.DictKey) or not isinstance(key, str) or "/" in key:
                raise ValueError(
                    f"{name}: its policy has the part {jax.tree_util.keystr(path)}; it should be nested dicts of "
                    "arrays, whose names are text without /"
                )
    if not isinstance(policy, dict):
        raise ValueError(f"{name}: its policy is {type(policy).__name__}; it should be nested dicts of arrays")
