"""Compare the predicted with the measured peak of memory, at several sizes, each in a separate process.

`python -m benchmarks.memory` prints a table and adds to results/memory.csv. On a GPU the peak is that of the allocator.
On a CPU, where each core is a device, it is the growth of the process during training. So only sizes far above a few
MiB are meaningful there.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import jax

from benchmarks import table
from benchmarks.training import mesh_for, plan_of, walk
from purerl.algorithms import td3
from purerl.runs import memory
from purerl.training import mapping

SIZES = ((8, 500_000, 16), (8, 1_000_000, 16), (16, 1_000_000, 1))  # seeds, buffer_size, num_envs


def status(name):
    """Return a figure of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def measured(num_seeds, buffer_size, num_envs):
    """Return `(predicted, measured)` bytes of a short training."""
    plan = plan_of(16 * num_envs, num_envs, warmup_steps=512, buffer_size=buffer_size)
    hyper = td3.Hyper()
    mesh = mesh_for(num_seeds)
    num_devices = mesh.size if mesh else 1
    programs = mapping.programs(plan, td3.td3, walk(), hyper, mesh=mesh)
    numbers = mapping.laid_out(mesh, mapping.flowing(hyper))
    keys = jax.block_until_ready(mapping.laid_out(mesh, mapping.keys(0, num_seeds)))
    compiled = mapping.compiled(programs, numbers, num_seeds)
    needs = memory.needs(compiled.carry, num_seeds, compiled, num_devices)
    device, stats = jax.devices()[0], jax.devices()[0].memory_stats()
    if not stats:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = status("VmRSS")
    carry = compiled.run_warm_up(numbers, keys)
    jax.block_until_ready(compiled.run_evaluation(numbers, carry, 0))
    jax.block_until_ready(compiled.run_epoch(numbers, carry, 0))
    if stats:
        return needs.total, device.memory_stats()["peak_bytes_in_use"]
    return needs.total * num_devices, status("VmHWM") - before


def main(arguments=None):
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(arguments)
    rows = []
    for size in SIZES:
        code = f"from benchmarks.memory import measured; print(*measured{size})"
        shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        predicted, peak = map(int, shown.split())
        print(f"{size[0]:>3} seeds x {size[1]:>9,} transitions, {size[2]:>2} envs:", end=" ")
        print(f"predicted {predicted / 2**20:,.1f} MiB, measured {peak / 2**20:,.1f} MiB, ratio {predicted / peak:.3f}")
        rows.append((*size, predicted, peak, f"{predicted / peak:.4f}"))
    table.add("memory", ("num_seeds", "buffer_size", "num_envs", "predicted", "measured", "ratio"), rows)


if __name__ == "__main__":
    main()
