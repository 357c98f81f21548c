"""Load trained policies from a run folder or from an exported file. No physics is needed."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from purerl.policies import acting
from purerl.policies.formats import READERS
from purerl.policies.kept import Policies, Sizes, is_purerls_own, read_record
from purerl.policies.layers import Bound, Function, Nested
from purerl.policies.paths import Step, is_kept, listed, place, whole
from purerl.results import run_folder
from purerl.results.choice import choose
from purerl.settings import config, registry
from purerl.settings.schema import Config


def load_policy(
    path: str | Path, seed: str | int = "best", setting: int | None = None, at: Step | None = None
) -> Function:
    """Load a trained policy as a NumPy function: observation `[..., obs_size]` -> action `[..., action_size]`.

    If the critic read more than the actor in training, the function takes only what the actor read,
    `[..., actor_obs_size]`.

    `path` is one of:

    - a run folder
    - the folder of a checkpoint of a run
    - a file written by `python -m purerl.export`

    `seed` selects the policy of a run: a number, or `best`, `median` or `worst` by final return. `setting` restricts
    the choice to one setting of a sweep. `at` is the environment step of a checkpoint. The default is the end of the
    run.

    The function returns actions in the environment's units, for example for `step` of Gymnasium. It raises ValueError
    for an observation of another shape.

    Raises ValueError if there is no such policy, or if a package that it needs is missing.
    """
    path = Path(path).expanduser()
    format = path.suffix.removeprefix(".")
    if format in READERS and path.is_file() and not is_kept(path):
        return _exported(path, format, at)
    if not path.is_dir() and not any((parent / "run.toml").is_file() for parent in path.absolute().parents):
        raise ValueError(f"{str(path)!r} is neither a run folder nor an exported policy: .{', .'.join(READERS)}")
    kept = read_policies(path, at)
    return kept.function(choose(kept, seed, setting))


def _exported(path: Path, format: str, at: Step | None) -> Function:
    if at is not None:
        raise ValueError(f"{str(path)!r} holds one policy; leave out at, or give the run folder")
    try:
        return READERS[format](path.read_bytes())
    except Exception as error:  # NumPy, onnxruntime and JAX raise different exceptions for an invalid file.
        what = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{str(path)!r} cannot be read: {what.splitlines()[0][:300]}") from error


def read_policies(path: str | Path, at: Step | None = None) -> Policies:
    """Return the `Policies` of a run.

    `path` is the run folder, a file in it, or the folder of a checkpoint. `at` is the environment step of a checkpoint.
    None selects the end of the run. Raises ValueError if there is no such checkpoint, or no policy yet.
    """
    folder, number = place(path)
    try:
        settings = config.resolve({}, folder / "run.toml")
    except ValueError as error:
        raise ValueError(f"{folder / 'run.toml'}: {error}") from None
    if number is not None and at is not None:
        raise ValueError(f"{str(path)!r} is one checkpoint; leave out its number, or the step {at}")
    if number is not None:
        return _at_a_checkpoint(folder, settings, [number])
    return _at_the_end(folder, settings) if at is None else _at_a_step(folder, settings, whole(at))


def _at_the_end(path: Path, settings: Config) -> Policies:
    if not (path / run_folder.POLICY).is_file():
        raise ValueError(f"the run in {str(path)!r} has saved no policy yet; {_instead(path, settings)}")
    try:
        kept = run_folder.read_policy(path)
        actor, env_step = kept["actor"], kept["env_step"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path / run_folder.POLICY} is damaged: {error}; train the run again") from None
    if is_purerls_own(path) and "Dense_1" in actor["params"]:  # In older versions, SAC had two heads.
        raise ValueError(
            f"policies in {str(path)!r} are from an older version of purerl; use the commit that its run.toml names"
        )
    final = _last_rows(path, kept.get("setting"), kept.get("seed"), env_step)
    sizes = _sizes(path, settings, actor)
    return Policies(
        path, settings, actor, kept.get("observation", {}), env_step, final, _action_range(path, settings), sizes
    )


def _instead(path: Path, settings: Config) -> str:
    """Return the remedy for a run that has saved no policy."""
    if not any((path / "checkpoints").glob("[0-9]*")):
        return "it has no checkpoint either; train it again in another folder"
    from purerl.policies import from_checkpoint

    there = from_checkpoint.steps(path, settings)
    checkpoint = f", or use the policy of a checkpoint, at {listed(there)}" if there else ""
    return f"continue with --resume {path}{checkpoint}"


def _at_a_step(path: Path, settings: Config, at: int) -> Policies:
    """Return the policies at the environment step `at`: those of the run, or those of one checkpoint per group."""
    from purerl.policies import from_checkpoint

    there = from_checkpoint.steps(path, settings)
    return _at_the_end_of(path, settings, at, there) or _at_a_checkpoint(path, settings, there[at])


def _at_a_checkpoint(path: Path, settings: Config, numbers: Sequence[int]) -> Policies:
    """Return the policies of the checkpoints `numbers`: one checkpoint, or one per group."""
    from purerl.policies import from_checkpoint

    sizes = _sizes(path, settings)
    kept = from_checkpoint.read_checkpoint(
        path, settings, numbers, registry.find_algorithm(settings.job.algo).build, sizes
    )
    final = _last_rows(path, kept.setting, kept.seed, kept.env_step)
    low_high, step = _action_range(path, settings), int(kept.env_step[0])
    return Policies(path, settings, kept.actor, kept.statistics, kept.env_step, final, low_high, sizes, step)


def _at_the_end_of(path: Path, settings: Config, at: int, there: Mapping[int, Sequence[int]]) -> Policies | None:
    """Return the saved policies of the run if they are from the environment step `at`.

    Returns None if only a checkpoint is from that step. Raises ValueError if there are no policies of that step.
    """
    kept = _at_the_end(path, settings) if (path / run_folder.POLICY).is_file() else None
    if kept and (kept.env_step == at).all():
        return replace(kept, at=at)
    if at in there:
        return None
    known = {*there, *([int(kept.env_step.max())] if kept else [])}
    remedy = (
        f"there are policies at {listed(sorted(known))}"
        if known
        else "it has none; train with --checkpoint-every N --checkpoint-keep N"
    )
    raise ValueError(f"the run in {str(path)!r} has no checkpoint at step {at}; {remedy}")


def _last_rows(
    path: Path,
    setting: Int[np.ndarray, " R"] | None,
    seed: Int[np.ndarray, " R"] | None,
    env_step: Int[np.ndarray, " R"],
) -> dict[str, Float[np.ndarray, " R"]]:
    """Return `{column: [R]}`: the last row of curves.csv of each run up to its `env_step`, NaN if there is none.

    Older versions did not save setting and seed. Their policies belong to the first R runs of curves.csv.
    """
    curves = run_folder.read_curves(path)
    if setting is None or seed is None:
        return {name: values[: len(env_step)] for name, values in run_folder.final(curves).items()}
    runs = list(zip(setting.tolist(), seed.tolist(), strict=True))
    limit = dict(zip(runs, env_step.tolist(), strict=True))
    rows = zip(*(curves[name].tolist() for name in ("setting", "seed", "env_step")), strict=True)
    before = np.array([step <= limit.get((setting, seed), -1) for setting, seed, step in rows], bool)
    last = run_folder.final({name: values[before] for name, values in curves.items()})
    place = {run: i for i, run in enumerate(zip(last["setting"], last["seed"], strict=True))}
    found = [place.get(run, -1) for run in runs]
    final = {name: np.append(values, np.nan)[found] for name, values in last.items()}
    return final | {"setting": np.asarray(setting, float), "seed": np.asarray(seed, float)}


def _sizes(path: Path, settings: Config, actor: Nested | None = None) -> Sizes:
    """Return the sizes that the run recorded. For an older run, find them from its actor or its environment."""
    said = read_record(path)
    if {"obs_size", "action_size"} <= said.keys():
        return Sizes(said["obs_size"], said["action_size"], said.get("actor_obs_size"))
    if actor is None or "action_low" not in said:
        env = acting.environment(settings)
        return Sizes(env.obs_size, env.action_size, env.actor_obs_size)
    return Sizes(actor["params"]["torso"]["Dense_0"]["kernel"].shape[-2], len(said["action_low"]))


def _action_range(path: Path, settings: Config) -> tuple[Bound, Bound]:
    """Return the action range that the run recorded. For an older run, return that of its environment."""
    said = read_record(path)
    if "action_low" in said:
        low, high = said["action_low"], said["action_high"]
    else:
        low, high = acting.environment(settings).action_range
    return np.asarray(low, np.float32), np.asarray(high, np.float32)
