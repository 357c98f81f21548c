"""What a run needs of memory is known before it is taken, and what fits is said."""

import re
from dataclasses import replace

import jax
import pytest
from commands import arguments, assert_same_run, prepared

from purerl import train
from purerl.runs import fitting, memory
from purerl.settings import config
from purerl.settings.schema import Plan
from purerl.training import mapping

pytestmark = pytest.mark.usefixtures("shared_programs")

MIB = 2**20
NEEDS = memory.Needs(
    64, ring=640 * MIB, networks=64 * MIB, optimiser=64 * MIB, environments=0, other=0, training=64 * MIB
)
PLAN = Plan(num_envs=16, buffer_size=1_000_000, batch_size=256)


def needs_of(**changes):
    settings, programs, numbers = prepared(**changes)
    num_seeds = settings.job.num_seeds
    return memory.needs(mapping.abstract_carry(programs, numbers, num_seeds), num_seeds)


def test_the_parts_of_the_carry_by_hand():
    """TD3 on 2 observed numbers with one hidden layer of 8: the actor has 33 parameters, the two critics 2 x 41."""
    needs = needs_of(ring="plain")
    numbers = 2 * 8 + 8 + 8 + 1, 2 * (3 * 8 + 8 + 8 + 1)
    assert needs.networks == 3 * 4 * 2 * sum(numbers)  # and their targets
    assert needs.optimiser == 3 * 4 * (2 * sum(numbers) + 2)  # two moments, and two counts
    assert needs.ring == 3 * 4 * 200 * (2 + 1 + 1 + 1 + 2)
    assert needs.carry == needs.networks + needs.optimiser + needs.ring + needs.environments + needs.other


def test_what_is_needed_grows_with_the_seeds():
    few, many = needs_of(num_seeds="2"), needs_of(num_seeds="6")
    assert many.carry == 3 * few.carry


def test_the_total_is_the_carry_and_the_hungriest_of_the_programs():
    assert NEEDS.total == 832 * MIB and NEEDS.per_run == 13 * MIB
    assert replace(NEEDS, evaluating=100 * MIB).total == 868 * MIB


def test_of_several_devices_the_bytes_are_of_each_and_what_a_seed_needs_is_of_all():
    spread = replace(NEEDS, num_devices=2)
    assert dict(memory.rows(NEEDS, 0))["ring"] == "640.00 MiB, 10.000 per seed"
    assert dict(memory.rows(spread, 0))["ring"] == "640.00 MiB, 20.000 per seed"
    assert memory.line(NEEDS, 2**30) == "memory: 0.81 GiB of 1.00, ring 0.62"
    assert memory.line(spread, 2**30).startswith("memory on each of 2 devices: 0.81 GiB")


def test_what_fits_is_said_when_the_whole_does_not():
    memory.check_memory(NEEDS, PLAN, 64, 832 * MIB)
    with pytest.raises(memory.DoesNotFit) as refused:
        memory.check_memory(NEEDS, PLAN, 64, 416 * MIB)
    said = str(refused.value)
    assert "64 seeds at once need 0.81 GiB, 0.013 each, but 0.41 GiB are available" in said
    assert "--num-seeds 32" in said and "--seeds-per-batch auto, which trains 32 at once" in said
    buffer = int(re.search(r"--buffer-size (\d+)", said)[1])
    assert buffer % 16 == 0
    for size, fits in ((buffer, True), (buffer + 16, False)):
        smaller = replace(NEEDS, ring=640 * MIB * size // 1_000_000)
        assert (smaller.total <= 416 * MIB) == fits


def test_what_is_said_to_fit_may_be_said():
    """Of 256 seeds 64 train at once: a group is smaller, whatever the seeds; a population has no groups."""
    for num_runs, more, said in ((256, {}, "--seeds-per-batch 32"), (64, {"in_groups": False}, "--num-seeds 32")):
        with pytest.raises(memory.DoesNotFit) as refused:
            memory.check_memory(NEEDS, PLAN, num_runs, 416 * MIB, **more)
        ways = str(refused.value).partition("what fits: ")[2]
        assert ways.split("; ")[0 if more else -1] == said and len(ways.split("; ")) == 2
    before = replace(NEEDS, training=0)  # what is known before anything is compiled
    with pytest.raises(memory.DoesNotFit, match="at most, minus the working memory of the programs: --num-seeds 34"):
        memory.check_memory(before, PLAN, 64, 416 * MIB)


def test_where_nothing_fits_that_is_said():
    with pytest.raises(memory.DoesNotFit, match="not even one seed fits"):
        memory.check_memory(NEEDS, PLAN, 64, MIB)


def test_a_group_is_the_largest_divisor_that_fits():
    assert [memory.largest_group(NEEDS, seeds, 13 * 20 * MIB) for seeds in (64, 60, 61, 20)] == [16, 20, 1, 20]
    assert memory.largest_group(NEEDS, 64, 12 * MIB) == 0


def test_a_run_that_does_not_fit_leaves_nothing_and_says_so_in_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(memory, "available", lambda num_devices: 20_000)
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as refused:
        train.main([*arguments(algo="td3"), "--out", str(out)])
    shown = capfd.readouterr().err
    assert refused.value.code == 2 and shown.startswith("error: 3 seeds at once need") and shown.count("\n") == 1
    assert not out.exists() and list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_auto_groups_seeds_as_memory_allows_and_the_results_stay(tmp_path, monkeypatch):
    plenty, little = tmp_path / "plenty", tmp_path / "little"
    seeds = arguments(algo="td3", num_seeds="6", seeds_per_batch="auto")
    assert train.main([*seeds, "--out", str(plenty)]) == 0
    assert config.resolve({}, plenty / "run.toml").job.seeds_per_batch == 6
    settings, programs, _ = prepared(num_seeds="6")
    needs = fitting.compiled_for(settings, programs, 6)[1]
    monkeypatch.setattr(memory, "available", lambda num_devices: int(needs.per_run * 3.5))
    assert train.main([*seeds, "--out", str(little)]) == 0
    assert config.resolve({}, little / "run.toml").job.seeds_per_batch in (2, 3)
    assert_same_run(plenty, little, rtol=1e-5)
    with pytest.raises(SystemExit):  # auto is what it was, and the run is complete
        train.main([*seeds, "--out", str(little)])


def test_the_plan_is_shown_and_nothing_is_made(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert train.main([*arguments(algo="sac"), "--plan"]) == 0
    shown = capfd.readouterr().out
    assert all(
        name in shown for name in ("ring", "networks", "optimiser", "environments", "while training", "available")
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("error:Some donated buffers")
def test_more_evaluations_than_episodes_begin_from_give_no_warning():
    settings, programs, _ = prepared(eval_episodes="70")
    fitting.compiled_for(settings, programs, 3)


def test_the_prediction_is_that_of_the_compiled_programs():
    settings, programs, numbers = prepared()
    compiled, needs = fitting.compiled_for(settings, programs, 3)
    carry = compiled.run_warm_up(numbers, mapping.keys(0, 3))
    assert needs.carry == sum(x.nbytes for x in jax.tree.leaves(carry))
    assert needs.starting >= 0 and needs.evaluating > 0
    assert needs.training >= compiled.cycles.memory_analysis().temp_size_in_bytes > 0
