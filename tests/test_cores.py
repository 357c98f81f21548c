"""A CPU's cores as devices that share the seeds."""

import os

import jax
import pytest
from commands import arguments, assert_same_run, start

from purerl import config, fitting, train

WORDS = arguments(algo="td3")  # three seeds


def trained(out, *more):
    """The exit status of the command line in a process of its own, and what it showed."""
    process = start(*WORDS, "--out", out, *more)
    shown = process.communicate(timeout=300)[0]
    return process.returncode, shown


def ran(out):
    return config.read(out / "run.toml")["record"]


@pytest.mark.parametrize("runs, there, used", [(3, 2, 2), (12, 8, 6), (64, 2, 2), (5, 4, 3), (1, 4, 1), (4, 1, 1)])
def test_no_more_devices_are_used_than_take_a_run_from_another(runs, there, used, monkeypatch):
    monkeypatch.setattr(jax, "local_device_count", lambda: there)
    settings = config.resolve({"env": "fast", "num_seeds": str(runs)})
    assert fitting.num_devices(settings, runs) == used


def test_all_cores_share_the_seeds_unless_said_otherwise(tmp_path, monkeypatch):
    alone = tmp_path / "alone"
    assert train.main([*WORDS, "--out", str(alone)]) == 0  # on one device, as conftest.py says
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for name, flags, devices in (("all", (), min(cores, 3)), ("one", ("--devices", "1"), 1)):
        status, shown = trained(tmp_path / name, *flags)
        assert status == 0, shown
        assert ran(tmp_path / name)["num_devices"] == devices
        assert_same_run(tmp_path / name, alone, rtol=1e-3)
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=3")
    status, shown = trained(tmp_path / "flag")
    assert status == 0 and ran(tmp_path / "flag")["num_devices"] == 3, shown


def test_where_jax_computes_already_nothing_changes(monkeypatch):
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES")
    code = "import jax; jax.devices(); from purerl import command; command.use_cores(); print(jax.local_device_count())"
    assert start(code=code).communicate(timeout=60)[0].strip() == "1"


def test_what_two_devices_began_goes_on_bit_for_bit_on_two_and_on_one_says_that_it_does_not(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    whole, cut, fewer = (tmp_path / name for name in ("whole", "cut", "fewer"))
    assert trained(whole)[0] == 0
    for out in (cut, fewer):
        assert trained(out, "--time-limit", "0.01")[0] == train.INTERRUPTED
    status, shown = trained(cut)
    assert status == 0 and "resumed after" in shown and "bit for bit" not in shown, shown
    assert_same_run(cut, whole)
    status, shown = trained(fewer, "--devices", "1")
    assert status == 0 and "not bit for bit as without the stop: devices was 2 and is 1" in shown, shown
    assert_same_run(fewer, whole, rtol=1e-3)


def test_groups_and_rings_that_are_filled_anew_do_on_two_devices_as_on_one(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    kept = ("--num-seeds", "6", "--seeds-per-batch", "3", "--checkpoint-ring", "false")  # two devices make 4 rows
    short = ("--time-limit", "0.001")
    assert train.main([*WORDS, *kept, *short, "--out", str(here)]) == train.INTERRUPTED
    assert train.main([*WORDS, *kept, "--out", str(here)]) == 0
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    assert trained(there, *kept, *short)[0] == train.INTERRUPTED
    status, shown = trained(there, *kept)
    assert status == 0 and "not exact" in shown, shown
    assert ran(there)["num_devices"] == 2
    assert_same_run(there, here, rtol=1e-3)
