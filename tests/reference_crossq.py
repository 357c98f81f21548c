"""A second implementation of CrossQ for comparison: float64 NumPy with gradients by hand, without purerl.

A network has the variables `{"params": network, "batch_stats": {"torso": statistics}}`. `network["torso"]` holds
`BatchRenorm_0`, `Dense_0`, `BatchRenorm_1` and so on, with relu after each `Dense_i`. The last layer is
`network["Dense_0"]`. Letters: B is the batch, N the critics, A the size of an action.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from reference import adam, affine, affine_gradient

EPSILON = 1e-3


class Trained(NamedTuple):
    """Parameters, Adam's moments and count, and the running statistics `{"batch_stats": ...}`."""

    params: Any
    mu: Any
    nu: Any
    count: Any
    variables: Any


class State(NamedTuple):
    actor: Trained
    critic: Trained
    log_alpha: Any  # `reference.Trained`


class Norm(NamedTuple):
    """What the gradient of a normalization needs: the output before scale and bias, and what made it."""

    x: Any
    z: Any
    scale: Any
    std: Any
    r: Any
    d: Any
    training: bool


def corrections(mean, variance, statistics, warmup):
    """Return r and d (Ioffe 2017, eq. 3 with limits), from running statistics before their update."""
    if statistics["passes"] < warmup:
        return 1.0, 0.0
    running = np.sqrt(statistics["var"] + EPSILON)
    r = np.sqrt(variance + EPSILON) / running
    return np.clip(r, 1 / 3, 3.0), np.clip((mean - statistics["mean"]) / running, -5.0, 5.0)


def normalize(layer, statistics, x, warmup, training):
    """Return the output, what its gradient needs, and the new running statistics."""
    mean, variance, r, d = statistics["mean"], statistics["var"], 1.0, 0.0
    if training:
        mean = x.sum(axis=0) / len(x)
        variance = ((x - mean) ** 2).sum(axis=0) / len(x)
        r, d = corrections(mean, variance, statistics, warmup)
        statistics = {
            "mean": 0.99 * statistics["mean"] + 0.01 * mean,
            "var": 0.99 * statistics["var"] + 0.01 * variance,
            "passes": min(statistics["passes"] + 1, warmup),
        }
    std = np.sqrt(variance / r**2 + EPSILON)
    z = (x - (mean - d / r * np.sqrt(variance))) / std
    return z * layer["scale"] + layer["bias"], Norm(x, z, layer["scale"], std, r, d, training), statistics


def normalize_gradient(norm, d_output):
    """Return the gradients of scale and bias, and of x: also through mean and variance of the batch, if it is used."""
    gradient = {"scale": (d_output * norm.z).sum(axis=0), "bias": d_output.sum(axis=0)}
    d_z = d_output * norm.scale
    if not norm.training:
        return gradient, d_z / norm.std
    count = len(norm.x)
    centered = norm.x - norm.x.mean(axis=0)
    variance = (centered**2).mean(axis=0)
    d_center = -(d_z / norm.std).sum(axis=0)  # z = (x − center) / std, center = mean − d/r √variance
    d_std = -(d_z * norm.z / norm.std).sum(axis=0)
    root = np.where(variance > 0, np.sqrt(variance), np.inf)
    d_variance = d_std / (2 * norm.std * norm.r**2) - d_center * norm.d / norm.r / (2 * root)
    return gradient, d_z / norm.std + d_center / count + d_variance * 2 * centered / count


def forward(variables, x, warmup=0, training=False):
    """Return the output, what `backward` needs, and the new running statistics."""
    torso, before = variables["params"]["torso"], variables["batch_stats"]["torso"]
    statistics, steps = {}, []
    for index in range(len(before)):
        name = f"BatchRenorm_{index}"
        x, norm, statistics[name] = normalize(torso[name], before[name], x, warmup, training)
        layer = torso.get(f"Dense_{index}", variables["params"]["Dense_0"])
        steps.append((layer, norm, x))
        x = affine(layer, x)
        if index + 1 < len(before):
            x = np.maximum(x, 0.0)
    return x, steps, {"batch_stats": {"torso": statistics}}


def backward(steps, d_output):
    """Return the gradients of the parameters and of x."""
    gradient = {"torso": {}}
    last = len(steps) - 1
    for index in reversed(range(len(steps))):
        layer, norm, x = steps[index]
        if index < last:
            d_output = d_output * (steps[index + 1][1].x > 0.0)
        dense, d_x = affine_gradient(layer, x, d_output)
        (gradient if index == last else gradient["torso"])["Dense_0" if index == last else f"Dense_{index}"] = dense
        gradient["torso"][f"BatchRenorm_{index}"], d_output = normalize_gradient(norm, d_x)
    return gradient, d_output


def members(critic):
    """Return the variables of each of the N critics."""
    both = {**critic.params, **critic.variables}
    return [jax.tree.map(lambda x, i=i: x[i], both) for i in range(len(jax.tree.leaves(both)[0]))]


def stacked(trees):
    return jax.tree.map(lambda *x: np.stack(x), *trees)


def squashed(output, xi):
    """Return a = tanh(m + σ ξ), log π(a|s), σ, and where log σ is within its range, for the actor's output."""
    mean, raw = np.split(output, 2, axis=1)
    log_std = np.clip(raw, -20.0, 2.0)
    u = mean + np.exp(log_std) * xi
    density = -(xi**2) / 2 - log_std - np.log(2 * np.pi) / 2 + 2 * (np.logaddexp(u, -u) - np.log(2))
    return np.tanh(u), density.sum(axis=1), np.exp(log_std), raw == log_std


def variables(trained):
    return {**trained.params, **trained.variables}


def step(trained, gradient, learning_rate, statistics):
    """Take a step of Adam with β₁ = 0.5, and keep the new running statistics."""
    count = trained.count + 1
    mu = jax.tree.map(lambda m, g: 0.5 * m + 0.5 * g, trained.mu, {"params": gradient})
    nu = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, trained.nu, {"params": gradient})
    params = jax.tree.map(
        lambda x, m, v: x - learning_rate * m / (1 - 0.5**count) / (np.sqrt(v / (1 - 0.999**count)) + 1e-8),
        trained.params,
        mu,
        nu,
    )
    return Trained(params, mu, nu, count, statistics)


def critic_update(state, batch, xi, hyper):
    """Update the critics with one pass over (s, a) and (s', a') together."""
    output, _, _ = forward(variables(state.actor), batch.next_observation)
    next_action, log_prob, _, _ = squashed(output, xi)
    count = len(batch.reward)
    x = np.concatenate(
        [np.concatenate(pair, 1) for pair in ((batch.observation, batch.action), (batch.next_observation, next_action))]
    )
    passes = [forward(critic, x, hyper.renorm_warmup, training=True) for critic in members(state.critic)]
    values = np.array([output[:, 0] for output, _, _ in passes])
    soft = values[:, count:].min(axis=0) - np.exp(state.log_alpha.params) * log_prob
    q, target = values[:, :count], batch.reward + batch.discount * soft
    gradients = []
    for error, (_, steps, _) in zip(q - target, passes, strict=True):
        d_output = np.concatenate([2 * error / count, np.zeros(count)])[:, None]
        gradients.append(backward(steps, d_output)[0])
    statistics = stacked([statistics for _, _, statistics in passes])
    metrics = {"critic_loss": ((q - target) ** 2).mean(axis=1).sum(), "q": q.mean()}
    critic = step(state.critic, stacked(gradients), hyper.critic_lr, statistics)
    return state._replace(critic=critic), metrics


def actor_update(state, batch, xi, hyper):
    """Update the actor by a training pass over s, with critics that use running statistics. Then the temperature."""
    seen = batch.observation[:, : len(state.actor.params["params"]["torso"]["BatchRenorm_0"]["scale"])]
    output, steps, statistics = forward(variables(state.actor), seen, hyper.renorm_warmup, training=True)
    action, log_prob, std, within = squashed(output, xi)
    count, alpha = len(action), np.exp(state.log_alpha.params)
    x = np.concatenate([batch.observation, action], axis=1)
    passes = [forward(critic, x) for critic in members(state.critic)]
    q = np.array([output[:, 0] for output, _, _ in passes])
    d_x = np.array([backward(steps, np.ones((count, 1)))[1] for _, steps, _ in passes])
    d_action = -d_x[q.argmin(axis=0), np.arange(count), batch.observation.shape[1] :] / count
    d_mean = d_action * (1 - action**2) + alpha / count * 2 * action
    d_log_std = (d_mean * std * xi - alpha / count) * within
    gradient, _ = backward(steps, np.concatenate([d_mean, d_log_std], axis=1))
    d_log_alpha = alpha * np.mean(-log_prob + action.shape[1])  # the target entropy is −A
    log_alpha = adam(state.log_alpha, d_log_alpha, hyper.alpha_lr)
    metrics = {
        "actor_loss": np.mean(alpha * log_prob - q.min(axis=0)),
        "alpha": np.exp(log_alpha.params),
        "entropy": -log_prob.mean(),
    }
    return State(step(state.actor, gradient, hyper.actor_lr, statistics), state.critic, log_alpha), metrics
