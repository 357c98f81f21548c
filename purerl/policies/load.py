"""The policies that a run left behind, read from its folder; no physics is needed for that.

A run folder keeps R policies: one per seed, or, of a sweep, per setting and seed.
"""

import os
import re
import zipfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from purerl.policies import layers
from purerl.policies.formats import READERS
from purerl.results import run_folder
from purerl.settings import config, registry

CHOICES = ("best", "median", "worst")
KEPT = re.compile(r"actor(-\d+)?\.npz")  # what `run_folder.write_policy` wrote
RUNS_OWN = ("run.toml", "curves.csv", "curve.png", "report.html", "log.jsonl", "policy")  # that mean the run


class Sizes(NamedTuple):
    """All that a network asks of an environment."""

    obs_size: int
    action_size: int


@dataclass(frozen=True)
class Policies:
    """What a run folder says of its policies.

    Attributes:
        settings: the `config.Config` of the run.
        actor, statistics: nested dicts of arrays `[R, ...]`; `statistics` is empty where observations stay as they are.
        env_step: how far each was trained, `[R]`.
        final: the last row of curves.csv of each up to there, `{column: [R]}`, NaN where there is none.
        action_range: (low, high), each `[action_size]`: what actions -1 and 1 are in the environment's units.
        sizes: of observations and actions.
        at: the environment step that was asked for, or of the checkpoint; None for the last policies.
    """

    path: Path
    settings: config.Config
    actor: Any
    statistics: Any
    env_step: Any
    final: Any
    action_range: Any
    sizes: Sizes
    at: int | None = None

    @property
    def obs_size(self):
        return self.sizes.obs_size

    @property
    def action_size(self):
        return self.sizes.action_size

    def name(self, index):
        """Which policy this is, in words: `seed 7`."""
        several = len(set(self.final["setting"])) > 1
        setting = f"setting {self.final['setting'][index]:.0f} " if several else ""
        return f"{setting}seed {self.seed(index)}" + ("" if self.at is None else f" at step {self.at}")

    def seed(self, index):
        return int(self.final["seed"][index])

    def layers(self, index):
        """The `purerl.policies.layers` of one policy; None where it is not made of such."""
        actor, statistics = one(self, index)
        activation = self.settings.plan.activation
        return layers.describe(actor, statistics, activation, *self.sizes, self.action_range)

    def function(self, index):
        """One policy as a function: NumPy `[..., obs_size]` -> `[..., action_size]` in the environment's own units."""
        found = self.layers(index)
        if found and _is_purerls_own(self.path):
            return partial(layers.apply, found)
        import jax  # Of an algorithm of somebody else's nothing tells that layers do all that it does.

        return layers.batched(jax.jit(trained(self, index)), *self.sizes)


def read(path, at=None):
    """The `Policies` of the run whose folder is `path`, or in whose folder `path` is: a file, or a checkpoint's folder.

    `at` is the environment step of a checkpoint, the end of the run where that is None. Raises ValueError where there
    is none, or nothing trained yet.
    """
    folder, number = place(path)
    settings = config.resolve({}, folder / "run.toml")
    if number is not None and at is not None:
        raise ValueError(f"{str(path)!r} is one checkpoint; leave out its number, or the step {at}")
    if number is None and at is None:
        return _at_the_end(folder, settings)
    return _at_a_checkpoint(folder, settings, number, None if at is None else whole(at))


def place(path):
    """`(folder of the run, number of the checkpoint or None)`: what the user means by `path`. Raises ValueError."""
    path = Path(path).expanduser()
    inside = Path(os.path.abspath(path))
    folder = next((each for each in (inside, *inside.parents) if (each / "run.toml").is_file()), None)
    if folder is None:
        raise ValueError(f"{str(path)!r} is no folder of a run: it has no run.toml; {_remedy(path)}")
    if folder == inside:
        return path, None
    parts = inside.relative_to(folder).parts
    if path.parts[-len(parts) :] == parts and len(parts) <= len(path.parents):
        folder = path.parents[len(parts) - 1]  # as the user called it
    if path.exists() and parts[0] == "checkpoints" and len(parts) > 1 and parts[1].isdecimal():
        return folder, int(parts[1])
    if "/".join(parts) in RUNS_OWN or _is_kept(path):
        return folder, None
    what = "is no policy of" if path.exists() else "is not in"
    raise ValueError(f"{str(path)!r} {what} the run {str(folder)!r}; name the run itself{_checkpoints(folder)}")


def _checkpoints(folder):
    """Its checkpoints, in words."""
    from purerl.policies import from_checkpoint

    there = from_checkpoint.steps(folder, config.resolve({}, folder / "run.toml"))
    named = [f"checkpoints/{number} (step {step})" for step, numbers in there.items() for number in numbers]
    return f", or in it {_listed(named)}" if named else ""


def _is_kept(path):
    """Whether the file `path` is where a run keeps its policies, which is no file that was exported."""
    return bool(KEPT.fullmatch(path.name)) and path.absolute().parent.name == "policy"


def _remedy(path):
    """What to name instead of a folder that holds no run."""
    if runs := sorted(file.parent.name for file in path.glob("*/run.toml")):
        more = f" and {len(runs) - 5} more" if len(runs) > 5 else ""
        return f"name one of the runs in it: {', '.join(runs[:5])}{more}"
    return f"train one with --out {path}"


def whole(at):
    """`at` as an environment step. Raises ValueError."""
    try:
        step = float(at)
    except (TypeError, ValueError):
        step = np.nan
    if isinstance(at, bool) or not step.is_integer() or step < 0:
        raise ValueError(f"at is {at!r}, but it should be the environment step of a checkpoint, a whole number")
    return int(step)


def _at_the_end(path, settings):
    if not (path / run_folder.POLICY).is_file():
        raise ValueError(f"the run in {str(path)!r} has kept no policy yet; {_instead(path, settings)}")
    try:
        kept = run_folder.read_policy(path)
        actor, env_step = kept["actor"], kept["env_step"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path / run_folder.POLICY} is damaged: {error}; train the run again") from None
    if _is_purerls_own(path) and "Dense_1" in actor["params"]:  # SAC's mean and deviation had a head each.
        raise ValueError(f"policies in {str(path)!r} are an older purerl's; take the commit that its run.toml names")
    final = _last_rows(path, *(kept.get(name) for name in ("setting", "seed")), env_step)
    sizes = _sizes(path, settings, actor)
    return Policies(
        path, settings, actor, kept.get("observation", {}), env_step, final, _action_range(path, settings), sizes
    )


def _instead(path, settings):
    """What to do where a run has kept no policy."""
    if not any((path / "checkpoints").glob("[0-9]*")):
        return "nor a checkpoint; train it again in another folder"
    from purerl.policies import from_checkpoint

    there = from_checkpoint.steps(path, settings)
    checkpoint = f", or take a checkpoint's, at {_listed(there)}" if there else ""
    return f"go on with --resume {path}{checkpoint}"


def _at_a_checkpoint(path, settings, number, at):
    """The policies of checkpoint `number`, or of all groups' at the environment step `at`."""
    from purerl.policies import from_checkpoint

    there = from_checkpoint.steps(path, settings)
    if number is None and (kept := _at_the_end_of(path, settings, at, there)):
        return kept
    numbers = there[at] if number is None else [number]
    sizes = _sizes(path, settings)
    kept = from_checkpoint.read(path, settings, numbers, registry.find(settings.job.algo).build, sizes)
    final = _last_rows(path, kept.setting, kept.seed, kept.env_step)
    low_high, step = _action_range(path, settings), int(kept.env_step[0])
    return Policies(path, settings, kept.actor, kept.statistics, kept.env_step, final, low_high, sizes, step)


def _at_the_end_of(path, settings, at, there):
    """The policies that the run has kept, if they are of the environment step `at`; None where a checkpoint is.

    Raises ValueError where there are none of that step.
    """
    kept = _at_the_end(path, settings) if (path / run_folder.POLICY).is_file() else None
    if kept and (kept.env_step == at).all():
        return replace(kept, at=at)
    if at in there:
        return None
    known = {*there, *([int(kept.env_step.max())] if kept else [])}
    remedy = (
        f"there are policies at {_listed(sorted(known))}"
        if known
        else "it has none; train with --checkpoint-every N --checkpoint-keep N"
    )
    raise ValueError(f"the run in {str(path)!r} has no checkpoint at step {at}; {remedy}")


def _listed(things):
    things = [str(each) for each in things]
    shown = things if len(things) <= 20 else [*things[:10], "...", *things[-10:]]
    return ", ".join(shown[:-1]) + " or " * (len(shown) > 1) + shown[-1]


def _last_rows(path, setting, seed, env_step):
    """`{column: [R]}`: the last row of curves.csv of each run up to its `env_step`, NaN where there is none.

    An older run did not keep whose its policies are: they are of the first R runs of curves.csv.
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


def _record(path):
    """What run.toml says that the run ran on."""
    return config.read(path / "run.toml").get(config.RECORD, {})


def _is_purerls_own(path):
    """Whether the algorithm of the run is not of somebody else's making."""
    return _record(path).get("algorithm", "purerl.").startswith("purerl.")


def _sizes(path, settings, actor=None):
    """As the run recorded them; of an older one, as its actor and its limits of actions say, or its environment."""
    said = _record(path)
    if {"obs_size", "action_size"} <= said.keys():
        return Sizes(said["obs_size"], said["action_size"])
    if actor is None or "action_low" not in said:
        env = environment(settings)
        return Sizes(env.obs_size, env.action_size)
    return Sizes(actor["params"]["torso"]["Dense_0"]["kernel"].shape[-2], len(said["action_low"]))


def _action_range(path, settings):
    """As the run recorded it, or, an older one, as its environment says."""
    said = _record(path)
    if "action_low" not in said:
        return environment(settings).action_range
    return tuple(np.asarray(said[name], np.float32) for name in ("action_low", "action_high"))


def environment(settings, name=None):
    """The environment that a run was trained on, or that of another `name`, with the time limit of its evaluations.

    Importing physics takes seconds.
    """
    from purerl import environments
    from purerl.training import loop

    job = settings.job
    own = name in (None, job.env)
    env = environments.make(job.env, job.backend, job.episode_length) if own else environments.make(name)
    return env._replace(episode_length=loop.longest(settings.plan, env))


def check_sizes(policies, env, remedy):
    """Raises ValueError where the environment is not of the sizes of `policies`."""
    if (env.obs_size, env.action_size) != policies.sizes:
        raise ValueError(
            f"the policies of {policies.path} are of {policies.settings.job.env}, with {policies.obs_size} "
            f"observations and {policies.action_size} actions, but {env.name} has {env.obs_size} and "
            f"{env.action_size}; {remedy}"
        )


def several(policies, which, setting=None):
    """The indices of the policies that `which` names: as in `choose`, or all."""
    if which != "all":
        return [choose(policies, which, setting)]
    return np.flatnonzero(_in_setting(policies, setting)).tolist()


def choose(policies, which, setting=None):
    """The index of one policy: `which` is the number of its seed, or best, median or worst by the final return.

    `setting` narrows the choice to one of a sweep's. Raises ValueError where there is no such policy.
    """
    final, which, there = policies.final, str(which), _in_setting(policies, setting)
    if which in CHOICES:
        sound = there & np.isnan(final["diverged"]) & np.isfinite(final["return_mean"])
        if not sound.any():
            why = "have diverged" if (~np.isnan(final["diverged"][there])).all() else "have no return yet"
            raise ValueError(f"all seeds of {policies.path} {why}; name one of {_span(final['seed'])}")
        there = np.flatnonzero(sound)
        ranked = there[np.argsort(final["return_mean"][there], kind="stable")]
        return int(ranked[{"best": -1, "median": len(ranked) // 2, "worst": 0}[which]])
    found = np.flatnonzero(there & (final["seed"] == int(which))) if which.isdecimal() else []
    if len(found) == 0:
        known = f"{_span(final['seed'])}, {', '.join(CHOICES)}"
        raise ValueError(f"there is no seed {which!r} in {policies.path}; known: {known}")
    if len(found) > 1:
        raise ValueError(f"seed {which} was run with {len(found)} settings; say --setting {_span(final['setting'])}")
    return int(found[0])


def _in_setting(policies, setting):
    there = np.ones(len(policies.env_step), bool) if setting is None else policies.final["setting"] == setting
    if not there.any():
        known = _span(policies.final["setting"])
        raise ValueError(f"there is no setting {setting} in {policies.path}; known: {known}")
    return there


def add_choice(parser, *more):
    """The flags `--seed`, `--setting` and `--at` of a command line, whose policies are those of `asked`.

    With "all" in `more`, they are for `several`, and otherwise for `choose`.
    """
    parser.add_argument("run", metavar="RUN", help="folder of a run, or of one of its checkpoints")
    parser.add_argument(
        "--seed",
        metavar="|".join(("K", *CHOICES, *more)),
        default=more[0] if more else "best",
        help="which policy, by its seed or its return there (default: %(default)s)",
    )
    parser.add_argument("--setting", metavar="N", type=int, help="of a sweep: choose from this setting (default: all)")
    parser.add_argument(
        "--at", metavar="STEP", help="as a checkpoint at this environment step has it (default: at the end)"
    )


def load_policy(path, seed="best", setting=None, at=None):
    """A trained policy as a plain NumPy function: observation `[..., obs_size]` -> action `[..., action_size]`.

    `path` is the folder of a run, of which `seed` (a number, or best, median or worst by its return) chooses one, among
    those of one `setting` of a sweep; the folder of one of its checkpoints; or a file that `python -m purerl.export`
    wrote. `at` is the environment step of a checkpoint, the end of the run by default. Actions are in the environment's
    own units, for `step` of Gymnasium for example. Raises ValueError where there is no policy, or where the package is
    missing that runs it; so does the function for an observation of another shape.
    """
    path = Path(path).expanduser()
    format = path.suffix.removeprefix(".")
    if format in READERS and path.is_file() and not _is_kept(path):
        return _exported(path, format, at)
    if not path.is_dir() and not any((parent / "run.toml").is_file() for parent in path.absolute().parents):
        raise ValueError(f"{str(path)!r} is neither the folder of a run nor a file of one: .{', .'.join(READERS)}")
    kept = read(path, at)
    return kept.function(choose(kept, seed, setting))


def _exported(path, format, at):
    if at is not None:
        raise ValueError(f"{str(path)!r} holds one policy; leave out at, or name the folder of the run")
    try:
        return READERS[format](path.read_bytes())
    except Exception as error:  # Whatever NumPy, onnxruntime and JAX say of a file that is none of theirs.
        what = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{str(path)!r} cannot be read: {what.splitlines()[0][:300]}") from error


def act(policies):
    """`(actor, statistics, observation [..., obs_size]) -> action [..., action_size]` in [-1, 1], in JAX.

    `actor` and `statistics` are those of one policy (`one`). Products are float32's, however the policy was trained.
    """
    from purerl.training.normalizer import Statistics, normalizer

    settings, sizes = policies.settings, policies.sizes
    plan = replace(settings.plan, precision="float32")
    algorithm, scaling = registry.find(settings.job.algo).build(settings.hyper, plan, sizes), normalizer(plan)

    _check_fits(policies, algorithm)

    def apply(actor, statistics, observation):
        return algorithm.act(actor, scaling.apply(statistics and Statistics(**statistics), observation))

    return apply


def _check_fits(policies, algorithm):
    """Raises ValueError where the arrays of `policies` are not those of the algorithm's policy."""
    import jax

    like = jax.eval_shape(lambda key: algorithm.policy(algorithm.init(key)), jax.random.key(0))
    here = {jax.tree_util.keystr(path): x.shape for path, x in jax.tree_util.tree_leaves_with_path(like)}
    there = {jax.tree_util.keystr(path): x.shape[1:] for path, x in jax.tree_util.tree_leaves_with_path(policies.actor)}
    if differs := [name for name in there | here if there.get(name) != here.get(name)]:
        name = differs[0]
        raise ValueError(
            f"policies in {str(policies.path)!r} are an older purerl's: {name} is {there.get(name, 'absent')} there "
            f"and {here.get(name, 'absent')} here; take the commit that its run.toml names"
        )


def trained(policies, index):
    """The policy as it was trained, in JAX, with actions in the environment's own units: what every file must equal."""
    from purerl.environments.base import scaled

    apply, policy = act(policies), one(policies, index)

    def function(observation):
        return scaled(apply(*policy, observation), policies.action_range)

    return function


def about(policies, index):
    """`{name: value}`, what an exported file says of a policy."""
    job, (low, high) = policies.settings.job, policies.action_range
    return {
        "env": job.env,
        "algo": job.algo,
        "seed": policies.seed(index),
        "env_step": int(policies.env_step[index]),
        "action_low": np.broadcast_to(low, policies.action_size).tolist(),
        "action_high": np.broadcast_to(high, policies.action_size).tolist(),
    }


def one(policies, index):
    """`(actor, statistics)` of one policy; of several where `index` is an array."""
    return _at(policies.actor, index), _at(policies.statistics, index)


def _at(tree, index):
    return {name: _at(x, index) if isinstance(x, dict) else x[index] for name, x in tree.items()}


def _span(numbers):
    """`0 to 7`."""
    low, high = int(min(numbers)), int(max(numbers))
    return str(low) if low == high else f"{low} to {high}"
