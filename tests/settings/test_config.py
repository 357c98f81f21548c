"""What a user says, and what becomes of it before anything is compiled."""

import subprocess
import sys
import tomllib
from dataclasses import asdict
from datetime import datetime

import numpy as np
import pytest

from purerl import train
from purerl.results import naming
from purerl.runs import runner
from purerl.runs.clock import Clock
from purerl.runs.outcome import RunOutcome
from purerl.settings import config, registry, schema
from purerl.settings.hyperparameters import SAC, TD3
from purerl.settings.kinds import fields
from purerl.settings.schema import Plan, cycle


def error_of(function, *arguments, **options):
    with pytest.raises(ValueError) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_algorithms_are_named_as_their_papers_name_them():
    assert registry.spoken() == "DDPG, TD3, SAC, TQC, REDQ, DroQ or CrossQ"
    names = registry.display_names(["droq", "my_module:droq", "my_module:mine"])
    assert names == {"droq": "DroQ", "my_module:droq": "DROQ", "my_module:mine": "MINE"}


OF_2018 = ("ddpg", "td3", "sac")  # the algorithms that the preset paper-2018 is for


@pytest.mark.parametrize(
    ("algo", "preset"),
    [
        (algo, preset)
        for algo in registry.ALGORITHMS
        for preset in config.PRESETS
        if preset != "paper-2018" or algo in OF_2018
    ],
)
@pytest.mark.parametrize("env", config.environment_files())
def test_every_environment_file_resolves_for_every_algorithm_and_preset(env, preset, algo):
    settings = config.resolve({"env": env, "preset": preset, "algo": algo})
    assert cycle(settings.plan, settings.hyper.policy_delay).per_epoch > 0
    assert settings.job.algo == algo


def test_every_environment_that_is_known_by_name_has_a_file():
    from purerl.environments import brax
    from purerl.environments.mujoco import tasks

    newest = {name for name in tasks.TASKS if name.endswith("-v5")}
    assert {*brax.names(), *newest, "Pendulum-v1"} == set(config.environment_files())


def test_a_v4_task_is_trained_as_the_v5_is():
    settings = {name: config.resolve({"env": name}) for name in ("Swimmer-v4", "Swimmer-v5")}
    assert settings["Swimmer-v4"].job.env == "Swimmer-v4"
    assert settings["Swimmer-v4"].hyper == settings["Swimmer-v5"].hyper
    assert settings["Swimmer-v4"].plan == settings["Swimmer-v5"].plan


def test_flags_beat_the_file_which_beats_the_environment_which_beats_the_preset(tmp_path):
    env = tmp_path / "my_env.toml"
    env.write_text('env = "fast"\n[paper.td3]\nwarmup_steps = 1000\nbatch_size = 32\n[paper.td3.hyper]\ntau = 0.5\n')
    file = tmp_path / "mine.toml"
    file.write_text("batch_size = 16\n[hyper]\ngamma = 0.5\nactor_lr = 0.25\n")
    flags = {"env": str(env), "preset": "paper", "actor_lr": "0.125", "total_steps": "390_1000".replace("_", "")}
    settings = config.resolve(flags | {"total_steps": str(1000 + 390)}, file)
    assert settings.plan.num_envs == 1  # the preset
    assert settings.plan.warmup_steps == 1000 and settings.hyper.tau == 0.5  # the environment
    assert settings.plan.batch_size == 16 and settings.hyper.gamma == 0.5  # the file
    assert settings.hyper.actor_lr == 0.125  # the flag
    assert settings.hyper.critic_lr == 3e-4  # the default
    assert settings.job.env == "fast"


OF_NETWORKS = {"actor_widths": "8", "critic_activation": "elu", "actor_layer_norm": "false", "layer_norm": "true"}


def test_a_network_has_its_own_layers_where_they_are_set_and_else_those_of_both():
    plan = config.resolve(OF_NETWORKS | {"widths": "16,4", "activation": "tanh"}).plan
    assert plan.actor_layers == ((8,), "tanh", False) and plan.critic_layers == ((16, 4), "elu", True)
    for name, words in (("actor_widths", "actor_widths is '0' but"), ("critic_activation", "critic_activation is '0'")):
        with pytest.raises(ValueError, match=f"{words}.*; the default is 'none'"):
            config.resolve({name: "0"})


def test_settings_of_one_network_are_flags(capsys):
    flags, _ = train.parse(["--actor-layer-norm", "--critic-layer-norm", "none", "--actor-widths", "8x4"])
    plan = config.resolve(flags).plan
    assert (plan.actor_layer_norm, plan.critic_layer_norm, plan.actor_widths) == (True, None, (8, 4))
    with pytest.raises(SystemExit):
        train.main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--actor-layer-norm [true|false]" in shown and "none: the same as widths (default: none)" in shown


def test_a_run_from_before_the_settings_of_one_network_is_the_same_run():
    here = config.computation(config.resolve({}))
    older = {name: value for name, value in here.items() if not name.startswith(("actor_", "critic_"))}
    assert len(older) == len(here) - 6 and config.differences(older, here) == ""
    assert config.differences(older, config.computation(config.resolve(OF_NETWORKS))).startswith("layer_norm is False")


@pytest.mark.parametrize(
    "flags", [{}, {"algo": "sac", "alpha": "0.2", "layer_norm": "true", "widths": "8x4"}, OF_NETWORKS]
)
def test_the_printed_config_is_the_same_config(tmp_path, flags):
    settings = config.resolve(flags)
    file = tmp_path / "run.toml"
    file.write_text(config.to_toml(settings))
    assert config.resolve({}, file) == settings


def test_none_is_printed_and_read_back_over_a_number(tmp_path):
    env = tmp_path / "env.toml"
    env.write_text('env = "fast"\n[tuned.sac.hyper]\nalpha = 0.2\n')
    settings = config.resolve({"env": str(env), "algo": "sac", "alpha": "none"})
    assert settings.hyper.alpha is None
    assert tomllib.loads(config.to_toml(settings))["hyper"]["alpha"] == "none"


def test_the_preset_paper_2018_has_the_settings_of_the_td3_paper():
    """Fujimoto et al. 2018: 400x300, 1e-3 and 100, of OurDDPG, too, whose exploration noise is the same."""
    for algo in ("td3", "ddpg"):
        settings = config.resolve({"algo": algo, "preset": "paper-2018", "env": "Hopper-v5"})
        plan, hyper = settings.plan, settings.hyper
        assert (plan.num_envs, plan.updates_per_step, plan.batch_size, plan.widths) == (1, 1, 100, (400, 300))
        assert (hyper.actor_lr, hyper.critic_lr, hyper.gamma, hyper.tau) == (1e-3, 1e-3, 0.99, 0.005)
        assert (hyper.exploration_noise, hyper.weight_decay) == (0.1, None)
        assert (plan.total_steps - plan.warmup_steps) / plan.num_epochs == 5000


@pytest.mark.parametrize("algo", [algo for algo in registry.ALGORITHMS if algo not in OF_2018])
def test_the_preset_of_2018_is_refused_for_an_algorithm_that_came_later(algo):
    message = error_of(config.resolve, {"algo": algo, "preset": "paper-2018", "env": "Hopper-v5"})
    assert message == f"preset 'paper-2018' has no settings of {algo}; presets of {algo}: tuned, paper, fast"


def test_a_users_file_may_have_settings_of_2018_for_an_algorithm_that_came_later(tmp_path):
    (tmp_path / "it.toml").write_text('env = "Hopper-v5"\n["paper-2018".tqc]\nbatch_size = 100\n')
    assert config.resolve({"algo": "tqc", "preset": "paper-2018", "env": f"{tmp_path}/it.toml"}).plan.batch_size == 100


@pytest.mark.parametrize("algo", ["redq", "droq"])
@pytest.mark.parametrize(
    ("task", "entropy", "steps"),
    [
        ("Hopper", -1, 125_000),
        ("HalfCheetah", -3, 400_000),
        ("Walker2d", -3, 300_000),
        ("Ant", -4, 300_000),
        ("Humanoid", -2, 300_000),
    ],
)
def test_paper_settings_of_redq_and_droq_are_each_tasks_own(algo, task, entropy, steps):
    """redq/algos/core.py of the authors of REDQ, and the table in the README of the authors of DroQ."""
    for env in (f"{task}-v5", f"{task}-v4", task.lower()):
        settings = config.resolve({"algo": algo, "preset": "paper", "env": env})
        plan, hyper = settings.plan, settings.hyper
        assert (hyper.target_entropy, plan.total_steps, plan.warmup_steps) == (entropy, steps, 5_000)
        assert (plan.num_envs, plan.updates_per_step, hyper.policy_delay, plan.batch_size) == (1, 20, 20, 256)
        assert (hyper.actor_lr, hyper.critic_lr, hyper.alpha_lr, hyper.tau) == (3e-4, 3e-4, 3e-4, 0.005)


@pytest.mark.parametrize(("task", "dropped"), [("Hopper", 5), ("HalfCheetah", 0), ("Walker2d", 2), ("Swimmer", 2)])
def test_quantiles_that_tqc_drops_are_each_tasks_own(task, dropped):
    for preset in ("paper", "tuned", "fast"):
        settings = config.resolve({"algo": "tqc", "preset": preset, "env": f"{task}-v5"})
        hyper = settings.hyper
        assert (hyper.num_critics, hyper.num_quantiles, hyper.dropped_quantiles) == (5, 25, dropped)
    paper = config.resolve({"algo": "tqc", "preset": "paper", "env": f"{task}-v5"}).plan
    assert (paper.critic_layers.widths, paper.actor_layers.widths) == ((512, 512, 512), (256, 256))


def test_paper_settings_of_crossq_are_its_authors():
    settings = config.resolve({"algo": "crossq", "preset": "paper", "env": "Walker2d-v5"})
    plan, hyper = settings.plan, settings.hyper
    assert (plan.critic_layers.widths, plan.actor_layers.widths) == ((2048, 2048), (256, 256))
    assert (hyper.actor_lr, hyper.critic_lr, hyper.alpha_lr, hyper.adam_b1) == (1e-3, 1e-3, 1e-3, 0.5)
    assert (hyper.policy_delay, hyper.renorm_warmup, hyper.gamma, plan.warmup_steps) == (3, 100_000, 0.99, 5_000)
    swimmer = config.resolve({"algo": "crossq", "preset": "paper", "env": "Swimmer-v5"})
    assert swimmer.hyper.gamma == 0.9999 and "tau" not in vars(swimmer.hyper)


@pytest.mark.parametrize("name", config.environment_files())
@pytest.mark.parametrize("algo", OF_2018)
def test_random_steps_and_lengths_of_2018_are_each_tasks_own(name, algo):
    plan = config.resolve({"algo": algo, "preset": "paper-2018", "env": name}).plan
    task = name.removesuffix("-v5").lower()
    assert plan.warmup_steps == (10_000 if algo == "sac" or task in ("halfcheetah", "ant") else 1_000)
    longer = {"halfcheetah": 3_000_000, "ant": 3_000_000, "walker2d": 3_000_000, "humanoid": 10_000_000}
    steps = longer.get(task, 1_000_000) if algo == "sac" else 1_000_000
    assert plan.total_steps in (steps, steps + 1_000)
    assert (plan.total_steps - plan.warmup_steps) / plan.num_epochs == 5000


def test_where_the_limit_of_a_torque_is_3_the_noises_of_2018_are_a_third():
    """The code of 2018 does not multiply them by the limit, as the present code does."""
    then, now = (config.resolve({"preset": p, "env": "InvertedPendulum-v5"}).hyper for p in ("paper-2018", "paper"))
    for name in ("exploration_noise", "target_noise", "noise_clip"):
        assert getattr(then, name) == pytest.approx(getattr(now, name) / 3, rel=2e-3)


@pytest.mark.parametrize("preset", ["paper", "paper-2018"])
@pytest.mark.parametrize(
    ("initialization", "algos"),
    [("pytorch", ("ddpg", "td3", "tqc")), ("glorot", ("sac", "redq", "droq")), ("lecun", ("crossq",))],
)
def test_the_presets_of_papers_begin_with_the_authors_weights(preset, initialization, algos):
    """The codes that `presets.toml` names: PyTorch's default, Glorot of Keras and `xavier_uniform_`, Flax's default."""
    for algo in algos if preset == "paper" else set(algos) & set(OF_2018):
        for env in ("Hopper-v5", "Pendulum-v1", "halfcheetah"):
            assert config.resolve({"algo": algo, "preset": preset, "env": env}).plan.initialization == initialization


@pytest.mark.parametrize("preset", ["tuned", "fast"])
def test_the_other_presets_begin_with_small_weights(preset):
    for algo in registry.ALGORITHMS:
        assert config.resolve({"algo": algo, "preset": preset, "env": "hopper"}).plan.initialization == "small"


def test_a_run_of_before_there_were_initial_weights_to_choose_keeps_its_own(tmp_path):
    """Its run.toml has the preset `paper` and no `initialization`. A value of today's preset would be another run."""
    text = config.to_toml(config.resolve({"algo": "sac", "preset": "paper", "env": "Hopper-v5"}))
    file = tmp_path / "run.toml"
    file.write_text(text.replace('initialization = "glorot"\n', "") + "\n[record]\ndate = 2026-11-26\n")
    for flags in ({"seed": 5}, {"env": "Reacher-v5"}, {"preset": "paper"}):
        assert config.resolve(flags, file).plan.initialization == "small"
    assert config.resolve({"initialization": "lecun"}, file).plan.initialization == "lecun"


def test_the_paper_preset_has_the_authors_settings():
    td3, sac = (config.resolve({"algo": a, "preset": "paper", "env": "halfcheetah"}) for a in ("td3", "sac"))
    for settings in (td3, sac):
        plan, hyper = settings.plan, settings.hyper
        assert (plan.num_envs, plan.updates_per_step, plan.batch_size, plan.widths) == (1, 1, 256, (256, 256))
        assert (hyper.actor_lr, hyper.critic_lr, hyper.gamma, hyper.tau) == (3e-4, 3e-4, 0.99, 0.005)
        assert (plan.total_steps - plan.warmup_steps) / plan.num_epochs == 5000
    assert (td3.hyper.target_noise, td3.hyper.noise_clip, td3.hyper.policy_delay) == (0.2, 0.5, 2)
    assert (td3.plan.warmup_steps, sac.plan.warmup_steps) == (25_000, 10_000)
    assert sac.hyper.alpha is None and sac.hyper.target_entropy is None


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            {"algo": "td4"},
            "algo is 'td4'.*did you mean td3.*known: ddpg, td3, sac, tqc, redq, droq, crossq, or module:NAME",
        ),
        ({"preset": "papr"}, "preset is 'papr'.*'tuned', 'paper', 'paper-2018' or 'fast'"),
        ({"num_seeds": "0"}, "num_seeds is '0'.*greater than or equal to 1"),
        ({"num_envs": "-4"}, "num_envs is '-4'.*greater than or equal to 1"),
        ({"num_envs": "1.5"}, "num_envs is '1.5'.*whole number"),
        ({"total_steps": "many"}, "total_steps is 'many'.*whole number"),
        ({"gamma": "1.5"}, "gamma is '1.5'.*less than or equal to 1"),
        ({"actor_lr": "nan"}, "actor_lr is 'nan'.*(finite|greater than 0)"),
        ({"algo": "sac", "target_entropy": "nan"}, "target_entropy is 'nan'.*finite"),
        ({"reward_scale": "1e39"}, "reward_scale is '1e39'.*finite number"),
        (
            {"noise_schedule": "exponential", "exploration_noise": "0"},
            "cannot start from 0; choose 'constant' or 'linear'",
        ),
        ({"noise_schedule": "exponential", "final_noise": "0"}, "final_noise is 0.*never reaches 0; choose 'linear'"),
        ({"noise_schedule": "linear", "final_noise": "-0.1"}, "final_noise is '-0.1'.*greater than or equal to 0"),
        ({"seed": "2147483647"}, "the largest seed that works is 2147483640"),
        ({"num_seeds": "1e12"}, "num_seeds is '1e12'.*1048576"),
        ({"actor_lr": "0"}, "actor_lr is '0'.*greater than 0"),
        ({"algo": "sac", "alpha": "inf"}, "alpha is 'inf'.*finite"),
        ({"algo": "sac", "alpha": "0"}, "alpha is '0'.*greater than 0"),
        ({"layer_norm": "perhaps"}, "layer_norm is 'perhaps'.*boolean"),
        ({"widths": "64,-1"}, "widths is '64,-1'.*greater than or equal to 1"),
        ({"widths": ""}, "widths is ''"),
        ({"activation": "rellu"}, "activation is 'rellu'.*'relu'"),
        ({"buffer_size": "1000"}, "buffer_size 1000 is not a multiple of num_envs 16; the nearest is 992 or 1008"),
        ({"warmup_steps": "1000"}, "warmup_steps 1000 is not a multiple of num_envs 16; the nearest is 992 or 1008"),
        ({"batch_size": "5000"}, "batch_size 5000 is more than the warmup_steps 1200.*raise warmup_steps to 5008"),
        ({"buffer_size": str(2**31)}, "buffer_size is '2147483648'.*2147483647"),
        ({"total_steps": "1200"}, "total_steps 1200 leaves no steps for learning after"),
        ({"n_step": "100"}, "n_step 100.*largest that works is 75"),
        ({"algo": "ddpg", "target_noise": "0.1"}, "'target_noise' belongs to td3, not to ddpg"),
        ({"num_sed": "1"}, "unknown setting 'num_sed'; did you mean num_seeds"),
    ],
)
def test_bad_settings_are_refused_in_one_line(flags, words):
    import re

    assert re.search(words, error_of(config.resolve, flags)), error_of(config.resolve, flags)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("num_env = 3", "unknown setting 'num_env'; did you mean num_envs"),
        ("actor_lr = 1.0", "'actor_lr' belongs under .hyper."),
        ("[hyper]\nnum_envs = 3", "'num_envs' belongs at the top"),
        ('num_envs = "a"', "num_envs is 'a'"),
        ("num_envs = true", "num_envs is True"),
        ("hyper = 3", "hyper is 3"),
        ("num_envs = ", "is not a TOML file"),
        ("algo = 2020-01-01", "algo is datetime.date"),
        ("preset = {a = 1}", "preset is {'a': 1}"),
        ("env = 3", "env is 3"),
        ("num_seeds = {a = 1}", "num_seeds is {'a': 1}"),
        ("backend = 2020-01-01", "backend is datetime.date"),
        ("[hyper]\ngamma = true", "gamma is True"),
        ("x = " + "[" * 3000, "is not a TOML file"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, text, words):
    import re

    file = tmp_path / "mine.toml"
    file.write_text(text)
    assert re.search(words, error_of(config.resolve, {}, file))


def test_a_missing_file_and_a_bad_environment_file_are_refused(tmp_path):
    assert "cannot read" in error_of(config.resolve, {}, tmp_path / "absent.toml")
    file = tmp_path / "env.toml"
    file.write_text("bckend = 'spring'")
    assert "did you mean backend" in error_of(config.resolve, {"env": str(file)})
    for i, (text, words) in enumerate(
        [
            ("[tuned.td4]\nnum_envs = 1", "unknown table [tuned.td4]"),
            ("tuned = 3", "tuned is 3"),
            ("[tuned]\nall = 3", "tuned.all is 3"),
            ("[tuned.all]\nhyper = 3", "tuned.all.hyper is 3"),
            ("[tuned.all]\nalgo = 'sac'", "'algo' cannot be set under [tuned.all]"),
        ]
    ):
        other = tmp_path / f"other{i}.toml"
        other.write_text(text)
        assert words in error_of(config.resolve, {"env": str(other)})


def test_what_the_error_proposes_works():
    with pytest.raises(ValueError, match=r"the nearest total_steps is 99984 or 100272"):
        cycle(Plan(total_steps=100_000, warmup_steps=1_200, num_evals=7, num_envs=48, buffer_size=4_800), 2)
    for total in (99_984, 100_272):
        assert cycle(Plan(total_steps=total, warmup_steps=1_200, num_evals=7, num_envs=48, buffer_size=4_800), 2)
    with pytest.raises(ValueError, match=r"updates_per_step 3 and policy_delay 2 do not fit.*2 or 4"):
        cycle(Plan(updates_per_step=3), 2)
    for updates in (2, 4):
        assert cycle(Plan(updates_per_step=updates), 2)


def test_settings_made_in_python_are_checked_too():
    assert "tau is 2.0" in error_of(TD3, tau=2.0)
    assert "num_envs is 0" in error_of(Plan, num_envs=0)
    assert SAC(alpha="0.2").alpha == 0.2


def test_every_setting_has_a_description():
    for cls in (schema.Job, Plan, *(spec.hyperparameters for spec in registry.ALGORITHMS.values())):
        for name, (_, description, _) in fields(cls).items():
            assert description, name


def test_help_needs_no_jax():
    code = "import sys; from purerl import train\ntry: train.main(['--help'])\nfinally: print('jax' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.endswith("False\n")
    assert "--target-noise X" in shown and "--alpha" not in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--num-sed", "3"], "unknown argument '--num-sed'; did you mean --num-seeds"),
        (["--algo", "td4"], "algo is 'td4'"),
        (["--num-seeds"], "argument --num-seeds: expected one argument"),
        (["--env", "hoper"], "unknown Brax environment 'hoper'; did you mean hopper"),
        (["--env", "hopper", "--backend", "sprung"], "hopper has no backend 'sprung'; did you mean spring"),
        (["--env", "swimmer", "--backend", "mjx"], "swimmer has no backend 'mjx'"),
        (["--env", "nowhere:Env"], "importing 'nowhere' fails: ModuleNotFoundError"),
        (["--env", "purerl.types:Envv"], "has no 'Envv' that is an Environment"),
        (["--updates-per-step", "3"], "updates_per_step 3 and policy_delay 2 do not fit"),
        (["--updates-per-step", "3", "--policy-delay", "8"], "the nearest updates_per_step is 2 or 4"),
        (["--env", ":Env"], "is not of the form module:NAME"),
        (["--env", "purerl.types:Transition"], "has no 'Transition' that is an Environment"),
        (["--out", ""], "out is empty"),
        (["--out", "x" * 300], "File name too long"),
        (["--compilation-cache", "/proc/no/such"], "compilation_cache '/proc/no/such' cannot be written"),
        (["--ou-theta", "0.3"], "has no effect when noise is 'gaussian'; choose another noise, or leave out ou_theta"),
        (["--final-noise", "0.3"], "has no effect when noise_schedule is 'constant'"),
        (["--seeds-per-batch", "3"], "does not divide num_seeds 8; the nearest that does is 2"),
        (["--seeds-per-batch", "7"], "does not divide num_seeds 8; the nearest that does is 8"),
        (["--time-limit", "soon"], "time_limit is 'soon' but should be seconds or hours:minutes:seconds"),
        (["--checkpoint-keep", "0"], "checkpoint_keep is '0' but should be greater"),
        (["--out", "/proc/no/such"], "out '/proc/no/such' cannot be written"),
    ],
)
def test_bad_flags_are_refused_in_one_line_with_status_2(capfd, arguments, words):
    with pytest.raises(SystemExit) as caught:
        train.main(arguments)
    out, err = capfd.readouterr()
    assert caught.value.code == 2
    assert err.startswith("error: ") and err.count("\n") == 1 and words in err, err
    assert out == ""


def test_an_existing_run_folder_is_never_overwritten(tmp_path, capfd):
    (tmp_path / "curves.csv").write_text("precious")
    with pytest.raises(SystemExit):
        train.main(["--out", str(tmp_path)])
    assert "exists already and holds no run" in capfd.readouterr().err
    assert (tmp_path / "curves.csv").read_text() == "precious"


def test_asdict_of_a_config_holds_every_setting():
    settings = config.resolve({})
    shown = tomllib.loads(config.to_toml(settings))
    assert set(shown.pop("hyper")) == set(asdict(settings.hyper))
    assert set(shown) == set(asdict(settings.job)) | set(asdict(settings.plan)) | set(asdict(settings.keep))


def test_two_runs_begun_in_one_second_have_folders_of_their_own(tmp_path, monkeypatch):
    class Frozen(datetime):
        @classmethod
        def now(cls):
            return cls(2026, 11, 28, 12)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(naming, "datetime", Frozen)
    paths = []
    monkeypatch.setattr(
        runner,
        "run",
        lambda *given, **named: paths.append(given[3]) or RunOutcome({"diverged": np.ones(0)}, None, None, Clock()),
    )
    begun = [train.understood(["--env", "Pendulum-v1", "--compilation-cache", "none"]) for _ in range(3)]
    assert not (tmp_path / "runs").exists()
    assert [train.train(one) for one in begun] == [0, 0, 0]
    name = "runs/td3-Pendulum-v1-20261128-120000"
    assert [str(path) for path in paths] == [name, f"{name}-2", f"{name}-3"]


def test_a_flag_does_not_pass_for_what_a_sweep_says_of_every_setting(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('env = "fast"\n[sweep]\nactor_lr = [0.001, 0.01]\n')
    assert config.resolve({"critic_lr": "0.5"}, file).swept == {"actor_lr": (0.001, 0.01)}
    assert "actor_lr is swept: " in error_of(config.resolve, {"actor_lr": "0.5"}, file)
