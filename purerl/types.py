"""The nouns shared by every file: experience, what an update learns from, and the record of functions that learns.

Letters: E environments, B batch, A action size, C critic updates of a round, n steps of a window, R runs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
from jaxtyping import Bool, Float, Integer, PRNGKeyArray, PyTree
from jaxtyping import Key as KeyArray

Array = jax.Array
Key = PRNGKeyArray
Keys = KeyArray[Array, " R"]  # one of each run
Params = PyTree  # of arrays, as Flax makes it
Agent = PyTree  # of arrays, the state of an algorithm
Policy = dict[str, Any]  # nested dicts of arrays, the part of an agent that acts
Scalar = float | Float[Array, ""]  # Python's or traced, as a hyperparameter
IntScalar = int | Integer[Array, ""]
Metrics = dict[str, Float[Array, ""]]


@runtime_checkable
class EnvSizes(Protocol):
    """What an algorithm asks of an environment: the lengths of an observation and of an action."""

    @property
    def obs_size(self) -> int: ...
    @property
    def action_size(self) -> int: ...


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

    observation: Float[Array, "*batch obs"]
    action: Float[Array, "*batch A"]
    reward: Float[Array, "*batch"]
    terminated: Bool[Array, "*batch"]
    truncated: Bool[Array, "*batch"]
    next_observation: Float[Array, "*batch obs"]


class Batch(NamedTuple):
    """What one update learns from: k steps of experience, seen as one. k = 1 but for n-step returns.

    Attributes:
        observation: s, `[B, obs_size]`.
        action: a, `[B, action_size]`.
        reward: Σ_{j<k} γʲ r_j, `[B]`, scaled.
        discount: γᵏ (1 − d), `[B]`: what the value of s' counts for.
        next_observation: s', k steps later, `[B, obs_size]`.
    """

    observation: Float[Array, "*batch obs"]
    action: Float[Array, "*batch A"]
    reward: Float[Array, "*batch"]
    discount: Float[Array, "*batch"]
    next_observation: Float[Array, "*batch obs"]


class Noise(NamedTuple):
    """Exploration noise as a process of all environments. Its state is a pytree with leading axis `[E]`, or empty.

    `algorithms.exploration` makes them: `exploration(hyper, shape)`, and `silent(shape)` for a policy that explores by
    itself.

    Attributes:
        init: `() -> state`.
        draw: `(state, progress, key) -> (state, noise [E, A])`; `progress` in [0, 1] is the share of the run done.
        restart: `(state, over [E]) -> state`, begun anew where an episode ended.
    """

    init: Callable[[], PyTree]
    draw: Callable[[PyTree, Scalar, Key], tuple[PyTree, Float[Array, "E A"]]]
    restart: Callable[[PyTree, Bool[Array, " E"]], PyTree]


class Algorithm(NamedTuple):
    """A learning algorithm: pure functions over a state that only the algorithm looks into.

    The state is a pytree of arrays. Updates return it with the same structure, shapes and types, and all of it stays
    finite: a run whose state is not finite has diverged and is frozen. It holds no random keys; they are given, each
    for one use.

    The constructor runs inside the compiled program, which is mapped over runs. There, every float of the
    hyperparameters that may differ from run to run is a traced array: compute with it, but do not branch on it. Whole
    numbers, text, None and numbers of the kind `kinds.fixed_number` are Python's.

    A round is C = `policy_delay` critic updates and one actor update. C divides `updates_per_step`, or the reverse.

    Attributes:
        init: `(key) -> state`.
        policy: `(state) -> policy`, the part of the state that acts, and that is kept of a run: nested dicts of arrays,
            whose names are text without /.
        act: `(policy, observation [..., obs_size]) -> action [..., A]`, deterministic.
        explore: `(state, observation [E, obs_size], noise [E, A], key) -> action [E, A]`.
        to_batch: `(window: Transition [n, B, ...]) -> Batch [B, ...]`, n consecutive steps seen as one.
        next_value: `(state, batch [C, B, ...], key) -> value`, what the targets of the critic updates of a round share:
            a pytree of arrays `[C, ...]`, V(s') `[C, B]` for DDPG, TD3 and SAC. It is computed once, for all C at once,
            from the state before them. `()` where every critic update computes its own target.
        update_critic: `(state, batch [B, ...], value, key) -> (state, metrics)`: the critics, and whatever else moves
            with each critic update, for example target networks. `value` is this update's part of what `next_value`
            returned; the key is this update's own.
        update_actor: `(state, batch, key) -> (state, metrics)`: the policy, the temperature, target networks. `batch`
            is the last of the round.
        noise: the process that feeds `explore`.
        policy_delay: critic updates per actor update, a Python int, as `hyper.policy_delay` has it.
        metrics: the names of the scalars that `update_critic` and `update_actor` return, in the order in which
            curves.csv, report.html and the loggers have them. curves.csv has their means over all updates since the
            last evaluation. They must be finite: a run is frozen after the first that is not. Guard ratios and logs.
    """

    init: Callable[[Key], Agent]
    policy: Callable[[Agent], Policy]
    act: Callable[[Policy, Float[Array, "*batch obs"]], Float[Array, "*batch A"]]
    explore: Callable[[Agent, Float[Array, "E obs"], Float[Array, "E A"], Key], Float[Array, "E A"]]
    to_batch: Callable[[Transition], Batch]
    next_value: Callable[[Agent, Batch, Key], PyTree]
    update_critic: Callable[[Agent, Batch, PyTree, Key], tuple[Agent, Metrics]]
    update_actor: Callable[[Agent, Batch, Key], tuple[Agent, Metrics]]
    noise: Noise
    policy_delay: int
    metrics: tuple[str, ...] = ()


Constructor = Callable[[Any, Any, EnvSizes], Algorithm]  # of hyperparameters, a plan, and an environment or its sizes
