"""Resolve TOML files and flags to one checked `Config`. No JAX here.

Sources in increasing priority: defaults, `presets.toml`, the presets of an algorithm from a module, `envs/ENV.toml`,
the file of `--config`, flags. All tables have the same form. The table `hyper` holds the hyperparameters of the
algorithm. The table `sweep` holds the swept hyperparameters, each as a list with one value per setting.
"""

import re
import tomllib
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import tomli_w

from purerl.errors import closest
from purerl.settings import registry
from purerl.settings.hyperparameters import Hyperparameters
from purerl.settings.kinds import Table, fields, flows
from purerl.settings.registry import ALGORITHMS, PRESETS, AlgorithmSpec, Preset
from purerl.settings.schema import Config, Job, Keep, Plan, Population, cycle

HERE = Path(__file__).parent  # holds presets.toml
PACKAGE = HERE.parent
RECORD = "record"  # the table of run.toml that describes the run and holds no settings


def collection(kind: str) -> Path:
    """Return the folder `envs` or `sweeps`. It is beside the package in a clone, and inside the package in a wheel."""
    inside = PACKAGE / "_collections" / kind
    return inside if inside.is_dir() else PACKAGE.parent / kind


def environment_files() -> dict[str, Path]:
    """Return `{name: path}` of the environment files in envs/."""
    return {path.stem: path for path in sorted(collection("envs").glob("*.toml"))}


def resolve(flags: Table, file: str | Path | Table | None = None) -> Config:
    """Return the `Config` of `flags`, `{name: value}`, and of the settings in `file`.

    `file` may also be the table of a file. Flags override the file, which overrides the environment's file, which
    overrides the preset. Raises ValueError, in one line, if a setting is unknown, has a wrong type, is out of range, or
    does not fit the others.
    """
    is_file = isinstance(file, str | Path)
    table = read_toml(Path(file)) if is_file else dict(file or {})
    of_a_run = table.pop(RECORD, None) is not None
    return resolve_table(flags, table, file if is_file else "this table", of_a_run)


def resolve_table(flags: Table, settings: Table, file: str | Path = "this table", of_a_run: bool = False) -> Config:
    """Return the `Config` of `flags` and of the table `settings`, which was read from `file`.

    With `of_a_run`, the table is the run.toml of a run. It is complete, unless an older version wrote it: a setting of
    the plan that it lacks has its default. Presets and envs/ are read only if `flags` name another of them.
    """
    if of_a_run:
        settings = defaults(Plan) | settings
    Job(**{name: value for name, value in settings.items() if name in ("algo", "env", "preset")})
    for head in ("hyper", "sweep", "pbt"):
        _table(file, head, settings.get(head, {}))
    for name in settings.get("sweep", {}).keys() & flags.keys():
        raise ValueError(f"{name} is swept: {file} lists its values under [sweep]; leave out the flag")
    said = _overlay(settings, _nested(flags, settings.get("algo")))
    job = {name: said[name] for name in ("algo", "env", "preset") if name in said}
    algo, env, preset = (getattr(Job(**job), name) for name in ("algo", "env", "preset"))

    declared, spec = _declaration(env), registry.find_algorithm(algo)
    own = {name: {algo: table} for name, table in spec.presets.items()}
    layers = [read_toml(HERE / "presets.toml"), own, {name: declared[name] for name in PRESETS if name in declared}]
    resolved = {name: declared[name] for name in ("env", "backend", "episode_length") if name in declared}
    if of_a_run and not {"algo", "env", "preset"} & flags.keys():
        layers = []
    else:
        _check_published(preset, algo, layers)
    for layer in layers:
        heads = layer.get(preset, {})
        resolved = _overlay(resolved, _known_to(spec, heads.get("all", {})))
        for name in dict.fromkeys((spec.presets_of or algo, algo)):
            resolved = _overlay(resolved, heads.get(name, {}))
    resolved = _overlay(resolved, said | ({"env": declared.get("env", env)} if "env" in said else {}))
    return _without_initial_weights(_build(resolved), flags if of_a_run else said)


def _without_initial_weights(config: Config, said: Table) -> Config:
    """Return `config` with the default initial weights if another run gives all networks.

    Raises ValueError if `said`, the settings that the user wrote, have initial weights nevertheless.
    """
    if config.job.init_from is None or not {"actor", "critic"} <= set(config.job.init_parts):
        return config
    if "initialization" in said:
        drawn = config.plan.initialization
        raise ValueError(f"initialization {drawn} has no effect, because init_from gives all networks; leave it out")
    return replace(config, plan=replace(config.plan, initialization=Plan.initialization))


def _check_published(preset: Preset, algo: str, layers: list[Table]) -> None:
    """Raise ValueError if a preset with an algorithm's published settings has none of this algorithm of purerl."""

    def has(name: str) -> bool:
        return any(algo in layer.get(name, {}) for layer in layers)

    if preset.startswith("paper") and algo in ALGORITHMS and not has(preset):
        others = [name for name in PRESETS if not name.startswith("paper") or has(name)]
        raise ValueError(f"preset {preset!r} has no settings of {algo}; presets of {algo}: {', '.join(others)}")


def _known_to(spec: AlgorithmSpec, table: Table) -> Table:
    """Return the table for all algorithms without the hyperparameters that this algorithm does not have."""
    known = fields(spec.hyperparameters)
    hyper = {name: value for name, value in table.get("hyper", {}).items() if name in known}
    return table | ({"hyper": hyper} if "hyper" in table else {})


def to_toml(config: Config) -> str:
    """Return the TOML text that `--config` reads back as the same `Config`. None is written as "none"."""
    computed = computation(config)
    tables = {head: computed.pop(head) for head in ("hyper", "sweep", "pbt") if head in computed}
    return tomli_w.dumps(computed | _without_none(asdict(config.keep)) | tables)


def computation(config: Config) -> Table:
    """Return the settings that determine the results of a run, all but `Keep`, as values of TOML and JSON."""
    hyper = {name: value for name, value in asdict(config.hyper).items() if name not in config.swept}
    tables = {"hyper": hyper} | ({"sweep": config.swept} if config.swept else {})
    tables |= {"pbt": asdict(config.pbt)} if config.pbt else {}
    return _without_none(asdict(config.job) | asdict(config.plan) | tables)


def differences(there: Table, here: Table) -> str:
    """Return one line with the differences of two `computation`s, or "" if equal. A missing name has its default."""
    there, here = (_flat(table) for table in (there, here))
    names = [name for name in there | here if there.get(name) != here.get(name)]
    return ", ".join(
        f"{name} is {there.get(name, 'not set')} there and {here.get(name, 'not set')} here" for name in names
    )


def _flat(computation: Table) -> Table:
    """Return a `computation` as one flat table, with defaults for missing settings: an older version had fewer.

    `seeds_per_batch` "none" is replaced by the number of all runs, because both mean the same.
    """
    swept, population = (computation.get(name, {}) for name in ("sweep", "pbt"))
    classes = (Job, Plan, *_hyperparameters(computation.get("algo", Job.algo)))
    flat = {name: default for cls in classes for name, default in defaults(cls).items()}
    flat |= {f"pbt.{name}": value for name, value in (population and defaults(Population) | population).items()}
    flat |= {name: value for name, value in computation.items() if name not in ("hyper", "sweep", "pbt")}
    flat |= computation.get("hyper", {}) | swept
    if flat["seeds_per_batch"] == "none":
        flat["seeds_per_batch"] = flat["num_seeds"] * max(map(len, swept.values()), default=1)
    return flat


def defaults(cls: type) -> Table:
    """Return the defaults of a settings class as values of TOML and JSON."""
    return _without_none({name: default for name, (default, _, _) in fields(cls).items()})


def _hyperparameters(algo: str) -> list[type[Hyperparameters]]:
    """Return `[class]` of the hyperparameters of `algo`, or `[]` if there is no such algorithm here."""
    try:
        return [registry.find_algorithm(algo).hyperparameters]
    except ValueError:
        return []


def all_settings(algo: str) -> dict[str, type]:
    """Return `{name: settings class}` of all settings for `algo`."""
    return {name: cls for cls in (Job, Plan, Keep, *_hyperparameters(algo)) for name in fields(cls)}


def _build(settings: Table) -> Config:
    settings = dict(settings)
    hyper, swept = (settings.pop(head, {}) for head in ("hyper", "sweep"))
    pbt = settings.pop("pbt", None)
    for name in pbt or ():
        if name not in fields(Population):
            raise ValueError(f"unknown setting {name!r} under [pbt]{closest(name, fields(Population))}")
    job = Job(**{name: settings.pop(name) for name in fields(Job) if name in settings})
    keep = Keep(**{name: settings.pop(name) for name in fields(Keep) if name in settings})
    hyper_class = registry.find_algorithm(job.algo).hyperparameters
    for table, cls in ((settings, Plan), (hyper | swept, hyper_class)):
        for name in table:
            if name not in fields(cls):
                raise ValueError(why_unknown(name, job.algo))
    plan, hypers = Plan(**settings), _each_setting(hyper_class, hyper, swept)
    cycle(plan, hypers[0].policy_delay)
    swept = {name: tuple(getattr(each, name) for each in hypers) for name in swept}
    for name, values in swept.items():
        if not all(map(flows, values)):
            raise ValueError(
                f"sweep.{name} is {list(values)!r}, but only numbers that are inputs of the program can be swept "
                f"inside one program; list {name} under [hyper] of a sweep file, which makes a program for each value"
            )
    return Config(job, plan, hypers[0], keep, swept, None if pbt is None else Population(**pbt))


def _each_setting(hyper_class: type[Hyperparameters], hyper: Table, swept: Table) -> list[Hyperparameters]:
    """Return the checked hyperparameters of each setting. `swept` is `{name: list with one value per setting}`."""
    lengths = {len(values) if isinstance(values, list) else 0 for values in swept.values()} or {1}
    if len(lengths) > 1 or lengths == {0}:
        raise ValueError("every entry of [sweep] should be a list with one value per setting, all of the same length")
    return [hyper_class(**hyper | {name: swept[name][i] for name in swept}) for i in range(*lengths)]


def why_unknown(name: str, algo: str) -> str:
    """Return why `name` is not a setting of `algo` in the table where it was found."""
    known = all_settings(algo)
    owners = [other for other, spec in ALGORITHMS.items() if name in fields(spec.hyperparameters)]
    if name in known:
        place = "under [hyper]"
        if known[name] not in _hyperparameters(algo):
            place = "at the top, not under [hyper] or [sweep], which hold hyperparameters"
        return f"setting {name!r} belongs {place}"
    if owners:
        said = " and ".join(filter(None, (", ".join(owners[:-1]), owners[-1])))
        return f"setting {name!r} belongs to {said}, not to {algo}"
    return f"unknown setting {name!r}{closest(name, tuple(known))}"


def _nested(flags: Table, algo: str | None) -> Table:
    """Return `flags` with the hyperparameters moved to the table `hyper`."""
    chosen = flags.get("algo", algo or Job.algo)
    hypers = {name for cls in _hyperparameters(chosen) for name in fields(cls)}
    top = {name: value for name, value in flags.items() if name not in hypers}
    return top | {"hyper": {name: value for name, value in flags.items() if name in hypers}}


def _overlay(below: Table, above: Table) -> Table:
    both = {**below, **above}
    if "hyper" in below and "hyper" in above:
        both["hyper"] = {**below["hyper"], **above["hyper"]}
    return both


def _declaration(env: str) -> Table:
    """Return the declaration of `env`: from its TOML file, or from envs/.

    A -v4 task without a file uses the file of -v5. Any other environment without a file has only its name.
    """
    if env.endswith(".toml"):
        return _checked_declaration(Path(env))
    files = environment_files()
    if env in files:
        return _checked_declaration(files[env])
    newer = files.get(re.sub("-v4$", "-v5", env))
    return {"env": env} if newer is None else _checked_declaration(newer) | {"env": env}


@cache
def _checked_declaration(path: Path) -> Table:
    declared = read_toml(path)
    allowed = ("env", "backend", "episode_length", *PRESETS)
    for name in declared:
        if name not in allowed:
            raise ValueError(f"{path}: unknown setting {name!r}{closest(name, allowed)}")
    for preset in set(PRESETS) & set(declared):
        _table(path, preset, declared[preset])
        for head, table in declared[preset].items():
            if head not in ("all", *ALGORITHMS) and ":" not in head:  # for example [tuned."my_module:my_algorithm"]
                raise ValueError(f"{path}: unknown table [{preset}.{head}]{closest(head, ('all', *ALGORITHMS))}")
            _table(path, f"{preset}.{head}", table)
            _table(path, f"{preset}.{head}.hyper", table.get("hyper", {}))
            for name in table:
                if name in ("sweep", "pbt"):
                    raise ValueError(f"{path}: [{preset}.{head}] cannot hold [{name}]; put it in a sweep file")
                if name in fields(Job) and name not in ("backend", "episode_length"):
                    raise ValueError(f"{path}: {name!r} cannot be set under [{preset}.{head}]; use the flag")
    return {"env": path.stem} | declared


def read_toml(path: Path) -> Table:
    """Return the table in a TOML file. Raises ValueError, in one line, if it cannot be read."""
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from None


def _table(path: str | Path, head: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {head} is {value!r}; it should be a table, [{head}]")


def _without_none(values: Any) -> Any:
    """Return `values` as values of TOML and JSON: tuples as lists, None as "none"."""
    if isinstance(values, dict):
        return {name: _without_none(value) for name, value in values.items()}
    if isinstance(values, tuple):
        return list(values)
    return "none" if values is None else values
