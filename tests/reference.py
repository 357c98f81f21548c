"""A second implementation of the algorithms for comparison: float64 NumPy with gradients by hand, without purerl.

Networks have Flax's structure: `{"torso": {"Dense_0": {"kernel", "bias"}, ...}, "Dense_0": head}`, with relu after the
layers of the torso. If the torso has `"LayerNorm_0": {"scale", "bias"}` and so on, they precede relu. Gradients have
the structure of their parameters. JAX is used only for `tree.map`. Letters: B is the batch, N the critics, M the
outputs of a critic, K the numbers of a target, A the size of an action, n the steps of a window.

Dropout multiplies the output of a layer by *factors*: 0, or one over the share that is kept. Those of an ensemble are
`[N][layer]`, each `[B, width]`; None: no dropout.
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
    """The state of any of the algorithms. Parts that an algorithm does not have are None."""

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


NORM_EPSILON = 1e-5  # of DroQ; no other network here has layer normalization


def layer_norm(layer, x):
    """Return the output, the normalized `x`, and its standard deviation `[B, 1]`."""
    std = np.sqrt(x.var(axis=1, keepdims=True) + NORM_EPSILON)
    normalized = (x - x.mean(axis=1, keepdims=True)) / std
    return layer["scale"] * normalized + layer["bias"], normalized, std


def layer_norm_gradient(layer, normalized, std, d_output):
    """Return the gradients of the layer and of `x`."""
    gradient = {"scale": (d_output * normalized).sum(axis=0), "bias": d_output.sum(axis=0)}
    d = d_output * layer["scale"]
    shared = d.mean(axis=1, keepdims=True) + normalized * (d * normalized).mean(axis=1, keepdims=True)
    return gradient, (d - shared) / std


class Pass(NamedTuple):
    """What `backward` needs of a layer: its input, its normalization, and where relu is active."""

    x: Any
    normalized: Any
    std: Any
    active: Any


def forward(network, x, factors=None):
    """Return the output, and the `Pass` of every layer with the input of the head at last."""
    torso, passes = network["torso"], []
    for index in range(sum(name.startswith("Dense") for name in torso)):
        z, normalized, std = affine(torso[f"Dense_{index}"], x), None, None
        if factors is not None:
            z = z * factors[index]
        if f"LayerNorm_{index}" in torso:
            z, normalized, std = layer_norm(torso[f"LayerNorm_{index}"], z)
        passes.append(Pass(x, normalized, std, z > 0.0))
        x = np.maximum(z, 0.0)
    return affine(network["Dense_0"], x), [*passes, x]


def backward(network, passes, d_output, factors=None):
    """Return the gradients of the network and of `x`, given the gradient of the output."""
    torso, gradient, (*layers, last) = network["torso"], {"torso": {}}, passes
    gradient["Dense_0"], d_x = affine_gradient(network["Dense_0"], last, d_output)
    for index in reversed(range(len(layers))):
        x, normalized, std, active = layers[index]
        d_x, norm, name = d_x * active, f"LayerNorm_{index}", f"Dense_{index}"
        if norm in torso:
            gradient["torso"][norm], d_x = layer_norm_gradient(torso[norm], normalized, std, d_x)
        if factors is not None:
            d_x = d_x * factors[index]
        gradient["torso"][name], d_x = affine_gradient(torso[name], x, d_x)
    return gradient, d_x


def members(critics, factors=None):
    """Return the N networks of an ensemble, each with its factors of dropout."""
    count = len(jax.tree.leaves(critics)[0])
    networks = [jax.tree.map(lambda x, i=i: x[i], critics["params"]) for i in range(count)]
    return list(zip(networks, factors or [None] * count, strict=True))


def outputs(critics, observation, action, factors=None):
    """Return all outputs of the critics at (s, a), `[N, B, M]`."""
    x = np.concatenate([observation, action], axis=1)
    return np.array([forward(network, x, own)[0] for network, own in members(critics, factors)])


def values(critics, observation, action, factors=None):
    """Return Qᵢ(s, a), `[N, B]`."""
    return outputs(critics, observation, action, factors)[:, :, 0]


def action_gradient(critics, observation, action, factors=None):
    """Return the gradient of the sum of the outputs of each critic with respect to the action, `[N, B, A]`."""
    x, d_x = np.concatenate([observation, action], axis=1), []
    for network, own in members(critics, factors):
        output, passes = forward(network, x, own)
        d_x.append(backward(network, passes, np.ones_like(output), own)[1])
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


def critic_step(state, batch, loss_of, hyper, factors=None):
    """Move every critic by the gradient of `loss_of(output [B, M]) -> (loss, gradient)`."""
    x = np.concatenate([batch.observation, batch.action], axis=1)
    q, losses, gradients = [], [], []
    for network, own in members(state.critic.params, factors):
        output, passes = forward(network, x, own)
        loss, d_output = loss_of(output)
        q.append(output)
        losses.append(loss)
        gradients.append(backward(network, passes, d_output, own)[0])
    gradient = jax.tree.map(lambda *x: np.stack(x), *gradients)
    metrics = {"critic_loss": sum(losses), "q": np.mean(q)}
    return state._replace(critic=network_adam(state.critic, gradient, hyper.critic_lr, hyper)), metrics


def critic_update(state, batch, value, hyper, factors=None):
    target = (batch.reward + batch.discount * value)[:, None]
    return critic_step(state, batch, lambda q: (np.mean((q - target) ** 2), 2 * (q - target) / len(q)), hyper, factors)


def move_targets(state, hyper):
    return state._replace(target_critic=follow(state.critic.params, state.target_critic, hyper.tau))


def pooled(quantiles, dropped):
    """Return all quantiles `[N, B, M]` of each transition in ascending order, without the N · `dropped` last."""
    together = np.sort(np.concatenate(list(quantiles), axis=1), axis=1)
    return together[:, : together.shape[1] - dropped * len(quantiles)]


def quantile_loss(theta, target):
    """Return the loss of the quantiles `[B, M]` of one critic for the targets `[B, K]`, and its gradient."""
    size, loss, gradient = theta.shape[1], 0.0, np.zeros_like(theta)
    pairs = theta.size * target.shape[1]
    for m in range(size):
        for y in target.T:
            error = y - theta[:, m]
            weight = np.where(error < 0, 1 - (2 * m + 1) / (2 * size), (2 * m + 1) / (2 * size))
            huber = np.where(abs(error) > 1, abs(error) - 1 / 2, error**2 / 2)
            loss += np.sum(weight * huber) / pairs
            gradient[:, m] -= weight * np.clip(error, -1, 1) / pairs
    return loss, gradient


def tqc_update(state, batch, xi, hyper):
    """Update the critics of TQC, and their targets."""
    action, log_prob, _, _ = tanh_gaussian(state.actor.params, batch.next_observation, xi)
    quantiles = outputs(state.target_critic, batch.next_observation, action)
    value = pooled(quantiles, hyper.dropped_quantiles) - temperature(state.log_alpha, hyper) * log_prob[:, None]
    target = batch.reward[:, None] + batch.discount[:, None] * value

    def loss_of(theta):
        loss, gradient = quantile_loss(theta, target)
        return loss / len(quantiles), gradient / len(quantiles)

    state, metrics = critic_step(state, batch, loss_of, hyper)
    return move_targets(state, hyper), metrics


def redq_update(state, batch, xi, subset, hyper):
    """Update the critics of REDQ, and their targets. `subset` has the numbers of the critics of the target."""
    action, log_prob, _, _ = tanh_gaussian(state.actor.params, batch.next_observation, xi)
    q = values(state.target_critic, batch.next_observation, action)
    lowest = np.min([q[i] for i in subset], axis=0)
    value = lowest - temperature(state.log_alpha, hyper) * log_prob
    state, metrics = critic_update(state, batch, value, hyper)
    return move_targets(state, hyper), metrics


def droq_update(state, batch, xi, target_factors, factors, hyper):
    """Update the critics of DroQ, and their targets. `target_factors` are those of the pass of the target critics."""
    action, log_prob, _, _ = tanh_gaussian(state.actor.params, batch.next_observation, xi)
    q = values(state.target_critic, batch.next_observation, action, target_factors)
    value = np.minimum(q[0], q[1]) - temperature(state.log_alpha, hyper) * log_prob
    state, metrics = critic_update(state, batch, value, hyper, factors)
    return move_targets(state, hyper), metrics


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


def policy_step(state, batch, xi, hyper, value_of):
    """Update a Gaussian actor, where `value_of(action)` returns the value `[B]` to climb and its gradient `[B, A]`.

    Returns the state, log π(a|s) and the metrics.
    """
    network = state.actor.params["params"]
    _, passes = forward(network, batch.observation)
    action, log_prob, std, within = tanh_gaussian(state.actor.params, batch.observation, xi)
    alpha, size = temperature(state.log_alpha, hyper), len(action)
    q, slope = value_of(action)
    d_mean = -slope / size * (1 - action**2) + alpha / size * 2 * action  # that of −log(1 − tanh² u) is 2 tanh u
    d_log_std = (d_mean * std * xi - alpha / size) * within
    gradient, _ = backward(network, passes, np.concatenate([d_mean, d_log_std], axis=1))
    state = state._replace(actor=network_adam(state.actor, gradient, hyper.actor_lr, hyper))
    return state, log_prob, {"actor_loss": np.mean(alpha * log_prob - q), "entropy": -log_prob.mean()}


def excess_entropy(log_prob, action_size, hyper):
    return np.mean(-log_prob) - (-action_size if hyper.target_entropy is None else hyper.target_entropy)


def soft_actor_update(state, batch, xi, hyper):
    """Update the actor and the temperature of SAC, and the targets."""

    def lower(action):
        q = values(state.critic.params, batch.observation, action)
        chosen = q.argmin(axis=0), np.arange(len(action))
        return q[chosen], action_gradient(state.critic.params, batch.observation, action)[chosen]

    moved, log_prob, metrics = policy_step(state, batch, xi, hyper, lower)
    if hyper.alpha is None:
        slope = temperature(state.log_alpha, hyper) * excess_entropy(log_prob, xi.shape[1], hyper)
        moved = moved._replace(log_alpha=adam(state.log_alpha, slope, hyper.alpha_lr))
    return move_targets(moved, hyper), metrics | {"alpha": temperature(moved.log_alpha, hyper)}


def mean_actor_update(state, batch, xi, hyper, factors=None):
    """Update the actor and the temperature of TQC, REDQ or DroQ. The temperature moves by the loss of log α."""

    def mean(action):
        q = outputs(state.critic.params, batch.observation, action, factors)
        slope = action_gradient(state.critic.params, batch.observation, action, factors)
        return q.mean(axis=(0, 2)), slope.sum(axis=0) / (q.shape[0] * q.shape[2])

    moved, log_prob, metrics = policy_step(state, batch, xi, hyper, mean)
    if hyper.alpha is None:
        slope = excess_entropy(log_prob, xi.shape[1], hyper)
        moved = moved._replace(log_alpha=adam(state.log_alpha, slope, hyper.alpha_lr))
    return moved, metrics | {"alpha": temperature(moved.log_alpha, hyper)}
