"""Compiled programs are kept between runs of the tests; a test that needs a clean cache makes its own."""

import os
from pathlib import Path

import jax

jax.config.update(
    "jax_compilation_cache_dir",
    os.environ.get("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "purerl" / "xla")),
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
