"""Begin a run with the agents of another run (`init_from`): its networks, optimizers, statistics and transitions.

The arrays of the other run are found by their names in its newest checkpoint. So the two runs may differ in
hyperparameters, reward, task and number of seeds, but not in the shapes of what is taken. A field of the agent's state
with "critic" in its name belongs to the part `critic`. All others belong to the part `actor`, also a learned
temperature. Without a checkpoint, actors and statistics are read from the policy file.

With the actor, the warm-up explores with that policy instead of random actions. With the ring, there is no warm-up: the
newest transitions of the other run are its rows.
"""

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree, Shaped

from purerl import environments
from purerl.environments import episodes
from purerl.environments.base import Environment
from purerl.errors import Refused
from purerl.results import choice, run_folder
from purerl.runs import checkpoints, fitting, numbering
from purerl.runs.fitting import Runs
from purerl.runs.position import Position
from purerl.runs.session import Session
from purerl.settings import config
from purerl.settings.kinds import fields
from purerl.settings.schema import Config, Job
from purerl.training import replay
from purerl.training.loop import Carry
from purerl.training.normalizer import normalizer
from purerl.types import Constructor, Policy, actor_obs_size

FIELD = "init"  # where run.toml records the digest of what a run began with
Arrays = dict[str, Shaped[np.ndarray, "R ..."]]


class Group(NamedTuple):
    """What a run folder holds of a group of runs.

    Attributes:
        runs: `(setting, seed)` of each.
        arrays: `{name in the carry: [runs, ...]}`, on disk until they are used.
        row: the rows that were added to the replay buffer.
        digest: changes if any of this changes.
    """

    runs: Runs
    arrays: Arrays
    row: int
    digest: str


class Source(NamedTuple):
    """The run from which another run begins.

    Attributes:
        path: its folder.
        settings: its settings.
        groups: what it holds.
        final: the last row of its curves.csv of each run, `{column: [R]}`.
        from_checkpoint: whether the groups are those of checkpoints, and not only policies.
    """

    path: Path
    settings: Config
    groups: list[Group]
    final: dict[str, Float[np.ndarray, " R"]]
    from_checkpoint: bool


def check(settings: Config, env: Environment, build: Constructor) -> None:
    """Raise ValueError, in one line, if the run of `init_from` cannot be the beginning of a run with `settings`."""
    if settings.job.init_from is None:
        return
    source = read_source(settings, env, build)
    _check_initial(settings)
    _check_networks(source, settings)
    _check_statistics(source, settings)
    like = _agent(settings, env, build) | _statistics(settings, env)
    _wanted(source, settings, like)
    _rows_of(source, settings, settings.runs)
    if "ring" in settings.job.init_parts:
        _check_ring(source, settings, env, build)


def read_source(settings: Config, env: Environment, build: Constructor, verify: bool = False) -> Source:
    """Return the `Source` that `init_from` names. With `verify`, the files of its checkpoints are read and checked.

    Raises ValueError if it is no run, or lacks a part that is taken.
    """
    path = Path(settings.job.init_from or "")
    if not (path / "run.toml").is_file():
        raise ValueError(f"init_from {str(path)!r} is not a run folder: it has no run.toml")
    theirs = config.resolve({}, path / "run.toml")
    final = run_folder.final(run_folder.read_curves(path))
    if groups := _checkpoints(path, theirs, verify):
        return Source(path, theirs, groups, final, True)
    beyond = [part for part in settings.job.init_parts if part not in ("actor", "statistics")]
    if beyond:
        raise ValueError(
            f"init_from {str(path)!r} has no checkpoint, so it has no {' and no '.join(beyond)}; give --init-parts "
            "actor,statistics"
        )
    return Source(path, theirs, [_policies(path, settings, env, build)], final, False)


def _checkpoints(path: Path, settings: Config, verify: bool) -> list[Group]:
    """Return the newest undamaged checkpoint of each group of the run in `path` that has one."""
    numbered = numbering.of_run(path, settings.plan)
    read = checkpoints.verify if verify else checkpoints.read_label
    groups: list[Group] = []
    for group, runs in enumerate(fitting.grouped(settings.runs, settings.group_size)):
        for number in (number for number in checkpoints.numbers(path) if number in numbered.of_group(group)):
            with suppress(checkpoints.Damaged):
                label = read(path, number, config.computation(settings))
                arrays = checkpoints.arrays_of(path, number)
                row = (label.get("progress") or {}).get("row", settings.plan.total_steps // settings.plan.num_envs)
                groups.append(Group(runs, arrays, row, label["label"]))
                break
    return groups


def _policies(path: Path, settings: Config, env: Environment, build: Constructor) -> Group:
    """Return what the policy file of the run in `path` holds, under the names of a carry.

    Raises ValueError if there is no such file, or if it does not match the algorithm.
    """
    if not (path / run_folder.POLICY).is_file():
        raise ValueError(f"init_from {str(path)!r} has neither a checkpoint nor policies yet")
    held = run_folder.read_policy(path)
    digest = hashlib.blake2b((path / run_folder.POLICY).read_bytes()).hexdigest()
    names = _names_of_policy(settings, env, build)
    actor, place, arrays = dict(checkpoints.named(held["actor"])), dict(checkpoints.named(names)), {}
    if place.keys() != actor.keys():
        raise ValueError(f"init_from {str(path)!r}: its policies are not those of {settings.job.algo}")
    for key, name in place.items():
        arrays[name] = actor[key]
        arrays[name.replace(".actor.params", ".target_actor")] = actor[key]  # of algorithms that have a target actor
    arrays |= {f".statistics.{name}": array for name, array in held.get("observation", {}).items()}
    if "setting" not in held:
        raise ValueError(f"init_from {str(path)!r}: its policies are of an older version of purerl; train it again")
    runs = list(zip(held["setting"].tolist(), held["seed"].tolist(), strict=True))
    return Group(runs, arrays, 0, digest)


def _names_of_policy(settings: Config, env: Environment, build: Constructor) -> Policy:
    """Return the policy of the algorithm with the name of each array in the carry in place of the array."""
    algorithm = build(settings.hyper, settings.plan, env)
    like = jax.eval_shape(algorithm.init, jax.random.key(0))
    names = jax.tree.unflatten(jax.tree.structure(like), [f".agent{name}" for name, _ in checkpoints.named(like)])
    try:
        return algorithm.policy(names)
    except Exception:
        raise ValueError(
            f"the policy of {settings.job.algo} is not a part of its state; a checkpoint is needed"
        ) from None


def _check_initial(settings: Config) -> None:
    """Raise ValueError if a setting was set that is used only for new networks."""
    hyper = settings.hyper
    for name in hyper.initial_only if "actor" in settings.job.init_parts else ():
        if name in settings.swept or getattr(hyper, name) != fields(type(hyper))[name].default:
            raise ValueError(f"{name} has no effect, because its value is part of the actor of init_from; leave it out")


def _check_networks(source: Source, settings: Config) -> None:
    """Raise ValueError if a taken network would compute something else with the activations of `settings`."""
    for network in {"actor", "critic"} & set(settings.job.init_parts):
        here, there = (getattr(each.plan, f"{network}_layers").activation for each in (settings, source.settings))
        if here != there:
            raise ValueError(
                f"the {network} of {source.path} has the activation {there!r}, and this run has {here!r}; "
                f"set --{network}-activation {there}, or leave {network} out of --init-parts"
            )


def _check_statistics(source: Source, settings: Config) -> None:
    """Raise ValueError if the networks would see observations that are scaled in another way."""
    here, there = (each.plan.normalize_observations for each in (settings, source.settings))
    if here != there and {"actor", "critic"} & set(settings.job.init_parts):
        does = "normalizes" if there else "does not normalize"
        raise ValueError(f"{source.path} {does} observations; set --normalize-observations {str(there).lower()}")
    if here and "ring" in settings.job.init_parts and "statistics" not in settings.job.init_parts:
        raise ValueError("init_parts has the ring without its statistics of observations; add statistics")


def _agent(settings: Config, env: Environment, build: Constructor) -> dict[str, jax.ShapeDtypeStruct]:
    """Return `{name: abstract array}` of the agent of one run."""
    algorithm = build(settings.hyper, settings.plan, env)
    return {f".agent{name}": x for name, x in checkpoints.named(jax.eval_shape(algorithm.init, jax.random.key(0)))}


def _statistics(settings: Config, env: Environment) -> dict[str, jax.ShapeDtypeStruct]:
    like = jax.eval_shape(lambda: normalizer(settings.plan).init(env.obs_size))
    return {f".statistics{name}": x for name, x in checkpoints.named(like)}


def part_of(name: str) -> str:
    """Return the part to which the array called `name` in a carry belongs: actor, critic, statistics or ring."""
    whole, field = field_of(name)
    return whole if whole != "agent" else "critic" if "critic" in field else "actor"


def field_of(name: str) -> tuple[str, str]:
    """Return the first two names in the name of an array in a carry: the field of the carry, and one of its fields."""
    whole, field = [*re.findall(r"\w+", name), ""][:2]
    return whole, field


def is_wanted(name: str, parts: Sequence[str]) -> bool:
    """Return whether the array called `name` is among the `parts` of a warm start, without the ring."""
    needs = {part_of(name)} | ({"optimizer"} if ".opt_state" in name else set())
    return "ring" not in needs and needs <= set(parts)


def _wanted(source: Source, settings: Config, like: dict[str, jax.ShapeDtypeStruct]) -> list[str]:
    """Return the names of the arrays that are taken. `like` are those of this run, without an axis over runs.

    Raises ValueError if one is absent there, or has another shape, or if the same network has more arrays there.
    """
    parts = settings.job.init_parts
    wanted = [name for name, x in like.items() if x.size and is_wanted(name, parts)]
    for part in {"actor", "critic"} & set(parts):
        if part not in map(part_of, wanted):
            raise ValueError(f"init_parts has {part}, but the state of {settings.job.algo} has no such part")
    if "optimizer" in parts and getattr(settings.hyper, "lr_schedule", "constant") != "constant":
        raise ValueError(
            f"lr_schedule {settings.hyper.lr_schedule!r} would continue from the updates of {source.path}; "  # pyright: ignore[reportAttributeAccessIssue]  # not every algorithm has it
            "set --lr-schedule constant, or leave optimizer out of --init-parts"
        )
    there = source.groups[0].arrays
    if not source.from_checkpoint:
        wanted = [name for name in wanted if name in there]
    taken = {field_of(name) for name in wanted}
    more = [name for name in there if name not in like and field_of(name) in taken and is_wanted(name, parts)]
    for name in [*wanted, *more]:
        own, found = like.get(name), there.get(name)
        here = "absent" if own is None else _shown(own.dtype, own.shape)
        theirs = "absent" if found is None else _shown(found.dtype, found.shape[1:])
        if here != theirs:
            raise ValueError(
                f"{part_of(name)} of {source.path} ({source.settings.job.algo}) does not fit this run "
                f"({settings.job.algo}): {name.removeprefix('.')} is {theirs} there and {here} here; use the same "
                f"networks and sizes, or leave {part_of(name)} out of --init-parts"
            )
    return wanted


def _shown(dtype: Any, shape: Sequence[int]) -> str:
    return f"{np.dtype(dtype)}{list(shape)}"


def _rows_of(source: Source, settings: Config, runs: Runs) -> list[tuple[int, int]]:
    """Return `(group, row)` in the source of each of `runs`. Raises ValueError if a seed is not there."""
    place = {run: (i, row) for i, group in enumerate(source.groups) for row, run in enumerate(group.runs)}
    chosen = [_chosen(source, settings.job, seed) for _, seed in runs]
    for run in chosen:
        if run not in place:
            raise ValueError(f"init_from {str(source.path)!r} has saved nothing of seed {run[1]}")
    return [place[run] for run in chosen]


def _chosen(source: Source, job: Job, seed: int) -> tuple[int, int]:
    """Return the run `(setting, seed)` of the source from which `seed` begins."""
    which = seed if job.init_seed == "same" else job.init_seed
    if (source.final["seed"] == which).sum() > 1:
        raise ValueError(
            f"init_seed is {job.init_seed!r}, but seed {which} was run with several settings in {source.path}; use "
            "best, median or worst"
        )
    try:
        index = choice.choose(source, which)
    except ValueError as error:
        raise ValueError(f"init_seed is {job.init_seed!r}: {error}") from None
    if not np.isnan(source.final["diverged"][index]):
        raise ValueError(f"init_seed is {job.init_seed!r}, but seed {which} of {source.path} has diverged; use best")
    return int(source.final["setting"][index]), int(source.final["seed"][index])


def _check_ring(source: Source, settings: Config, env: Environment, build: Constructor) -> None:
    """Raise ValueError if the warm-up of `settings` cannot be taken from the replay buffer of the source."""
    plan, theirs = settings.plan, source.settings.plan
    taken = {group for group, _ in _rows_of(source, settings, settings.runs)}
    if not all(any(name.startswith(".ring") for name in source.groups[group].arrays) for group in taken):
        raise ValueError(f"the checkpoint of {source.path} has no replay buffer; leave ring out of --init-parts")
    if plan.num_envs != theirs.num_envs:
        raise ValueError(
            f"the replay buffer of {source.path} has the rows of {theirs.num_envs} environments, and this run has "
            f"{plan.num_envs}; set --num-envs {theirs.num_envs}, or leave ring out of --init-parts"
        )
    reads = build(settings.hyper, plan, env).terminal_observations
    if reads and not all(_is_plain(source.groups[group].arrays) for group in taken):
        raise ValueError(
            f"the replay buffer of {source.path} is compact: it does not keep s' of terminated transitions, which "
            f"{settings.job.algo} reads; leave ring out of --init-parts"
        )
    there, here = (_sizes(each) for each in (_environment(source), env))
    if there != here:
        raise ValueError(
            f"the replay buffer of {source.path} is of {there}, and {env.name} has {here}; leave ring out of "
            "--init-parts"
        )
    rows = min(min(source.groups[group].row for group in taken), theirs.rows)
    if not plan.warmup_rows <= min(rows, plan.rows):
        most = min(rows, plan.rows) * plan.num_envs
        raise ValueError(
            f"warmup_steps is {plan.warmup_steps}, the transitions to take from {source.path}, which has {most}; set "
            f"--warmup-steps {most} or less"
        )


def _sizes(env: Environment) -> str:
    """Return the sizes of observations and actions as text."""
    return f"{env.obs_size} observations ({actor_obs_size(env)} for the actor) and {env.action_size} actions"


def _environment(source: Source) -> Environment:
    job = source.settings.job
    return environments.make(job.env, job.backend, job.episode_length)


def record(settings: Config, env: Environment, build: Constructor) -> dict[str, Any]:
    """Return `{FIELD: digest of the source}` for run.toml, or {} for a run without a source."""
    if settings.job.init_from is None:
        return {}
    return {FIELD: digest_of(read_source(settings, env, build))}


def recorded(path: Path) -> dict[str, Any]:
    """Return what `record` returned when the run in `path` was created, or {} if there is no run."""
    if not (path / "run.toml").is_file():
        return {}
    ran = config.read_toml(path / "run.toml").get(config.RECORD, {})
    return {name: ran[name] for name in (FIELD,) if name in ran}


def digest_of(source: Source) -> str:
    """Return a text that changes if the run from which another begins changes."""
    return hashlib.blake2b("".join(group.digest for group in source.groups).encode(), digest_size=16).hexdigest()


def begun(session: Session, group: int, carry: Carry) -> tuple[Position, Carry]:
    """Return `(at, carry)` at which a group of runs begins. `carry` is that before the warm-up, `[R, ...]`.

    Raises Refused if the source has changed since the run folder was made.
    """
    settings, runs = session.settings, session.runs(group)
    if settings.job.init_from is None:
        return Position(), carry
    try:
        source = read_source(settings, session.env, session.build, verify=True)
    except ValueError as error:
        raise Refused(f"{error}; the run in {session.path} has no checkpoint yet and begins with that run") from None
    if recorded(session.path).get(FIELD) != digest_of(source):
        raise Refused(f"{source.path} has changed since the run in {session.path} began with it; name another folder")
    like = {name: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for name, x in checkpoints.named(carry)}
    rows, wanted = _rows_of(source, settings, runs), set(_wanted(source, settings, like))
    leaves = [
        session.with_copies(group, _gathered(source, rows, name).astype(x.dtype)) if name in wanted else x
        for name, x in checkpoints.named(carry)
    ]
    carry = jax.tree.unflatten(jax.tree.structure(carry), leaves)
    session.log("warm start", source=str(source.path), parts=list(settings.job.init_parts), group=group)
    session.display.say(f"begins with {', '.join(settings.job.init_parts)} of {source.path}")
    if "ring" not in settings.job.init_parts:
        return Position(), carry
    return Position(row=session.plan.warmup_rows), _with_ring(session, group, source, rows, carry)


def _gathered(source: Source, rows: Sequence[tuple[int, int]], name: str) -> Shaped[np.ndarray, "runs ..."]:
    """Return the array called `name` of each of `rows`, `(group, row)`."""
    return np.stack([source.groups[group].arrays[name][row] for group, row in rows])


def _with_ring(session: Session, group: int, source: Source, rows: Sequence[tuple[int, int]], carry: Carry) -> Carry:
    """Return `carry` with the newest transitions of the source in its replay buffer."""
    plan, theirs = session.plan, source.settings.plan
    env, reads = session.env, session.build(session.settings.hyper, plan, session.env).terminal_observations
    kept = _is_plain(source.groups[rows[0][0]].arrays)
    kinds = replay.replay(theirs, _environment(source), kept), replay.replay(plan, env, reads)

    @partial(jax.jit, static_argnums=2)
    def copied(old: PyTree, begun: episodes.Episodes, added: int) -> PyTree:
        observation = episodes.observe(env, begun)
        return replay.copied(kinds[0], old, added, kinds[1], plan.warmup_rows, observation)

    made = []
    for i, (number, row) in enumerate(rows):
        old = _ring(source.groups[number].arrays, row)
        made.append(copied(old, jax.tree.map(lambda x, i=i: x[i], carry.episodes), source.groups[number].row))
    ring = jax.tree.map(lambda *each: jnp.stack(each), *made)
    return carry._replace(ring=session.with_copies(group, ring))


def _is_plain(arrays: Arrays) -> bool:
    """Return whether the replay buffer in the arrays of a checkpoint is plain."""
    return ".ring" in arrays


def _ring(arrays: Arrays, row: int) -> PyTree:
    """Return the replay buffer of one run in the arrays of a checkpoint."""
    if _is_plain(arrays):
        return jnp.asarray(arrays[".ring"][row])
    return replay.Compact(jnp.asarray(arrays[".ring.data"][row]), jnp.asarray(arrays[".ring.last"][row]))
