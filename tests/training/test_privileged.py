"""A critic that reads more than the actor: what each of them gets, in training and after it."""

import tomllib
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import arguments, assert_same_run, stopped_after
from toys import HYPERS, hidden_context, learner, symmetric

import purerl
from purerl import evaluate, export, train
from purerl.algorithms import networks
from purerl.policies import acting, layers, load
from purerl.policies.kept import Sizes
from purerl.results import run_folder
from purerl.runs import algorithm_check
from purerl.settings import config
from purerl.settings.registry import find_algorithm
from purerl.settings.schema import Plan
from purerl.training import loop
from purerl.types import Batch, actor_obs_size, actor_part

SEEN = SimpleNamespace(obs_size=5, action_size=2, actor_obs_size=3)
PLAN = Plan(num_envs=4, widths=(8,), precision="float32")

every_learner = pytest.mark.parametrize("name", HYPERS)


def test_who_does_not_say_what_the_actor_reads_lets_it_read_all():
    assert actor_obs_size(SimpleNamespace(obs_size=5, action_size=2)) == 5
    assert actor_obs_size(Sizes(5, 2)) == 5 and actor_obs_size(Sizes(5, 2, 3)) == 3
    x = jnp.arange(10.0).reshape(2, 5)
    assert actor_part(x, 5) is x and actor_part(x, 3).tolist() == [[0, 1, 2], [5, 6, 7]]


@every_learner
def test_the_actor_has_as_many_inputs_as_it_reads_and_the_critic_all(name):
    algorithm = learner(name, PLAN, SEEN)
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    kernel = {part: getattr(state, part).params["params"]["torso"]["Dense_0"]["kernel"] for part in ("actor", "critic")}
    assert kernel["actor"].shape == (3, 8) and kernel["critic"].shape[1:] == (5 + 2, 8)
    for size in (3, 5):  # its part, or a whole observation
        observation = jax.ShapeDtypeStruct((4, size), jnp.float32)
        assert jax.eval_shape(algorithm.act, algorithm.policy(state), observation).shape == (4, 2)


def test_the_target_is_the_critics_of_all_and_the_actors_of_its_part():
    """DDPG's, by NumPy: Q'(s', μ'(s'[:3])) of the whole s'."""
    algorithm, rng = learner("ddpg", PLAN, SEEN), np.random.default_rng(0)
    state = jax.tree.map(
        lambda x: x + rng.normal(size=x.shape).astype(x.dtype) if x.dtype == jnp.float32 else x,
        algorithm.init(jax.random.key(0)),
    )
    x = rng.normal(size=(1, 6, 5)).astype(np.float32)
    batch = Batch(x, np.zeros((1, 6, 2), np.float32), np.zeros((1, 6)), np.zeros((1, 6)), x)
    value = algorithm.next_value(state, jax.tree.map(jnp.asarray, batch), jax.random.key(0))

    def mlp(params, x, pick=lambda x: x):
        for layer, of in (("torso", params["torso"]["Dense_0"]), ("head", params["Dense_0"])):
            x = x @ np.asarray(pick(of["kernel"])) + np.asarray(pick(of["bias"]))
            x = np.maximum(x, 0.0) if layer == "torso" else x
        return x

    action = np.tanh(mlp(state.target_actor["params"], x[..., :3]))
    expected = mlp(state.target_critic["params"], np.concatenate([x, action], axis=-1), lambda x: x[0])[..., 0]
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)


def whole(hyper, plan, env):
    """TD3 whose actor reads the whole observation, as one that was written without a thought of it."""
    return find_algorithm("td3").build(hyper, plan, Sizes(env.obs_size, env.action_size))


def test_an_algorithm_whose_actor_reads_the_whole_observation_is_refused():
    settings = config.resolve({"env": "Pendulum-v1"})
    with pytest.raises(ValueError) as error:
        algorithm_check.check_algorithm("my:own", whole, settings, hidden_context(1.0))
    message = str(error.value)
    assert "explore, which gets the first actor_obs_size 2 of the 3 numbers of an observation" in message
    assert "\n" not in message
    algorithm_check.check_algorithm("my:own", whole, settings, symmetric(hidden_context(1.0)))


NETS = """
import flax.linen as nn
import jax.numpy as jnp
from functools import partial
from toys import hidden_context
from purerl.algorithms.td3 import td3
from purerl.settings.hyperparameters import TD3
from purerl.settings.registry import AlgorithmSpec

env = hidden_context(3.0)._replace(action_range=(-2.0, 2.0))
more = hidden_context(3.0)._replace(observe=lambda state: jnp.zeros(9), obs_size=9)
less = env._replace(actor_obs_size=1)


class Residual(nn.Module):
    action_size: int

    @nn.compact
    def __call__(self, observation):
        x = nn.Dense(8)(observation)
        return jnp.tanh(nn.Dense(self.action_size)(x + nn.Dense(8)(nn.relu(x))))


class Product(nn.Module):
    @nn.compact
    def __call__(self, observation, action):
        return (nn.Dense(8)(observation) * nn.tanh(nn.Dense(8)(action))).sum(axis=-1)


def actor(plan, env):
    return Residual(env.action_size)


def critic(plan, env):
    return Product()


own = AlgorithmSpec(TD3, partial(td3, actor=actor, critic=critic))
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nets")
    (folder / "privileged_nets.py").write_text(NETS)
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(folder))
        yield "privileged_nets"


WORDS = {"normalize_observations": "true", "episode_length": "10", "num_seeds": "2"}


@pytest.fixture(scope="module")
def trained(module, tmp_path_factory):
    """A run with networks of a user's own and a critic that reads more than the actor."""
    path = tmp_path_factory.mktemp("runs") / "run"
    words = arguments(algo=f"{module}:own", env=f"{module}:env", **WORDS)
    assert train.main([*words, "--out", str(path)]) == 0
    return path


def test_a_policy_takes_what_the_actor_read_and_its_statistics_are_of_that_part(trained):
    record = tomllib.loads((trained / "run.toml").read_text())["record"]
    assert (record["obs_size"], record["actor_obs_size"]) == (3, 2)
    assert record["algorithm"] == "partial(purerl.algorithms.td3:td3)"
    kept = load.read_policies(trained)
    assert kept.obs_size == 2 and kept.statistics["mean"].shape == (2, 3)
    policy, x = purerl.load_policy(trained, seed=5), np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
    mean, variance = (kept.statistics[name][0, :2] for name in ("mean", "variance"))
    inputs = jnp.asarray(np.clip((x - mean) / np.sqrt(variance + 1e-8), -10.0, 10.0))
    build = find_algorithm("privileged_nets:own").build
    algorithm = build(kept.settings.hyper, kept.settings.plan, Sizes(3, 1, 2))
    actor = jax.tree.map(lambda x: x[0], kept.actor)
    with jax.default_matmul_precision("highest"):
        np.testing.assert_allclose(policy(x), 2 * algorithm.act(actor, inputs), rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match=r"shape \(3,\); this policy takes numbers of shape \(..., 2\)"):
        policy(np.zeros(3))


def test_what_a_format_cannot_hold_it_says_and_stablehlo_holds_all(trained, tmp_path, capsys):
    for format in ("npz", "onnx"):
        with pytest.raises(SystemExit):
            export.main([str(trained), "--format", format])
        message = capsys.readouterr().err
        assert "the actor of privileged_nets:own is not made of layers that" in message and message.count("\n") == 1
        assert "use stablehlo" in message
    out = tmp_path / "it.stablehlo"
    assert export.main([str(trained), "--seed", "6", "--format", "stablehlo", "--out", str(out)]) == 0
    x = np.ones((5, 2), np.float32)
    np.testing.assert_allclose(purerl.load_policy(out)(x), purerl.load_policy(trained, seed=6)(x), atol=1e-4)


def test_a_policy_is_evaluated_where_its_actor_sees_as_much(trained, capsys):
    assert evaluate.main([str(trained), "--episodes", "2"]) == 0
    assert evaluate.main([str(trained), "--episodes", "2", "--env", "privileged_nets:more"]) == 0
    with pytest.raises(SystemExit):
        evaluate.main([str(trained), "--env", "privileged_nets:less"])
    assert "with 2 observations and 1 actions, but privileged_nets:less has 1 and 1" in capsys.readouterr().err


@pytest.mark.slow
def test_a_stopped_run_is_resumed_bit_for_bit(trained, module, tmp_path, monkeypatch, one_turn_at_a_time):
    words = arguments(algo=f"{module}:own", env=f"{module}:env", **WORDS)
    with stopped_after(30, monkeypatch):
        assert train.main([*words, "--out", str(tmp_path / "run")]) == train.INTERRUPTED
    assert train.main(["--resume", str(tmp_path / "run")]) == 0
    assert_same_run(trained, tmp_path / "run")
    at = load.read_policies(trained, 280)
    assert at.obs_size == 2 and np.isfinite(run_folder.read_curves(trained)["return_mean"]).all()


def test_layers_of_an_ordinary_actor_take_its_part_alone():
    plan = Plan(widths=(8,), actor_widths=(4,), actor_activation="gelu", precision="float32")
    actor = networks.deterministic_actor(plan, SEEN)
    params = jax.device_get(actor.init(jax.random.key(0), jnp.zeros(3)))
    found = layers.describe(
        params, {}, plan.actor_layers.activation, 3, 2, (np.asarray(-1.0, np.float32), np.asarray(1.0, np.float32))
    )
    assert layers.sizes(found) == (3, 2)
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    np.testing.assert_allclose(layers.apply(found, x), actor.apply(params, jnp.asarray(x)), atol=1e-5)


@pytest.mark.slow
def test_a_critic_that_reads_the_context_learns_where_one_that_does_not_is_slow():
    """The best action is 0.8 · target. The error is that of the action, root mean square over targets."""
    env = hidden_context(3.0)
    here, without = errors("td3", env), errors("td3", symmetric(env))
    print(f"{np.sort(here).round(3)} with the context, {np.sort(without).round(3)} without")
    assert np.median(here) < 0.12 and here.max() < 0.25
    assert np.median(without) > 2 * np.median(here)


def errors(name, env):
    """Return the errors of the policies of eight seeds after 4,096 updates, `[8]`."""
    sizes = {"num_envs": 8, "updates_per_step": 8, "batch_size": 64, "buffer_size": 8192, "warmup_steps": 512}
    sizes |= {"total_steps": 512 + 8 * 512, "num_evals": 3, "widths": "32,32", "eval_episodes": 4}
    settings = config.resolve({"algo": name, "env": "Pendulum-v1", **sizes})
    algorithm = find_algorithm(name).build(settings.hyper, settings.plan, env)
    targets = jnp.linspace(-1.0, 1.0, 21)

    def error(key):
        carry, _ = loop.train(settings.plan, algorithm, env, key)
        seen = jnp.stack([targets, jnp.full(21, 0.3)], axis=-1)
        action = algorithm.act(algorithm.policy(carry.agent), seen)[:, 0]
        return jnp.sqrt(jnp.square(action - 0.8 * targets).mean())

    return np.asarray(jax.jit(jax.vmap(error))(jax.vmap(jax.random.key)(jnp.arange(8))))


def test_the_actors_part_is_read_by_policies_that_are_given_whole_observations(trained):
    kept = load.read_policies(trained)
    act, policy = acting.act(kept), acting.one(kept, 0)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)
    assert (act(*policy, x) == act(*policy, x[:, :2])).all()
    assert (act(*policy, x) == act(*policy, x.at[:, 2].add(1.0))).all()
