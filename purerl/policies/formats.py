"""The file formats of exported policies: writers, and readers that return a function.

Every file takes observations `[b, obs_size]` as the environment returns them, and returns actions `[b, action_size]` in
the environment's units. The function that a reader returns takes any leading axes. It raises ValueError if the last
axis is not `obs_size`.
"""

import io
import json
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from purerl.errors import require
from purerl.policies import layers
from purerl.policies.layers import Function, Layer

OPSET = 20  # of ONNX, the first with Gelu
OF_LAYERS = ("npz", "onnx")  # formats that hold layers. stablehlo holds any function.


class Exported(NamedTuple):
    """A policy to export.

    Attributes:
        layers: the layers as in `purerl.policies.layers`, or None.
        function: the trained policy in JAX, `[b, obs_size]` -> `[b, action_size]`.
        obs_size, action_size: Python ints.
        about: `{name: text, number or list}`, metadata that is stored if the format allows it.
    """

    layers: list[Layer] | None
    function: Callable[[Any], Any]
    obs_size: int
    action_size: int
    about: dict[str, Any]


def to_npz(policy: Exported) -> bytes:
    """Return the bytes of an npz file.

    Arrays are named `i.name`, where i is the number of the layer. `layers` is JSON with the kinds of the layers,
    `about` is JSON with the metadata.
    """
    found, content = check_layers(policy, "npz"), io.BytesIO()
    arrays = {f"{i}.{name}": x for i, layer in enumerate(found) for name, x in layer.items() if name != "kind"}
    kinds = json.dumps([layer["kind"] for layer in found])
    np.savez(content, layers=kinds, about=json.dumps(policy.about), **arrays)
    return content.getvalue()


def from_npz(content: bytes) -> Function:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        if "layers" not in file:
            raise ValueError("it holds no exported policy; for a run, give the folder that contains run.toml")
        found: list[Layer] = [{"kind": kind} for kind in json.loads(str(file["layers"]))]
        for entry in set(file.files) - {"layers", "about"}:
            number, name = entry.split(".")
            found[int(number)][name] = file[entry]
    return partial(layers.apply, found)


def to_stablehlo(policy: Exported) -> bytes:
    """Return bytes for `jax.export.deserialize`, for CPU, CUDA and TPU."""
    import jax
    from jax import export

    shape = export.symbolic_shape(f"b, {policy.obs_size}")
    made = export.export(jax.jit(policy.function), platforms=("cpu", "cuda", "tpu"))
    return bytes(made(jax.ShapeDtypeStruct(shape, np.float32)).serialize())


def from_stablehlo(content: bytes) -> Function:
    import jax
    from jax import export

    made = export.deserialize(bytearray(content))
    return layers.batched(jax.jit(made.call), made.in_avals[0].shape[-1], made.out_avals[0].shape[-1])


def to_onnx(policy: Exported) -> bytes:
    onnx = require("onnx", "export", "a file of the format onnx")
    found, graph = check_layers(policy, "onnx"), Graph(onnx)
    x = "observation"
    for layer in found:
        x = NODES[layer["kind"]](graph, x, **{name: value for name, value in layer.items() if name != "kind"})
    graph.nodes[-1].output[0] = "action"
    sides = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["b", size])
        for name, size in (("observation", policy.obs_size), ("action", policy.action_size))
    ]
    made = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, "policy", sides[:1], sides[1:], graph.weights),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=10,  # the newest that onnxruntime 1.18 reads
        producer_name="purerl",
    )
    onnx.helper.set_model_props(made, {name: str(value) for name, value in policy.about.items()})
    onnx.checker.check_model(made, full_check=True)
    return made.SerializeToString()


def from_onnx(content: bytes) -> Function:
    runtime = require("onnxruntime", "export", "a file of the format onnx")
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    sizes = (side[0].shape[-1] for side in (session.get_inputs(), session.get_outputs()))
    return layers.batched(lambda observation: session.run(["action"], {"observation": observation})[0], *sizes)


def check_layers(policy: Exported, format: str) -> list[Layer]:
    """Return the layers of a policy. Raises ValueError if it has none."""
    if policy.layers is None:
        raise ValueError(
            f"the actor of {policy.about['algo']} is not made of layers that {format} supports; use stablehlo"
        )
    return policy.layers


class Graph:
    """A growing ONNX graph. A call adds a node and returns the name of its output.

    Inputs are names of other nodes, or arrays, which become weights.
    """

    def __init__(self, onnx: Any) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def __call__(self, kind: str, *inputs: Any, **attributes: Any) -> str:
        names = [x if isinstance(x, str) else self.weight(x) for x in inputs]
        out = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, names, [out], **attributes))
        return out

    def weight(self, array: Any) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights.append(self.onnx.numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name


NODES: dict[str, Callable[..., str]] = {
    "normalize": lambda add, x, mean, std, limit: add("Clip", add("Div", add("Sub", x, mean), std), -limit, limit),
    "dense": lambda add, x, kernel, bias: add("Add", add("MatMul", x, kernel), bias),
    "layer_norm": lambda add, x, scale, bias, epsilon: add("LayerNormalization", x, scale, bias, epsilon=epsilon),
    "relu": lambda add, x: add("Relu", x),
    "tanh": lambda add, x: add("Tanh", x),
    "swish": lambda add, x: add("Mul", x, add("Sigmoid", x)),
    "elu": lambda add, x: add("Elu", x),
    "gelu": lambda add, x: add("Gelu", x, approximate="tanh"),
    "scale": lambda add, x, low, high: add("Add", add("Mul", add("Add", x, 1.0), (high - low) / 2), low),
}
WRITERS = {"npz": to_npz, "onnx": to_onnx, "stablehlo": to_stablehlo}
READERS = {"npz": from_npz, "onnx": from_onnx, "stablehlo": from_stablehlo}
