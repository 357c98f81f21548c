"""The random generator that a CPU is given: JAX's numbers to the bit."""

import os
import subprocess
import sys

import jax.numpy as jnp
import pytest

from purerl.training.threefry import threefry2x32


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers(counter, key, expected):
    """From Random123's tests, the authors' library (kat_vectors, threefry2x32 of 20 rounds)."""
    numbers = [jnp.uint32(x) for x in (*key, *counter)]
    assert tuple(int(x) for x in threefry2x32(*numbers)) == expected


DRAW = """
import jax, numpy as np
from purerl.training import threefry
if {unrolled}: threefry.unroll()
def draw(key):
    keys = jax.random.split(key, 3)
    return jax.random.normal(keys[0], (7, 3)), jax.random.randint(keys[1], (11,), 0, 1000), jax.random.bits(keys[2])
text = jax.jit(draw).lower(jax.random.key(0)).as_text()
drawn = [draw(jax.random.key(5)), jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(6), 4))]
print("stablehlo.while" in text, [np.asarray(x).tolist() for x in jax.tree.leaves(drawn)])
"""


def test_every_number_is_jaxs_own():
    def draw(unrolled):
        return subprocess.run(
            [sys.executable, "-c", DRAW.format(unrolled=unrolled)], capture_output=True, text=True, check=True
        ).stdout.split(" ", 1)

    (looped, own), (straight, numbers) = draw(False), draw(True)
    assert (looped, straight) == ("True", "False")
    assert own == numbers


COMPILE = """
import jax, jax.numpy as jnp
from purerl.training import threefry
threefry.unroll()
def start(key, number):
    return jax.random.uniform(jax.random.fold_in(key, number), (2,))[0]
jax.jit(lambda key: jax.vmap(start, (None, 0))(key, jnp.arange(64))).lower(jax.random.key(0)).compile()
"""


@pytest.mark.smoke
def test_a_number_drawn_per_index_is_compiled_in_seconds():
    """Without the barrier in `threefry2x32`, jaxlib 0.11.2 and 0.12.0 do not end."""
    optimized = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", COMPILE], env=optimized, check=True, timeout=120)
