"""Whatever is typed at the command line or stands in a TOML file runs, or is refused in one line and leaves nothing."""

import contextlib
import io
import os
import tempfile
from collections import Counter
from pathlib import Path
from random import Random
from unittest import mock

import pytest
from commands import SMALL, arguments

from purerl import train
from purerl.results import run_folder
from purerl.settings import config

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")
given, settings = hypothesis.given, hypothesis.settings

NAMES = sorted(set().union(*(config.all_settings(algo) for algo in ("ddpg", "td3", "sac"))))
SMALL_NUMBERS = st.sampled_from(
    ["0", "1", "2", "3", "4", "5", "7", "8", "16", "40", "64", "100", "1e3", "-1", "1.5", "0.1"]
)
WORDS = """
    ddpg td3 sac fast nowhere generalized spring none true false relu tanh linear cosine exponential ou compact plain
    auto float16 bfloat16 tf32 bf16 csv jsonl tuned paper 8,8 8x8 64 0.99 1e-3 nan inf -inf 1e400 True None
    99999999999999999999
"""
CHOICES = st.sampled_from(WORDS.split())
GARBAGE = st.text(max_size=12).filter(lambda text: "\0" not in text)
VALUES = st.one_of(SMALL_NUMBERS, SMALL_NUMBERS, CHOICES, CHOICES, GARBAGE)
FLAGS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=2)
ODDITIES = (
    st.just([])
    | st.just([])
    | st.lists(
        st.one_of(
            GARBAGE,
            st.sampled_from(
                ["--", "-", "--algo", "--out", "--plan", "--resume", "--config", "--print-config=1", "--num-sed"]
            ),
            st.tuples(
                st.sampled_from(["--out", "--config", "--resume", "--time-limit", "--checkpoint-every"]), GARBAGE
            ),
        ),
        max_size=2,
    )
)
TOML_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), GARBAGE, st.sampled_from(["td3", "sac", "fast"])),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(NAMES), inner, max_size=2)),
    max_leaves=4,
)
FEW = dict(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck))


TALLY = Counter()


def outcome(words):
    """`(exit status, standard error, whether training would have begun)`, in an empty folder. Nothing may be left."""
    shown, begun = io.StringIO(), mock.Mock(return_value=0)
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(train, "train", begun):
        os.chdir(folder)
        try:
            with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(io.StringIO()):
                status = train.main(words)
        except SystemExit as end:
            status = end.code
        finally:
            left = sorted(path.name for path in Path(folder).iterdir())
            os.chdir(before)
    assert left == [] or left == ["given.toml"], left
    TALLY[status] += 1
    return status, shown.getvalue(), begun.called


def holds(status, shown, begun, words):
    """Nothing else may come out, of any input."""
    if status == 0:
        return
    assert status == 2 and not begun, (status, words)
    assert shown.startswith("error: ") and shown.count("\n") == 1 and len(shown) < 2000, (shown, words)


@settings(**FEW)
@given(flags=FLAGS, oddities=ODDITIES)
def test_flags_run_or_are_refused_in_one_line(flags, oddities):
    words = arguments(**flags) + [word for odd in oddities for word in (odd if isinstance(odd, tuple) else (odd,))]
    if {"-h", "--help"} & set(words):
        return
    with mock.patch.dict(os.environ, JAX_COMPILATION_CACHE_DIR="none"):
        holds(*outcome(words), words)


def test_the_fuzz_meets_both_outcomes():
    """Else the test above could not fail."""
    assert min(TALLY[0], TALLY[2]) > 20, TALLY


@settings(**FEW)
@given(table=st.dictionaries(st.sampled_from([*NAMES, "hyper", "record"]), TOML_VALUES, max_size=2))
def test_a_table_runs_or_is_refused_in_one_line(table):
    import tomli_w

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "given.toml"
        try:
            file.write_text(tomli_w.dumps(dict(SMALL) | table))
        except (TypeError, ValueError, UnicodeEncodeError):  # TOML has no such value.
            return
        with mock.patch.dict(os.environ, JAX_COMPILATION_CACHE_DIR="none"):
            words = ["--config", str(file)]
            holds(*outcome(words), words)


@settings(**(FEW | {"max_examples": 60}))
@given(content=st.binary(max_size=60))
def test_a_file_of_anything_runs_or_is_refused_in_one_line(content):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "given.toml"
        file.write_bytes(content)
        words = ["--config", str(file), *arguments()]
        with mock.patch.dict(os.environ, JAX_COMPILATION_CACHE_DIR="none"):
            holds(*outcome(words), words)


def accepted(number):
    """The first `number` of many flags drawn at random that are not refused."""
    dice, found = Random(0), []
    values = {
        "algo": ["ddpg", "td3", "sac"],
        "num_envs": ["1", "2", "4", "8"],
        "updates_per_step": ["1", "2", "3"],
        "n_step": ["1", "2", "5"],
        "widths": ["8", "8,8"],
        "ring": ["auto", "plain", "compact"],
        "ring_dtype": ["float32", "bfloat16", "float16"],
        "normalize_observations": ["true", "false"],
        "activation": ["relu", "gelu"],
        "num_evals": ["2", "3", "6"],
        "num_seeds": ["1", "2"],
        "eval_episodes": ["1", "3"],
        "max_grad_norm": ["none", "1"],
        "gamma": ["0", "0.9", "1"],
    }
    while len(found) < number:
        flags = {name: dice.choice(values[name]) for name in dice.sample(sorted(values), 5)}
        with contextlib.suppress(ValueError):
            config.resolve(SMALL | flags)
            found.append(flags)
    return found


@pytest.mark.parametrize(
    "flags",
    [pytest.param(flags, marks=[pytest.mark.slow] if i >= 1 else []) for i, flags in enumerate(accepted(6))],
    ids=lambda flags: " ".join(f"{k}={v}" for k, v in flags.items()),
)
def test_what_is_accepted_runs(flags, tmp_path):
    assert train.main([*arguments(**flags), "--out", str(tmp_path / "run")]) == 0
    assert run_folder.read_curves(tmp_path / "run")["env_step"].max() == 280
