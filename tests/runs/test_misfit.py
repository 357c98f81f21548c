"""A checkpoint that does not fit the program is refused, and nothing is lost by trying."""

import hashlib
import json
import os
import shutil
import sys

import changing
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tomli_w
from commands import SMALL, arguments, assert_same_run, cut_after, start
from folders import ROOT
from test_resume import refusal

from purerl import environments, sweep, train
from purerl.results import run_folder
from purerl.runs import checkpoints, fingerprint, runner
from purerl.settings import config
from purerl.sweeps import campaign, search
from purerl.training.loop import Carry

pytestmark = pytest.mark.usefixtures("shared_programs")

ENV = {"env": "changing:task", "algo": "ddpg", "num_seeds": "2"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run with all its checkpoints."""
    path = tmp_path_factory.mktemp("misfit") / "whole"
    assert train.main([*arguments(**ENV), "--out", str(path), "--checkpoint-every", "1", "--checkpoint-keep", "9"]) == 0
    return path


@pytest.fixture
def stopped(whole, tmp_path):
    """A copy as if it had died after checkpoint 2."""
    return cut_after(whole, 2, tmp_path / "run")


def digests(path):
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.rglob("*") if file.is_file()}


def relabel(folder, change=lambda label: label):
    """Change the label of a checkpoint, whose digests are right afterwards."""
    label = change(json.loads((folder / checkpoints.LABEL).read_text()))
    label.pop("label")
    label["files"] = {name: checkpoints._digest(folder / name) for name in label["files"] if (folder / name).exists()}
    (folder / checkpoints.LABEL).write_text(json.dumps(label | {"label": checkpoints._digest_of_label(label)}))


def arrays_of(folder):
    return next(folder.rglob(checkpoints.ARRAYS))


def without(state, name):
    return {other: x for other, x in state.items() if other != name}


CHANGES = {
    "added": (lambda s: s | {"new": s["x"]}, "['new'] is absent there and float32[2, 4, 2] here"),
    "removed": (lambda s: without(s, "raw"), "['raw'] is uint32[2, 4, 2] there and absent here"),
    "renamed": (lambda s: without(s, "raw") | {"old": s["raw"]}, "['old'] is absent there"),
    "uint8 for bool": (lambda s: s | {"flag": s["flag"].astype(jnp.uint8)}, "is bool[2, 4] there and uint8[2, 4] here"),
    "longer": (lambda s: s | {"raw": jnp.zeros(3, jnp.uint32)}, "is uint32[2, 4, 2] there and uint32[2, 4, 3] here"),
    "float16": (lambda s: s | {"half": s["half"].astype(jnp.float16)}, "is bfloat16[2, 4, 3] there and float16"),
    "uint16": (
        lambda s: s | {"half": s["half"].view(jnp.uint16)},
        "is bfloat16[2, 4, 3] there and uint16[2, 4, 3] here",
    ),
    "other float8": (
        lambda s: s | {"eighth": s["eighth"].astype(jnp.float8_e5m2)},
        "is float8_e4m3fn[2, 4] there and float8_e5m2[2, 4] here",
    ),
    "other keys": (
        lambda s: s | {"own": jax.random.key(0, impl="rbg")},
        "is key<fry>[2, 4] there and key<rbg>[2, 4] here",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_checkpoint_of_another_carry_is_refused_and_no_file_is_touched(name, stopped, monkeypatch, capfd):
    change, words = CHANGES[name]
    monkeypatch.setattr(changing, "task", changing.make(change))
    before = digests(stopped)
    shown = refusal(capfd, "--resume", stopped)
    assert words in shown and "checkpoint 2 of" in shown and "does not fit this program" in shown
    assert "the versions are the same" in shown and "--out" in shown and "purerl 0." in shown
    assert digests(stopped) == before
    if name == "added":
        assert refusal(capfd, *arguments(**ENV), "--out", stopped) == shown and digests(stopped) == before


def test_states_of_many_dtypes_and_keys_resume_bit_for_bit(whole, stopped):
    assert train.main(["--resume", str(stopped)]) == 0
    assert_same_run(stopped, whole)


@pytest.mark.slow
def test_a_leaf_that_holds_nothing_may_be_added(stopped, monkeypatch, capsys):
    monkeypatch.setattr(changing, "task", changing.make(lambda s: s | {"nothing": jnp.zeros((0, 3))}))
    assert train.main(["--resume", str(stopped)]) == 0
    shown = capsys.readouterr().out
    assert "resumed after 200 steps" in shown
    assert "the environment is not the same as when checkpoint 2 was written: reset, step, observe changed" in shown


def test_a_checkpoint_without_the_names_of_dtypes_is_read(whole, stopped):
    """Up to version 0.1.0 the file began with the names alone."""
    folder = stopped / "checkpoints" / "2"
    arrays, leaves = checkpoints.read_arrays(arrays_of(folder))
    with open(arrays_of(folder), "r+b") as file:
        content = file.read()
        file.seek(0)
        file.truncate()
        np.save(file, np.array(list(arrays)))
        first = content.index(b"\x93NUMPY", 1)
        file.write(content[first:])
    relabel(folder, lambda label: {name: x for name, x in label.items() if name not in ("commit", "environment")})
    old = checkpoints.read_arrays(arrays_of(folder))[1]
    assert {leaf.dtype for leaf in old.values()} == {None} and old.keys() == leaves.keys()
    assert train.main(["--resume", str(stopped)]) == 0
    assert_same_run(stopped, whole)


ROUND = """
import sys
import jax, jax.numpy as jnp, numpy as np
from purerl.runs import checkpoints
from purerl.training import mapping
from purerl.training.loop import Carry

def same(a, b):
    a, b = (jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in (a, b))
    assert a.dtype == b.dtype and a.shape == b.shape and np.asarray(a).tobytes() == np.asarray(b).tobytes(), (a, b)

bits = np.random.default_rng(0).integers(0, 256, (4, 6), np.uint8)
named = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3b11fnuz", "int8", "uint8")
leaves = {name: jnp.asarray(bits.view(jnp.dtype(name))) for name in named} | {"bool": jnp.asarray(bits > 127)}
leaves |= {name: jnp.asarray(bits.view(np.uint16).view(jnp.dtype(name))) for name in ("bfloat16", "float16", "int16")}
leaves |= {name: jnp.asarray(bits % 8).astype(name) for name in ("int4", "uint4")}
leaves |= {name: jax.vmap(lambda i: jax.random.key(i, impl=name))(jnp.arange(4)) for name in ("rbg", "unsafe_rbg")}
leaves |= {"many": jax.random.split(jax.random.key(3, impl="threefry2x32"), (4, 5)), "none": jnp.zeros((4, 0))}
leaves |= {"nan": jnp.full((4, 2), jnp.nan).view(jnp.int32).at[0].set(0x7FC00123).view(jnp.float32)}
for mesh in (None, mapping.mesh(2)):
    empty = dict.fromkeys(Carry._fields, jnp.zeros((4, 0)))
    carry = Carry(**empty | {"agent": leaves, "diverged": jnp.full(4, -1), "key": leaves["rbg"]})
    carry = mapping.laid_out(mesh, carry)
    for runs in (4, 3):
        manager = checkpoints.manager(sys.argv[1])
        checkpoints.save(manager, 1, carry, runs, {}, 1)
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((runs, *x.shape[1:]), x.dtype), carry)
        found = checkpoints.restore(manager, 1, like, checkpoints.read_label(sys.argv[1], 1, {}))
        jax.tree.map(lambda a, b: same(a, b[:runs]), found, carry)
        rows = jax.tree.map(lambda x: x[np.minimum(np.arange(4), runs - 1)], found)
        jax.tree.map(lambda a, b: same(a[:runs], b[:runs]), mapping.laid_out(mesh, rows), carry)
print("same bits")
"""


def test_every_dtype_and_generator_of_keys_survives_bit_for_bit_on_one_device_and_two(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    process = start(tmp_path, code=ROUND)
    assert process.communicate(timeout=300)[0] == "same bits\n"


def carry_of(agent, key):
    empty = dict.fromkeys(Carry._fields, jnp.zeros((2, 0)))
    return Carry(**empty | {"agent": agent, "diverged": jnp.full(2, -1), "key": key})


def keys(implementation):
    return jax.vmap(lambda i: jax.random.key(i, impl=implementation))(jnp.arange(2))


def restored(path, carry):
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), carry)
    return checkpoints.restore(checkpoints.manager(path), 1, like, checkpoints.read_label(path, 1, {}))


@pytest.mark.parametrize(("there", "here"), [("threefry2x32", "rbg"), ("rbg", "unsafe_rbg"), ("rbg", "threefry2x32")])
def test_keys_of_another_generator_do_not_fit(there, here, tmp_path):
    checkpoints.save(checkpoints.manager(tmp_path), 1, carry_of({}, keys(there)), 2, {}, 1)
    with pytest.raises(checkpoints.Misfit, match=r"\.key is key<\w+>\[2\] there and key<\w+>\[2\] here; the versions"):
        restored(tmp_path, carry_of({}, keys(here)))


def test_only_the_first_leaves_that_differ_are_named(tmp_path):
    names = [f"leaf_{i}" for i in range(9)]
    carry = carry_of({name: jnp.zeros(2) for name in names}, keys("threefry2x32"))
    checkpoints.save(checkpoints.manager(tmp_path), 1, carry, 2, {}, 1)
    with pytest.raises(checkpoints.Misfit) as refused:
        restored(tmp_path, carry._replace(agent={name: jnp.zeros((2, 3)) for name in names}))
    assert "leaf_2" in str(refused.value) and "leaf_3" not in str(refused.value) and "and 6 more" in str(refused.value)


def test_leaves_that_are_called_the_same_are_all_kept(tmp_path):
    @jax.tree_util.register_pytree_with_keys_class
    class Twins:
        def __init__(self, *values):
            self.values = values

        def tree_flatten_with_keys(self):
            return [(jax.tree_util.GetAttrKey("x"), value) for value in self.values], None

        @classmethod
        def tree_unflatten(cls, _, values):
            return cls(*values)

    carry = carry_of(Twins(jnp.zeros(2), jnp.ones(2)), keys("threefry2x32"))
    checkpoints.save(checkpoints.manager(tmp_path), 1, carry, 2, {}, 1)
    assert [x.tolist() for x in restored(tmp_path, carry).agent.values] == [[0, 0], [1, 1]]


@pytest.mark.parametrize("kind", ["truncated", "not numpy", "gone"])
def test_arrays_that_cannot_be_read_though_their_digest_is_right_are_refused(kind, stopped, capfd):
    folder = stopped / "checkpoints" / "2"
    file = arrays_of(folder)
    if kind == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-100] if kind == "truncated" else b"nothing")
    relabel(folder)
    before = digests(stopped)
    assert "arrays.npy cannot be read" in refusal(capfd, "--resume", stopped) and digests(stopped) == before


def test_what_cannot_be_read_now_is_no_damage_and_no_file_is_touched(stopped, monkeypatch, capsys):
    def refuse(file):
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(checkpoints, "read_arrays", refuse)
    before = digests(stopped)
    assert train.main(["--resume", str(stopped)]) == 1
    assert "Permission denied" in capsys.readouterr().err and digests(stopped) == before


def test_a_file_in_the_place_of_a_checkpoint_is_none(whole, stopped, capsys):
    (stopped / "checkpoints" / "3").write_text("")
    assert train.main(["--resume", str(stopped), "--checkpoint-every", "1"]) == 0
    assert "checkpoint 3 is damaged" not in capsys.readouterr().err
    assert_same_run(stopped, whole)
    assert (stopped / "checkpoints" / "3").is_dir()


def test_versions_that_were_not_kept_then_are_not_called_changed(stopped, capsys):
    def older(label):
        return label | {"versions": {"jax": "0.1"} | {"devices": label["versions"]["devices"]}}

    relabel(stopped / "checkpoints" / "2", older)
    assert train.main(["--resume", str(stopped)]) == 0
    shown = capsys.readouterr().out
    assert f"resuming is not bit-exact: jax was 0.1 and is {jax.__version__}\n" in shown and "None" not in shown


def test_the_versions_that_changed_are_named_where_a_checkpoint_does_not_fit(stopped, monkeypatch, capfd):
    relabel(stopped / "checkpoints" / "2", lambda label: label | {"versions": label["versions"] | {"optax": "0.0.1"}})
    monkeypatch.setattr(changing, "task", changing.make(CHANGES["added"][0]))
    shown = refusal(capfd, "--resume", stopped)
    assert "since then optax was 0.0.1 and is " in shown and "the versions are the same" not in shown


def test_a_label_of_a_kind_that_is_not_known_is_refused(stopped, capfd):
    relabel(stopped / "checkpoints" / "2", lambda label: {name: x for name, x in label.items() if name != "ring"})
    before = digests(stopped)
    assert "its label has no 'ring'" in refusal(capfd, "--resume", stopped) and digests(stopped) == before


def test_where_all_checkpoints_are_damaged_copies_are_kept_of_what_there_was(whole, stopped, capsys):
    for number in checkpoints.numbers(stopped):
        arrays_of(stopped / "checkpoints" / str(number)).write_bytes(b"")
    curves = (stopped / "curves.csv").read_bytes()
    (stopped / "pbt.csv").write_text("evaluation,setting\n1,0\n")
    assert train.main(["--resume", str(stopped)]) == 0
    assert "starting again from step 0" in capsys.readouterr().out
    (kept,), (numbers,) = stopped.glob("curves-before-*.csv"), stopped.glob("pbt-before-*.csv")
    assert kept.read_bytes() == curves and numbers.read_text() == "evaluation,setting\n1,0\n"
    assert_same_run(stopped, whole)


def test_a_run_that_falls_back_behind_a_damaged_checkpoint_keeps_copies(stopped, capsys):
    arrays_of(stopped / "checkpoints" / "2").write_bytes(b"")
    shutil.copy(stopped / "run.toml", stopped / run_folder.POLICY)
    curves = (stopped / "curves.csv").read_bytes()
    assert train.main(["--resume", str(stopped), "--time-limit", "0.001"]) == train.INTERRUPTED
    assert "resumed after 120 steps" in capsys.readouterr().out
    (kept,), (policy,) = stopped.glob("curves-before-*.csv"), stopped.glob("policy-before-*.npz")
    assert kept.read_bytes() == curves and policy.read_bytes() == (stopped / "run.toml").read_bytes()


def test_a_whole_checkpoint_whose_rows_were_lost_is_not_given_up(whole, tmp_path, capfd):
    path = cut_after(whole, 1, tmp_path / "run")
    rows = (path / "curves.csv").read_text().splitlines(keepends=True)
    (path / "curves.csv").write_text("".join(row for row in rows if not row.startswith("5,0,0,")))
    before = digests(path)
    assert "lacks rows from before checkpoint 1, which is undamaged" in refusal(capfd, "--resume", path)
    assert {name for name, digest in digests(path).items() if before[name] != digest} == {path / "log.jsonl"}


# What an older run did not know


def test_a_setting_that_is_absent_has_its_default():
    here = config.computation(config.resolve(SMALL))
    for name in ("activation", "layer_norm", "backend", "n_step"):
        there = {other: x for other, x in here.items() if other != name}
        assert config.differences(there, here) == "" == config.differences(here, there)
    hyper = {name: x for name, x in here["hyper"].items() if name != "policy_delay"}
    assert config.differences(here | {"hyper": hyper}, here) == ""
    there = {name: x for name, x in here.items() if name != "batch_size"}
    assert config.differences(there, here) == "batch_size is 256 there and 16 here"


def test_what_a_population_lacks_has_its_default_and_no_population_has_none():
    here = config.computation(config.resolve(SMALL)) | {"pbt": {"every": 1, "fraction": 0.25, "factor": 1.2}}
    assert config.differences(here | {"pbt": {"every": 1}}, here) == ""
    assert "pbt.every is 2 there and 1 here" in config.differences(here | {"pbt": {"every": 2}}, here)
    assert "pbt.factor is not set there" in config.differences(here | {"pbt": {}}, here)


def test_a_setting_that_is_not_known_here_is_named():
    here = config.computation(config.resolve(SMALL))
    assert config.differences(here | {"shiny": 3}, here) == "shiny is 3 there and not set here"


def test_an_older_run_resumes_where_settings_are_absent_in_its_files(whole, stopped):
    """`fast` sets layer_norm and others by its preset: what run.toml lacks has the default all the same."""
    file = stopped / "run.toml"
    names = ("activation", "layer_norm", "ring_dtype", "checkpoint_every")
    lines = [line for line in file.read_text().splitlines() if line.split(" ")[0] not in names]
    file.write_text("\n".join(lines) + "\n")

    def older(label):
        return label | {"computation": {name: x for name, x in label["computation"].items() if name not in names}}

    for number in checkpoints.numbers(stopped):
        relabel(stopped / "checkpoints" / str(number), older)
    assert train.main(["--resume", str(stopped)]) == 0
    assert_same_run(stopped, whole)


def test_what_a_runs_file_lacks_has_its_default_whatever_a_preset_says(tmp_path):
    flags = {"env": "fast", "algo": "td3"}
    settings = config.resolve(flags)
    table = config.computation(settings) | {"record": {"commit": "unknown"}}
    changed = next(name for name, (default, *_) in config.fields(config.Plan).items() if table[name] != default)
    del table[changed]
    file = tmp_path / "run.toml"
    file.write_text(tomli_w.dumps(table))
    default = config.fields(config.Plan)[changed][0]
    assert getattr(config.resolve({}, file).plan, changed) == default != getattr(settings.plan, changed)


def test_a_sweep_whose_file_lacks_a_setting_goes_on(tmp_path):
    programs = {"one": config.computation(config.resolve(SMALL))}
    older = {name: x for name, x in programs["one"].items() if name not in ("activation", "n_step")}
    table = {"space": {"tau": {"uniform": [0.001, 0.5]}}, "trials": 6}
    (tmp_path / campaign.KEPT).write_text(tomli_w.dumps({"programs": {"one": older}, "search": table}))
    campaign.check_same_sweep(tmp_path, {"programs": programs, "search": table | {"seed": 0, "rungs": []}})
    with pytest.raises(ValueError, match="its \\[search\\] differs from this one"):
        campaign.check_same_sweep(tmp_path, {"programs": programs, "search": table | {"seed": 1}})


@pytest.mark.slow
def test_a_sweep_leaves_a_program_that_does_not_fit_and_goes_on_with_the_others(tmp_path, monkeypatch, capfd):
    file = tmp_path / "file.toml"
    small = {name: x for name, x in (SMALL | {"num_seeds": "2", "algo": "ddpg"}).items() if name != "env"}
    file.write_text(tomli_w.dumps(small | {"env": ["changing:task", "fast"]}))
    words = [str(file), "--out", str(tmp_path / "out")]
    assert sweep.main([*words, "--only", "0", "--time-limit", "0.001"]) == train.INTERRUPTED
    first, second = (tmp_path / "out" / name for name in ("env=changing-task", "env=fast"))
    first = next(path.parent for path in (tmp_path / "out").rglob("run.toml"))
    before = digests(first)
    monkeypatch.setattr(changing, "task", changing.make(CHANGES["added"][0]))
    assert sweep.main(words) == sweep.FAILED
    shown = capfd.readouterr()
    assert "does not fit this program" in shown.err and digests(first) == before
    (second,) = (path.parent for path in (tmp_path / "out").rglob("run.toml") if path.parent != first)
    assert run_folder.trained_steps(second).tolist() == [280, 280]


@pytest.mark.slow
def test_a_search_does_not_go_on_from_a_rung_that_does_not_fit(tmp_path, monkeypatch):
    settings = config.resolve(SMALL | ENV | {"num_seeds": "1"})
    made = runner.prepare(settings)
    path = tmp_path / "rung"
    assert search._brought(settings, made, path, 1, search.Display()) is None
    assert search._brought(settings, made, path, 1, search.Display()) is None
    before = digests(path)
    monkeypatch.setattr(changing, "task", changing.make(CHANGES["added"][0]))
    with pytest.raises(checkpoints.Misfit, match="new"):
        search._brought(settings, runner.prepare(settings), path, 1, search.Display())
    assert digests(path) == before


# What an environment computes


def test_a_changed_reward_is_said_on_resuming_and_an_unchanged_one_is_not(whole, tmp_path, monkeypatch, capsys):
    same, other = (cut_after(whole, 2, tmp_path / name) for name in ("same", "other"))
    assert train.main(["--resume", str(same)]) == 0
    assert "the environment is" not in capsys.readouterr().out
    monkeypatch.setattr(changing, "task", changing.make(pay=2.0))
    assert train.main(["--resume", str(other)]) == 0
    shown = capsys.readouterr().out
    assert "the environment is not the same as when checkpoint 2 was written: step changed; the run" in shown
    assert "the run continues with the present environment\n" in shown
    assert '"event": "environment"' in (other / "log.jsonl").read_text()


def test_a_run_that_begins_anew_in_another_environment_says_so(whole, tmp_path, monkeypatch, capsys):
    path = cut_after(whole, 0, tmp_path / "run")
    monkeypatch.setattr(changing, "task", changing.make(pay=2.0))
    assert train.main(["--resume", str(path), "--time-limit", "0.001"]) == train.INTERRUPTED
    assert "the environment is not the same as when the run began: step changed" in capsys.readouterr().out


def test_the_fingerprint_knows_numbers_programs_and_limits():
    table = np.arange(4.0, dtype=np.float32)

    def tables(change):
        return changing.make(lambda s: s | {"x": s["x"] + jnp.asarray(table + change)[:2]})

    kinds = [changing.make(), changing.make(pay=2.0), changing.make(limit=21), tables(0), tables(1e-3)]
    found = [fingerprint.of(env) for env in kinds]
    assert found[0] == fingerprint.of(changing.make())
    assert fingerprint.difference(found[0], found[0], "then") == ""
    for other, words in ((1, "step changed"), (2, "episode_length (was 20, is 21) changed"), (3, "reset changed")):
        assert words in fingerprint.difference(found[0], found[other], "then")
    assert "reset changed" in fingerprint.difference(found[3], found[4], "then")


def test_the_fingerprint_does_not_judge_what_other_versions_traced():
    then, now = fingerprint.of(changing.make()), fingerprint.of(changing.make(pay=2.0))
    older = then | {"traced_by": then["traced_by"] | {"jax": "0.1"}}
    shown = fingerprint.difference(older, now, "then")
    assert (
        "cannot tell whether the environment is the same as then: the trace of step differs, but jax was 0.1 and is "
        in shown
    )
    assert fingerprint.difference(older, then, "then") == ""
    assert "cannot tell" in fingerprint.difference(None, now, "then")
    assert "not the same as then: " in fingerprint.difference(older, now | {"episode_length": 9}, "then")


FINGERPRINTS = """
import json, sys
from purerl import environments
from purerl.runs import fingerprint
print(json.dumps([fingerprint.of(environments.make(name)) for name in sys.argv[1:]]))
"""


def test_the_fingerprint_is_the_same_in_every_process(monkeypatch):
    names = ["Pendulum-v1", "inverted_pendulum", "changing:task"]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests"), *filter(None, sys.path)]))
    monkeypatch.setenv("PYTHONHASHSEED", "1")  # Here it is random.
    process = start(*names, code=FINGERPRINTS)
    there = json.loads(process.communicate(timeout=300)[0].splitlines()[-1])
    assert there == [fingerprint.of(environments.make(name)) for name in names]
    assert len({made["step"] for made in there}) == 3
