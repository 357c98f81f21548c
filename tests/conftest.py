"""Configuration of all tests: a compilation cache, one device, and fast compilation.

Compiled programs are kept between test runs. A test that needs an empty cache makes its own. There is one device,
whatever the number of cores. The random number generator is that of the command line. So two runs give the same bits.
Tests that need more devices start processes. Tests run in parallel, so each process has one thread. XLA compiles
quickly rather than well, unless XLA_FLAGS is set: `XLA_FLAGS= pytest` tests what users compile.
"""

import importlib.metadata
import importlib.util
import os
import shutil
from pathlib import Path

os.environ["XLA_FLAGS"] = os.environ.get(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_multi_thread_eigen=false"
    # XLA of later versions does not know this flag, and aborts.
    + " --xla_cpu_use_fusion_emitters=false" * importlib.metadata.version("jaxlib").startswith(("0.9.", "0.10.")),
)
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["NPROC"] = "1"  # the number of XLA's threads
os.environ["JAX_NUM_CPU_DEVICES"] = "1"

import jax
import jaxtyping
import pytest

# If beartype is installed, all functions and records of these packages are checked against their annotations, including
# the shapes of arrays. Settings are left out, because they take text and check it themselves.
CHECKED = ("algorithms", "environments", "interface", "policies", "results", "runs", "sweeps", "training")
CHECKED += ("trees", "types")
if importlib.util.find_spec("beartype") is not None:
    jaxtyping.install_import_hook([f"purerl.{name}" for name in CHECKED], "beartype.beartype")

jax.config.update(
    "jax_compilation_cache_dir",
    os.environ.get("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "purerl" / "xla")),
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

# The slowest files, which start first. A worker runs one file after another.
LONG = """
    test_resume test_sweep test_misfit test_divergence test_learners test_loop test_brax test_train test_replay
    test_stretches test_fuzz test_hlo test_own_algorithm test_search test_code test_parity test_listeners test_probes
    test_notebooks test_interface test_benchmarks test_package test_run_folder test_memory test_tasks test_gymnax
    test_pbt test_networks test_launchers test_playground test_render test_cores test_episodes
"""


def pytest_configure():
    from purerl.training import threefry

    threefry.unroll()


def pytest_addoption(parser):
    """Accept the options of pytest-xdist in pyproject.toml if it is not installed, and ignore them."""
    if importlib.util.find_spec("xdist") is None:
        parser.addoption("--numprocesses")
        parser.addoption("--dist")
        parser.addoption("--no-loadscope-reorder", action="store_true")


def pytest_collection_modifyitems(items):
    rank = {name: place for place, name in enumerate(LONG.split())}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture
def one_turn_at_a_time(monkeypatch):
    """Let the device do one row, one cycle or 50 steps of an evaluation at a time."""
    from purerl.runs import clock

    monkeypatch.setattr(clock, "STRETCH", 0.0)


PROGRAMS = {}


@pytest.fixture(scope="module")
def shared_programs():
    """Share compiled programs between all runs of the same programs in tests of this process that use this fixture.

    It is for tests of the host's work. They must not change what is traced.
    """
    from purerl.runs import fitting
    from purerl.settings import registry
    from purerl.settings.kinds import flows
    from purerl.training import mapping

    programs_of, compiled = fitting.programs_of, mapping.compiled

    def shared_programs_of(settings, env, build, num_runs):
        job, spec = settings.job, registry.find_algorithm(settings.job.algo)
        if ":" in job.env + job.algo or job.env.endswith(".toml"):
            return programs_of(settings, env, build, num_runs)  # It belongs to a test, which may change it.
        hyper = {name: None if flows(value) else value for name, value in vars(settings.hyper).items()}
        devices, environment = fitting.num_devices(settings, num_runs), (job.env, job.backend, job.episode_length)
        start = (job.init_from is not None, job.init_parts)
        key = repr((id(spec), environment, settings.plan, hyper, sorted(settings.swept), devices, start))
        if key not in PROGRAMS:
            PROGRAMS[key] = spec, programs_of(settings, env, build, num_runs)
        return PROGRAMS[key][1]

    def shared_compiled(programs, numbers, num_runs):
        key = id(programs.cycles), num_runs
        if key not in PROGRAMS:
            PROGRAMS[key] = programs, compiled(programs, numbers, num_runs)
        return PROGRAMS[key][1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fitting, "programs_of", shared_programs_of)
        patched.setattr(mapping, "compiled", shared_compiled)
        yield


@pytest.fixture
def own_programs(shared_programs):
    """Give a test its own programs, because it changes what is traced."""
    shared = dict(PROGRAMS)
    PROGRAMS.clear()
    yield
    PROGRAMS.clear()
    PROGRAMS.update(shared)


PENDULUMS = {
    "td3": {"algo": "td3", "normalize_observations": "true", "layer_norm": "true", "widths": "16,8"},
    "sac": {"algo": "sac", "activation": "gelu"},
    "ddpg": {"algo": "ddpg", "activation": "swish", "normalize_observations": "true"},
}


@pytest.fixture(scope="session")
def pendulums(tmp_path_factory):
    """Return `{algo: folder}` of three short runs of Pendulum-v1, whose actions are torques of ± 2, in one folder.

    The first process that needs them trains them for all processes. Each process has a copy.
    """
    from commands import arguments
    from filelock import FileLock

    from purerl import train

    base, mine = tmp_path_factory.getbasetemp(), tmp_path_factory.mktemp("pendulums")
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "pendulums"
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            partial = shared.with_suffix(".partial")
            for name, more in PENDULUMS.items():
                assert train.main([*arguments(env="Pendulum-v1", **more), "--out", str(partial / name)]) == 0
            partial.rename(shared)
    shutil.copytree(shared, mine, dirs_exist_ok=True)
    return {name: mine / name for name in PENDULUMS}
