"""A deterministic policy as a list of layers, which NumPy computes: what is taken along. No JAX here.

A layer is a dict of its kind and its arrays or numbers; x is what comes in.

normalize   clip((x − mean) / std, ±limit)
dense       x @ kernel + bias
layer_norm  scale · (x − mean of x) / √(variance of x + epsilon) + bias
relu, tanh, swish, elu, gelu
scale       low + (high − low) · (x + 1) / 2
"""

import numpy as np


def describe(actor, statistics, activation, action_size, action_range):
    """The layers of an actor (`networks.Actor`, or the mean of a `GaussianActor`), from observation to action.

    `statistics` normalise observations, or are empty. The action is in the environment's own units.
    """
    torso, layers = actor["params"].get("torso", {}), []
    if statistics:
        layers.append(
            {
                "kind": "normalize",
                "mean": statistics["mean"],
                "std": np.sqrt(statistics["variance"] + np.float32(1e-8)),
                "limit": 10.0,
            }
        )
    for i in range(sum(name.startswith("Dense") for name in torso)):
        layers.append({"kind": "dense", **torso[f"Dense_{i}"]})
        if f"LayerNorm_{i}" in torso:
            layers.append({"kind": "layer_norm", **torso[f"LayerNorm_{i}"], "epsilon": 1e-6})
        layers.append({"kind": activation})
    head = {name: x[..., :action_size] for name, x in actor["params"]["Dense_0"].items()}  # not a deviation's
    low, high = action_range
    layers += [{"kind": "dense", **head}, {"kind": "tanh"}]
    return [*layers, {"kind": "scale", "low": low, "high": high}]


def apply(layers, observation):
    """`[..., obs_size]` -> action `[..., action_size]`, float32."""
    x = np.asarray(observation, np.float32)
    for layer in layers:
        x = KINDS[layer["kind"]](x, **{name: value for name, value in layer.items() if name != "kind"})
    return x.astype(np.float32)


def normalize(x, mean, std, limit):
    return np.clip((x - mean) / std, -limit, limit)


def dense(x, kernel, bias):
    return x @ kernel + bias


def layer_norm(x, scale, bias, epsilon):
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return scale * (x - mean) / np.sqrt(variance + np.float32(epsilon)) + bias


def swish(x):
    return x * (0.5 + 0.5 * np.tanh(0.5 * x))


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def gelu(x):
    """With the tanh of Hendrycks & Gimpel (arXiv:1606.08415), as Flax has it."""
    return 0.5 * x * (1 + np.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x**3)))


def scale(x, low, high):
    return low + (high - low) * (x + 1) / 2


KINDS = {
    "normalize": normalize,
    "dense": dense,
    "layer_norm": layer_norm,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "swish": swish,
    "elu": elu,
    "gelu": gelu,
    "scale": scale,
}
