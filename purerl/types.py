"""Types that all files share: transitions, training batches, exploration noise and algorithms.

Letters: E environments, B batch size, A action size, C critic updates of a round, n steps of a window, R runs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
from jaxtyping import Bool, Float, Integer, PRNGKeyArray, PyTree
from jaxtyping import Key as KeyArray

Array = jax.Array
Key = PRNGKeyArray
Keys = KeyArray[Array, " R"]  # one key per run
Params = PyTree  # of arrays, as returned by Flax
Agent = PyTree  # of arrays, the state of an algorithm
Policy = dict[str, Any]  # nested dicts of arrays, the part of an agent that acts
Scalar = float | Float[Array, ""]  # a Python float or a traced array, for example a hyperparameter
IntScalar = int | Integer[Array, ""]
Metrics = dict[str, Float[Array, ""]]


@runtime_checkable
class EnvSizes(Protocol):
    """The sizes of an environment that an algorithm needs: the lengths of an observation and of an action.

    If an actor reads only the first numbers of an observation, there is a third attribute, `actor_obs_size`.
    """

    @property
    def obs_size(self) -> int: ...
    @property
    def action_size(self) -> int: ...


def actor_obs_size(env: EnvSizes) -> int:
    """Return how many numbers of an observation the actor reads, the first ones. The critic reads all `obs_size`.

    It is the attribute `actor_obs_size` of `env`. If there is none, or if it is None, the actor reads all.
    """
    size = getattr(env, "actor_obs_size", None)
    return env.obs_size if size is None else size


def actor_part(observation: Float[Array, "*batch obs"], size: int) -> Float[Array, "*batch {size}"]:
    """Return what the actor reads of an observation, `[..., size]`. If it has no more numbers, it is returned as is."""
    return observation if observation.shape[-1] == size else observation[..., :size]


class Transition(NamedTuple):
    """One step of experience. Every field has the same leading axes `...`.

    Attributes:
        observation: s, `[..., obs_size]`.
        action: a, `[..., action_size]`, each component in [-1, 1].
        reward: r, `[...]`, as returned by the environment.
        terminated: d, `[...]` bool, true if s' is absorbing. Reaching the time limit is truncation, not termination.
        truncated: `[...]` bool, true if the episode ended without termination.
        next_observation: s', `[..., obs_size]`, before any reset.
    """

    observation: Float[Array, "*batch obs"]
    action: Float[Array, "*batch A"]
    reward: Float[Array, "*batch"]
    terminated: Bool[Array, "*batch"]
    truncated: Bool[Array, "*batch"]
    next_observation: Float[Array, "*batch obs"]


class Batch(NamedTuple):
    """The training batch of one update. Each entry combines k consecutive steps; k = 1 except for n-step returns.

    Attributes:
        observation: s, `[B, obs_size]`.
        action: a, `[B, action_size]`.
        reward: Σ_{j<k} γʲ r_j, `[B]`, scaled.
        discount: γᵏ (1 − d), `[B]`, the factor of the value of s' in the target.
        next_observation: s', k steps later, `[B, obs_size]`.
    """

    observation: Float[Array, "*batch obs"]
    action: Float[Array, "*batch A"]
    reward: Float[Array, "*batch"]
    discount: Float[Array, "*batch"]
    next_observation: Float[Array, "*batch obs"]


class Noise(NamedTuple):
    """An exploration noise process for all environments. Its state is a pytree with leading axis `[E]`, or empty.

    `algorithms.exploration` creates them. `exploration(hyper, shape)` follows the hyperparameters. `silent(shape)` is
    for a policy that explores by itself.

    Attributes:
        init: `() -> state`.
        draw: `(state, progress, key) -> (state, noise [E, A])`; `progress` in [0, 1] is the completed share of the run.
        restart: `(state, over [E]) -> state`, with a new start where an episode ended.
    """

    init: Callable[[], PyTree]
    draw: Callable[[PyTree, Scalar, Key], tuple[PyTree, Float[Array, "E A"]]]
    restart: Callable[[PyTree, Bool[Array, " E"]], PyTree]


class Algorithm(NamedTuple):
    """A learning algorithm: pure functions over a state. Only the algorithm reads the contents of its state.

    The state is a pytree of arrays. Updates return it with the same structure, shapes and types. All its numbers must
    stay finite: a run whose state is not finite has diverged and is frozen. The state holds no random keys. Functions
    that need a key get one, for a single use.

    The constructor runs inside the compiled program, which is mapped over runs. Hyperparameters that may differ between
    runs (`kinds.Number`) are traced arrays there: compute with them, but do not branch on them. Whole numbers, text,
    None and numbers of type `kinds.FixedNumber` are Python values.

    `act` and `explore` get the numbers of an observation that the actor reads (`actor_obs_size`), the first of
    `obs_size`. A batch holds whole observations. `actor_part` returns the actor's part of them.

    A round is C = `policy_delay` critic updates and one actor update. C divides `updates_per_step`, or the reverse.

    Attributes:
        init: `(key) -> state`.
        policy: `(state) -> policy`, the part of the state that acts, and that is saved after a run: nested dicts of
            arrays, whose names are text without /.
        act: `(policy, observation [..., actor_obs_size]) -> action [..., A]`, deterministic.
        explore: `(state, observation [E, actor_obs_size], noise [E, A], key) -> action [E, A]`.
        to_batch: `(window: Transition [n, B, ...]) -> Batch [B, ...]`, which combines n consecutive steps.
        next_value: `(state, batch [C, B, ...], key) -> value`, a pytree of arrays `[C, ...]` for the targets of the
            critic updates of a round: V(s') `[C, B]` for DDPG, TD3 and SAC. It is computed once per round for all C
            updates, from the state before them. `()` if every critic update computes its own target.
        update_critic: `(state, batch [B, ...], value, key) -> (state, metrics)` updates the critics, and everything
            else that changes with each critic update, for example target networks. `value` is the part of
            `next_value` for this update. Each update has its own key.
        update_actor: `(state, batch, key) -> (state, metrics)` updates the policy, the temperature and target networks.
            `batch` is the last batch of the round.
        noise: the noise process whose output is passed to `explore`.
        policy_delay: critic updates per actor update, a Python int, equal to `hyper.policy_delay`.
        metrics: the names of the scalars that `update_critic` and `update_actor` return, in the order of curves.csv,
            report.html and the loggers. curves.csv holds their means over all updates since the last evaluation. They
            must be finite: a run is frozen after the first that is not. Guard ratios and logs.
        terminal_observations: whether an update depends on s' of terminated transitions, for example through the
            statistics of a batch. If so, the replay buffer is plain, because the compact one does not keep them.
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
    terminal_observations: bool = False


Constructor = Callable[[Any, Any, EnvSizes], Algorithm]  # (hyperparameters, plan, environment or its sizes)
