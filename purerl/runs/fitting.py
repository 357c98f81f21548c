"""Compile programs for as many runs as the devices and their memory hold."""

from dataclasses import replace

import jax

from purerl.environments.base import Environment
from purerl.runs import memory
from purerl.runs.display import Display
from purerl.settings.schema import Config
from purerl.training import loop, mapping
from purerl.training.loop import Carry
from purerl.training.mapping import Numbers, Programs
from purerl.types import Constructor

Runs = list[tuple[int, int]]  # (setting, seed) of each run


def grouped(runs: Runs, size: int) -> list[Runs]:
    """Return `runs` in groups of `size`, which train one after another. The last group may be smaller."""
    return [runs[first : first + size] for first in range(0, len(runs), size)]


def num_devices(settings: Config, num_runs: int) -> int:
    """Return the number of devices over which `num_runs` are distributed.

    It is the smallest number that gives no device more runs than all devices would. Raises ValueError if `settings` ask
    for more devices than there are.
    """
    wanted, there = settings.keep.devices, jax.local_device_count()
    if isinstance(wanted, int) and wanted > there:
        raise ValueError(f"devices is {wanted}, but this machine has {there}; use at most {there}")
    at_once = min(settings.group_size, num_runs)
    most = -(-at_once // (wanted if isinstance(wanted, int) else there))
    return -(-at_once // most)


def programs_of(settings: Config, env: Environment, build: Constructor, num_runs: int) -> Programs:
    """Return the programs of `num_runs`, distributed over the devices that `settings` ask for."""
    mesh = mapping.mesh(num_devices(settings, num_runs))
    has_policy = settings.job.init_from is not None and "actor" in settings.job.init_parts
    warming_up = loop.exploring if has_policy else loop.at_random
    return mapping.programs(settings.plan, build, env, settings.hyper, settings.swept, mesh, warming_up=warming_up)


def numbers_of(settings: Config, runs: Runs) -> Numbers:
    """Return the hyperparameters of `runs`, (setting, seed) each, that are traced arrays."""
    return mapping.flowing(settings.hyper, settings.swept, [setting for setting, _ in runs])


def fit(settings: Config, programs: Programs, free: int, num_runs: int) -> tuple[Config, Programs, memory.Needs]:
    """Return `(settings, compiled, needs)`. A `seeds_per_batch` of "auto" becomes what fits into `free` bytes, or 1."""
    auto, size = settings.job.seeds_per_batch == "auto", min(settings.group_size, num_runs)
    if auto:
        size = memory.largest_group(at_least(settings, programs, size), settings.num_runs, free) or 1
    compiled, needs = compiled_for(settings, programs, size)
    if auto:
        fitting = memory.largest_group(needs, settings.num_runs, free) or 1
        if fitting < size:
            size = fitting
            compiled, needs = compiled_for(settings, programs, size)
        settings = replace(settings, job=replace(settings.job, seeds_per_batch=size))
    return settings, compiled, needs


def compiled_for(settings: Config, programs: Programs, size: int) -> tuple[Programs, memory.Needs]:
    """Return `(compiled, needs)` of `size` runs."""
    devices, rows = _rows(settings, programs, size)
    compiled = mapping.compiled(programs, numbers_of(settings, rows), len(rows))
    return compiled, memory.needs(compiled.known_carry, len(rows), compiled, devices)


def at_least(settings: Config, programs: Programs, size: int) -> memory.Needs:
    """Return what `size` runs need before anything is compiled. Working memory of the programs is not included."""
    devices, rows = _rows(settings, programs, size)
    return memory.needs(abstract_carry(settings, programs, size), len(rows), None, devices)


def abstract_carry(settings: Config, programs: Programs, size: int) -> Carry:
    """Return the abstract carry of a program for `size` runs, with as many rows as the program has."""
    rows = _rows(settings, programs, size)[1]
    return mapping.abstract_carry(programs, numbers_of(settings, rows), len(rows))


def _rows(settings: Config, programs: Programs, size: int) -> tuple[int, Runs]:
    """Return `(number of devices, runs)` of a program for `size` runs.

    The runs are repeated so that every device has the same number.
    """
    devices = programs.mesh.size if programs.mesh else 1
    rows = -(-size // devices) * devices
    return devices, (settings.runs * rows)[:rows]


def check_fits(settings: Config, needs: memory.Needs, free: int) -> None:
    """Raise DoesNotFit, with the settings that would fit, if `needs` are more than `free` bytes."""
    memory.check_memory(needs, settings.plan, settings.num_runs, free, settings.num_settings, not settings.pbt)


def plan(settings: Config, env: Environment, build: Constructor, display: Display) -> None:
    """Print the memory that the runs need, without allocating any. Raises DoesNotFit as `run` does."""
    free = memory.available(num_devices(settings, settings.num_runs))
    settings, _, needs = fit(settings, programs_of(settings, env, build, settings.num_runs), free, settings.num_runs)
    job, what = settings.job, "runs" if settings.swept else "seeds"
    runs = f"{settings.group_size} of {settings.num_runs} {what} at once"
    display.table(f"{job.algo} on {job.env}, {runs}: memory{memory.per_device(needs)}", memory.rows(needs, free))
    check_fits(settings, needs, free)


def expected(settings: Config, env: Environment, build: Constructor, free: int) -> tuple[Config, memory.Needs]:
    """Return `(settings, needs)` as `run` will find them with `free` bytes. It compiles only for "auto" groups."""
    programs = programs_of(settings, env, build, settings.num_runs)
    if settings.job.seeds_per_batch == "auto":
        settings, _, needs = fit(settings, programs, free, settings.num_runs)
        return settings, needs
    return settings, at_least(settings, programs, settings.group_size)
