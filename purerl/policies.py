"""The policies that a run left behind, read from its folder; no physics is needed for that.

A run folder keeps R policies: one per seed, or, of a sweep, per setting and seed.
"""

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from purerl import config, layers, results
from purerl.formats import READERS

CHOICES = ("best", "median", "worst")


@dataclass(frozen=True)
class Policies:
    """What a run folder says of its policies.

    Attributes:
        settings: the `config.Config` of the run.
        actor, statistics: nested dicts of arrays `[R, ...]`; `statistics` is empty where observations stay as they are.
        env_step: how far each was trained, `[R]`.
        final: the last row of curves.csv of each, `{column: [R]}`.
        action_range: (low, high), each `[action_size]`: what actions -1 and 1 are in the environment's units.
    """

    path: Path
    settings: config.Config
    actor: Any
    statistics: Any
    env_step: Any
    final: Any
    action_range: Any

    @property
    def obs_size(self):
        return self.actor["params"]["torso"]["Dense_0"]["kernel"].shape[-2]

    @property
    def action_size(self):
        outputs = self.actor["params"]["Dense_0"]["bias"].shape[-1]
        return outputs // 2 if self.settings.job.algo == "sac" else outputs

    def name(self, index):
        """Which policy this is, in words: `seed 7`."""
        several = len(set(self.final["setting"])) > 1
        return (f"setting {self.final['setting'][index]:.0f} " if several else "") + f"seed {self.seed(index)}"

    def seed(self, index):
        return int(self.final["seed"][index])

    def layers(self, index):
        """The `purerl.layers` of one policy."""
        actor, statistics = (_at(tree, index) for tree in (self.actor, self.statistics))
        activation = self.settings.plan.activation
        return layers.describe(actor, statistics, activation, self.action_size, self.action_range)


class Sizes(NamedTuple):
    """All that a network asks of an environment."""

    obs_size: int
    action_size: int


def read(path):
    """The `Policies` of the run in the folder `path`. Raises ValueError where there is none, or nothing trained yet."""
    path = Path(path).expanduser()
    if not (path / "run.toml").is_file():
        raise ValueError(f"{str(path)!r} is no folder of a run: it has no run.toml; train one with --out {path}")
    settings = config.resolve({}, path / "run.toml")
    if not (path / results.POLICY).is_file():
        begun = any((path / "checkpoints").glob("[0-9]*"))
        remedy = f"go on with --resume {path}" if begun else "nor a checkpoint; train it again in another folder"
        raise ValueError(f"the run in {str(path)!r} has kept no policy yet; {remedy}")
    try:
        kept = results.read_policy(path)
        actor, env_step = kept["actor"], kept["env_step"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path / results.POLICY} is damaged: {error}; train the run again") from None
    if "Dense_1" in actor["params"]:
        raise ValueError(f"policies in {str(path)!r} are an older purerl's; take the commit that its run.toml names")
    final = {name: values[: len(env_step)] for name, values in results.final(results.read_curves(path)).items()}
    return Policies(path, settings, actor, kept.get("observation", {}), env_step, final, _action_range(path, settings))


def _action_range(path, settings):
    """As the run recorded it, or, an older one, as its environment says."""
    said = config.read(path / "run.toml").get(config.RECORD, {})
    if "action_low" not in said:
        return environment(settings).action_range
    return tuple(np.asarray(said[name], np.float32) for name in ("action_low", "action_high"))


def environment(settings):
    """The environment that a run was trained on. Importing physics takes seconds."""
    from purerl import environments

    job = settings.job
    return environments.make(job.env, job.backend, job.episode_length)


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
        there = np.flatnonzero(there & np.isnan(final["diverged"]) & np.isfinite(final["return_mean"]))
        if not len(there):
            raise ValueError(f"all seeds of {policies.path} have diverged; name one of {_span(final['seed'])}")
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
    """The flags `--seed` and `--setting` of a command line, for `choose`, or, with "all" in `more`, for `several`."""
    parser.add_argument(
        "--seed",
        metavar="|".join(("K", *CHOICES, *more)),
        default=more[0] if more else "best",
        help="which policy, by its seed or its final return (default: %(default)s)",
    )
    parser.add_argument("--setting", metavar="N", type=int, help="of a sweep: choose from this setting (default: all)")


def load_policy(path, seed="best"):
    """A trained policy as a plain NumPy function: observation `[..., obs_size]` -> action `[..., action_size]`.

    `path` is the folder of a run, of which `seed` (a number, or best, median or worst by final return) chooses one, or
    a file that `python -m purerl.export` wrote. Actions are in the environment's own units, for `step` of Gymnasium
    for example. Raises ValueError where there is no policy, or where the package is missing that runs it.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        kept = read(path)
        found = kept.layers(choose(kept, seed))
        return lambda observation: layers.apply(found, observation)
    format = path.suffix.removeprefix(".")
    if format not in READERS or not path.is_file():
        raise ValueError(f"{str(path)!r} is neither the folder of a run nor a file of one: .{', .'.join(READERS)}")
    return READERS[format](path.read_bytes())


def act(policies):
    """`(actor, statistics, observation [..., obs_size]) -> action [..., action_size]` in [-1, 1], in JAX.

    `actor` and `statistics` are those of one policy (`one`). Products are float32's, however the policy was trained.
    """
    from purerl.normalizer import Statistics, normalizer
    from purerl.runner import ALGORITHMS

    settings, sizes = policies.settings, Sizes(policies.obs_size, policies.action_size)
    plan = replace(settings.plan, precision="float32")
    algorithm, scaling = ALGORITHMS[settings.job.algo](settings.hyper, plan, sizes), normalizer(plan)

    def apply(actor, statistics, observation):
        return algorithm.act(actor, scaling.apply(statistics and Statistics(**statistics), observation))

    return apply


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
