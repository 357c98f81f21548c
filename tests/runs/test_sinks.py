"""`--log`: every sink gets the same series, also of a run that was resumed."""

import csv
import json
import struct
import subprocess
import sys
from collections import defaultdict

import numpy as np
import pytest
from commands import SMALL, arguments
from folders import write_run

from purerl import train
from purerl.results import run_folder
from purerl.runs import sinks

pytestmark = pytest.mark.usefixtures("shared_programs")

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
tensor_util = pytest.importorskip("tensorboard.util.tensor_util")
wandb_internal_pb2 = pytest.importorskip("wandb.proto.wandb_internal_pb2")

ALL = tuple(sinks.SINKS)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")


def read_csv(path):
    with open(path / "metrics.csv", newline="") as file:
        for row in csv.DictReader(file):
            yield row["series"], float(row["env_step"]), float(row["value"])


def read_jsonl(path):
    for line in (path / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        yield from ((name, row["env_step"], value) for name, value in row.items() if name not in sinks.CLOCK)


def read_tensorboard(path):
    events = accumulator.EventAccumulator(str(path / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    for name in events.Tags()["tensors"]:
        if name not in sinks.CLOCK:
            tensors = events.Tensors(name)
            yield from ((name, event.step, tensor_util.make_ndarray(event.tensor_proto)) for event in tensors)


def read_wandb(path):
    """The newest offline run, as `wandb sync` reads it."""
    file = max(path.glob("wandb/offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime)
    for record in map(wandb_internal_pb2.Record.FromString, _records(file.read_bytes())):
        row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        yield from ((n, row["env_step"], v) for n, v in row.items() if n not in sinks.CLOCK and n[0] != "_")


def _records(content, header=7, block=1 << 15):
    """The records of a log in LevelDB's format: parts of `crc, length, type`, none of which crosses a block's end."""
    place, record = header, b""
    while place + 7 <= len(content):
        if block - place % block < 7:
            place += block - place % block
        _, length, kind = struct.unpack_from("<IHB", content, place)
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


READERS = {"csv": read_csv, "jsonl": read_jsonl, "tensorboard": read_tensorboard, "wandb": read_wandb}


def read(path, name):
    """`{series: [(env_step, value)]}` of a sink."""
    found = defaultdict(list)
    for series, step, value in READERS[name](path):
        found[series].append((step, round(float(value), 3)))
    return dict(found)


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A run that is stopped after an evaluation, and goes on, into every sink."""
    path = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        log = ["--log", ",".join(ALL)]
        assert train.main([*arguments(), *log, "--time-limit", "0.001", "--out", str(path)]) == 130
        assert train.main(["--resume", str(path), "--time-limit", "none"]) == 0
    return path


@pytest.mark.parametrize("name", ALL)
def test_every_sink_has_the_series_of_curves_csv(logged, name):
    table, found = run_folder.read_curves(logged), read(logged, name)
    for seed in (5, 6, 7):
        rows = table["seed"] == seed
        expected = list(zip(table["env_step"][rows], np.round(table["return_mean"][rows], 3), strict=True))
        assert found[f"return_mean/seed_{seed}"] == expected and len(expected) == int(SMALL["num_evals"])
    means = [np.mean(table["q"][table["env_step"] == step]) for step in (120, 200, 280)]
    assert found["q/mean"] == list(zip((120, 200, 280), np.round(means, 3), strict=True))
    assert found["diverged"] == [(step, 0.0) for step in (0, 120, 200, 280)]


def test_names_are_the_same_in_all_sinks(logged):
    names = [set(read(logged, name)) for name in ALL]
    assert all(other == names[0] for other in names)
    assert len(names[0]) == 7 * (3 + 4) + 1  # metrics of three seeds and their four statistics; the diverged


def fed(path, num_seeds):
    with sinks.feed(path, ["jsonl"], num_seeds) as update:
        update()
    return read(path, "jsonl")


def test_a_diverged_seed_ends_and_is_counted(tmp_path):
    path = write_run(tmp_path / "run", [0, 10, 20], [[1, 2, 9], [3, 4, 9], [5, 6, 9]], diverged={2: 10})
    found = fed(path, 3)
    assert found["return_mean/seed_2"] == [(0, 9)] and found["diverged"] == [(0, 0), (10, 1), (20, 1)]
    assert found["return_mean/mean"] == [(0, 4), (10, 3.5), (20, 5.5)]


def test_settings_have_series_of_their_own(tmp_path):
    returns = [[[1, 3], [10, 30]], [[2, 4], [20, 40]]]
    found = fed(write_run(tmp_path / "run", [0, 10], returns, swept={"tau": [0.1, 0.2]}), 2)
    assert found["return_mean/setting_1/seed_0"] == [(0, 10), (10, 20)]
    assert found["return_mean/setting_0/mean"] == [(0, 2), (10, 3)]


def test_aggregates_wait_for_the_last_group_of_seeds(tmp_path):
    first = write_run(tmp_path / "run", [0, 10], [[1], [2]])
    second = write_run(tmp_path / "other", [0, 10], [[3], [4]])
    rows = (second / "curves.csv").read_text().splitlines()[1:]
    assert "return_mean/mean" not in fed(first, 2)
    with open(first / "curves.csv", "a") as file:
        file.writelines(f"1{row[1:]}\n" for row in rows)  # as seed 1
    assert fed(first, 2)["return_mean/mean"] == [(0, 2), (10, 3)]


@pytest.mark.parametrize(
    ("log", "message"),
    [("tensorbord", "log is 'tensorbord' but should be 'csv', 'jsonl', 'tensorboard' or 'wandb'")],
)
def test_unknown_sinks_are_refused(tmp_path, capsys, log, message):
    with pytest.raises(SystemExit) as stop:
        train.main([*arguments(), "--log", log, "--out", str(tmp_path / "run")])
    assert stop.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_sink_that_is_not_installed_says_what_to_install(monkeypatch, name):
    monkeypatch.setattr(sinks, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"log '{name}' needs the package {name}; pip install -e '.*\[{name}\]'"):
        sinks.check_sinks([name])


def test_wandb_without_an_account_says_how_to_go_on(monkeypatch, tmp_path):
    code = "from purerl.runs import sinks; sinks.check_sinks(['wandb'])"
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert "log 'wandb' finds no account; run `wandb login`, or set WANDB_MODE=offline" in said.stderr
