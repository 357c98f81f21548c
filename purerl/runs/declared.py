"""What an algorithm says of itself, held against what it does: its metrics, and the policy that is kept of a run.

Everything is traced with abstract arrays; nothing is compiled.
"""

import jax
import jax.numpy as jnp

from purerl.errors import closest
from purerl.results.run_folder import COLUMNS
from purerl.types import Transition


def check_algorithm(name, algorithm, settings, env):
    """Raises ValueError, in one line, where the algorithm called `name` does not do what it declares."""
    delay = settings.hyper.policy_delay
    if algorithm.policy_delay != delay:
        raise ValueError(
            f"{name}: its policy_delay is {algorithm.policy_delay}, but {delay} in its hyperparameters; "
            "the constructor should take it from there"
        )
    policy, critic, actor = jax.eval_shape(lambda key: _once(algorithm, settings.plan, env, key), jax.random.key(0))
    for metric in algorithm.metrics:
        _check_name(name, metric)
    _check_metrics(name, algorithm.metrics, critic, actor)
    _check_policy(name, policy)


def _once(algorithm, plan, env, key):
    """`(policy, metrics of a critic update, metrics of an actor update)`."""
    state, lead = algorithm.init(key), (plan.n_step, plan.batch_size)
    observation, action = (jnp.zeros((*lead, size), jnp.float32) for size in (env.obs_size, env.action_size))
    reward, over = jnp.zeros(lead, jnp.float32), jnp.zeros(lead, bool)
    batch = algorithm.to_batch(Transition(observation, action, reward, over, over, observation))
    values = algorithm.next_value(state, jax.tree.map(lambda x: x[None], batch), key)
    value = jax.tree.map(lambda x: x[0], values)
    _, critic = algorithm.update_critic(state, batch, value, key)
    _, actor = algorithm.update_actor(state, batch, key)
    return algorithm.policy(state), critic, actor


def _check_name(name, metric):
    if not isinstance(metric, str) or not metric.isidentifier():
        raise ValueError(f"{name}: the metric {metric!r} is no name; it should be letters, digits and _")
    if metric in COLUMNS:
        raise ValueError(
            f"{name}: the metric {metric!r} is called as a column that every curves.csv has; "
            f"name it otherwise than {', '.join(COLUMNS)}"
        )


def _check_metrics(name, declared, critic, actor):
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
        if x.shape or not jnp.issubdtype(x.dtype, jnp.number):
            raise ValueError(f"{name}: the metric {metric!r} is {x.dtype}{list(x.shape)}; it should be a number, []")


def _check_policy(name, policy):
    """What is kept of a run is nested dicts, by whose names a policy is written and read again."""
    for path, _ in jax.tree_util.tree_leaves_with_path(policy):
        for entry in path:
            key = getattr(entry, "key", None)
            if not isinstance(entry, jax.tree_util.DictKey) or not isinstance(key, str) or "/" in key:
                raise ValueError(
                    f"{name}: its policy has the part {jax.tree_util.keystr(path)}; policies are kept as nested dicts "
                    "of arrays, whose names are text without /"
                )
    if not isinstance(policy, dict):
        raise ValueError(f"{name}: its policy is {type(policy).__name__}; it should be nested dicts of arrays")
