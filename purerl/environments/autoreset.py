"""Detect environments that reset themselves.

purerl starts every new episode itself. An environment that also does so overwrites the last observation of an episode.
The target of a truncated episode bootstraps from that observation.

Known wrappers of Brax and Playground are removed. Other environments are refused only in two certain cases:

- The environment is, or contains, a known wrapper that resets or batches.
- At the end of an episode, its step replaces the state by a random state or by the state that `reset` stored.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

RESETTING = ("AutoResetWrapper", "BraxAutoResetWrapper")
BATCHING = ("VmapWrapper", "DomainRandomizationVmapWrapper", "BraxDomainRandomizationVmapWrapper")
BARE = (*RESETTING, "VmapWrapper")  # wrappers that can be removed: purerl does not need what they add
UNWRAP = "purerl begins new episodes itself, so give the environment without that wrapper"
ONE_COPY = "purerl makes the copies itself, so give the environment of a single copy"
NO_RESET = "purerl begins new episodes itself, so let step return the last state of an episode"


def unwrapped(env: Any) -> Any:
    """Return a Brax or Playground `env` without the wrappers that reset or batch it. An `EpisodeWrapper` stays."""
    kind = type(env)
    theirs = [known for known in _kinds(kind, BARE) if known.__module__.startswith(("brax.", "mujoco_playground."))]
    if any(kind.reset is known.reset and kind.step is known.step for known in theirs):
        return unwrapped(env.env)
    if kind.__name__ == "EpisodeWrapper" and kind.__module__.startswith("brax."):
        return kind(unwrapped(env.env), env.episode_length, env.action_repeat)
    return env


def refuse_wrapped(env: Any, name: str) -> None:
    """Raise ValueError if `env`, or an environment inside it, is a wrapper that resets or batches."""
    for inner in _nest(env):
        for names, does, remedy in ((RESETTING, "resets by itself", UNWRAP), (BATCHING, "makes a batch", ONE_COPY)):
            if known := [known for known in _kinds(type(inner), names) if type(inner).step is known.step]:
                verb = "is" if inner is env else "wraps"
                raise ValueError(f"{name} {verb} the wrapper {known[0].__name__}, which {does}; {remedy}")


def refuse_resetting(name: str, reset: tuple[Any, ...], step: tuple[Any, ...]) -> None:
    """Raise ValueError if the traced step starts new episodes itself. Nothing is computed.

    `reset` is `(function, key)` and `step` is `(function, state, action)`. The functions are those of an `Environment`,
    and the arguments are abstract arrays.
    """
    _, first = _graph(*reset)
    before, (*after, _, terminated, truncated) = _graph(*step)
    ends = _ingredients(terminated) | _ingredients(truncated)

    # True if `case` is a stored copy of leaf i: `reset` set both to the same value, and step does not change the copy.
    def is_first(case: _Node, i: int) -> bool:
        kept = [z for x, y, z in zip(before, after, first, strict=False) if case is x is y]
        return any(z is first[i] and z.kind != "const" for z in kept)

    for i, leaf in enumerate(after):
        for end, case, other in _choices(leaf):
            fresh = case.random and not case.acted and other.acted
            if (fresh or is_first(case, i)) and _ingredients(end) and _ingredients(end) <= ends:
                raise ValueError(
                    f"{name}: its step resets by itself: where an episode ends, its state becomes "
                    f"{'a random one' if fresh else 'the first one'}; {NO_RESET}"
                )


def _kinds(kind: type, names: Iterable[str]) -> list[Any]:
    return [known for known in kind.__mro__ if known.__name__ in names]


def _nest(env: Any, seen: tuple[Any, ...] = ()) -> Iterator[Any]:
    """Yield `env` and all environments among its attributes, recursively."""
    if any(env is other for other in seen):
        return
    yield env
    for value in vars(env).values() if hasattr(env, "__dict__") else ():
        if not isinstance(value, type) and callable(getattr(value, "reset", None)) and hasattr(value, "step"):
            yield from _nest(value, (*seen, env))


# The computation of a function as a graph


@dataclass(eq=False, slots=True)
class _Node:
    """A value that a function computes. Equal computations share one node.

    Attributes:
        kind: name of the primitive that computes it.
        inputs: the nodes that it is computed from.
        acted: whether it depends on the action.
        random: whether it depends on random bits that the function draws.
        truth: whether it can only be 0 or 1.
    """

    kind: str
    inputs: tuple["_Node", ...] = ()
    acted: bool = False
    random: bool = False
    truth: bool = False


_Nodes = dict[tuple[Any, ...], _Node]  # by primitive, label and inputs

SAME = {
    "convert_element_type",
    "broadcast_in_dim",
    "reshape",
    "squeeze",
    "copy",
    "optimization_barrier",
    "stop_gradient",
}
LOGIC = {"or", "and", "not", "ne", "select_n", "reduce_or"}
COMPARE = {"eq", "ne", "lt", "le", "gt", "ge", "is_finite"}
ARITHMETIC = COMPARE | {"sub", "mul", "max", "min"}  # logic if all inputs are 0 or 1
DRAWS = {"random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform"}


def _graph(function: Callable[..., Any], *arguments: Any) -> tuple[list[_Node], list[_Node]]:
    """Return the nodes of the inputs and outputs of `function`. The last of several arguments is the action."""
    jaxpr = jax.make_jaxpr(function)(*arguments)
    action = len(jax.tree.leaves(arguments[1:]))
    inputs = [_Node("input", acted=i >= len(jaxpr.in_avals) - action) for i in range(len(jaxpr.in_avals))]
    return inputs, _call({}, jaxpr, inputs)


def _call(known: _Nodes, closed: ClosedJaxpr, arguments: Sequence[_Node]) -> list[_Node]:
    """Return the output nodes of a jaxpr. `known` holds all nodes so far."""
    values: dict[Var, _Node] = dict(zip(closed.jaxpr.invars, arguments, strict=True))
    for variable, const in zip(closed.jaxpr.constvars, closed.consts, strict=True):
        values[variable] = _node(known, "const", id(const))

    def read(x: Var | Literal) -> _Node:
        return _node(known, "const", str(x.val)) if isinstance(x, Literal) else values[x]

    for equation in closed.jaxpr.eqns:
        results = _apply(known, equation, [read(x) for x in equation.invars])
        values |= zip(equation.outvars, results, strict=True)
    return [read(x) for x in closed.jaxpr.outvars]


def _apply(known: _Nodes, equation: JaxprEqn, inputs: list[_Node]) -> list[_Node]:
    kind, parameters = equation.primitive.name, equation.params
    if kind in SAME:
        return inputs
    if kind == "cond":
        branches = [_call(known, branch, inputs[1:]) for branch in parameters["branches"]]
        return [_node(known, "select_n", 0, inputs[0], *cases) for cases in zip(*branches, strict=True)]
    body = parameters.get("jaxpr", parameters.get("call_jaxpr"))
    once = parameters.get("length", 1) == 1  # a scan of one iteration is no loop
    if isinstance(body, ClosedJaxpr) and len(body.in_avals) == len(inputs) and once:
        return _call(known, body, inputs)
    inner = list(_inner(parameters))
    label = id(equation) if inner else str(parameters)
    random = kind in DRAWS or any(map(_draws, inner))
    return [_node(known, kind, (label, i), *inputs, random=random) for i in range(len(equation.outvars))]


def _node(known: _Nodes, kind: str, label: object, *inputs: _Node, random: bool = False) -> _Node:
    key = kind, label, tuple(map(id, inputs))
    if key not in known:
        acted, random = any(x.acted for x in inputs), random or any(x.random for x in inputs)
        known[key] = _Node(kind, inputs, acted, random, _is_truth(kind, inputs))
    return known[key]


def _draws(jaxpr: Jaxpr) -> bool:
    return any(x.primitive.name in DRAWS or any(map(_draws, _inner(x.params))) for x in jaxpr.eqns)


def _inner(parameters: Mapping[str, Any]) -> Iterator[Jaxpr]:
    """Yield the jaxprs among the parameters of an equation. JAX 0.9 has no public function for this."""
    for value in parameters.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, ClosedJaxpr):
                yield one.jaxpr
            elif isinstance(one, Jaxpr):
                yield one


def _is_truth(kind: str, inputs: Sequence[_Node]) -> bool:
    if kind == "select_n":
        return all(case.kind == "const" or case.truth for case in inputs[1:])
    return kind in COMPARE or kind in {"or", "and", "not", "reduce_or"}


def _ingredients(truth: _Node) -> set[_Node]:
    """Return the basic conditions that a boolean node is computed from."""
    found, seen, waiting = set(), set(), [truth]
    while waiting:
        node = waiting.pop()
        if node.kind == "const" or node in seen:
            continue
        seen.add(node)
        of_truths = all(x.kind == "const" or x.truth for x in node.inputs)
        if node.kind in LOGIC or (node.kind in ARITHMETIC and of_truths):
            waiting.extend(node.inputs)
        else:
            found.add(node)
    return found


def _choices(node: _Node) -> Iterator[tuple[_Node, _Node, _Node]]:
    """Yield `(condition, case, other case)` for every value that `node` is selected from."""
    seen, waiting = set(), [node]
    while waiting:
        node = waiting.pop()
        if node.kind == "select_n" and node not in seen:
            seen.add(node)
            condition, *cases = node.inputs
            waiting.extend(cases)
            yield from ((condition, case, other) for case in cases for other in cases if case is not other)
