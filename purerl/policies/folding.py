"""Fold batch renormalization into the dense layers around it, so that a policy has no such layers. No JAX here."""

from typing import Any

import numpy as np

Nested = dict[str, Any]  # nested dicts of arrays

EPSILON = 1e-3  # of `BatchRenorm`
VECTORS = ("scale", "bias", "mean", "var")


def folded(actor: Nested) -> tuple[Nested, list[Nested]]:
    """Return `(actor, first)`: the variables without batch renormalization, and the layers that come before its torso.

    With running statistics, batch renormalization is x · gain + shift, with gain = scale / √(var + epsilon) and
    shift = bias − mean · gain. So the dense layer that follows gets the kernel gain · kernel, and the bias
    bias + shift @ kernel. This is computed in float64.

    Observations may have means that are large beside their deviations. In float32, x · gain + shift would lose digits
    there. So (x − mean) / √(var + epsilon) of observations is a layer of its own, `first`.

    An actor without batch renormalization before every dense layer is returned as it is. Then `first` is empty.
    """
    params, torso = named(actor.get("params")), named(named(actor.get("params")).get("torso"))
    statistics = named(named(actor.get("batch_stats")).get("torso"))
    count = sum(name.startswith("Dense_") for name in torso)
    norms = [f"BatchRenorm_{i}" for i in range(count + 1)]
    vectors = [{**named(torso.get(name)), **named(statistics.get(name))} for name in norms]
    dense = [*(named(torso.get(f"Dense_{i}")) for i in range(count)), named(params.get("Dense_0"))]
    if set(statistics) != set(norms) or not all(map(_fits, vectors, dense)):
        return actor, []
    mean, std = vectors[0]["mean"], np.sqrt(vectors[0]["var"] + np.float32(EPSILON))
    vectors[0] |= {"mean": np.zeros_like(mean), "var": np.full_like(std, 1.0 - EPSILON, np.float64)}
    *hidden, head = map(_folded, vectors, dense)
    torso = {name: layer for name, layer in torso.items() if name not in norms}
    torso |= {f"Dense_{i}": layer for i, layer in enumerate(hidden)}
    first = {"kind": "normalize", "mean": mean, "std": std, "limit": np.inf}
    return {"params": params | {"torso": torso, "Dense_0": head}}, [first]


def _fits(norm: Nested, dense: Nested) -> bool:
    """Return whether each vector of `norm` has as many numbers as `dense` has inputs."""
    sizes = {np.shape(norm.get(name, 0.0)) for name in VECTORS}
    return {"kernel", "bias"} == set(dense) and sizes == {np.shape(dense["kernel"])[:1]}


def _folded(norm: Nested, dense: Nested) -> Nested:
    """Return the dense layer that computes what `norm` and `dense` compute one after the other, in float32."""
    scale, bias, mean, variance = (np.asarray(norm[name], np.float64) for name in VECTORS)
    kernel = np.asarray(dense["kernel"], np.float64)
    gain = scale / np.sqrt(variance + EPSILON)
    shifted = np.asarray(dense["bias"], np.float64) + (bias - mean * gain) @ kernel
    return {"kernel": (gain[:, None] * kernel).astype(np.float32), "bias": shifted.astype(np.float32)}


def named(tree: Any) -> Nested:
    return tree if isinstance(tree, dict) else {}
