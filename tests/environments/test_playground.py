"""MuJoCo Playground behind the boundary: on a stand-in of its Env, and on its own where it is installed."""

import sys
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from brax.envs.wrappers import training
from flax import struct
from mujoco import mjx

from purerl import environments
from purerl.environments import episodes, playground
from purerl.settings import config, registry
from purerl.training import loop


class Data(NamedTuple):
    qpos: jax.Array
    mocap_pos: jax.Array
    mocap_quat: jax.Array


class State(NamedTuple):
    data: Data
    obs: Any
    reward: jax.Array
    done: jax.Array


class Count:
    """Counts its steps, each of which pays its number; falls at `falls`. It shows a policy less than it knows."""

    action_size, dt = 1, 0.02
    mj_model = mujoco.MjModel.from_xml_string("<mujoco><worldbody/></mujoco>")

    def __init__(self, falls):
        self.falls = falls

    def reset(self, key):
        return self._at(jnp.float32(0.0), jax.random.uniform(key))

    def step(self, state, action):
        return self._at(state.obs["state"][0] + 1.0, state.obs["state"][1])

    def _at(self, time, start):
        seen = jnp.stack([time, start])
        nothing = jnp.zeros((0, 3))
        data = Data(seen, nothing, jnp.zeros((0, 4)))
        obs = {"state": seen, "privileged_state": jnp.zeros(7)}
        return State(data, obs, time, jnp.where(time >= self.falls, 1.0, 0.0))


@struct.dataclass
class Told:
    """As Playground's own, with what a wrapper may say beside."""

    data: Any
    obs: Any
    reward: jax.Array
    done: jax.Array
    metrics: dict
    info: dict


class Full(Count):
    """The same with such a state; `change` makes another one of it."""

    observation_size = 2

    def __init__(self, falls, change=lambda state: state):
        super().__init__(falls)
        self.change = change

    @property
    def unwrapped(self):
        return self

    def reset(self, key):
        return self._full(super().reset(key), {})

    def step(self, state, action):
        return self.change(self._full(super().step(state, action), state.info))

    def _full(self, state, info):
        return Told(*state, {}, info)


def transitions(env, steps):
    begun = episodes.begin(env, 2, jax.random.key(0))

    def step(state, _):
        return episodes.step(env, state, jnp.zeros((2, 1)))

    return jax.lax.scan(step, begun, None, steps)[1]


def test_a_fall_terminates_and_its_observation_is_kept():
    env = playground.from_playground(Count(falls=3), 100)
    seen = transitions(env, 4)
    assert (env.obs_size, env.actor_obs_size, env.action_size) == (9, 2, 1)
    assert seen.terminated[:, 0].tolist() == [False, False, True, False] and not seen.truncated.any()
    assert (seen.next_observation[2, :, 0] == 3).all() and (seen.observation[3, :, 0] == 0).all()
    assert (seen.observation[3, :, 1] != seen.observation[2, :, 1]).all()  # from another start


def test_the_time_limit_truncates():
    seen = transitions(playground.from_playground(Count(falls=1e9), 3), 3)
    assert seen.truncated[:, 0].tolist() == [False, False, True] and not seen.terminated.any()
    assert (seen.next_observation[2, :, 0] == 3).all()


def test_a_repeated_action_adds_rewards_up_to_the_fall():
    env = playground.from_playground(Count(falls=5), 100, action_repeat=4)
    seen = transitions(env, 2)
    assert seen.reward[:, 0].tolist() == [1 + 2 + 3 + 4, 5] and seen.terminated[:, 0].tolist() == [False, True]
    assert (seen.next_observation[1, :, 0] == 5).all() and env.scene.timestep == pytest.approx(0.08)


CHAINS = {
    "an episode": lambda env: training.EpisodeWrapper(env, 3, 1),
    "for training": lambda env: wrapper().wrap_for_brax_training(env, 3),
    "full resets": lambda env: wrapper().wrap_for_brax_training(env, 3, full_reset=True),
    "a reset alone": lambda env: training.EpisodeWrapper(wrapper().BraxAutoResetWrapper(env), 3, 1),
}


def wrapper():
    return pytest.importorskip("mujoco_playground").wrapper


@pytest.mark.parametrize("wrapped", CHAINS.values(), ids=CHAINS.keys())
def test_a_wrapped_task_keeps_its_last_observation_and_its_time_limit_truncates(wrapped):
    seen = transitions(playground.from_playground(wrapped(Full(falls=1e9)), 100), 4)
    assert seen.truncated[:, 0].tolist() == [False, False, True, False] and not seen.terminated.any()
    assert (seen.next_observation[2, :, 0] == 3).all() and (seen.observation[3, :, 0] == 0).all()
    seen = transitions(playground.from_playground(wrapped(Full(falls=2)), 100), 2)
    assert seen.terminated[1].all() and not seen.truncated.any()


def test_a_reset_under_a_users_wrapper_is_refused():
    class Own(wrapper().Wrapper):
        pass

    with pytest.raises(ValueError, match="Own wraps the wrapper BraxAutoResetWrapper, which resets by itself; purerl"):
        environments.make(Own(wrapper().BraxAutoResetWrapper(Full(3))))
    with pytest.raises(ValueError, match="the wrapper BraxDomainRandomizationVmapWrapper, which makes a batch"):
        inner = wrapper().Wrapper(Full(3))
        inner.mjx_model_v = None
        random = object.__new__(wrapper().BraxDomainRandomizationVmapWrapper)
        random.env = inner
        environments.make(wrapper().BraxAutoResetWrapper(random))


def test_a_task_that_is_made_already_is_taken():
    env = environments.make(wrapper().Wrapper(Full(3)), episode_length=2)
    assert (env.obs_size, env.action_size, env.episode_length) == (9, 1, 2)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda state: state.replace(reward=state.obs["state"]), r"reward must be a scalar, not of shape \(2,\)"),
        (lambda state: state.replace(done=state.done[None]), r"done must be a scalar, not of shape \(1,\)"),
        (
            lambda state: state.replace(obs={"image": jnp.zeros((2, 2))}),
            r"the entry 'image' of an observation: observations must be one flat vector, not \(2, 2\)",
        ),
        (lambda state: state.replace(obs=jnp.zeros((2, 2))), r"observations must be one flat vector, not \(2, 2\)"),
        (lambda state: state.replace(obs=jnp.zeros(3)), "step does not return the kind of state that reset makes"),
        (lambda state: state.replace(info={"a": 0.0}), r"\['a'\] is absent after reset and float32\[\] after step"),
    ],
)
def test_a_broken_task_is_told_what_is_wrong_with_it(change, words):
    with pytest.raises(ValueError, match=words) as error:
        playground.from_playground(Full(3, change), 10)
    assert "\n" not in str(error.value) and str(error.value).startswith("Full: ")


@pytest.mark.parametrize("size", [0, 1.0, True, None])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match=f"Full: action_size is {size}; it must be a positive int"):
        playground.from_playground(type("Full", (Full,), {"action_size": size})(3), 10)


def test_what_is_missing_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco_playground", None)
    with pytest.raises(
        ValueError, match=r"^playground:It needs the package mujoco_playground; pip install -e '.*\[playground\]'$"
    ):
        environments.make("playground:It")


@pytest.mark.slow
def test_playgrounds_own_cheetah_runs():
    with pytest.raises(ValueError, match="Playground has no task 'CheetaRun'; did you mean CheetahRun"):
        environments.make("playground:CheetaRun")
    with pytest.raises(ValueError, match="leave the backend out"):
        environments.make("playground:CheetahRun", "spring")
    env = environments.make("playground:CheetahRun", episode_length=2)
    assert (env.obs_size, env.action_size, environments.make("playground:CheetahRun").episode_length) == (17, 6, 1000)
    begun = jax.jit(lambda key: episodes.begin(env, 2, key))(jax.random.key(0))
    step = jax.jit(lambda state, action: episodes.step(env, state, action))
    for _ in range(2):
        begun, seen = step(begun, jnp.ones((2, 6)))
    assert seen.truncated.all() and not seen.terminated.any() and np.isfinite(seen.reward).all()
    assert np.abs(seen.next_observation - episodes.observe(env, begun)).max() > 0.1


class Slide(Full):
    """A mass that is pushed along a line, with MJX's model, as Playground's own environments hold it."""

    XML = "<mujoco><worldbody><body><joint type='slide'/><geom size='0.1' mass='1'/></body></worldbody></mujoco>"

    def __init__(self):
        super().__init__(1e9)
        self.mj_model = mujoco.MjModel.from_xml_string(self.XML)
        self._mjx_model = mjx.put_model(self.mj_model)

    def reset(self, key):
        return self._full(self._at(jnp.float32(0.0), jax.random.uniform(key)), {"steps": jnp.float32(0.0)})

    def step(self, state, action):
        weight = self._mjx_model.body_mass[1] * self._mjx_model.opt.gravity[2]
        after = self._at(state.obs["state"][0] + weight, state.obs["state"][1])
        return self._full(after, {"steps": state.info["steps"] + 1})


def pulled(key, model):
    mass_key, gravity_key = jax.random.split(key)
    mass = model.body_mass * jax.random.uniform(mass_key, minval=1.0, maxval=2.0)
    return {"body_mass": mass, "opt.gravity": model.opt.gravity * jax.random.randint(gravity_key, (), 1, 3)}


def test_an_episode_of_playground_keeps_the_model_that_it_drew():
    env = environments.make(playground.from_playground(Slide(), 3, "slide", randomize=pulled))
    key, actions = jax.random.key(0), jnp.zeros((4, 1))
    now = episodes.begin(env, 4, key)
    drawn = now.state.info["drawn"]
    weights = drawn["body_mass"][:, 1] * drawn["opt.gravity"][:, 2]
    for step in range(1, 4):
        now, seen = episodes.step(env, now, actions)
        np.testing.assert_allclose(seen.next_observation[:, 0], step * weights, rtol=1e-6)
    assert len(np.unique(weights)) == 4 and seen.truncated.all()
    assert (now.state.info["drawn"]["body_mass"][:, 1] != drawn["body_mass"][:, 1]).all()  # The next ones draw anew.


def test_a_randomizer_in_playgrounds_style_is_taken():
    def theirs(model, rng):
        mass = jax.vmap(lambda key: model.body_mass * jax.random.uniform(key, minval=2.0, maxval=3.0))(rng)
        axes = jax.tree.map(lambda x: None, model).tree_replace({"body_mass": 0})
        return model.tree_replace({"body_mass": mass}), axes

    core = Slide()
    env = playground.from_playground(core, 3, "slide", randomize=playground.converted(theirs))
    drawn = env.reset(jax.random.key(0)).info["drawn"]
    assert list(drawn) == ["body_mass"] and 2.0 <= drawn["body_mass"][1] <= 3.0
    assert core._mjx_model.body_mass[1] == 1.0  # as it was


@pytest.mark.parametrize(
    "env, randomize, words",
    [
        (Count(3), pulled, "it: Count has no _mjx_model that randomize could change"),
        (Slide(), lambda key, model: {"mass": model.body_mass}, "changes 'mass', which is no field of a mjx.Model"),
        (
            Slide(),
            lambda key, model: {"dof_damping": model.dof_damping},
            "dof_damping, but no step of this model reads it",
        ),
    ],
)
def test_a_change_of_playgrounds_model_without_effect_is_refused(env, randomize, words):
    with pytest.raises(ValueError, match=words) as refused:
        playground.from_playground(env, 3, "it", randomize=randomize)
    assert "\n" not in str(refused.value)


def test_a_task_without_a_domain_randomizer_is_answered():
    pytest.importorskip("mujoco_playground")
    with pytest.raises(ValueError, match="Playground has no domain randomizer for 'CheetahRun'; write a function"):
        playground.domain_randomizer("CheetahRun")


@pytest.mark.slow
def test_playgrounds_own_cheetah_is_randomized():
    pytest.importorskip("mujoco_playground")

    def heavier(key, model):
        return {"body_mass": model.body_mass * jax.random.uniform(key, minval=0.5, maxval=3.0)}

    env = playground.make("CheetahRun", episode_length=20, randomize=heavier)
    states = jax.jit(jax.vmap(env.reset))(jnp.stack([jax.random.key(0)] * 2))
    states.info["drawn"]["body_mass"] = states.info["drawn"]["body_mass"] * jnp.asarray([[1.0], [2.0]])
    after, _ = jax.jit(jax.vmap(env.step))(states, jnp.ones((2, 6)))
    np.testing.assert_array_equal(states.data.qpos[0], states.data.qpos[1])
    assert np.abs(after.data.qvel[0] - after.data.qvel[1]).max() > 0.1


@pytest.mark.slow
def test_a_task_of_playgrounds_own_kind_shows_its_critic_more():
    """A cart-pole of which the actor sees the positions alone, traced by the loop."""
    cartpole = pytest.importorskip("mujoco_playground._src.dm_control_suite.cartpole")

    class Blind(cartpole.Balance):
        def _get_obs(self, data, info):
            every = super()._get_obs(data, info)
            return {"state": every[:3], "privileged_state": every, "unread": jnp.zeros((4, 4))}

    env = environments.make(Blind(swing_up=False, sparse=False, config_overrides={"impl": "jax"}))
    assert (env.obs_size, env.actor_obs_size, env.action_size) == (3 + 5, 3, 1)
    traced(env)


@pytest.mark.slow
def test_a_robot_of_playground_shows_its_critic_more():
    module = pytest.importorskip("mujoco_playground._src.mjx_env")
    if not module.MENAGERIE_PATH.exists():
        pytest.skip("the robots of MuJoCo Menagerie are not here")
    env = environments.make("playground:Go1JoystickFlatTerrain")
    assert env.actor_obs_size == 48 and env.obs_size > 2 * 48
    traced(env)


def traced(env):
    """Trace training in `env`, and check that its actor has as many inputs as it reads."""
    sizes = {"num_envs": 2, "updates_per_step": 2, "batch_size": 4, "buffer_size": 64, "warmup_steps": 8}
    settings = config.resolve({"algo": "td3", "env": "Pendulum-v1", "total_steps": 16, "num_evals": 2, **sizes})
    algorithm = registry.find_algorithm("td3").build(settings.hyper, settings.plan, env)
    train = partial(loop.train, settings.plan, algorithm, env)
    carry, _ = jax.eval_shape(train, jax.random.key(0))
    assert carry.agent.actor.params["params"]["torso"]["Dense_0"]["kernel"].shape[0] == env.actor_obs_size
