"""An `Environment` of a user's own, by the name of its module."""

import pytest
from commands import arguments

from purerl import environments, evaluate, train
from purerl.results import run_folder

POINT = """
import jax
import jax.numpy as jnp
from purerl.environments.base import Environment, Outcome

def reset(key):
    return jax.random.uniform(key, (2,))

def step(state, action):
    state = 0.9 * state + action
    return state, Outcome(-jnp.square(state).sum(), jnp.bool_(False), jnp.bool_(False))

def observe(state):
    return state

env = Environment(reset, step, observe, 2, 2, 20, "point", truncates=False, action_range=(-2.0, 2.0))
flat = env._replace(observe=lambda state: state[0])
late = env._replace(step=lambda state, action: (state.astype(jnp.bfloat16), step(state, action)[1]))
loud = env._replace(step=lambda state, action: (state, step(state, action)[1]._replace(terminated=0.0 * state[0])))
wide = env._replace(action_size=3)
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "own_point.py").write_text(POINT)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_it_is_trained_resumed_and_evaluated_as_any_other(tmp_path, capsys):
    out, small = tmp_path / "run", arguments(env="own_point:env", algo="td3", episode_length="10")
    assert train.main([*small, "--out", str(out), "--time-limit", "0.001"]) == train.INTERRUPTED
    assert train.main([*small, "--out", str(out)]) == 0
    assert (run_folder.read_curves(out)["episode_length"] == 10).all()
    assert evaluate.main([str(out), "--episodes", "2"]) == 0
    assert "td3 on own_point:env" in capsys.readouterr().out


def test_its_time_limit_is_its_own_unless_said_otherwise():
    assert environments.make("own_point:env").episode_length == 20
    assert environments.make("own_point:env", episode_length=7).episode_length == 7


@pytest.mark.parametrize(
    "name, backend, words",
    [
        ("flat", None, r"observe\(state\) is float32\[\]; it must be float32\[2\]"),
        ("late", None, "step does not return the kind of state that reset makes"),
        ("loud", None, r"terminated is float32\[\]; it must be bool\[\]"),
        ("wide", None, r"step\(state, action \[3\]\)"),
        ("env", "spring", "has no backend 'spring'; leave the backend out"),
        ("enf", None, "has no 'enf' that is an Environment.*did you mean env"),
    ],
)
def test_what_breaks_its_contract_is_refused_in_one_line(name, backend, words):
    with pytest.raises(ValueError, match=words) as refused:
        environments.make(f"own_point:{name}", backend)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["plate", "plate.py"])
def test_a_module_without_the_name_of_an_environment_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plate.py").touch()
    with pytest.raises(ValueError, match="is a module; name the environment in it: plate:NAME, as plate:env"):
        environments.make(name)


def test_what_a_module_says_in_two_lines_is_kept(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "two_lines.py").write_text("raise ValueError('XML parse error 14:\\nno closing tag\\nmore')")
    with pytest.raises(ValueError, match=r"fails: ValueError: XML parse error 14: no closing tag$"):
        environments.make("two_lines:env")


def test_a_file_of_the_name_of_a_task_does_not_hide_the_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fast.py").touch()
    assert environments.make("fast").name == "fast"
