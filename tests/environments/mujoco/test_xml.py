"""A model of one's own: its numbers are MuJoCo's, whatever an episode changes of the model."""

import jax
import jax.numpy as jnp
import mujoco as c
import numpy as np
import pytest
from commands import arguments, assert_same_run

from purerl import environments, evaluate, render, train
from purerl.environments import base, delays, mujoco

CART = """
<mujoco model="cart">
  <option timestep="0.01" {option}/>
  <worldbody>
    <body name="cart">
      <joint name="slide" type="slide" axis="1 0 0" range="-0.2 0.2" limited="true" damping="1"/>
      <geom type="box" size="0.1 0.1 0.1" mass="1" contype="0" conaffinity="0"/>
      <body name="pole">
        <joint name="hinge" axis="0 1 0" damping="0.1" {joint}/>
        <geom type="capsule" fromto="0 0 0 0 0 0.6" size="0.03" mass="0.3" contype="0" conaffinity="0"/>
        <site name="tip" pos="0 0 0.6"/>
      </body>
    </body>
  </worldbody>
  {more}
  <actuator>{actuator}</actuator>
</mujoco>
"""
MOTOR = '<motor joint="slide" gear="5" ctrlrange="-2 2"/>'
MUSCLE = '<muscle joint="hinge" ctrlrange="0 1" lengthrange="-1 1" gear="0.1"/>'
LOCK = '<equality><joint joint1="hinge" polycoef="0.3 0 0 0 0"/></equality>'


def xml(option="", joint="", actuator=MOTOR, more=""):
    return CART.format(option=option, joint=joint, actuator=actuator, more=more)


def tip(model, data):
    return {"tip": data.site_xpos[0]}


def height(before, action, after):
    return after.derived["tip"][2]


def heavier(key, model):
    """Change what MuJoCo reads in the inertia, the bias, the passive, the actuator and the constraint forces."""
    scale = jax.random.uniform(key, (4,), minval=0.5, maxval=3.0)
    return {
        "body_mass": model.body_mass * scale[0],
        "body_inertia": model.body_inertia * scale[0],
        "opt.gravity": model.opt.gravity * scale[1],
        "dof_damping": model.dof_damping * scale[2],
        "actuator_gear": model.actuator_gear * scale[3],
        "jnt_range": model.jnt_range * 0.5,
    }


def made(model=None, reward=height, derive=tip, **changes):
    return mujoco.from_xml(xml() if model is None else model, reward=reward, derive=derive, **changes)


def quick(function, *arguments):
    compiled = jax.jit(function).lower(*arguments).compile({"xla_backend_optimization_level": 0})
    return compiled, compiled(*arguments)


def with_changes(model, drawn, copy):
    """Set the fields of a `MjModel` to those that number `copy` has drawn."""
    for field, values in (drawn or {}).items():
        holder, _, name = field.rpartition(".")
        getattr(model.opt if holder else model, name)[:] = values[copy]
    return model


def differences(env, model, substeps, steps=30, copies=3):
    """Return `(greatest difference, states [steps + 1, copies, ...])`.

    It is that of a position or a velocity from MuJoCo's C code, after a step from the same state.
    """
    _, state = quick(jax.vmap(env.reset), jax.random.split(jax.random.key(0), copies))
    step, worst, random, states = None, 0.0, np.random.default_rng(0), [state]
    for _ in range(steps):
        low, high = env.action_range
        action = random.uniform(low, high, (copies, env.action_size)).astype(np.float32)
        if step is None:
            step, (after, _) = quick(jax.vmap(env.step), state, jnp.asarray(action))
        else:
            after, _ = step(state, jnp.asarray(action))
        for copy in range(copies):
            there = with_changes(c.MjModel.from_xml_string(model), state.drawn, copy)
            data = c.MjData(there)
            data.qpos[:], data.qvel[:], data.ctrl[:] = state.qpos[copy], state.qvel[copy], action[copy]
            data.qacc_warmstart[:] = state.qacc[copy]
            if state.act is not None:
                data.act[:] = state.act[copy]
            c.mj_step(there, data, nstep=substeps)
            worst = max(worst, np.abs(data.qpos - after.qpos[copy]).max(), np.abs(data.qvel - after.qvel[copy]).max())
        state = after
        states.append(state)
    return worst, jax.tree.map(lambda *x: np.stack(x), *states)


@pytest.mark.parametrize("physics", ["purerl", pytest.param("mjx", marks=pytest.mark.slow)])
def test_a_randomized_episode_is_mujocos_with_the_same_changes(physics):
    env = made(
        physics=physics, randomize=heavier, substeps=2, start=lambda key: (jnp.asarray([0.09, 0.1]), jnp.ones(2))
    )
    worst, states = differences(env, xml(), 2)
    assert worst < 1e-4
    assert (np.abs(states.qpos[..., 0]) > 0.1).any()  # Somebody reached the changed limit.
    gravity = states.drawn["opt.gravity"][..., 2]
    assert (gravity == gravity[0]).all() and len(np.unique(gravity)) == 3  # One draw per copy, for the whole episode.
    np.testing.assert_allclose(states.drawn["jnt_range"][..., 0, 1], 0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        {"joint": 'frictionloss="0.2"'},
        {"more": LOCK},
        {"option": 'integrator="implicitfast"'},
        {"actuator": MOTOR + MUSCLE},
        {"actuator": MOTOR + '<general joint="hinge" dyntype="filter" dynprm="0.1" ctrlrange="-1 1"/>'},
    ],
    ids=["friction", "equality", "implicit", "muscle", "filter"],
)
def test_what_only_mjx_supports_is_mujocos_with_its_own_steps(model):
    with pytest.raises(ValueError, match="or physics='mjx'"):
        made(xml(**model))
    assert differences(made(xml(**model), physics="mjx"), xml(**model), 1)[0] < 1e-3


BALL = """
<mujoco model="ball">
  <worldbody>
    <geom type="plane" size="5 5 1"/>
    <body pos="0 0 0.1">
      <joint name="x" type="slide" axis="1 0 0"/><joint type="slide" axis="0 0 1"/>
      <geom name="ball" type="sphere" size="0.1" mass="1"/>
    </body>
  </worldbody>
  <actuator><motor joint="x" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


@pytest.mark.slow
def test_randomized_contacts_are_mujocos():
    def slippery(key, model):
        friction, size = jax.random.uniform(key, (2,), minval=0.2, maxval=1.0)
        sizes = model.geom_size.at[1, 0].set(0.1 * size)
        return {"geom_friction": model.geom_friction * friction, "geom_size": sizes}

    pose = jnp.asarray([0.0, -0.05]), jnp.asarray([1.0, 0.0])
    env = made(BALL, lambda before, action, after: after.qpos[0], None, randomize=slippery, start=lambda key: pose)
    worst, states = differences(env, BALL, 1, steps=60)
    assert worst < 1e-3
    assert np.ptp(states.qvel[-1, :, 0]) > 0.1 and np.ptp(states.qpos[-1, :, 1]) > 0.01


@pytest.mark.slow
def test_gymnasiums_pendulum_falls_slower_on_the_moon():
    there = pytest.importorskip("gymnasium").__path__[0] + "/envs/mujoco/assets/inverted_pendulum.xml"
    moon = c.MjModel.from_xml_path(there)
    moon.opt.gravity[2] = -1.62

    def angle(model):
        env = mujoco.from_xml(model, reward=lambda *_: jnp.float32(0), start=lambda key: (jnp.full(2, 0.1),) * 2)
        return jax.jit(lambda: jax.lax.fori_loop(0, 10, lambda _, s: env.step(s, jnp.zeros(1))[0], env.reset(key)))()

    key = jax.random.key(0)
    here, lighter = angle(there), angle(moon)
    assert 0.1 < lighter.qpos[1] < here.qpos[1] and moon.opt.gravity[2] == -1.62
    data = c.MjData(moon)
    data.qpos[:] = data.qvel[:] = 0.1
    c.mj_step(moon, data, nstep=10)
    np.testing.assert_allclose(lighter.qpos, data.qpos, rtol=1e-4)


def test_the_defaults_are_positions_and_velocities_and_a_start_near_the_default_pose():
    env = mujoco.from_xml(xml(), reward=lambda before, action, after: -jnp.sum(action**2))
    assert (env.name, env.obs_size, env.action_size, env.episode_length) == ("cart", 4, 1, 1000)
    assert np.array_equal(env.action_range, [[-2], [2]]) and not env.truncates and env.scene.timestep == 0.01
    starts = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 100))
    seen = jax.vmap(env.observe)(starts)
    assert np.abs(seen).max() <= 0.01 and (np.std(seen, axis=0) > 0.004).all() and starts.drawn is None


def test_the_critic_of_a_model_may_see_what_the_episode_has_drawn():
    def observe(state):
        return {"speed": state.qvel, "place": state.qpos, "privileged_state": state.drawn["body_mass"]}

    env = mujoco.from_xml(xml(), reward=height, derive=tip, observe=observe, randomize=heavier)
    assert (env.obs_size, env.actor_obs_size) == (2 + 2 + 3, 4)
    state = env.reset(jax.random.key(0))
    parts = [state.qpos, state.qvel, state.drawn["body_mass"]]
    np.testing.assert_array_equal(env.observe(state), jnp.concatenate(parts))


def test_subtrees_become_heavier_with_their_bodies():
    from purerl.environments.mujoco import dynamics, randomization

    model = dynamics.mjx.put_model(c.MjModel.from_xml_string(xml()))
    changed = randomization.changed(model, {"body_mass": jnp.asarray([0.0, 2.0, 5.0])})
    np.testing.assert_array_equal(changed.body_subtreemass, [7.0, 7.0, 5.0])


CALLS = {
    "no file": ({"model": "cartt.xml"}, "there is no MuJoCo model 'cartt.xml'; give the path of an XML file"),
    "no model": ({"model": 3}, "a MuJoCo model is a path, XML text or a mujoco.MjModel, not 3"),
    "broken": ({"model": "<mujoco><bodies/></mujoco>"}, "the XML text fails: ValueError: XML Error: Schema violation"),
    "no actuator": ({"model": xml(actuator="")}, "cart: the model has no actuator"),
    "elliptic": (
        {"model": xml('cone="elliptic"')},
        "cart: elliptic friction cones are not supported; use cone 'pyrami",
    ),
    "implicit": (
        {"model": xml('integrator="implicit"'), "physics": "mjx"},
        "cart: mjx.put_model fails: NotImplementedError: mjtIntegrator.mjINT_IMPLICIT",
    ),
    "physics": ({"physics": "mjax"}, "cart: unknown physics 'mjax'; did you mean mjx? known: purerl, mjx"),
    "no reward": ({"reward": None}, "cart: reward is None; it must be a function"),
    "no function": ({"observe": 3}, "cart: observe is 3; it must be a function"),
    "substeps": ({"substeps": 0}, "cart: substeps is 0; it must be a positive int"),
    "no time": ({"episode_length": 2.5}, "cart: episode_length is 2.5; it must be a positive int"),
    "name": ({"name": ""}, "Environment: name is ''; it must be a str that is not empty"),
    "pose": (
        {"start": lambda key: (jnp.zeros(3), jnp.zeros(2))},
        "cart: start(key) fails: ValueError: it returns ((3,), (2,)); it must be (qpos, qvel) of shapes (2,) and (2,)",
    ),
    "no pose": ({"start": lambda key: jnp.zeros(4)}, "it must be (qpos, qvel) of shapes (2,) and (2,)"),
    "derived": ({"derive": lambda model, data: data.xpos}, "cart: derive(model, data) fails: ValueError: it returns"),
    "two": (
        {"reward": lambda before, action, after: after.qpos},
        "cart: reward(before, action, after) fails: ValueError: reward must be a scalar, not of shape (2,)",
    ),
    "no flag": (
        {"terminated": lambda state: state.qpos > 1},
        "terminated(state) fails: ValueError: terminated must be",
    ),
    "matrix": (
        {"observe": lambda state: jnp.eye(2)},
        "observe(state) fails: ValueError: observations must be one flat",
    ),
}


def drawing(field, value):
    return {"randomize": lambda key, model: {field: value(key, model)}}


CALLS |= {
    "no draw": ({"randomize": 3}, "cart: randomize is 3; it must be a function (key, model) -> changes"),
    "no dict": ({"randomize": lambda key, model: model}, "randomize(key, model) returns Model("),
    "nothing": ({"randomize": lambda key, model: {}}, "returns {}; it must return a dict {field of the model: array}"),
    "unknown": (
        drawing("body_mas", lambda k, m: m.body_mass),
        "'body_mas', which is no field of a mjx.Model; did you me",
    ),
    "integers": (drawing("geom_type", lambda k, m: 1), "changes geom_type, which is fixed when the model is compiled"),
    "shape": (drawing("body_mass", lambda k, m: jnp.ones(2)), "body_mass is of shape (2,); it must be of shape (3,)"),
    "truth": (drawing("body_mass", lambda k, m: m.body_mass > 0), "body_mass is"),
    "infinite": (drawing("body_mass", lambda k, m: m.body_mass / 0), "draws body_mass that is not finite"),
    "negative": (
        drawing("dof_damping", lambda k, m: m.dof_damping * jax.random.normal(k)),
        "it must not be negative for any key",
    ),
    "duration": (
        drawing("opt.timestep", lambda k, m: m.opt.timestep * 2),
        "all copies take steps of the same duration",
    ),
    "unread": (
        drawing("geom_friction", lambda k, m: m.geom_friction * 2),
        "cart: randomize changes geom_friction, but no step of this model reads it; leave it out",
    ),
}


@pytest.mark.parametrize("changes, words", CALLS.values(), ids=CALLS.keys())
def test_what_is_wrong_is_one_line(changes, words):
    with pytest.raises(ValueError) as refused:
        made(**changes)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_a_model_is_copied_and_a_path_names_the_environment(tmp_path):
    model, path = c.MjModel.from_xml_string(xml('solver="PGS"')), tmp_path / "cart_two.xml"
    path.write_text(xml())
    env = made(model)
    assert env.scene.model is not model and model.opt.solver == c.mjtSolver.mjSOL_PGS
    for given, name in ((model, "cart"), (xml(), "cart"), (path, "cart_two"), (str(path), "cart_two")):
        with pytest.raises(ValueError, match=f"^{name}: unknown physics"):
            made(given, physics="warp")


# Delays


def adder(action_range=(-2.0, 4.0)):
    """Return an environment whose state is the list of the last actions, the newest first."""

    def step(state, action):
        after = jnp.concatenate([action, state[:-1]])
        return after, base.Outcome(after.sum(), jnp.asarray(False), jnp.asarray(False))

    return base.Environment(
        lambda key: jnp.full(6, 9.0), step, lambda state: state, 6, 1, 10, "adder", False, action_range
    )


@pytest.mark.parametrize("late", [1, 2, 5])
def test_an_action_arrives_as_many_steps_later(late):
    env = environments.make(delays.delayed(adder(), late))
    state = env.reset(jax.random.key(0))
    for sent in (1.0, 2.0, 3.0, 4.0):
        state, _ = env.step(state, jnp.full(1, sent))
    arrived = [1.0] * late + [1.0, 2.0, 3.0, 4.0]  # before the first one, the middle of -2 and 4
    np.testing.assert_array_equal(env.observe(state)[:4], arrived[3::-1])


def test_a_delay_is_drawn_for_each_episode():
    env = delays.delayed(adder(), (0, 3))
    delay = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 200)).delay
    assert np.unique(delay).tolist() == [0, 1, 2, 3] and np.bincount(delay).min() > 25


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, (2, 1), (0, 0), (1, 2, 3), "1", None, (0, 10**6)])
def test_a_delay_that_is_none_is_refused(steps):
    with pytest.raises(ValueError, match="adder: a delay is a number of steps from 1 to 1000, or a pair"):
        delays.delayed(adder(), steps)


@pytest.mark.slow
def test_a_run_with_randomized_and_late_physics_resumes_bit_by_bit(tmp_path, monkeypatch):
    """The draws of the running episodes and the actions on their way are in the checkpoint."""
    (tmp_path / "late_cart.py").write_text(
        "import jax\nfrom purerl.environments import mujoco\n"
        f"XML = '''{xml()}'''\n"
        "def lighter(key, model):\n    return {'body_mass': model.body_mass * jax.random.uniform(key, minval=0.2)}\n"
        "def reward(before, action, after):\n    return after.qpos[0]\n"
        "env = mujoco.delayed(mujoco.from_xml(XML, reward=reward, randomize=lighter), (0, 2))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    small = arguments(env="late_cart:env", algo="td3", total_steps="160", num_seeds="1")
    assert train.main([*small, "--out", str(whole)]) == 0
    assert train.main([*small, "--out", str(parts), "--time-limit", "0.001"]) == train.INTERRUPTED
    assert train.main(["--resume", str(parts), "--time-limit", "none"]) == 0
    assert_same_run(whole, parts)
    assert evaluate.main([str(whole), "--episodes", "2"]) == 0
    assert render.main([str(whole), "--film", "none", "--out", str(tmp_path / "seen")]) == 0
