"""A CPU's cores as devices that share the seeds."""

import os

import jax
import pytest
from commands import arguments, assert_same_run, start
from folders import ROOT

from purerl import train
from purerl.runs import fitting
from purerl.settings import config
from purerl.settings.schema import Plan
from purerl.training import mapping

WORDS = arguments(algo="td3")  # three seeds


def trained(out, *more):
    """The exit status of the command line in a process of its own, and what it showed."""
    process = start(*WORDS, "--out", out, *more)
    shown = process.communicate(timeout=300)[0]
    return process.returncode, shown


def ran(out):
    return config.read_toml(out / "run.toml")["record"]


@pytest.mark.parametrize("runs, there, used", [(3, 2, 2), (12, 8, 6), (64, 2, 2), (5, 4, 3), (1, 4, 1), (4, 1, 1)])
def test_no_more_devices_are_used_than_take_a_run_from_another(runs, there, used, monkeypatch):
    monkeypatch.setattr(jax, "local_device_count", lambda: there)
    settings = config.resolve({"env": "fast", "num_seeds": str(runs)})
    assert fitting.num_devices(settings, runs) == used


@pytest.mark.slow
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
    code = (
        "import jax; jax.devices(); from purerl.cli import startup; startup.use_cores(); "
        "print(jax.local_device_count())"
    )
    assert start(code=code).communicate(timeout=60)[0].strip() == "1"


@pytest.mark.slow
def test_what_two_devices_began_goes_on_bit_for_bit_on_two_and_on_one_says_that_it_does_not(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    whole, cut, fewer = (tmp_path / name for name in ("whole", "cut", "fewer"))
    assert trained(whole)[0] == 0
    for out in (cut, fewer):
        assert trained(out, "--time-limit", "0.01")[0] == train.INTERRUPTED
    status, shown = trained(cut)
    assert status == 0 and "resumed after" in shown and "bit-exact" not in shown, shown
    assert_same_run(cut, whole)
    status, shown = trained(fewer, "--devices", "1")
    assert status == 0 and "resuming is not bit-exact: devices was 2 and is 1" in shown, shown
    assert_same_run(fewer, whole, rtol=1e-3)


@pytest.mark.slow
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


KEEPS = """
import ctypes, threading, time
from benchmarks import training

class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "abcdefghij"]

libc, most = ctypes.CDLL("libc.so.6"), 0
libc.mallinfo2.restype = Mallinfo
plan = training.plan_of({steps}, widths=(256, 256), batch_size=256)
run = training.Training("td3", plan, 2)
before, training_thread = libc.mallinfo2().h, threading.Thread(target=run)
training_thread.start()
while training_thread.is_alive():
    most = max(most, libc.mallinfo2().h - before)
    time.sleep(0.01)
print(most)
"""


@pytest.mark.slow
def test_a_long_epoch_keeps_no_more_memory_than_a_short_one(monkeypatch):
    """YNNPACK would keep 55 kB an update and device: 40 MB more in the longer. Fewer updates end between two looks."""
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    monkeypatch.delenv("XLA_FLAGS")
    monkeypatch.chdir(ROOT)
    short, long = (
        int(start(code=KEEPS.replace("{steps}", steps)).communicate(timeout=300)[0].split()[-1])
        for steps in ("128", "512")
    )
    assert long < short + 10e6


CHECKPOINTS = """
import re, sys, threading, time
from pathlib import Path
import jax, numpy as np
from purerl.runs import checkpoints
from purerl.training import mapping
from purerl.training.loop import Carry

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1e3

def most(do):
    before, found, doing = anonymous(), [], threading.Thread(target=do)
    doing.start()
    while doing.is_alive():
        found.append(anonymous() - before)
        time.sleep(0.001)
    return max(found)

def restore():
    global carry
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((3, *x.shape[1:]), x.dtype), shapes)
    read = checkpoints.restore(manager, 1, like, {"files": {}})
    assert (read.ring == ring[:3]).all()
    carry = jax.block_until_ready(mapping.laid_out(mesh, jax.tree.map(lambda x: x[:2], read)))

mesh, manager = mapping.mesh(2), checkpoints.manager(sys.argv[1])
ring = np.arange(4 * 12_500_000, dtype=np.float32).reshape(4, -1)  # 200 MB; the last row is a copy to fill a device
empty = dict.fromkeys(Carry._fields, np.zeros((4, 0)))
carry = Carry(**empty | {"ring": ring, "diverged": np.full(4, -1, np.int32)})
carry = jax.block_until_ready(mapping.laid_out(mesh, carry))
shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), carry)
print(most(lambda: checkpoints.save(manager, 1, carry, 3, {}, 1)))
del carry
print(most(restore))
"""


def test_a_checkpoint_of_several_devices_is_written_and_read_without_a_copy_of_the_ring(tmp_path, monkeypatch):
    """What is read, 100 MB of it, is on the devices, and nowhere else; all of it in NumPy would be 150 MB more."""
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    process = start(tmp_path, code=CHECKPOINTS)
    shown = process.communicate(timeout=300)[0]
    assert process.returncode == 0, shown
    saving, restoring = map(float, shown.split()[-2:])
    assert saving < 30 and restoring < 150


def test_only_large_products_on_several_devices_of_a_cpu_do_without_ynnpack():
    large, small = (Plan(widths=(width, width), batch_size=256) for width in (256, 64))
    mesh = jax.make_mesh((1,), (mapping.RUNS,))
    without = {mapping.YNNPACK: ""} if mapping._knows(mapping.YNNPACK, "") else {}
    assert mapping.compiler_options(large, "cpu", mesh) == mapping.COMPILER_OPTIONS["cpu"] | without
    assert mapping.compiler_options(large, "cpu", None) == mapping.COMPILER_OPTIONS["cpu"]
    assert mapping.compiler_options(small, "cpu", mesh) == mapping.COMPILER_OPTIONS["cpu"]
    assert mapping.YNNPACK not in (mapping.compiler_options(large, "cuda", mesh) or {})
    assert not mapping._knows("xla_cpu_there_is_no_such_option", "")


@pytest.mark.parametrize("platform", ["cuda", "gpu"])
def test_a_gpu_merges_only_small_products_if_its_compiler_can_be_told(platform, monkeypatch):
    def options():
        return mapping.compiler_options(Plan(), platform, None)

    assert options() == {"xla_gpu_dot_merger_threshold_mb": "8"}
    monkeypatch.setattr(mapping, "_knows", lambda option, value: False)
    assert options() is None
