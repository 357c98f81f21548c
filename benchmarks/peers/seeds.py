"""Map a peer's own function over seeds, as purerl does: over the cores, and over the seeds of a core."""

from math import gcd

import jax

from purerl.cli.startup import use_cores


class Seeds:
    """Maps functions over seeds. The leading axes of their arguments are `[cores, seeds of a core]`.

    A single seed has no such axes.
    """

    def __init__(self, number):
        use_cores()
        self.number = number

    def map(self, function, **how):
        """Return `function`, compiled and mapped. `how` has arguments of `jax.jit`."""
        return jax.pmap(jax.vmap(function), **how) if self.number > 1 else jax.jit(function, **how)

    def keys(self):
        """Return the keys of the seeds."""
        keys = jax.random.split(jax.random.PRNGKey(0), self.number)
        return keys.reshape(gcd(self.number, jax.local_device_count()), -1, 2) if self.number > 1 else keys[0]

    def first(self, x):
        """Return the value of the first seed."""
        return x[0, 0] if self.number > 1 else x
