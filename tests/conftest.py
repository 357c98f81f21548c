"""Compiled programs are kept between runs of the tests; a test that needs a clean cache makes its own.

There is one device, whatever the cores, and the command lines' random generator, so that the bits of a run are those
of another; tests start processes of more devices.
"""

import os
from pathlib import Path

os.environ["JAX_NUM_CPU_DEVICES"] = "1"

import jax
import pytest
from commands import arguments

from purerl.training import threefry

threefry.unroll()

jax.config.update(
    "jax_compilation_cache_dir",
    os.environ.get("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "purerl" / "xla")),
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


@pytest.fixture
def one_turn_at_a_time(monkeypatch):
    """The device does one row, one cycle or 50 steps of an evaluation at a time."""
    from purerl.runs import clock

    monkeypatch.setattr(clock, "STRETCH", 0.0)


PENDULUMS = {
    "td3": {"algo": "td3", "normalize_observations": "true", "layer_norm": "true", "widths": "16,8"},
    "sac": {"algo": "sac", "activation": "gelu"},
    "ddpg": {"algo": "ddpg", "activation": "swish", "normalize_observations": "true"},
}


@pytest.fixture(scope="session")
def pendulums(tmp_path_factory):
    """`{algo: folder}` of three short runs of Pendulum-v1, whose actions are torques of ± 2."""
    from purerl import train

    folders = {}
    for name, more in PENDULUMS.items():
        folders[name] = tmp_path_factory.mktemp("pendulums") / name
        assert train.main([*arguments(env="Pendulum-v1", **more), "--out", str(folders[name])]) == 0
    return folders
