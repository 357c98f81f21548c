"""The nouns shared by every file: experience, what an update learns from, and the record of functions that learns.

Letters: E environments, B batch, A action size.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Array = jax.Array
Key = jax.Array
Params = Any  # a pytree of arrays, as Flax makes it
Metrics = dict[str, Array]


class Transition(NamedTuple):
    """One step of experience. Every field has the same leading axes `...`.

    Attributes:
        observation: s, `[..., obs_size]`.
        action: a, `[..., action_size]`, each component in [-1, 1].
        reward: r, `[...]`, as the environment gave it.
        terminated: d, `[...]` bool, true where s' is absorbing. Running out of time does not terminate.
        truncated: `[...]` bool, true where the episode ended without terminating.
        next_observation: s', `[..., obs_size]`, as it was before any reset.
    """

    observation: Array
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    next_observation: Array


class Batch(NamedTuple):
    """What one update learns from: k steps of experience, seen as one. k = 1 but for n-step returns.

    Attributes:
        observation: s, `[B, obs_size]`.
        action: a, `[B, action_size]`.
        reward: Σ_{j<k} γʲ r_j, `[B]`, scaled.
        discount: γᵏ (1 − d), `[B]`: what the value of s' counts for.
        next_observation: s', k steps later, `[B, obs_size]`.
    """

    observation: Array
    action: Array
    reward: Array
    discount: Array
    next_observation: Array


class Noise(NamedTuple):
    """Exploration noise as a process of all environments. Its state is a pytree with leading axis `[E]`, or empty.

    Attributes:
        init: `() -> state`.
        draw: `(state, progress, key) -> (state, noise [E, A])`; `progress` in [0, 1] is the share of the run done.
        restart: `(state, over [E]) -> state`, begun anew where an episode ended.
    """

    init: Callable
    draw: Callable
    restart: Callable


class Algorithm(NamedTuple):
    """A learning algorithm: pure functions over a state that only the algorithm looks into.

    Attributes:
        init: `(key) -> state`.
        policy: `(state) -> policy`, the part of the state that acts: what is kept of a run.
        act: `(policy, observation [..., obs_size]) -> action [..., A]`, deterministic.
        explore: `(state, observation [E, obs_size], noise [E, A], key) -> action [E, A]`.
        to_batch: `(window: Transition [n, B, ...]) -> Batch [B, ...]`, n consecutive steps seen as one.
        next_value: `(state, batch [C, B, ...], key) -> value`, what the targets of the C critic updates before an actor
            update share: a pytree of arrays `[C, ...]`, V(s') `[C, B]` for DDPG, TD3 and SAC. It is computed once, for
            all C at once, from the state before them. `()` where every critic update computes its own target.
        update_critic: `(state, batch [B, ...], value, key) -> (state, metrics)`: the critics, and whatever else moves
            with each critic update. `value` is this update's part of what `next_value` returned.
        update_actor: `(state, batch, key) -> (state, metrics)`: the policy, the temperature, the target networks.
        noise: the process that feeds `explore`.
        policy_delay: critic updates per actor update, a Python int, C above.
        metrics: the names of the metrics, scalars, that `update_critic` and `update_actor` return, in the order in
            which curves.csv, report.html and the loggers have them.
    """

    init: Callable
    policy: Callable
    act: Callable
    explore: Callable
    to_batch: Callable
    next_value: Callable
    update_critic: Callable
    update_actor: Callable
    noise: Noise
    policy_delay: int
    metrics: tuple[str, ...] = ()
