"""`docs/kept_runs.py`: the tables of the pages on results."""

import importlib
import sys

import numpy as np
import pytest
from folders import ROOT, write_run

sys.path.insert(0, str(ROOT / "docs"))
kept_runs = importlib.import_module("kept_runs")


@pytest.mark.parametrize("page", kept_runs.TABLES)
def test_the_tables_of_the_results_are_those_of_the_kept_runs(page):
    shown = (kept_runs.DOCS / page).read_text()
    assert shown == kept_runs.written(page), "results/ has changed; run python docs/kept_runs.py"


def write_reacher(path, steps, **settings):
    """Write five seeds of a run of the preset `paper`, evaluated after `steps`."""
    paper = {"preset": "paper", "episode_length": 50, "initialization": "pytorch"}
    paper |= {"total_steps": 101_000, "num_evals": 2}
    return write_run(path, steps, np.ones((len(steps), 5)), env="Reacher-v5", **paper | settings)


@pytest.mark.parametrize(
    ("steps", "settings", "seeds", "flags"),
    [
        ([0, 101_000], {}, "5 to 9", "--num-seeds 5 --seed 5 --total-steps 101000 --num-evals 2"),
        ([0, 101_000], {"eval_episodes": 3}, "5 to 9", "--num-evals 2 --eval-episodes 3"),
        ([0, 505_000], {"total_steps": 1_010_000}, "5 to 9", "--total-steps 101000 --num-evals 21"),
        pytest.param([0, 50_000], {}, "0 to 9", "--num-seeds 10 --seed 0", id="stopped early"),
        ([0, 101_000], {"initialization": "small"}, "0 to 9", "--num-seeds 10 --seed 0"),
    ],
)
def test_missing_seeds_are_trained_as_those_that_are_there(steps, settings, seeds, flags, tmp_path, monkeypatch):
    run = write_reacher(tmp_path / "run", steps, **settings)
    monkeypatch.setattr(kept_runs, "frames", lambda: kept_runs.kinds(run))
    (row,) = (row for row in kept_runs.missing().splitlines() if row.startswith("| `Reacher-v5` | TD3 |"))
    assert row.startswith(f"| `Reacher-v5` | TD3 | {seeds} | 101,000 |") and flags in row


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"batch_size": 100}, "batch_size 100 instead of 256"),
        ({"hyper": {"tau": 0.01}}, "tau 0.01 instead of 0.005"),
        ({"preset": "tuned"}, "preset tuned instead of paper"),
    ],
)
def test_a_run_with_other_settings_is_none_of_the_preset_paper(changed, said, tmp_path):
    run = write_reacher(tmp_path / "run", [0, 101_000], **changed)
    with pytest.raises(ValueError, match=f"differs from the preset paper: {said}; move it"):
        kept_runs.kinds(run)


def test_a_verdict_says_how_many_seeds_it_leaves_out(tmp_path):
    run = write_reacher(tmp_path / "run", [0, 50_000, 101_000])
    rows = (run / "curves.csv").read_text().splitlines()
    (run / "curves.csv").write_text("\n".join(rows[:-3]) + "\n")
    assert kept_runs.judged(*kept_runs.kinds(run)).seeds == "5 (3 unfinished)"


def test_an_older_run_needs_one_that_was_made_again(tmp_path, monkeypatch):
    older, again, short = (
        [kept_runs.judged(frame) for frame in kept_runs.kinds(write_reacher(tmp_path / name, steps))]
        for name, steps in (("older", [0, 101_000]), ("again", [0, 101_000]), ("short", [0, 50_000]))
    )
    monkeypatch.setattr(kept_runs, "older_judgements", lambda: older)
    monkeypatch.setattr(kept_runs, "judgements", lambda: again)
    assert "`Reacher-v5` | TD3 | 1.00 (1.00 to 1.00); 5 seeds, `pytorch`" in kept_runs.again()
    monkeypatch.setattr(kept_runs, "judgements", lambda: short)
    with pytest.raises(ValueError, match="older/Reacher-v5-td3 has no run that was made again"):
        kept_runs.again()
