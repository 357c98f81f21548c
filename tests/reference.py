"""A second implementation of DDPG, TD3 and SAC for comparison: float64 NumPy with gradients by hand, without purerl.

Networks have Flax's structure: `{"torso": {"Dense_0": {"kernel", "bias"}, ...}, "Dense_0": head}`, with relu after the
layers of the torso. Gradients have the structure of their parameters. JAX is used only for `tree.map`. Letters: B is
the batch, N the critics, A the size of an action, n the steps of a window.
"""

from typing import Any, NamedTuple

import jax
import numpy as np


class Trained(NamedTuple):
    """Parameters, and Adam's moments and count."""

    params: Any
    mu: Any
    nu: Any
    count: Any


class State(NamedTuple):
    """The state of any of the three algorithms. Parts that an algorithm does not have are None."""

    actor: Trained
    critic: Trained
    target_critic: Any
    target_actor: Any = None
    log_alpha: Trained | None = None


class Batch(NamedTuple):
    observation: Any
    action: Any
    reward: Any
    discount: Any
    next_observation: Any


def n_step(reward, terminated, truncated, gamma):
    """Return the return, the discount and the index of the last step, `[B]` each, of a window `[n, B]`.

    The sum is taken step by step until the end of the episode or of the window.
    """
    results = []
    for column in range(reward.shape[1]):
        total, discount = 0.0, 1.0
        for j in range(len(reward)):
            total += discount * reward[j, column]
            discount *= 0.0 if terminated[j, column] else gamma
            if terminated[j, column] or truncated[j, column]:
                break
        results.append((total, discount, j))
    return tuple(np.array(x) for x in zip(*results, strict=True))


def prepare(window, hyper):
    reward, discount, last = n_step(
        hyper.reward_scale * window.reward, window.terminated, window.truncated, hyper.gamma
    )
    next_observation = window.next_observation[last, np.arange(len(last))]
    return Batch(window.observation[0], window.action[0], reward, discount, next_observation)


def affine(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def affine_gradient(layer, x, d_output):
    """Return the gradients of the layer and of `x`."""
    return {"kernel": x.T @ d_output, "bias": d_output.sum(axis=0)}, d_output @ layer["kernel"].T


def forward(network, x):
    """Return the output and the input of every layer."""
    inputs = [x]
    for index in range(len(network["torso"])):
        inputs.append(np.maximum(affine(network["torso"][f"Dense_{index}"], inputs[-1]), 0.0))
    return affine(network["Dense_0"], inputs[-1]), inputs


def backward(network, inputs, d_output):
    """Return the gradients of the network and of `x`, given the gradient of the output."""
    gradient = {"torso": {}}
    gradient["Dense_0"], d_x = affine_gradient(network["Dense_0"], inputs[-1], d_output)
    for index in reversed(range(len(network["torso"]))):
        name = f"Dense_{index}"
        d_x = d_x * (inputs[index + 1] > 0.0)
        gradient["torso"][name], d_x = affine_gradient(network["torso"][name], inputs[index], d_x)
    return gradient, d_x


def members(critics):
    """Return the N networks of an ensemble."""
    count = len(jax.tree.leaves(critics)[0])
    return [jax.tree.map(lambda x, i=i: x[i], critics["params"]) for i in range(count)]


def values(critics, observation, action):
    """Return Qᵢ(s, a), `[N, B]`."""
    x = np.concatenate([observation, action], axis=1)
    return np.array([forward(network, x)[0][:, 0] for network in members(critics)])


def action_gradient(critics, observation, action):
    """Return ∂Qᵢ/∂a, `[N, B, A]`."""
    x = np.concatenate([observation, action], axis=1)
    ones = np.ones((len(x), 1))
    d_x = [backward(network, forward(network, x)[1], ones)[1] for network in members(critics)]
    return np.array(d_x)[:, :, observation.shape[1] :]


def mu(actor, observation):
    return np.tanh(forward(actor["params"], observation)[0])


def tanh_gaussian(actor, observation, xi):
    """Return a = tanh(m + σ ξ), log π(a|s), σ, and where log σ is within its range."""
    mean, raw = np.split(forward(actor["params"], observation)[0], 2, axis=1)
    log_std = np.clip(raw, -20.0, 2.0)
    u = mean + np.exp(log_std) * xi
    log_cosh = np.logaddexp(u, -u) - np.log(2)
    density = -(xi**2) / 2 - log_std - np.log(2 * np.pi) / 2 + 2 * log_cosh  # 1 − tanh² u underflows at 20
    return np.tanh(u), density.sum(axis=1), np.exp(log_std), raw == log_std


def adam(trained, gradient, learning_rate, weight_decay=None, max_grad_norm=None):
    """Take a step of Adam (Kingma & Ba 2014, algorithm 1).

    Weight decay is as in Loshchilov & Hutter 2017, algorithm 2. Gradients are clipped by one norm over all leaves.
    """
    norm = np.sqrt(sum(np.sum(x**2) for x in jax.tree.leaves(gradient)))
    shrink = 1.0 if max_grad_norm is None else min(1.0, max_grad_norm / norm)
    count = trained.count + 1
    mu = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * shrink * g, trained.mu, gradient)
    nu = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * (shrink * g) ** 2, trained.nu, gradient)

    def move(x, m, v):
        step = m / (1 - 0.9**count) / (np.sqrt(v / (1 - 0.999**count)) + 1e-8)
        return x - learning_rate * (step + (weight_decay or 0.0) * x)

    return Trained(jax.tree.map(move, trained.params, mu, nu), mu, nu, count)


def network_adam(trained, gradient, learning_rate, hyper):
    return adam(trained, {"params": gradient}, learning_rate, hyper.weight_decay, hyper.max_grad_norm)


def follow(online, target, tau):
    return jax.tree.map(lambda x, y: y + tau * (x - y), online, target)


def ddpg_value(state, batch):
    return values(state.target_critic, batch.next_observation, mu(state.target_actor, batch.next_observation))[0]


def td3_value(state, batch, xi, hyper):
    epsilon = np.clip(hyper.target_noise * xi, -hyper.noise_clip, hyper.noise_clip)
    action = np.clip(mu(state.target_actor, batch.next_observation) + epsilon, -1.0, 1.0)
    return values(state.target_critic, batch.next_observation, action).min(axis=0)


def temperature(log_alpha, hyper):
    return np.exp(log_alpha.params) if hyper.alpha is None else hyper.alpha


def sac_value(state, batch, xi, hyper):
    action, log_prob, _, _ = tanh_gaussian(state.actor.params, batch.next_observation, xi)
    q = values(state.target_critic, batch.next_observation, action)
    return q.min(axis=0) - temperature(state.log_alpha, hyper) * log_prob


def critic_update(state, batch, value, hyper):
    target = batch.reward + batch.discount * value
    x = np.concatenate([batch.observation, batch.action], axis=1)
    q, gradients = [], []
    for network in members(state.critic.params):
        output, inputs = forward(network, x)
        q.append(output[:, 0])
        gradients.append(backward(network, inputs, 2 * (output - target[:, None]) / len(x))[0])
    gradient = jax.tree.map(lambda *x: np.stack(x), *gradients)
    metrics = {"critic_loss": sum(np.mean((x - target) ** 2) for x in q), "q": np.mean(q)}
    return state._replace(critic=network_adam(state.critic, gradient, hyper.critic_lr, hyper)), metrics


def deterministic_actor_update(state, batch, hyper):
    """Update the actor of DDPG or TD3, and the targets."""
    network = state.actor.params["params"]
    _, inputs = forward(network, batch.observation)
    action = mu(state.actor.params, batch.observation)
    d_action = -action_gradient(state.critic.params, batch.observation, action)[0] / len(action)
    gradient, _ = backward(network, inputs, d_action * (1 - action**2))
    metrics = {"actor_loss": -values(state.critic.params, batch.observation, action)[0].mean()}
    actor = network_adam(state.actor, gradient, hyper.actor_lr, hyper)
    return state._replace(
        actor=actor,
        target_actor=follow(actor.params, state.target_actor, hyper.tau),
        target_critic=follow(state.critic.params, state.target_critic, hyper.tau),
    ), metrics


def soft_actor_update(state, batch, xi, hyper):
    """Update the actor and the temperature of SAC, and the targets."""
    network = state.actor.params["params"]
    _, inputs = forward(network, batch.observation)
    action, log_prob, std, within = tanh_gaussian(state.actor.params, batch.observation, xi)
    alpha, size = temperature(state.log_alpha, hyper), len(action)
    q = values(state.critic.params, batch.observation, action)
    lower = q.argmin(axis=0)
    d_action = -action_gradient(state.critic.params, batch.observation, action)[lower, np.arange(size)] / size
    d_mean = d_action * (1 - action**2) + alpha / size * 2 * action  # the gradient of −log(1 − tanh² u) is 2 tanh u
    d_log_std = (d_mean * std * xi - alpha / size) * within
    gradient, _ = backward(network, inputs, np.concatenate([d_mean, d_log_std], axis=1))
    log_alpha = state.log_alpha
    if hyper.alpha is None:
        target_entropy = -action.shape[1] if hyper.target_entropy is None else hyper.target_entropy
        log_alpha = adam(log_alpha, alpha * np.mean(-log_prob - target_entropy), hyper.alpha_lr)
    return state._replace(
        actor=network_adam(state.actor, gradient, hyper.actor_lr, hyper),
        log_alpha=log_alpha,
        target_critic=follow(state.critic.params, state.target_critic, hyper.tau),
    ), {
        "actor_loss": np.mean(alpha * log_prob - q.min(axis=0)),
        "alpha": temperature(log_alpha, hyper),
        "entropy": -log_prob.mean(),
    }
