"""Read the policies from a checkpoint, which holds the whole state of a run.

Only the algorithm knows which part of an agent is the policy. The agent is therefore restored in the structure that the
algorithm creates. The replay buffer and the environments are not restored.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, PyTree

from purerl.policies.kept import Sizes
from purerl.policies.layers import Nested
from purerl.results import run_folder
from purerl.runs import checkpoints, numbering
from purerl.runs.checkpoints import AnyArray, Label
from purerl.runs.fitting import Runs
from purerl.settings import config
from purerl.settings.schema import Config, Plan
from purerl.training import loop
from purerl.training.normalizer import normalizer
from purerl.types import Constructor


class Kept(NamedTuple):
    """The policies of R runs, in the order of the runs.

    Attributes:
        actor, statistics: nested dicts of arrays `[R, ...]`. `statistics` is empty if observations are not normalized.
        setting, seed: the run of each policy, `[R]` int.
        env_step: the environment step of each policy, `[R]` int.
    """

    actor: Nested
    statistics: Nested
    setting: Int[np.ndarray, " R"]
    seed: Int[np.ndarray, " R"]
    env_step: Int[np.ndarray, " R"]


def steps(path: Path, settings: Config) -> dict[int, list[int]]:
    """Return `{environment step: numbers of the checkpoints}` of the run folder `path`, sorted.

    If the run has several groups of seeds, each step has one checkpoint per group.
    """
    found: dict[int, dict[int, int]] = {}
    numbered = numbering.of_run(path, settings.plan)
    for number in reversed(checkpoints.numbers(path)):
        if label := _label(path, number):
            group, index = numbered.place(number)
            found.setdefault(step_of(label, index, settings.plan), {})[group] = number
    return {step: [groups[group] for group in sorted(groups)] for step, groups in sorted(found.items())}


def step_of(label: Label, index: int, plan: Plan) -> int:
    """Return the environment step of a checkpoint that follows evaluation `index`.

    It is the step in the label. Labels of older versions have none: then it is the step of the evaluation.
    """
    progress = label.get("progress") or {}
    return int(progress.get("env_step", loop.env_steps(plan, index)))


def read_checkpoint(path: Path, settings: Config, numbers: Sequence[int], build: Constructor, sizes: Sizes) -> Kept:
    """Return the `Kept` of the checkpoints `numbers` of the run in the folder `path`.

    `build` creates the algorithm of the run. Raises ValueError if a file is damaged, or if its arrays do not match the
    algorithm.
    """
    parts = [_read(path, settings, number, build, sizes) for number in numbers]
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def _read(path: Path, settings: Config, number: int, build: Constructor, sizes: Sizes) -> Kept:
    what = f"checkpoint {number} of {path}"
    try:
        label = checkpoints.verify(path, number, config.computation(settings))
    except checkpoints.Damaged as error:
        raise ValueError(f"{what} is damaged: {error}; give another checkpoint, or the run folder") from None
    arrays = checkpoints.arrays_of(path, number)
    algorithm = build(settings.hyper, settings.plan, sizes)
    agent = _restored(what, arrays, ".agent", jax.eval_shape(algorithm.init, jax.random.key(0)))
    like = jax.eval_shape(lambda: normalizer(settings.plan).init(sizes.obs_size))
    statistics = _restored(what, arrays, ".statistics", like)
    actor = jax.tree.map(np.array, jax.device_get(algorithm.policy(agent)))
    setting, seed = np.array(_runs(path, settings, number, len(jax.tree.leaves(actor)[0]))).T
    index = numbering.of_run(path, settings.plan).place(number)[1]
    env_step = np.full(len(seed), step_of(label, index, settings.plan))
    return Kept(actor, statistics._asdict() if statistics else {}, setting, seed, env_step)


def _label(path: Path, number: int) -> Label | None:
    """Return the label of a checkpoint, or None if it cannot be read."""
    try:
        label = json.loads((path / "checkpoints" / str(number) / checkpoints.LABEL).read_bytes())
    except (OSError, ValueError):
        return None
    return label if isinstance(label, dict) else None


def _restored(what: str, arrays: dict[str, np.ndarray], name: str, like: PyTree) -> PyTree:
    """Return the part `name` of the state. `like` are its abstract arrays without the axis over runs."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    count = next((len(array) for array in arrays.values()), 0)
    found = [_leaf(what, arrays, name + jax.tree_util.keystr(path), count, leaf) for path, leaf in leaves]
    return jax.tree.unflatten(structure, found)


def _leaf(what: str, arrays: dict[str, np.ndarray], name: str, count: int, like: jax.ShapeDtypeStruct) -> AnyArray:
    if not like.size:
        return np.zeros((count, *like.shape), like.dtype)
    is_key = jnp.issubdtype(like.dtype, jax.dtypes.prng_key)
    expected = jax.eval_shape(jax.random.key_data, like) if is_key else like
    array = arrays.get(name)
    if array is not None and expected.dtype.kind == "V" and array.dtype.itemsize == expected.dtype.itemsize:
        array = array.view(expected.dtype)  # NumPy files do not store the names of types such as bfloat16.
    is_there = "absent" if array is None else f"{array.dtype}{list(array.shape)}"
    if is_there != (needed := f"{expected.dtype}{[count, *expected.shape]}"):
        raise ValueError(
            f"{what} does not match this version of purerl: {name} is {is_there} there and {needed} here; "
            "use the commit that run.toml names"
        )
    array = np.array(array)
    return jax.random.wrap_key_data(jnp.asarray(array), impl=_implementation(like)) if is_key else array


def _implementation(like: jax.ShapeDtypeStruct) -> Any:
    """Return the implementation of abstract random keys. JAX reports it only for traced keys."""
    found = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), like)
    return found[0]


def _runs(path: Path, settings: Config, number: int, count: int) -> Runs:
    """Return the `count` runs, `(setting, seed)`, of checkpoint `number`: all of the run folder, or those of a group.

    If several processes share a run, curves.csv lists the runs of this process.
    """
    curves = run_folder.read_curves(path)
    there = set(zip(curves["setting"], curves["seed"], strict=True))
    group = numbering.of_run(path, settings.plan).place(number)[0]
    for runs in ([run for run in settings.runs if run in there], settings.runs):
        size = min(settings.group_size, len(runs)) or 1
        if len(found := runs[group * size : (group + 1) * size]) == count:
            return found
    raise ValueError(f"checkpoint {number} of {path} holds {count} runs, but curves.csv and run.toml do not say which")
