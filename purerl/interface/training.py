"""`purerl.train` and `purerl.load`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from purerl.interface.run import Run

if TYPE_CHECKING:
    from purerl.policies.hooks import Evaluation
    from purerl.settings.registry import AlgorithmSpec
    from purerl.settings.schema import Config
    from purerl.types import Constructor

    Hook = Callable[[Evaluation], None]


def train(
    algo: "str | AlgorithmSpec | Constructor | None" = None,
    env: Any = None,
    *,
    out: str | Path | None = None,
    config: "str | Path | Mapping[str, Any] | Config | None" = None,
    sweep: Mapping[str, Any] | None = None,
    on_evaluation: "Hook | Sequence[Hook] | None" = None,
    progress: bool = True,
    **settings: Any,
) -> Run:
    """Train, as the command `purerl train` does, and return the `Run`.

    An unfinished run in the folder `out` is continued if it has the same settings, and a complete one is returned.
    Ctrl-C, SIGTERM or the interrupt of
    a notebook ends the run with a checkpoint, and `train` returns. `Run.interrupted` then has the reason.

    JAX's global flags are not changed. `set_up_jax` sets them as the command does.

    Args:
        algo: a name, for example "td3"; an `AlgorithmSpec`; or a constructor `(hyper, plan, env) -> Algorithm`, whose
            first parameter is annotated with the class of its hyperparameters.
        env: a name, or an environment as `purerl.environments.make` takes it.
        out: the folder of the run. The default is runs/ALGO-ENV-TIME.
        config: a TOML file, a table of that form, or the settings of another run.
        sweep: hyperparameters with a list of values each, one per setting. All settings train in one program.
        on_evaluation: a function or several that are called with an `Evaluation` after each evaluation.
        progress: whether to show the progress.
        settings: any setting or hyperparameter by name, for example `num_seeds=10`. They override `config`.

    Raises ValueError, in one line and before anything is compiled, for unknown settings and values that do not work,
    and if the run in `out` is another. Raises what a function of `on_evaluation` raises, after a
    checkpoint was written.
    """
    from purerl import objects
    from purerl.interface import given, launch
    from purerl.policies import hooks
    from purerl.results import naming
    from purerl.runs.display import Display
    from purerl.settings.config import resolve

    called = hooks.of(on_evaluation)
    _refuse_tables(settings)
    found: given.Given = {}
    for setting, value, named in (("algo", algo, given.named_algorithm), ("env", env, given.named_env)):
        if value is not None:
            settings[setting], objects_of_it = named(value)
            found |= objects_of_it
    for value in settings.values():
        found |= value._given if isinstance(value, Run) else {}
    with objects.using(found):
        resolved = resolve(_plain(settings), _table(config, sweep))
        path = naming.default(resolved.job) if out is None else naming.named(str(out))
        claimed = launch.claimed(resolved, path, unnamed=out is None, may_be_complete=True)
        run = Run(launch.named(claimed), found)
        given.keep(found)
        given.remember(run.path, found)
        if claimed.complete:
            if progress:
                Display().say(f"the run in {run.path} is complete already, and is returned as it is")
        else:
            run._carry_out(claimed, called, progress)
    return run


def load(folder: str | Path, *, env: Any = None, algo: Any = None) -> Run:
    """Return the `Run` in a folder, which may be unfinished.

    `folder` may also be a file of the run. `env` and `algo` are the objects that the run was trained with, if they have
    no name that Python can import. In the process that trained the run they are known.

    Raises ValueError if there is no run, or if it was trained with objects that are not known here.
    """
    from purerl.interface import given
    from purerl.policies import paths
    from purerl.settings import config

    path = paths.place(folder)[0]
    there, found = config.read_toml(path / "run.toml"), dict(given.remembered(path))
    for setting, value, named in (("algo", algo, given.named_algorithm), ("env", env, given.named_env)):
        if value is not None:
            name = there.get(setting, "")
            if isinstance(value, str):
                raise ValueError(f"{setting} is {value!r}, a name, which run.toml holds already; leave out {setting}")
            if ":" not in name:
                raise ValueError(f"{path} was trained with {setting} {name!r}, which is known; leave out {setting}")
            (each,) = named(value)[1].values()
            found[setting, name] = each
    run = Run(path, found)
    run.settings  # noqa: B018  # Raises ValueError if they cannot be read.
    return run


def _refuse_tables(settings: Mapping[str, Any]) -> None:
    """Raise ValueError if a keyword has a table, which only a file or `config` can have."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            raise ValueError(f"{name} is a table; give its entries as keywords, or config={{{name!r}: {dict(value)}}}")


def _table(config: Any, sweep: Any) -> Any:
    """Return what `config.resolve` takes as a file: None, a path or a table. Raises ValueError for anything else."""
    from purerl.settings import config as settings
    from purerl.settings.schema import Config

    if isinstance(config, str | Path) and sweep is None:
        return config
    if config is not None and not isinstance(config, str | Path | Mapping | Config):
        raise ValueError(f"config is of {type(config).__name__}; it should be a TOML file, a table or a Config")
    if sweep is not None and not isinstance(sweep, Mapping):
        raise ValueError(f"sweep is of {type(sweep).__name__}; it should be like {{'actor_lr': [1e-4, 1e-3]}}")
    if isinstance(config, Config):
        table = {**_read(settings.to_toml(config)), settings.RECORD: {}}
    else:
        table = settings.read_toml(Path(config)) if isinstance(config, str | Path) else dict(config or {})
    return table | ({} if sweep is None else {"sweep": _plain(dict(sweep))})


def _read(text: str) -> dict[str, Any]:
    import tomllib

    return tomllib.loads(text)


def _plain(value: Any) -> Any:
    """Return a value of a setting as a Python object: numbers and arrays of NumPy or JAX, paths, tables and tuples."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if hasattr(value, "dtype"):
        return np.asarray(value).tolist()
    if isinstance(value, Run):  # for example `init_from`
        return str(value.path)
    return str(value) if isinstance(value, Path) else value
