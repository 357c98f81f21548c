"""Compiled programs are kept between runs of the tests; a test that needs a clean cache makes its own.

There is one device, whatever the cores, and the command lines' random generator, so that the bits of a run are those
of another; tests start processes of more devices. Tests run side by side, so each process has one thread, and XLA
compiles fast rather than well, unless XLA_FLAGS says how: `XLA_FLAGS= pytest` tests what users compile.
"""

import importlib.util
import os
import shutil
from pathlib import Path

os.environ["XLA_FLAGS"] = os.environ.get(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_multi_thread_eigen=false",
)
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["NPROC"] = "1"  # as many threads has XLA
os.environ["JAX_NUM_CPU_DEVICES"] = "1"

import jax
import jaxtyping
import pytest

# Where beartype is installed, every function and record of these packages is checked against its annotations, arrays
# with their shapes. Settings are left out: they take text, and check it themselves.
CHECKED = ("algorithms", "environments", "policies", "results", "runs", "sweeps", "training", "trees", "types")
if importlib.util.find_spec("beartype") is not None:
    jaxtyping.install_import_hook([f"purerl.{name}" for name in CHECKED], "beartype.beartype")

jax.config.update(
    "jax_compilation_cache_dir",
    os.environ.get("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "purerl" / "xla")),
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

# The files that take longest, which are begun first: a worker takes one after the other.
LONG = """
    test_resume test_sweep test_misfit test_divergence test_learners test_loop test_brax test_train test_replay
    test_stretches test_fuzz test_hlo test_own_algorithm test_search test_code test_parity test_listeners test_probes
    test_notebooks test_benchmarks test_package test_run_folder test_memory test_tasks test_gymnax test_pbt
    test_networks test_launchers test_playground test_render test_cores test_episodes
"""


def pytest_configure():
    from purerl.training import threefry

    threefry.unroll()


def pytest_addoption(parser):
    """Where pytest-xdist is not installed, the options that pyproject.toml gives it mean nothing."""
    if importlib.util.find_spec("xdist") is None:
        parser.addoption("--numprocesses")
        parser.addoption("--dist")
        parser.addoption("--no-loadscope-reorder", action="store_true")


def pytest_collection_modifyitems(items):
    rank = {name: place for place, name in enumerate(LONG.split())}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture
def one_turn_at_a_time(monkeypatch):
    """The device does one row, one cycle or 50 steps of an evaluation at a time."""
    from purerl.runs import clock

    monkeypatch.setattr(clock, "STRETCH", 0.0)


PROGRAMS = {}


@pytest.fixture(scope="module")
def shared_programs():
    """Runs of the same programs share them, compiled, with all tests of this process that ask for this fixture.

    It is for tests of what the host does: they must not change what is traced.
    """
    from purerl.runs import fitting
    from purerl.settings import registry
    from purerl.settings.kinds import flows
    from purerl.training import mapping

    programs_of, compiled = fitting.programs_of, mapping.compiled

    def shared_programs_of(settings, env, build, num_runs):
        job, spec = settings.job, registry.find_algorithm(settings.job.algo)
        if ":" in job.env + job.algo or job.env.endswith(".toml"):
            return programs_of(settings, env, build, num_runs)  # A test's own, which it may change.
        hyper = {name: None if flows(value) else value for name, value in vars(settings.hyper).items()}
        devices, environment = fitting.num_devices(settings, num_runs), (job.env, job.backend, job.episode_length)
        key = repr((id(spec), environment, settings.plan, hyper, sorted(settings.swept), devices))
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
    """This test changes what is traced, so that its programs are its own."""
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
    """`{algo: folder}` of three short runs of Pendulum-v1, whose actions are torques of ± 2, in one folder.

    The first process that needs them trains them for all; each has a copy.
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
