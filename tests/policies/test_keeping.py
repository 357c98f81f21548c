"""A kept run holds its settings, its curves and some of its policies."""

import shutil

import numpy as np
import pytest
from commands import arguments, refusal_of
from folders import KEPT

from purerl import keep, train
from purerl.policies import load
from purerl.results import choice, run_folder

pytestmark = pytest.mark.usefixtures("shared_programs")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    assert train.main([*arguments(num_seeds="5", normalize_observations="true"), "--out", str(path)]) == 0
    return path


def kept(run, out, *more):
    assert keep.main([str(run), "--out", str(out), *more]) == 0
    return out


def test_the_best_the_median_and_the_worst_policy_are_kept_and_act_as_before(run, tmp_path, capsys):
    out = kept(run, tmp_path / "new" / "kept")
    there, here = load.read_policies(run), load.read_policies(out)
    states = np.random.default_rng(0).normal(size=(4, there.obs_size)).astype(np.float32)
    names = set()
    for which in choice.CHOICES:
        old, new = choice.choose(there, which), choice.choose(here, which)
        assert there.name(old) == here.name(new)
        np.testing.assert_array_equal(there.function(old)(states), here.function(new)(states))
        names.add(there.name(old))
    assert len(here.env_step) == len(names) == 3
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)
    assert sorted(file.name for file in out.rglob("*") if file.is_file()) == ["actor.npz", "curves.csv", "run.toml"]
    for name in ("run.toml", "curves.csv"):
        assert (out / name).read_bytes() == (run / name).read_bytes()


@pytest.mark.parametrize(("which", "seeds"), [("all", [5, 6, 7, 8, 9]), ("8,6", [6, 8]), ("none", [])])
def test_policies_are_chosen_by_name(run, which, seeds, tmp_path, capsys):
    out = kept(run, tmp_path / "kept", "--policies", which)
    assert (out / run_folder.POLICY).is_file() is bool(seeds)
    if seeds:
        assert load.read_policies(out).final["seed"].tolist() == seeds
    assert f"MB, with {'the policies of' if seeds else 'no policy'}" in capsys.readouterr().out


def test_policies_of_an_older_version_keep_their_seeds(tmp_path):
    there = load.read_policies(KEPT)
    out = kept(KEPT, tmp_path / "kept", "--policies", "worst")
    assert load.read_policies(out).final["seed"] == there.final["seed"][choice.choose(there, "worst")]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--policies", "best,11"], "there is no seed '11'"),
        (["--policies", "first"], "there is no seed 'first'"),
        (["--policies", ","], "policies is ','; use all, none, or a list"),
        (["--policies", "none,best"], "policies is 'none,best'; use all, none, or a list"),
        (["--setting", "3"], "there is no setting 3"),
        (["--setting", "3", "--policies", "none"], "there is no setting 3 in"),
    ],
)
def test_what_is_not_there_is_refused_and_nothing_is_written(run, more, said, tmp_path, capfd):
    assert said in refusal_of(capfd, keep, str(run), "--out", str(tmp_path / "kept"), *more)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_and_a_run_without_policies_are_refused(run, tmp_path, capfd):
    assert "exists; name a new folder" in refusal_of(capfd, keep, str(run), "--out", str(run))
    assert "is not a run folder" in refusal_of(capfd, keep, str(tmp_path), "--out", str(tmp_path / "kept"))
    assert "is not a run folder" in refusal_of(capfd, keep, str(tmp_path), "--policies", "none", "--out", "kept")
    (tmp_path / "file").touch()
    assert "exists; name a new folder" in refusal_of(capfd, keep, str(run), "--out", str(tmp_path / "file"))
    damaged = shutil.copytree(run, tmp_path / "damaged")
    (damaged / "curves.csv").write_text("seed\n1,2\n")
    words = ["--policies", "none", "--out", str(tmp_path / "kept")]
    assert "curves.csv" in refusal_of(capfd, keep, str(damaged), *words)
    bare = shutil.copytree(run, tmp_path / "bare")
    shutil.rmtree(bare / "policy")
    shutil.rmtree(bare / "checkpoints")
    assert "has saved no policy yet" in refusal_of(capfd, keep, str(bare), "--out", str(tmp_path / "kept"))
