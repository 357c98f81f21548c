"""`purerl.train`, `purerl.load` and hooks: the command line as functions."""

import inspect
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from commands import SMALL, arguments, assert_same_run
from PIL import Image

import purerl
from purerl import environments, objects
from purerl.algorithms.td3 import td3
from purerl.policies import film, hooks
from purerl.results import run_folder
from purerl.runs import checkpoints, display
from purerl.runs.clock import Interrupt
from purerl.runs.events import Event
from purerl.runs.position import Position
from purerl.settings import config, registry
from purerl.settings.hyperparameters import TD3

pytestmark = pytest.mark.usefixtures("shared_programs")

SETTINGS = {name: [8] if name == "widths" else int(value) for name, value in SMALL.items() if name != "env"}
SETTINGS |= {"progress": False}


def trained(path, env="fast", **more):
    return purerl.train("td3", env, **SETTINGS | more, out=path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """`(the run, the evaluations that its hook got, the actions of their best policies at that time)`."""
    heard, actions, path = [], [], tmp_path_factory.mktemp("interface") / "whole"

    def hears(evaluation):
        heard.append(evaluation)
        actions.append(evaluation.policy("best")(np.ones((2, 2))))

    return trained(path, on_evaluation=hears), heard, actions


def test_it_trains_what_the_command_line_trains(whole, tmp_path, capsys):
    assert purerl.train.main([*arguments(algo="td3"), "--out", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()  # without a bar
    assert lines[1] == "compiling ..." and lines[2].startswith("compiled in ")
    assert_same_run(whole[0].path, tmp_path / "run")


def test_a_run_shows_its_folder(whole):
    run, curves = whole[0], run_folder.read_curves(whole[0].path)
    assert len(run.curves) == 12 and run.curves["return_mean"].tolist() == curves["return_mean"].tolist()
    assert run.returns.index.tolist() == [5, 6, 7] and run.returns.tolist() == curves["return_mean"][-3:].tolist()
    assert run.final["env_step"].tolist() == [280] * 3
    assert run.complete and run.interrupted is None and run.settings.plan.total_steps == 280
    assert repr(run).startswith("<Run td3 on fast, 3 seeds, complete, step 280 of 280, return (IQM) ")
    assert "<td>280 of 280</td>" in run._repr_html_() and len(run.plot().axes) == 1


def test_a_policy_of_a_run_is_that_of_load_policy(whole):
    run, observation = whole[0], np.ones(2)
    for seed in ("best", 6):
        assert run.policy(seed)(observation) == purerl.load_policy(run.path, seed)(observation)
    assert purerl.load(run.path / "curves.csv").policy(6)(observation) == run.policy(6)(observation)


def test_a_run_is_evaluated_in_its_environment_and_in_another(whole):
    """In `fast`, the reward is the number of steps since the last reset."""
    run = whole[0]
    assert run.evaluate(episodes=2).shape == (3, 2) and run.evaluate("best", episodes=2).shape == (1, 2)
    twice = environments.make("fast", None, 20)
    step = twice.step
    twice = twice._replace(step=lambda state, action: (step(state, action)[0], doubled(step(state, action)[1])))
    here, there = (run.evaluate("best", episodes=1, env=env) for env in (environments.make("fast", None, 20), twice))
    np.testing.assert_allclose(there, 2 * here)


def doubled(outcome):
    return outcome._replace(reward=2 * outcome.reward)


def test_hooks_get_each_evaluation_of_the_curves(whole):
    run, heard, _ = whole
    curves = run_folder.read_curves(run.path)
    assert [each.index for each in heard] == [0, 1, 2, 3] and [each.step for each in heard] == [0, 120, 200, 280]
    returns = np.concatenate([each.returns for each in heard])
    np.testing.assert_array_equal(np.float32(returns), np.float32(curves["return_mean"]))
    assert all(type(values) is np.ndarray for each in heard for values in each.metrics.values())
    assert heard[-1].seeds.tolist() == [5, 6, 7] and heard[-1].settings.tolist() == [0, 0, 0]
    assert heard[-1].best == 5 + np.argmax(returns[-3:])


def test_the_policies_of_an_evaluation_stay_what_they_were(whole):
    run, heard, actions = whole
    assert heard[-1].policies.at == 280
    for each, then in zip(heard, actions, strict=True):
        np.testing.assert_array_equal(each.policy("best")(np.ones((2, 2))), then)
    np.testing.assert_allclose(run.policy("best")(np.ones((2, 2))), actions[-1])
    assert (actions[0] != actions[-1]).any()


def test_a_hook_that_changes_its_arrays_and_stops_changes_nothing(whole, tmp_path):
    kept = []

    def breaks(evaluation):
        for values in evaluation.metrics.values():
            values[:] = np.nan
        for leaf in (evaluation.policies.actor["params"]["Dense_0"]["kernel"], evaluation.seeds):
            leaf[:] = 0
        if evaluation.index == 1:
            evaluation.stop("half")

    run = trained(tmp_path / "run", on_evaluation=[breaks, kept.append])
    assert run.interrupted == "half" and not run.complete and "ended early: half" in repr(run) and len(kept) == 2
    trained(tmp_path / "run")  # The same call continues.
    assert run.complete and run.interrupted is None
    assert_same_run(whole[0].path, run.path)


def test_policies_that_no_hook_took_are_gone_afterwards():
    kept = hooks.Evaluation(120, 1, np.arange(2), np.zeros(2, int), {}, config.resolve({}), Path())
    with pytest.raises(RuntimeError, match="the policies of step 120 are gone; take them while the hook runs"):
        kept.policy()


def test_an_exception_in_a_hook_propagates_after_a_checkpoint(tmp_path):
    def fails(evaluation):
        if evaluation.index == 2:
            raise KeyError("no such camera")

    with pytest.raises(KeyError, match="no such camera"):
        trained(tmp_path / "run", on_evaluation=fails)
    run = purerl.load(tmp_path / "run")
    assert len(checkpoints.numbers(run.path)) == 1 and run.interrupted == "not finished"


def test_a_hook_that_returns_a_value_is_an_error(whole, monkeypatch):
    monkeypatch.setattr(hooks, "evaluated", lambda event, players: whole[1][-1])
    heard = hooks.listener([lambda evaluation: evaluation.index < 3], environments.make("fast"), whole[0].settings)
    event = Event(None, 0, Position(), None, {}, {})
    with pytest.raises(TypeError, match=r"lambda> returned a value of bool; it should return None, and end the run wi"):
        heard(event)
    assert heard(event._replace(metrics=None)) is None  # no evaluation


@pytest.mark.parametrize("called", [3, "print", [print, 3]])
def test_hooks_are_functions(called, tmp_path):
    with pytest.raises(TypeError, match=r"on_evaluation (is|has) .*; it should be a function of an Evaluation"):
        trained(tmp_path / "run", on_evaluation=called)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_hooks_hear_all_settings_of_a_sweep(tmp_path):
    heard = []
    run = trained(tmp_path / "run", num_seeds=1, sweep={"actor_lr": np.array([1e-3, 1e-2])}, on_evaluation=heard.append)
    assert heard[0].settings.tolist() == [0, 1] and heard[0].seeds.tolist() == [5, 5]
    assert run.returns.index.tolist() == [(0, 5), (1, 5)] and run.settings.swept == {"actor_lr": (1e-3, 1e-2)}
    run.policy("best", setting=1), run.plot()


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"num_seedz": 3}, "unknown setting 'num_seedz'; did you mean num_seeds"),
        ({"alpha": 0.1}, "setting 'alpha' belongs to sac, tqc, redq, droq and crossq, not to td3"),
        ({"num_seeds": "many"}, "num_seeds is 'many' but should be a whole number"),
        ({"buffer_size": 201}, "buffer_size 201 is not a multiple of num_envs 4"),
        ({"env": "fasst"}, "'fasst'; did you mean fast?"),
        ({"env": 3}, "an environment is a name or an Environment, not of int"),
        ({"actor_lr": [1e-3, 1e-4]}, r"actor_lr is \[0.001, 0.0001\] but should be a valid number"),
        ({"sweep": {"num_critics": [1, 2]}}, "only numbers that are inputs of the program can be swept"),
        ({"hyper": {"tau": 0.1}}, "hyper is a table; give its entries as keywords"),
        ({"config": 3}, "config is of int; it should be a TOML file"),
        ({"config": "no.toml"}, "cannot read no.toml"),
        ({"log_video_every": 1}, "log_video_every is 1, but fast has no bodies to draw"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_written(more, line, tmp_path):
    with pytest.raises(ValueError, match=line) as caught:
        trained(tmp_path / "run", **more)
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_an_older_run_is_continued_with_the_settings_that_it_did_not_write(whole, tmp_path):
    """A preset that sets initial weights today did not then."""
    old = shutil.copytree(whole[0].path, tmp_path / "old")
    text = (old / "run.toml").read_text()
    assert 'initialization = "small"\n' in text
    (old / "run.toml").write_text(text.replace('initialization = "small"\n', ""))
    with pytest.raises(ValueError, match=r"or continue it with --initialization small: it is of an older version$"):
        trained(old, initialization="glorot")
    with pytest.raises(ValueError, match=r"or delete it$"):
        trained(old, initialization="glorot", tau=0.01)
    assert trained(old, initialization="small").complete


def test_another_run_and_a_complete_run_are_not_overwritten(whole):
    with pytest.raises(ValueError, match=r"holds another run: tau is 0.005 there and 0.01 here"):
        trained(whole[0].path, tau=0.01)
    with pytest.raises(ValueError, match=r"activation is relu there and tanh here; name another folder, or delete it$"):
        trained(whole[0].path, activation="tanh")
    before = (whole[0].path / "log.jsonl").read_bytes()
    again = trained(whole[0].path, on_evaluation=lambda evaluation: 1 / 0)  # as when a notebook's cell runs again
    assert again.complete and again.path == whole[0].path and (again.path / "log.jsonl").read_bytes() == before
    with pytest.raises(ValueError, match="is complete already"):
        whole[0].resume()
    with pytest.raises(ValueError, match="a resumed run keeps its settings; leave out num_envs"):
        whole[0].resume(num_envs=8)
    with pytest.raises(ValueError, match="unknown setting 'time_limt'; did you mean time_limit"):
        whole[0].resume(time_limt=3)


def test_a_folder_without_a_run_is_one_line(tmp_path, whole):
    with pytest.raises(ValueError, match=r"is not a run folder: it has no run.toml"):
        purerl.load(tmp_path)
    with pytest.raises(ValueError, match="was trained with env 'fast', which is known; leave out env"):
        purerl.load(whole[0].path, env=environments.make("fast"))


def settings_of(monkeypatch, tmp_path, *words, **more):
    """The settings that `train` resolves."""
    from purerl.interface import launch

    found = []
    monkeypatch.setattr(launch, "claimed", lambda settings, path, **how: found.append((settings, path)) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        purerl.train(*words, **more)
    return found[0]


def test_settings_resolve_like_flags(monkeypatch, tmp_path, whole):
    def resolved(*words, **more):
        return settings_of(monkeypatch, tmp_path, *words, **more)

    plain, path = resolved(
        "sac", "HalfCheetah-v5", num_seeds=np.int64(3), total_steps=1e6 - 14400, gamma=jnp.float32(0.5)
    )
    flags = {"algo": "sac", "env": "HalfCheetah-v5", "num_seeds": "3", "total_steps": "985600", "gamma": "0.5"}
    assert plain == config.resolve(flags) and path.parent.name == "runs"
    (tmp_path / "it.toml").write_text('algo = "sac"\nnum_seeds = 2\n[hyper]\ntau = 0.01\n')
    table = {"algo": "sac", "num_seeds": 2, "hyper": {"tau": 0.01}}
    for file in (tmp_path / "it.toml", str(tmp_path / "it.toml"), table):
        assert resolved(config=file, seed=3)[0] == config.resolve({"seed": 3}, tmp_path / "it.toml")
    assert resolved(config=whole[0].settings)[0] == whole[0].settings
    assert resolved(config=whole[0].settings, tau=0.5)[0].hyper.tau == 0.5


def mine(hyper: TD3, plan, env):
    return td3(hyper, plan, env)


def test_an_algorithm_is_a_name_a_declaration_or_a_constructor(monkeypatch, tmp_path):
    def resolved(algo):
        return settings_of(monkeypatch, tmp_path, algo, "fast")[0]

    assert resolved(td3) == resolved(registry.ALGORITHMS["td3"]) == resolved("td3")
    wide = resolved(partial(td3))
    assert wide.job.algo == "object:td3" and wide.plan == resolved("td3").plan and type(wide.hyper) is TD3
    assert resolved(mine).job.algo == f"{__name__}:mine" and type(resolved(mine).hyper) is TD3
    assert registry.find_algorithm(f"{__name__}:mine").constructor is mine  # also by its name alone
    for wrong, line in (
        (lambda hyper, plan, env: None, "does not say which hyperparameters it takes; annotate its first parameter"),
        (3, "algo is of int; it should be a name, an AlgorithmSpec or a constructor"),
    ):
        with pytest.raises(ValueError, match=line):
            purerl.train(wrong)


@pytest.fixture
def no_objects(monkeypatch):
    monkeypatch.setattr(objects, "_given", {})


@pytest.mark.slow
def test_objects_train_and_are_known_until_the_process_ends(tmp_path, no_objects, monkeypatch):
    from purerl.interface import given

    env = environments.make("fast", None, 20)._replace(name="my fast")
    run = purerl.train(mine, env, **SETTINGS, out=tmp_path / "run", checkpoint_every=1)
    assert run.settings.job.env == "object:my_fast" and run.settings.job.algo == f"{__name__}:mine"
    assert run.evaluate("best", episodes=1).shape == (1, 1) and run.policy()(np.ones(2)).shape == (1,)
    assert purerl.load(run.path).evaluate("best", episodes=1).shape == (1, 1)
    objects.give("env", "object:my_fast", environments.make("Pendulum-v1"))  # Another object takes over the name.
    assert run.evaluate("best", episodes=1).shape == (1, 1)
    monkeypatch.setattr(objects, "_given", {})
    monkeypatch.setattr(given, "_of_runs", {})
    alone = purerl.load(run.path)
    with pytest.raises(
        ValueError, match=r"env 'object:my_fast' is an object of another process; give it again: purerl"
    ):
        alone.evaluate(episodes=1)
    assert purerl.load(run.path, env=env).evaluate("best", episodes=1).shape == (1, 1)


def test_an_object_is_named_by_its_module_where_that_has_it(monkeypatch):
    env = environments.make("fast")
    monkeypatch.setattr(sys.modules["__main__"], "mine", env, raising=False)
    assert objects.name_of(env, "fast", [None, "no.module"]) == "__main__:mine"
    monkeypatch.setattr(sys.modules[__name__], "point", env, raising=False)
    assert objects.name_of(env, "fast", [__name__]) == f"{__name__}:point"
    assert objects.name_of(object(), "my fast-1", []) == "object:my_fast_1"
    with pytest.raises(ValueError, match="env '__main__:other' is an object of another process"):
        environments.make("__main__:other")


@pytest.mark.slow
def test_from_another_thread_it_trains_as_well(whole, tmp_path, capsys):
    thread = threading.Thread(target=trained, args=(tmp_path / "run",))
    thread.start()
    thread.join(300)
    assert_same_run(whole[0].path, tmp_path / "run")
    assert capsys.readouterr() == ("", "")


def test_in_another_thread_signals_go_where_they_went():
    handlers = []

    def enters():
        with Interrupt():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enters)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]


def test_interrupts_end_a_run_with_a_checkpoint_and_not_the_notebook(whole, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    before = signal.getsignal(signal.SIGINT)

    def interrupts(evaluation):
        if evaluation.index == 1:
            for _ in range(2):  # The second would end the process of a command.
                os.kill(os.getpid(), signal.SIGINT)
                while "the run ends with a checkpoint" not in capsys.readouterr().err:
                    time.sleep(0.01)

    run = trained(tmp_path / "run", on_evaluation=interrupts)
    assert run.interrupted == "SIGINT" and signal.getsignal(signal.SIGINT) is before
    run.resume(progress=False)
    assert_same_run(whole[0].path, run.path)


def test_the_module_of_the_command_is_the_function():
    for code in (
        "import purerl; f = purerl.train",
        "from purerl import train as f",
        "import purerl.train; f = purerl.train",
        "import purerl.interface.training, purerl; f = purerl.train",
    ):
        scope = {}
        exec(code, scope)
        assert scope["f"] is sys.modules["purerl.train"] and callable(scope["f"].main)
    assert inspect.signature(purerl.train) == inspect.signature(purerl.interface.training.train)
    assert "Train, as the command" in purerl.train.__call__.__doc__
    assert pickle.loads(pickle.dumps(purerl.train)) is purerl.train
    assert pickle.loads(pickle.dumps(partial(purerl.train, num_seeds=2))).keywords == {"num_seeds": 2}
    assert set(purerl.__all__) <= set(dir(purerl))


def test_importing_the_function_imports_no_jax():
    code = "import sys, purerl; purerl.train, purerl.load, purerl.Run; print('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_in_a_terminal_a_bar_shows_that_it_compiles():
    """The bar is written to a pseudo-terminal, and to no other output."""
    import pty

    code = """
from purerl.runs.display import Display
with (shown := Display()):
    shown.stage("compiling")
    shown.bar.refresh()
    shown.total = 280
    shown.evaluation(280, 1.5, 3.0, 0)
"""
    main, terminal = pty.openpty()
    words = {"stdout": terminal, "stderr": terminal, "env": os.environ | {"TERM": "xterm", "COLUMNS": "200"}}
    process = subprocess.Popen([sys.executable, "-c", code], **words)
    os.close(terminal)
    shown = b""
    while True:
        try:
            shown += os.read(main, 4096)
        except OSError:  # Linux: the other end is closed.
            break
    assert process.wait() == 0 and "━" in shown.decode()
    assert b"compiling" in shown and b"compiling ..." not in shown and b"280/280 steps" in shown


def test_the_bar_of_a_notebook_is_html_and_text():
    bar = display.NotebookBar()
    task = bar.add_task("starting", None, "")
    assert "<progress style" in bar._content()["text/html"] and "starting" in bar._content()["text/plain"]
    bar.update(task, description="training", total=200, completed=50, status="return < 3")
    content = bar._content()
    assert '<progress value="50" max="200"' in content["text/html"] and "return &lt; 3" in content["text/html"]
    assert content["text/plain"].startswith("━" * 10 + "─" * 30 + "  training  return < 3  0:00:0")


needs_a_library = pytest.mark.skipif(
    not any(map(film.ctypes.util.find_library, film.LIBRARIES.values())), reason="neither EGL nor OSMesa is here"
)


@pytest.mark.slow
@needs_a_library
def test_videos_of_the_best_seed_are_files_and_in_wandb(tmp_path, monkeypatch):
    """In a process of its own, in which MuJoCo has chosen a library that needs a screen."""
    pytest.importorskip("wandb")
    path = tmp_path / "run"
    settings = {name: value for name, value in SETTINGS.items() if name != "progress"} | {"num_seeds": 2}
    code = f"""
import mujoco, purerl
def hook(evaluation):
    if evaluation.index == 3:
        frames, interval = evaluation.film(seconds=0.5)
        assert frames.shape[1:] == (320, 480, 3) and interval == 0.05, (frames.shape, interval)
purerl.train("td3", "Pendulum-v1", out={str(path)!r}, log="wandb", log_video_every=3, on_evaluation=hook, **{settings})
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"WANDB_MODE": "offline"}
    )
    assert ran.returncode == 0 and "no video" not in ran.stdout, ran.stdout + ran.stderr
    files = sorted(path.glob("videos/*.gif"), key=lambda file: int(file.stem.rpartition("-")[2]))
    assert [file.stem.split("-", 2)[2] for file in files] == ["at-step-0", "at-step-280"]
    with Image.open(files[0]) as image:
        assert image.size == film.SIZE and image.n_frames == 21
    assert len(list(path.glob("wandb/offline-run-*/files/media/videos/**/*.gif"))) == 2
    events = [json.loads(line)["event"] for line in (path / "log.jsonl").read_text().splitlines()]
    assert events.count("evaluation") == 4 and not (path / "checkpoints" / "0").exists()


@pytest.mark.slow
def test_a_video_that_cannot_be_drawn_does_not_end_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(film, "_drawn", lambda model, poses: np.zeros((1, 2, 2, 3), np.uint8))
    monkeypatch.setattr(film, "use_no_screen", lambda: None)

    def fails(*more):
        raise OSError("the disk is full")

    monkeypatch.setattr(film, "gif", fails)
    run = trained(tmp_path / "run", env="Pendulum-v1", log_video_every=3, progress=True)
    assert run.complete and not (run.path / "videos").exists()
    shown = capsys.readouterr().out
    assert (
        shown.count("no video of step") == 2 and "no video of step 0: drawing it fails: OSError: the disk is" in shown
    )


@pytest.mark.slow
def test_setting_jax_up_is_what_the_command_line_does(tmp_path, capsys):
    """It changes flags, so it is another process."""
    code = (
        "import purerl, jax; purerl.set_up_jax('{0}'); print(jax.config.jax_enable_x64, "
        "jax.config.jax_compilation_cache_dir)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code.format(tmp_path / "cache")],
        capture_output=True, text=True, env=os.environ | {"JAX_ENABLE_X64": "1"},
    )  # fmt: skip
    assert ran.stdout == f"False {tmp_path / 'cache'}\n" and ran.stderr.startswith("note: JAX_ENABLE_X64 is True")


def test_the_folder_of_a_run_may_move(whole, tmp_path):
    shutil.copytree(whole[0].path, tmp_path / "moved")
    assert purerl.load(str(tmp_path / "moved")).returns.tolist() == whole[0].returns.tolist()


def test_a_length_that_does_not_fit_is_one_line(whole):
    for length, said in ((300, "nearest total_steps is 360"), (200, "give more steps"), ("many", "whole number")):
        with pytest.raises(ValueError, match=said):
            whole[0].resume(total_steps=length)
    with pytest.raises(ValueError, match="rescale_schedules needs total_steps"):
        whole[0].resume(rescale_schedules=True)


@pytest.mark.slow
def test_a_run_is_made_longer_and_is_the_beginning_of_another(whole, tmp_path):
    run = purerl.load(shutil.copytree(whole[0].path, tmp_path / "run")).resume(total_steps=360, progress=False)
    assert run.complete and run.final["env_step"].tolist() == [360] * 3
    tuned = trained(tmp_path / "tuned", init_from=run, init_seed="same", init_parts=["actor", "critic"], gamma=0.9)
    assert tuned.settings.job.init_from == str(run.path) and tuned.settings.job.init_parts == ("actor", "critic")
    assert json.loads((tuned.path / "log.jsonl").read_text().splitlines()[2])["source"] == str(run.path)
