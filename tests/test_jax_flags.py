"""JAX's global flags: a command line computes the same under all of them, Python code gets one line."""

import os
import subprocess
import sys
from contextlib import contextmanager

import jax
import pytest
from commands import arguments, assert_same_run

from purerl import environments, jax_flags


@contextmanager
def said(**flags):
    """JAX's flags set so meanwhile."""
    before = {name: getattr(jax.config, name) for name in flags}
    for name, value in flags.items():
        jax.config.update(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


WRONG = {
    "jax_enable_x64": True,
    "jax_disable_jit": True,
    "jax_no_tracing": True,
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_random_seed_offset": 3,
    "jax_legacy_prng_key": "error",
    "jax_debug_key_reuse": True,
    "jax_debug_nans": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_transfer_guard_host_to_device": "disallow",
}


@pytest.mark.parametrize(("name", "value"), WRONG.items())
def test_a_command_line_sets_a_flag_as_it_needs_it_and_says_so_in_one_line(capsys, name, value):
    with said(**{name: value}):
        jax_flags.settle()
        err = capsys.readouterr().err
        assert err.startswith(f"note: {name.upper()} is {value}; this command sets it to ") and err.count("\n") == 1
        jax_flags.settle()
        assert capsys.readouterr().err == ""


def test_a_guard_of_all_transfers_is_named_once(capsys):
    guards = [flag.name for flag in jax_flags.FLAGS if flag.name.startswith("jax_transfer_guard")]
    with said(**{name: getattr(jax.config, name) for name in guards}):
        jax.config.update("jax_transfer_guard", "disallow")
        jax_flags.settle()
        err = capsys.readouterr().err
    assert err.count("\n") == 1 and "JAX_TRANSFER_GUARD is disallow" in err


def test_flags_that_change_no_number_are_left_alone(capsys):
    harmless = {"jax_log_compiles": True, "jax_transfer_guard": "log", "jax_numpy_rank_promotion": "warn"}
    with said(**harmless, jax_default_matmul_precision="bfloat16", jax_check_tracer_leaks=True):
        jax_flags.settle()
        jax_flags.check_flags()
        assert jax.config.jax_log_compiles and jax.config.jax_numpy_rank_promotion == "warn"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", [flag.name for flag in jax_flags.FLAGS if flag.refused and flag.name in WRONG])
def test_from_python_an_environment_is_refused_in_one_line_that_names_the_flag(name):
    with said(**{name: WRONG[name]}), pytest.raises(ValueError, match=f"env 'fast': JAX's flag {name} is ") as caught:
        environments.make("fast")
    assert "\n" not in str(caught.value) and f"unset {name.upper()}" in str(caught.value)


def test_from_python_one_may_draw_other_numbers_and_look_for_infinities():
    with said(jax_threefry_partitionable=False, jax_random_seed_offset=3, jax_debug_infs=True):
        jax_flags.check_flags()


def test_an_environment_whose_module_sets_a_flag_is_refused(tmp_path, monkeypatch):
    (tmp_path / "in_64_bits.py").write_text("import jax\njax.config.update('jax_enable_x64', True)\nx = 1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with said(jax_enable_x64=False), pytest.raises(ValueError, match=r"whose module sets it: JAX's flag jax_enable_x"):
        environments.make("in_64_bits:Env")


def test_a_vector_environment_is_refused_as_well():
    from purerl import VectorEnv

    with said(jax_enable_x64=True), pytest.raises(ValueError, match="purerl computes in 32 bits"):
        VectorEnv("Pendulum-v1", num_envs=2)


def trained(folder, **flags):
    """`(exit status, stderr)` of the small run as a process of its own, with more in its environment."""
    command = [sys.executable, "-m", "purerl.train", *arguments(env="Pendulum-v1"), "--out", str(folder)]
    ended = subprocess.run(command, env=os.environ | flags, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stderr


@pytest.mark.slow
def test_a_run_under_all_flags_is_the_run_under_none(tmp_path):
    names = {name.upper(): str(value) for name, value in WRONG.items() if "guard" not in name}
    names |= {"JAX_TRANSFER_GUARD": "disallow"}  # Those of one direction are not read from the environment.
    assert trained(tmp_path / "none") == (0, "")
    status, said = trained(tmp_path / "all", **names, JAX_DEFAULT_MATMUL_PRECISION="bfloat16")
    assert status == 0 and said.count("\n") == len(names) == said.count("note: "), said
    assert_same_run(tmp_path / "none", tmp_path / "all")


@pytest.mark.parametrize("platform", ["cuda", "nonsense"])
def test_a_platform_that_is_not_there_is_named_in_one_line(tmp_path, platform):
    status, said = trained(tmp_path / "run", JAX_PLATFORMS=platform)
    assert (
        status == 2
        and said.startswith(f"error: JAX_PLATFORMS is '{platform}', which is not available here: ")
        and said.count("\n") == 1
    )
    assert not (tmp_path / "run").exists()
