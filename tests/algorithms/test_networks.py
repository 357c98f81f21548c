"""Networks: what they begin as, what shapes them, and the density of squashed actions."""

import re
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.algorithms import networks
from purerl.settings import registry
from purerl.settings.schema import Plan

OBSERVATION = jnp.array(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)
ACTION = jnp.array(np.random.default_rng(1).uniform(-1, 1, (5, 2)), jnp.float32)
SMALL = networks.MLP((8, 8), "relu", False)


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def test_each_of_the_critics_is_a_critic_of_its_own():
    ensemble = networks.Critics(3, networks.Critic(SMALL))
    params = ensemble.init(jax.random.key(0), OBSERVATION, ACTION)
    values = ensemble.apply(params, OBSERVATION, ACTION)
    assert values.shape == (3, 5)
    for i, value in enumerate(values):
        member = jax.tree.map(lambda x, i=i: x[i], params)
        assert_close(networks.Critic(SMALL).apply(member, OBSERVATION, ACTION), value)


def test_critics_begin_with_different_parameters():
    params = networks.Critics(3, networks.Critic(SMALL)).init(jax.random.key(0), OBSERVATION, ACTION)
    kernels = [x for x in jax.tree.leaves(params) if x.ndim == 3]
    assert len(kernels) == 3
    for kernel in kernels:
        assert len(np.unique(kernel, axis=0)) == 3


def with_head_bias(params, bias):
    return {"params": params["params"] | {"Dense_0": params["params"]["Dense_0"] | {"bias": bias}}}


@pytest.mark.parametrize(("bias", "log_std"), [(-1e3, -20.0), (1e3, 2.0)])
def test_log_std_stays_between_minus_20_and_2(bias, log_std):
    actor = networks.GaussianActor(2, SMALL)
    params = actor.init(jax.random.key(0), OBSERVATION)
    before, _ = actor.apply(params, OBSERVATION)
    mean, std = actor.apply(with_head_bias(params, jnp.array([0.0, 0.0, bias, bias])), OBSERVATION)
    assert_close(std, np.full((5, 2), np.exp(log_std)))
    assert_close(mean, before)


def test_std_depends_on_the_state():
    actor = networks.GaussianActor(2, SMALL)
    _, std = actor.apply(actor.init(jax.random.key(0), OBSERVATION), OBSERVATION)
    assert (np.ptp(std, axis=0) > 0).all()


def test_actor_stays_inside_the_box():
    actor = networks.Actor(2, SMALL)
    params = jax.tree.map(lambda x: 100.0 * x, actor.init(jax.random.key(0), OBSERVATION))
    assert (jnp.abs(actor.apply(params, OBSERVATION)) <= 1.0).all()


def test_widths_are_those_of_the_plan():
    params = networks.actor_torso(Plan(widths=(7, 5, 6))).init(jax.random.key(0), OBSERVATION)
    kernels = [params["params"][f"Dense_{i}"]["kernel"].shape for i in range(3)]
    assert kernels == [(3, 7), (7, 5), (5, 6)]


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "swish": lambda x: x / (1 + np.exp(-x)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "gelu": lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("layer_norm", [False, True])
def test_hidden_layer_is_dense_then_layer_norm_then_activation(activation, layer_norm):
    torso = networks.critic_torso(Plan(widths=(8,), activation=activation, layer_norm=layer_norm))
    params = jax.tree.map(lambda x: x + 0.1, torso.init(jax.random.key(0), OBSERVATION))
    x = np.float64(OBSERVATION) @ params["params"]["Dense_0"]["kernel"] + params["params"]["Dense_0"]["bias"]
    if layer_norm:
        scale, bias = (params["params"]["LayerNorm_0"][name] for name in ("scale", "bias"))
        x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-6) * scale + bias
    assert_close(torso.apply(params, OBSERVATION), ACTIVATIONS[activation](x))


def assert_uniform(kernel, bound):
    """Within ±bound, and filling it: of 1000 draws, 15 are expected beyond 97% of it on either side."""
    assert (jnp.abs(kernel) <= bound).all()
    assert kernel.max() > 0.97 * bound
    assert kernel.min() < -0.97 * bound
    assert abs(kernel.std() - bound / np.sqrt(3)) < 0.05 * bound


@pytest.mark.parametrize("make", [networks.Actor, networks.GaussianActor])
def test_networks_begin_small(make):
    observation = jnp.zeros(20)
    params = make(30, networks.MLP((50, 60), "relu", False)).init(jax.random.key(0), observation)["params"]
    for name, fan_in in (("Dense_0", 20), ("Dense_1", 50)):
        assert_uniform(params["torso"][name]["kernel"], 1 / np.sqrt(fan_in))
    for head in params.keys() - {"torso"}:
        assert_uniform(params[head]["kernel"], 3e-3)
        assert not params[head]["bias"].any()


def test_critics_begin_small():
    params = networks.Critics(10, networks.Critic(networks.MLP((60, 60), "relu", False))).init(
        jax.random.key(0), jnp.zeros(20), jnp.zeros(5)
    )["params"]
    assert_uniform(params["torso"]["Dense_0"]["kernel"], 1 / np.sqrt(25))
    assert_uniform(params["torso"]["Dense_1"]["kernel"], 1 / np.sqrt(60))
    assert_uniform(params["Dense_0"]["kernel"], 3e-3)
    assert not params["Dense_0"]["bias"].any()


@pytest.mark.parametrize(("initialization", "gain"), [("pytorch", 1.0), ("glorot", None), ("lecun", None)])
def test_networks_begin_as_those_of_other_authors(initialization, gain):
    sizes = (40, 50, 60, 30)
    torso = networks.MLP(sizes[1:3], "relu", False, initialization=initialization)
    params = networks.Actor(sizes[3], torso).init(jax.random.key(0), jnp.zeros(sizes[0]))["params"]
    layers = (params["torso"]["Dense_0"], params["torso"]["Dense_1"], params["Dense_0"])
    for layer, inputs, outputs in zip(layers, sizes, sizes[1:], strict=False):
        if initialization == "lecun":
            assert abs(layer["kernel"].std() * np.sqrt(inputs) - 1) < 0.06 and abs(layer["kernel"].mean()) < 0.02
        else:
            assert_uniform(layer["kernel"], gain / np.sqrt(inputs) if gain else np.sqrt(6 / (inputs + outputs)))
        if initialization == "pytorch":
            assert 0.8 / np.sqrt(inputs) < np.abs(layer["bias"]).max() <= 1 / np.sqrt(inputs)
        else:
            assert not layer["bias"].any()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"initialization": "orthogonal"}, "initialization is 'orthogonal'; known: small, pytorch, glorot, lecun"),
        ({"precision": "float16"}, "precision is 'float16'; did you mean float32"),
        ({"activation": "relux"}, "activation is 'relux'"),
        ({"activation": "Dense"}, "activation is 'Dense'"),
    ],
)
def test_unknown_names_are_refused_where_a_network_is_made(given, says):
    with pytest.raises(ValueError, match=says):
        networks.MLP(**{"widths": (8,), "activation": "relu", "layer_norm": False} | given)


@pytest.mark.parametrize("given", ["activation=None", "activation=len", "precision=['float32']"])
def test_values_of_another_type_are_refused_where_a_network_is_made(given):
    """In another process, because the tests check types at run time and a user's program does not."""
    others = "widths=(8,), activation='relu', layer_norm=False"
    code = f"from purerl.algorithms.networks import MLP; MLP(**dict({others}) | dict({given}))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert f"ValueError: {given.split('=')[0]} is " in said.splitlines()[-1]


@pytest.mark.parametrize("algo", registry.ALGORITHMS)
def test_every_algorithm_begins_as_its_settings_say(algo):
    """Output kernels are in ±3e-3, unless Glorot's bound is asked for."""
    env, largest = SimpleNamespace(obs_size=3, action_size=1), {}
    for initialization in ("small", "glorot"):
        spec, plan = registry.ALGORITHMS[algo], Plan(widths=(8, 8), initialization=initialization)
        state = spec.build(spec.hyperparameters(), plan, env).init(jax.random.key(0))
        paths = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}
        kernels = [
            jnp.abs(leaf).max() for path, leaf in paths.items() if path.endswith("['params']['Dense_0']['kernel']")
        ]
        kernels = [bound for bound in kernels if bound > 0]  # without the moments of Adam
        assert len(kernels) >= 2  # of an actor and of critics
        largest[initialization] = kernels
    assert max(largest["small"]) <= 3e-3 < min(largest["glorot"])


def test_log_density_of_a_squashed_action_is_exact_up_to_saturation():
    """Before tanh, actions reach ±7.25: 1 − |a| is 1e-6, where single precision has lost the action's last digit."""
    mean = jnp.linspace(-7.2, 7.2, 200).reshape(100, 2)
    std = jnp.array([[0.02, 0.05]])
    policy = networks.SquashedGaussian(mean, jnp.broadcast_to(std, mean.shape))
    key = jax.random.key(0)
    action, log_prob = policy.sample_and_log_prob(key)
    xi = jax.random.normal(key, mean.shape)
    u, m, s = (np.asarray(x, np.float64) for x in (mean + std * xi, mean, std))
    assert 1 - np.tanh(np.abs(u).max()) < 1e-6
    np.testing.assert_allclose(action, np.tanh(u), rtol=1e-6)
    gaussian = -(((u - m) / s) ** 2) / 2 - np.log(s) - np.log(2 * np.pi) / 2
    expected = (gaussian - np.log(1 - np.tanh(u) ** 2)).sum(axis=1)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("mean", [-50.0, -20.0, 20.0, 50.0])
def test_gradient_of_the_log_density_is_finite_where_tanh_is_saturated(mean):
    def log_prob(mean, std):
        return networks.SquashedGaussian(mean, std).sample_and_log_prob(jax.random.key(0))[1]

    d_mean, d_std = jax.grad(log_prob, argnums=(0, 1))(jnp.full(2, mean), jnp.full(2, 0.5))
    xi = jax.random.normal(jax.random.key(0), (2,))
    sign = np.sign(mean)
    np.testing.assert_allclose(d_mean, [2 * sign] * 2, rtol=1e-5)  # of −log(1 − tanh² u): 2 tanh u
    np.testing.assert_allclose(d_std, 2 * sign * xi - 1 / 0.5, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", networks.PRECISIONS)
def test_parameters_and_outputs_are_float32_whatever_the_products_are(precision):
    torso = networks.MLP((8, 8), "relu", True, precision)
    for module, inputs in (
        (networks.Actor(2, torso), (OBSERVATION,)),
        (networks.GaussianActor(2, torso), (OBSERVATION,)),
        (networks.Critics(2, networks.Critic(torso)), (OBSERVATION, ACTION)),
    ):
        params = module.init(jax.random.key(0), *inputs)
        leaves = jax.tree.leaves((params, module.apply(params, *inputs)))
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


def products(precision):
    """The precision and the dtypes of every product in the critics' gradient."""
    critics = networks.Critics(2, networks.Critic(networks.MLP((8, 8), "relu", False, precision)))
    params = critics.init(jax.random.key(0), OBSERVATION, ACTION)
    gradient = jax.grad(lambda params, observation: critics.apply(params, observation, ACTION).sum(), (0, 1))
    text = str(jax.make_jaxpr(gradient)(params, OBSERVATION))
    assert text.count("dot_general[") == 9  # three forward, three for weights, three for inputs
    return text


def test_precision_reaches_every_product_of_a_network_and_its_gradient():
    for precision, name in (("float32", "HIGHEST"), ("tf32", "HIGH")):
        assert products(precision).count(f"Precision.{name}, Precision.{name}") == 9
    assert len(re.findall(r":bf16\[[\d,]+\] = dot_general", products("bf16"))) == 9


@pytest.mark.parametrize("shape", [(4,), (5, 4), (2, 5, 4)])
def test_gradients_of_a_product_are_jax_own_and_a_kernels_is_not_turned_around(shape):
    x, kernel = jax.random.normal(jax.random.key(0), shape), jax.random.normal(jax.random.key(1), (4, 3))
    weights = jax.random.normal(jax.random.key(2), (*shape[:-1], 3))
    how = (((len(shape) - 1,), (0,)), ((), ())), jax.lax.Precision.HIGHEST

    def gradients(multiply):
        return jax.grad(lambda x, kernel: (weights * multiply(x, kernel, *how)).sum(), (0, 1))

    ours, plain = gradients(networks.product), gradients(jax.lax.dot_general)
    jax.tree.map(assert_close, ours(x, kernel), plain(x, kernel))
    assert "transpose" in str(jax.make_jaxpr(plain)(x, kernel))
    assert "transpose" not in str(jax.make_jaxpr(ours)(x, kernel))


def test_bf16_rounds_and_tf32_does_not_on_a_cpu():
    def values(precision):
        critics = networks.Critics(2, networks.Critic(networks.MLP((60, 60), "relu", False, precision)))
        return critics.apply(critics.init(jax.random.key(0), OBSERVATION, ACTION), OBSERVATION, ACTION)

    plain, tf32, bf16 = map(values, networks.PRECISIONS)
    np.testing.assert_array_equal(tf32, plain)
    error = np.abs(bf16 - plain).max() / np.abs(plain).max()
    assert 2**-12 < error < 2**-5
