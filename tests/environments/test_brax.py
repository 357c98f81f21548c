"""The boundary to Brax: its own environments, a user's, and broken ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax import envs
from brax.envs import Env, State
from brax.envs.wrappers import training

from purerl.environments import base, brax, episodes, make

BROKEN = {  # what is changed in `Drift`, and what the error must say
    "observation_size": (
        {"observation_size": 3},
        "observation_size is 3 but the observation after reset has 2 numbers",
    ),
    "no action": ({"action_size": 0}, "action_size is 0; it must be a positive int"),
    "half an action": ({"action_size": 1.5}, "action_size is 1.5; it must be a positive int"),
    "dict": (
        {"reset": lambda self, key: Drift.reset(self, key).replace(obs={"position": jnp.zeros((2, 2))})},
        "the entry 'position' of an observation: observations must be one flat vector, not (2, 2)",
    ),
    "image": (
        {"reset": lambda self, key: Drift.reset(self, key).replace(obs=jnp.zeros((4, 4)))},
        "observations must be one flat vector, not (4, 4)",
    ),
    "reward": (
        {"reset": lambda self, key: Drift.reset(self, key).replace(reward=jnp.zeros(1))},
        "reward must be a scalar, not of shape (1,)",
    ),
    "done": (
        {"reset": lambda self, key: Drift.reset(self, key).replace(done=jnp.zeros(1))},
        "done must be a scalar, not of shape (1,)",
    ),
    "reward of a step": (
        {"step": lambda self, state, action: state.replace(reward=action)},
        "reward must be a scalar, not of shape (2,)",
    ),
    "done of a step": (
        {"step": lambda self, state, action: state.replace(done=action > 0.0)},
        "done must be a scalar, not of shape (2,)",
    ),
    "complex": (
        {"step": lambda self, state, action: state.replace(reward=state.reward + 1j)},
        "reward must be real numbers, not complex64",
    ),
    "keys": (
        {"reset": lambda self, key: Drift.reset(self, key).replace(obs=jax.random.split(key))},
        "an observation must be real numbers, not key<",
    ),
    "no limits": ({"action_range": (-np.inf, np.inf)}, "action_range is (-inf, inf); the bounds must be finite"),
    "other limits": (
        {"action_range": (np.zeros(3), np.ones(3))},
        "low and high must be numbers, or arrays of shape (2,)",
    ),
    "one limit": ({"action_range": 1.0}, "action_range is 1.0; it must be a pair (low, high)"),
    "no state": ({"reset": lambda self, key: key}, "a state is a "),
    "dtype": (
        {"step": lambda self, state, action: state.replace(obs=state.obs.astype(jnp.bfloat16))},
        ".obs is float32[2] after reset and bfloat16[2] after step",
    ),
    "structure": (
        {"step": lambda self, state, action: state.replace(info={**state.info, "distance": action[0]})},
        "['distance'] is absent after reset and float32[] after step",
    ),
    "step raises": (
        {"step": lambda self, state, action: state.replace(obs=jnp.ones((3, 3)) @ state.obs)},
        "step(state, action [2]) fails: TypeError: ",
    ),
    "reset raises": ({"reset": lambda self, key: {}["start"]}, "reset(key) fails: KeyError: 'start'"),
}


class Drift(Env):
    """x ← A x + a, in a user's own class; weak types and a matrix product included. The sum of x is the reward."""

    action_range = (jnp.asarray([0.0, -3.0]), jnp.asarray([10.0, 3.0]))
    observation_size = 2
    action_size = 2
    backend = "none"

    def reset(self, rng):
        return State(None, jax.random.normal(rng, (2,)), jnp.asarray(0.0), jnp.asarray(0.0), {}, {"truncation": 0.0})

    def step(self, state, action):
        x = 0.5 * jnp.eye(2) @ state.obs + action
        return state.replace(obs=x, reward=x.sum(), done=jnp.where(x.sum() > 5.0, 1.0, 0.0))


class Line(Env):
    """x ← x + 1, beside where it began. It never ends."""

    observation_size, action_size, backend = 2, 1, None

    def reset(self, rng):
        x = jax.random.uniform(rng)
        return State(None, jnp.stack([x, x]), jnp.zeros(()), jnp.zeros(()), {}, {})

    def step(self, state, action):
        return state.replace(obs=state.obs + jnp.asarray([1.0, 0.0]), reward=jnp.ones(()))


class WrappedLine(training.AutoResetWrapper):
    action_range = (-2.0, 2.0)

    def __init__(self):
        super().__init__(training.EpisodeWrapper(Line(), 5, 1))


class Again(WrappedLine):
    """Resets in a way of its own."""

    def step(self, state, action):
        return super().step(state, action)


class Scaled(envs.base.Wrapper):
    """A user's wrapper that changes the reward."""

    def step(self, state, action):
        state = self.env.step(state, action)
        return state.replace(reward=10.0 * state.reward)


class Impatient(Drift):
    """Gives up at once, and says that this is no termination."""

    def step(self, state, action):
        return Drift.step(self, state, action).replace(done=jnp.float32(1.0), info={"truncation": jnp.float32(1.0)})


def is_one_line(error, *parts):
    message = str(error.value)
    return "\n" not in message and all(part in message for part in parts)


def types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


PHYSICS = [
    pytest.param(
        name, backend, marks=[] if backend in ("spring", None) or name == "inverted_pendulum" else pytest.mark.slow
    )
    for name in brax.names()
    for backend in brax.RESTRICTED.get(name, brax.BACKENDS) or (None,)
]


@pytest.mark.parametrize("name, backend", PHYSICS)
def test_every_registered_environment_keeps_its_contract_on_every_backend(name, backend):
    env = make(name, backend, episode_length=17)
    assert (env.name, env.episode_length) == (name, 17)
    assert isinstance(env.obs_size, int) and isinstance(env.action_size, int)


@pytest.mark.parametrize(
    "name, backend", [("fast", None), ("inverted_pendulum", "generalized"), ("inverted_pendulum", "spring")]
)
def test_stepping_compiles_once_and_stays_finite(name, backend):
    env = make(name, backend)
    step, state = jax.jit(env.step), jax.jit(env.reset)(jax.random.key(0))
    for _ in range(3):
        before = state
        state, outcome = step(state, jnp.zeros(env.action_size))
        assert types(state) == types(before)
    assert step._cache_size() == 1
    assert [x.dtype for x in outcome] == [jnp.float32, bool, bool]
    assert [x.shape for x in outcome] == [(), (), ()]
    assert jnp.isfinite(outcome.reward) and not outcome.terminated and not outcome.truncated
    assert env.observe(state).shape == (env.obs_size,) and jnp.isfinite(env.observe(state)).all()


@pytest.mark.slow
def test_mjx_walks_its_tree_level_by_level_to_the_same_numbers():
    name, backend = "inverted_double_pendulum", "mjx"
    env, theirs = make(name, backend), envs.get_environment(name, backend=backend)
    state, push = jax.jit(env.reset)(jax.random.key(0)), jnp.full(env.action_size, 0.5)
    ours, other = jax.make_jaxpr(env.step)(state, push), jax.make_jaxpr(theirs.step)(state, push)
    assert str(ours).count("optimization_barrier") >= 3 and "optimization_barrier" not in str(other)
    after, expected = jax.jit(env.step)(state, push)[0], jax.jit(theirs.step)(state, push)
    np.testing.assert_allclose(after.obs, expected.obs, rtol=1e-5, atol=1e-6)


@pytest.mark.smoke
def test_a_pendulum_that_falls_terminates_and_is_not_truncated():
    env = make("inverted_pendulum", "spring")

    @jax.jit
    def push(key):
        return jax.lax.scan(env.step, env.reset(key), jnp.ones((50, env.action_size)))[1]

    _, terminated, truncated = push(jax.random.key(0))
    assert terminated.any() and not truncated.any()


def test_making_an_environment_traces_it_and_computes_nothing():
    def observation_size(self):  # as Brax has it: of an actual reset, which takes half a minute outside of jit
        return self.reset(jax.random.key(0)).obs.shape[-1]

    def reset(self, key):
        assert isinstance(key, jax.core.Tracer)
        return Drift.reset(self, key)

    brax.from_brax(type("Heavy", (Drift,), {"observation_size": property(observation_size), "reset": reset})())


def test_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError) as error:
        make("hoper")
    assert is_one_line(error, "'hoper'", "did you mean hopper", "walker2d")


@pytest.mark.parametrize(
    "name, backend, answer",
    [
        ("hopper", "sprin", "did you mean spring"),
        ("swimmer", "spring", "known: generalized"),
        ("fast", "spring", "no physics"),
    ],
)
def test_unknown_backend_is_answered_with_those_there_are(name, backend, answer):
    with pytest.raises(ValueError) as error:
        make(name, backend)
    assert is_one_line(error, name, repr(backend), answer)


def test_an_environment_of_ones_own_is_found_by_module_and_class():
    env = make(f"{__name__}:Drift", episode_length=7)
    assert (env.obs_size, env.action_size, env.episode_length) == (2, 2, 7)


@pytest.mark.parametrize(
    "name, answer", [(f"{__name__}:Drif", "did you mean Drift"), ("no_such_module:Drift", "no_such_module")]
)
def test_a_class_that_is_not_there_is_answered_by_name(name, answer):
    with pytest.raises(ValueError) as error:
        make(name)
    assert is_one_line(error, name, answer)


def test_actions_are_scaled_from_minus_one_and_one_to_the_range_of_the_environment():
    env = brax.from_brax(Drift())
    still = jax.tree.map(jnp.zeros_like, env.reset(jax.random.key(0)))
    for action, expected in [((-1.0, -1.0), (0.0, -3.0)), ((0.0, 0.0), (5.0, 0.0)), ((1.0, 0.5), (10.0, 1.5))]:
        state, _ = base.act(env, still, jnp.asarray(action))
        np.testing.assert_allclose(env.observe(state), expected, atol=1e-6)


def test_a_step_itself_takes_actions_in_the_units_of_the_environment():
    env = brax.from_brax(Drift())
    still = jax.tree.map(jnp.zeros_like, env.reset(jax.random.key(0)))
    np.testing.assert_array_equal(env.observe(env.step(still, jnp.asarray([7.0, -2.0]))[0]), [7.0, -2.0])


def test_without_a_range_actions_pass_unscaled_and_unrounded():
    env = brax.from_brax(type("Plain", (Drift,), {"action_range": (-1.0, np.ones(2))})())
    still, action = jax.tree.map(jnp.zeros_like, env.reset(jax.random.key(0))), jnp.asarray([1e-9, -1.0])
    np.testing.assert_array_equal(env.observe(base.act(env, still, action)[0]), action)


@pytest.mark.parametrize("env, terminated, truncated", [(Drift(), True, False), (Impatient(), False, True)])
def test_truncation_that_the_environment_reports_is_not_termination(env, terminated, truncated):
    env = brax.from_brax(env)
    _, outcome = base.act(env, env.reset(jax.random.key(0)), jnp.ones(2))
    assert (outcome.terminated, outcome.truncated) == (terminated, truncated)


def test_weak_types_of_an_environment_stay_outside():
    env = brax.from_brax(Drift())
    state = env.reset(jax.random.key(0))
    assert not any(x.weak_type for x in jax.tree.leaves((state, env.step(state, jnp.zeros(2)))))


@pytest.mark.parametrize("changes, problem", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_environment_is_told_what_is_wrong_with_it(changes, problem):
    with pytest.raises(ValueError) as error:
        brax.from_brax(type("Broken", (Drift,), changes)())
    assert is_one_line(error, "Broken: ", problem)


def test_physics_is_precise_whatever_the_precision_of_the_networks():
    env = brax.from_brax(Drift())
    with jax.default_matmul_precision("bfloat16"):
        state = env.reset(jax.random.key(0))
        jaxpr = jax.make_jaxpr(lambda *x: (env.step(*x), jnp.eye(2) @ jnp.ones(2)))(state, jnp.zeros(2))
    step = next(eqn.params["jaxpr"] for eqn in jaxpr.eqns if "jaxpr" in eqn.params)
    physics, network = (
        next(eqn.params["precision"] for eqn in part.eqns if eqn.primitive.name == "dot_general")
        for part in (step, jaxpr)
    )
    assert set(physics) == {jax.lax.Precision.HIGHEST} and network != physics


def limited(limit=5):
    return training.EpisodeWrapper(Line(), limit, 1)


UNWRAPPED = {
    "alone": training.EpisodeWrapper(Line(), 5, 1),
    "reset": training.AutoResetWrapper(limited()),
    "a user's": WrappedLine(),
    "in an episode": training.EpisodeWrapper(training.AutoResetWrapper(Line()), 5, 1),
    "twice": training.AutoResetWrapper(training.AutoResetWrapper(limited())),
    "copies": training.AutoResetWrapper(training.VmapWrapper(limited(), 3)),
    "for training": training.wrap(Line(), 5),
    "scaled": Scaled(limited()),
}


@pytest.mark.parametrize("env", UNWRAPPED.values(), ids=UNWRAPPED.keys())
def test_a_wrapped_environment_keeps_its_last_observation_and_its_time_limit(env):
    env = make(env)
    now = episodes.begin(env, 1, jax.random.key(0))
    (x, start), ends = episodes.observe(env, now)[0], []
    for _ in range(5):
        now, seen = episodes.step(env, now, jnp.zeros((1, 1)))
        ends.append((bool(seen.terminated[0]), bool(seen.truncated[0])))
    assert ends == [(False, False)] * 4 + [(False, True)]
    np.testing.assert_allclose(seen.next_observation[0], [x + 5.0, start], rtol=1e-6)
    assert episodes.observe(env, now)[0, 1] != start  # The next episode begins elsewhere.


def test_brax_environments_come_from_create_with_its_defaults():
    env = make(envs.create("fast", episode_length=3))
    assert (env.obs_size, env.truncates) == (2, True)
    assert make(WrappedLine()).action_range[1] == 2.0  # What the outermost says of its actions counts.
    assert make(f"{__name__}:WrappedLine", episode_length=2).episode_length == 2


REFUSED = {
    "overridden": (Again, "its step resets by itself: where an episode ends, its state becomes the first one"),
    "under a user's": (
        lambda: Scaled(training.AutoResetWrapper(limited())),
        "Scaled wraps the wrapper AutoResetWrapper, which resets by itself; purerl begins new episodes itself, so give",
    ),
    "under a user's copies": (lambda: Scaled(training.VmapWrapper(Line(), 3)), "wraps the wrapper VmapWrapper, which"),
    "evaluation": (lambda: training.EvalWrapper(training.AutoResetWrapper(limited())), "the wrapper AutoResetWrapper"),
    "domains": (
        lambda: training.DomainRandomizationVmapWrapper(
            envs.get_environment("inverted_pendulum"), lambda system: (system, None)
        ),
        "is the wrapper DomainRandomizationVmapWrapper, which makes a batch; purerl makes the copies itself",
    ),
}


@pytest.mark.parametrize("wrapped, words", REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_unwrapped_is_refused_with_a_remedy(wrapped, words):
    with pytest.raises(ValueError) as error:
        make(wrapped())
    assert is_one_line(error, words)


class Copies(Drift):
    """Four at once, without a wrapper that says so."""

    def reset(self, rng):
        return jax.vmap(super().reset)(jax.random.split(rng, 4))


def test_a_batch_of_environments_is_told_to_be_one():
    with pytest.raises(ValueError) as error:
        make(Copies())
    assert is_one_line(error, "not (4, 2); purerl makes the copies itself, so give the environment of a single copy")
