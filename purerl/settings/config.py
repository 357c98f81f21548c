"""TOML files and flags -> one resolved, checked `Config`. No JAX here.

What is said later beats what is said before: the defaults, `presets.toml`, the presets of an algorithm from a module,
`envs/ENV.toml`, the file of `--config`, flags. Every table has the same shape. The hyperparameters of the algorithm
stand under `hyper`. Under `sweep` stand the numbers among them that differ from setting to setting, a list each.
"""

import re
import tomllib
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import tomli_w

from purerl.errors import closest
from purerl.settings import registry
from purerl.settings.hyperparameters import Hyperparameters
from purerl.settings.kinds import Table, fields, flows
from purerl.settings.registry import ALGORITHMS, PRESETS, AlgorithmSpec
from purerl.settings.schema import Config, Job, Keep, Plan, Population, cycle

HERE = Path(__file__).parent  # holds presets.toml
PACKAGE = HERE.parent
RECORD = "record"  # the head of run.toml that is a record of the run, and no setting


def collection(kind: str) -> Path:
    """The folder `envs` or `sweeps`: beside the package in a clone, inside it in a wheel."""
    inside = PACKAGE / "_collections" / kind
    return inside if inside.is_dir() else PACKAGE.parent / kind


def environment_files() -> dict[str, Path]:
    """`{name: path}` of the environments that envs/ declares."""
    return {path.stem: path for path in sorted(collection("envs").glob("*.toml"))}


def resolve(flags: Table, file: str | Path | None = None) -> Config:
    """The `Config` of `flags`, `{name: value}`, over the settings in `file`, over the environment's and the preset's.

    Raises ValueError, in one line, for what is unknown, of a wrong type, out of range, or does not fit together.
    """
    table = {} if file is None else read_toml(Path(file))
    of_a_run = table.pop(RECORD, None) is not None and not {"algo", "env", "preset"} & flags.keys()
    return resolve_table(flags, table, "this table" if file is None else file, of_a_run)


def resolve_table(flags: Table, settings: Table, file: str | Path = "this table", of_a_run: bool = False) -> Config:
    """`resolve`, of the table `settings` that stands in `file`.

    A run's own has all settings that there were. What it lacks has its default, whatever presets and envs/ say of it.
    """
    Job(**{name: value for name, value in settings.items() if name in ("algo", "env", "preset")})
    for head in ("hyper", "sweep", "pbt"):
        _table(file, head, settings.get(head, {}))
    for name in settings.get("sweep", {}).keys() & flags.keys():
        raise ValueError(f"{name} stands under [sweep] in {file}, which says it for every setting; leave out the flag")
    said = _overlay(settings, _nested(flags, settings.get("algo")))
    job = {name: said[name] for name in ("algo", "env", "preset") if name in said}
    algo, env, preset = (getattr(Job(**job), name) for name in ("algo", "env", "preset"))

    declared, spec = _declaration(env), registry.find_algorithm(algo)
    own = {name: {algo: table} for name, table in spec.presets.items()}
    layers = [read_toml(HERE / "presets.toml"), own, {name: declared[name] for name in PRESETS if name in declared}]
    resolved = {name: declared[name] for name in ("env", "backend", "episode_length") if name in declared}
    for layer in [] if of_a_run else layers:
        heads = layer.get(preset, {})
        resolved = _overlay(resolved, _known_to(spec, heads.get("all", {})))
        resolved = _overlay(resolved, heads.get(algo, {}))
    resolved = _overlay(resolved, said | ({"env": declared.get("env", env)} if "env" in said else {}))
    return _build(resolved)


def _known_to(spec: AlgorithmSpec, table: Table) -> Table:
    """What is said of all algorithms, without the hyperparameters that this one does not have."""
    known = fields(spec.hyperparameters)
    hyper = {name: value for name, value in table.get("hyper", {}).items() if name in known}
    return table | ({"hyper": hyper} if "hyper" in table else {})


def to_toml(config: Config) -> str:
    """The TOML that `--config` reads back as the same `Config`. `none` stands for None."""
    computed = computation(config)
    tables = {head: computed.pop(head) for head in ("hyper", "sweep", "pbt") if head in computed}
    return tomli_w.dumps(computed | _without_none(asdict(config.keep)) | tables)


def computation(config: Config) -> Table:
    """What decides on the numbers of a run, as TOML and JSON have it: everything but `Keep`."""
    hyper = {name: value for name, value in asdict(config.hyper).items() if name not in config.swept}
    tables = {"hyper": hyper} | ({"sweep": config.swept} if config.swept else {})
    tables |= {"pbt": asdict(config.pbt)} if config.pbt else {}
    return _without_none(asdict(config.job) | asdict(config.plan) | tables)


def differences(there: Table, here: Table) -> str:
    """One line that says where two `computation`s differ; empty where they do not. What is absent has its default."""
    there, here = (_flat(table) for table in (there, here))
    names = [name for name in there | here if there.get(name) != here.get(name)]
    return ", ".join(
        f"{name} is {there.get(name, 'not set')} there and {here.get(name, 'not set')} here" for name in names
    )


def _flat(computation: Table) -> Table:
    """A `computation` without its tables, and with the defaults of what it lacks: an older one knew fewer settings.

    All runs at once may be said in two ways.
    """
    swept, population = (computation.get(name, {}) for name in ("sweep", "pbt"))
    classes = (Job, Plan, *_hyperparameters(computation.get("algo", Job.algo)))
    flat = {name: default for cls in classes for name, default in _defaults(cls).items()}
    flat |= {f"pbt.{name}": value for name, value in (population and _defaults(Population) | population).items()}
    flat |= {name: value for name, value in computation.items() if name not in ("hyper", "sweep", "pbt")}
    flat |= computation.get("hyper", {}) | swept
    if flat["seeds_per_batch"] == "none":
        flat["seeds_per_batch"] = flat["num_seeds"] * max(map(len, swept.values()), default=1)
    return flat


def _defaults(cls: type) -> Table:
    """What a settings class has by default, as TOML and JSON have it."""
    return _without_none({name: default for name, (default, _, _) in fields(cls).items()})


def _hyperparameters(algo: str) -> list[type[Hyperparameters]]:
    """`[class]` of the hyperparameters of `algo`; `[]` where nothing is called so here."""
    try:
        return [registry.find_algorithm(algo).hyperparameters]
    except ValueError:
        return []


def all_settings(algo: str) -> dict[str, type]:
    """`{name: settings class}` of everything that can be set for `algo`."""
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
            raise ValueError(f"sweep.{name} is {list(values)!r}, but only numbers flow through one program")
    return Config(job, plan, hypers[0], keep, swept, None if pbt is None else Population(**pbt))


def _each_setting(hyper_class: type[Hyperparameters], hyper: Table, swept: Table) -> list[Hyperparameters]:
    """The checked hyperparameters of each setting of the table `sweep`, `{name: one of each setting}`."""
    lengths = {len(values) if isinstance(values, list) else 0 for values in swept.values()} or {1}
    if len(lengths) > 1 or lengths == {0}:
        raise ValueError("every entry of [sweep] should be a list, all of one length, a value for each setting")
    return [hyper_class(**hyper | {name: swept[name][i] for name in swept}) for i in range(*lengths)]


def why_unknown(name: str, algo: str) -> str:
    """Why `name` is no setting in the table where it stands, for `algo`."""
    known = all_settings(algo)
    owners = [other for other, spec in ALGORITHMS.items() if name in fields(spec.hyperparameters)]
    if name in known:
        place = "under [hyper]" if known[name] in _hyperparameters(algo) else "at the top, not under [hyper]"
        return f"setting {name!r} belongs {place}"
    if owners:
        return f"setting {name!r} belongs to {' and '.join(owners)}, not to {algo}"
    return f"unknown setting {name!r}{closest(name, tuple(known))}"


def _nested(flags: Table, algo: str | None) -> Table:
    """Flags know no tables: put the hyperparameters under `hyper`."""
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
    """What envs/ or a TOML file says of `env`; a -v4 without a file has the -v5's, another without one nothing."""
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
            if head not in ("all", *ALGORITHMS) and ":" not in head:  # as [tuned."my_module:my_algorithm"]
                raise ValueError(f"{path}: unknown head [{preset}.{head}]{closest(head, ('all', *ALGORITHMS))}")
            _table(path, f"{preset}.{head}", table)
            _table(path, f"{preset}.{head}.hyper", table.get("hyper", {}))
            for name in table:
                if name in ("sweep", "pbt"):
                    raise ValueError(f"{path}: [{preset}.{head}] cannot hold [{name}]; put it in a file of sweeps/")
                if name in fields(Job) and name not in ("backend", "episode_length"):
                    raise ValueError(f"{path}: {name!r} cannot be set under [{preset}.{head}]; leave it to the flags")
    return {"env": path.stem} | declared


def read_toml(path: Path) -> Table:
    """The table in a TOML file. Raises ValueError, in one line."""
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no TOML file: {error}") from None


def _table(path: str | Path, head: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {head} is {value!r}; it should be a table, [{head}]")


def _without_none(values: Any) -> Any:
    """What TOML and JSON can say."""
    if isinstance(values, dict):
        return {name: _without_none(value) for name, value in values.items()}
    if isinstance(values, tuple):
        return list(values)
    return "none" if values is None else values
