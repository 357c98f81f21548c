"""A deterministic policy as a list of layers that NumPy computes. This is the form that is exported. No JAX here.

A layer is a dict with its kind and its arrays or numbers. x is the input of the layer.

normalize   clip((x − mean) / std, ±limit)
dense       x @ kernel + bias
layer_norm  scale · (x − mean of x) / √(variance of x + epsilon) + bias
relu, tanh, swish, elu, gelu
scale       low + (high − low) · (x + 1) / 2
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float

from purerl.policies.folding import Nested, folded, named

Layer = dict[str, Any]  # kind, arrays and numbers
Bound = Float[np.ndarray, ""] | Float[np.ndarray, " A"]  # of actions, in the environment's units
Function = Callable[[Any], Float[np.ndarray, "*batch A"]]  # of observations [..., obs_size]
Inputs = Float[np.ndarray, "*batch n"]  # the input of a layer


def describe(
    actor: Nested,
    statistics: Nested,
    activation: str,
    obs_size: int,
    action_size: int,
    action_range: tuple[Bound, Bound],
) -> list[Layer] | None:
    """Return the layers of an actor (`networks.Actor`, or the mean of a `GaussianActor`), from observation to action.

    `statistics` normalize observations, or are empty. The action is in the environment's units. Returns None if the
    actor is not a chain of these layers. Batch renormalization is folded into other layers.
    """
    actor, first = folded(actor)
    if not _is_chain(actor, obs_size, action_size):
        return None
    torso = actor["params"]["torso"]
    layers: list[Layer] = []
    if statistics:
        layers.append(
            {
                "kind": "normalize",
                "mean": statistics["mean"],
                "std": np.sqrt(statistics["variance"] + np.float32(1e-8)),
                "limit": 10.0,
            }
        )
    layers += first
    for i in range(sum(name.startswith("Dense") for name in torso)):
        layers.append({"kind": "dense", **torso[f"Dense_{i}"]})
        if f"LayerNorm_{i}" in torso:
            layers.append({"kind": "layer_norm", **torso[f"LayerNorm_{i}"], "epsilon": 1e-6})
        layers.append({"kind": activation})
    head = {name: x[..., :action_size] for name, x in actor["params"]["Dense_0"].items()}  # without the deviation
    low, high = action_range
    layers += [{"kind": "dense", **head}, {"kind": "tanh"}]
    return [*layers, {"kind": "scale", "low": low, "high": high}]


def _is_chain(actor: Nested, obs_size: int, action_size: int) -> bool:
    """Return whether `actor` consists of hidden layers and a head.

    The head has the size of the action, or twice that size: mean and standard deviation.
    """
    params = named(named(actor).get("params"))
    torso = named(params.get("torso"))
    dense = [name for name in torso if name.startswith("Dense_")]
    dense, norms = ([f"{kind}_{i}" for i in range(len(dense))] for kind in ("Dense", "LayerNorm"))
    if set(actor) != {"params"} or set(params) != {"torso", "Dense_0"}:
        return False
    if not torso or set(torso) not in (set(dense), {*dense, *norms}):
        return False
    stack = [*(torso[name] for name in dense), params["Dense_0"]]
    found = [{name: np.shape(x) for name, x in named(layer).items()} for layer in stack]
    widths = [obs_size, *(sum(shapes.get("bias", ())[:1]) for shapes in found)]
    chained = all(x == {"kernel": (n, m), "bias": (m,)} for x, (n, m) in zip(found, pairwise(widths), strict=True))
    return chained and widths[-1] in (action_size, 2 * action_size)


def apply(layers: list[Layer], observation: Any) -> Float[np.ndarray, "*batch A"]:
    """Return the action `[..., action_size]`, float32, for an observation `[..., obs_size]`.

    Raises ValueError for another shape.
    """
    x = observations(observation, sizes(layers)[0])
    for layer in layers:
        x = KINDS[layer["kind"]](x, **{name: value for name, value in layer.items() if name != "kind"})
    return x.astype(np.float32)


def sizes(layers: list[Layer]) -> tuple[int, int]:
    """Return `(obs_size, action_size)`."""
    kernels = [layer["kernel"] for layer in layers if layer["kind"] == "dense"]
    return kernels[0].shape[0], kernels[-1].shape[1]


def observations(value: Any, obs_size: int) -> Float[np.ndarray, "*batch obs"]:
    """Return `value` as float32 `[..., obs_size]`. Raises ValueError if it has another shape or holds no numbers."""
    takes = f"this policy takes numbers of shape (..., {obs_size}): ({obs_size},) or (b, {obs_size}), for example"
    try:
        x = np.asarray(value)
    except ValueError:
        raise ValueError(
            f"the observation is a {type(value).__name__} of parts that differ in shape; {takes}"
        ) from None
    if x.dtype.kind not in "biuf" and (x.dtype.kind != "V" or x.dtype.type is np.void):  # bfloat16 is of kind V.
        raise ValueError(f"the observation has the type {x.dtype} and the shape {x.shape}; {takes}")
    if x.shape[-1:] != (obs_size,):
        raise ValueError(f"the observation has the shape {x.shape}; {takes}")
    return x.astype(np.float32)


def batched(function: Callable[[Any], Any], obs_size: int, action_size: int) -> Function:
    """Return `function`, which takes `[b, obs_size]`, as a function of arrays `[..., obs_size]`.

    The batch may be empty. Other shapes raise ValueError.
    """

    def policy(observation: Any) -> Float[np.ndarray, "*batch A"]:
        x = observations(observation, obs_size)
        flat = x.reshape(-1, obs_size)
        action = np.asarray(function(flat)) if len(flat) else np.zeros((0, action_size), np.float32)
        return action.reshape(*x.shape[:-1], action_size)

    return policy


def normalize(
    x: Inputs, mean: Float[np.ndarray, " n"], std: Float[np.ndarray, " n"], limit: float | Float[np.ndarray, ""]
) -> Inputs:
    return np.clip((x - mean) / std, -limit, limit)


def dense(x: Inputs, kernel: Float[np.ndarray, "n m"], bias: Float[np.ndarray, " m"]) -> Float[np.ndarray, "*batch m"]:
    return x @ kernel + bias


def layer_norm(
    x: Inputs, scale: Float[np.ndarray, " n"], bias: Float[np.ndarray, " n"], epsilon: float | Float[np.ndarray, ""]
) -> Inputs:
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return scale * (x - mean) / np.sqrt(variance + np.float32(epsilon)) + bias


def swish(x: Inputs) -> Inputs:
    return x * (0.5 + 0.5 * np.tanh(0.5 * x))


def elu(x: Inputs) -> Inputs:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def gelu(x: Inputs) -> Inputs:
    """GELU with the tanh approximation of Hendrycks & Gimpel (arXiv:1606.08415), as in Flax."""
    return 0.5 * x * (1 + np.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x**3)))


def scale(x: Float[np.ndarray, "*batch A"], low: Bound, high: Bound) -> Float[np.ndarray, "*batch A"]:
    return low + (high - low) * (x + 1) / 2


KINDS: dict[str, Callable[..., Any]] = {
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
