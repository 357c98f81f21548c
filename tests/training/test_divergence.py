"""A run whose numbers stop being finite is frozen, told, and no other run's business."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import arguments
from toys import BUILD, HYPERS, counting, learner

from purerl import train
from purerl.results import run_folder
from purerl.settings.schema import Plan
from purerl.training import loop, mapping

PLAN = Plan(
    total_steps=40 + 240,
    num_envs=4,
    updates_per_step=2,
    batch_size=16,
    buffer_size=200,
    warmup_steps=40,
    num_evals=4,
    eval_episodes=2,
    widths=(8,),
    normalize_observations=True,
)
SEEDS = 4


def finite(tree):
    return all(np.isfinite(x).all() for x in jax.tree.leaves(tree))


def seed(tree, i):
    return jax.tree.map(lambda x: x[i], tree)


def poisoned(tree, i):
    """`tree` with a NaN in one number of run `i`."""
    leaves, structure = jax.tree.flatten(tree)
    leaves[0] = leaves[0].at[(i,) + (0,) * (leaves[0].ndim - 1)].set(jnp.nan)
    return jax.tree.unflatten(structure, leaves)


def trained(programs, numbers, carry, epochs):
    """The carry after `epochs`, and what every evaluation said. Leaves `carry` to others."""
    carry, said = jax.tree.map(jnp.copy, carry), []
    for index in epochs:
        carry, _ = programs.run_epoch(numbers, carry, index)
        said.append(jax.device_get(programs.run_evaluation(numbers, carry, index + 1)))
    return carry, said


@pytest.mark.parametrize(
    "where, algo",
    [
        pytest.param(where, algo, marks=[] if algo == "td3" or (where, algo) == ("actor", "sac") else pytest.mark.slow)
        for where in ("critic", "actor", "ring")
        for algo in ("ddpg", "td3", "sac", "crossq")
    ],
)
def test_one_diverged_seed_is_frozen_and_the_others_end_exactly_as_without_it(algo, where):
    env, hyper = counting(episode_length=9), HYPERS[algo](**({"policy_delay": 2} if algo == "crossq" else {}))
    programs, numbers = mapping.programs(PLAN, BUILD[algo], env, hyper), mapping.flowing(hyper)
    start, _ = programs.run_epoch(numbers, programs.run_warm_up(numbers, mapping.keys(0, SEEDS)), 0)
    sick = jax.tree.map(jnp.copy, start)
    if where == "ring":
        sick = sick._replace(ring=sick.ring.at[1].set(jnp.nan))
    else:
        part = getattr(sick.agent, where)
        sick = sick._replace(agent=sick.agent._replace(**{where: part._replace(params=poisoned(part.params, 1))}))

    after, said = trained(programs, numbers, sick, range(1, 3))
    well, expected = trained(programs, numbers, start, range(1, 3))

    row = PLAN.warmup_rows + 20  # where the second epoch begins: the first update tells
    assert after.diverged.tolist() == [-1, row, -1, -1] and well.diverged.tolist() == [-1] * 4
    for i in (0, 2, 3):
        jax.tree.map(np.testing.assert_array_equal, seed(after.agent, i), seed(well.agent, i))
        assert all(a["return_mean"][i] == b["return_mean"][i] for a, b in zip(said, expected, strict=True))
    frozen, _ = trained(programs, numbers, sick, range(1, 2))
    jax.tree.map(np.testing.assert_array_equal, seed(after.agent, 1), seed(frozen.agent, 1))
    for part in ("actor", "critic"):
        if (where, part) != ("actor", "critic"):  # The critic learns once more before the actor's loss tells.
            kept, before = getattr(after.agent, part), getattr(sick.agent, part)
            jax.tree.map(np.testing.assert_array_equal, seed(kept, 1), seed(before, 1))


@pytest.mark.parametrize("what", ["reward", "observation"])
def test_a_transition_that_is_not_finite_freezes_a_run_before_it_is_learned_from(what):
    env = counting(episode_length=1000)
    bad = 25.0  # the step of an episode, and here also the row, that is not finite

    def step(state, action):
        state, outcome = env.step(state, action)
        return state, outcome._replace(reward=jnp.where((what == "reward") & (state.step == bad), jnp.nan, 1.0))

    def observe(state):
        return jnp.where((what == "observation") & (state.step == bad), jnp.inf, env.observe(state))

    sick = env._replace(step=step, observe=observe)
    setup = loop.setup(PLAN, learner("td3", PLAN, sick), sick)
    carry, _ = jax.jit(partial(loop.epoch, setup))(loop.warmed_up(setup, jax.random.key(0)), 0)
    assert carry.diverged == carry.environment_nan == bad
    assert finite(carry.agent) and finite(carry.statistics) and carry.statistics.count == 4 * (bad - 1)


def test_parameters_that_are_not_finite_after_the_last_update_are_told():
    env, algorithm = counting(), learner("ddpg", PLAN, counting())

    def update_actor(agent, batch, key):
        return poisoned_scalar(agent), {}

    def poisoned_scalar(agent):
        return jax.tree.map(lambda x: x * jnp.nan if jnp.issubdtype(x.dtype, jnp.floating) else x, agent)

    plan = replace(PLAN, num_evals=2, total_steps=40 + 4, updates_per_step=1)
    sick = algorithm._replace(update_actor=update_actor, metrics=("critic_loss", "q"))
    setup = loop.setup(plan, sick, env)
    carry, _ = jax.jit(partial(loop.epoch, setup))(loop.warmed_up(setup, jax.random.key(0)), 0)
    values = loop.evaluate(setup, carry, 1)
    assert values["diverged"] == plan.warmup_rows + 1 and values["environment_nan"] == -1


def test_the_command_line_counts_the_diverged_and_leaves_them_out(tmp_path, capsys, monkeypatch):
    out = tmp_path / "run"
    original = loop.initial_carry

    def begin(setup, key, pool):
        """Run 6 of 5, 6, 7 begins with a NaN."""
        carry = original(setup, key, pool)
        sick = (jax.random.key_data(key) == jax.random.key_data(jax.random.key(6))).all()
        return carry._replace(
            agent=jax.tree.map(lambda x: jnp.where(sick, x * jnp.nan, x).astype(x.dtype), carry.agent)
        )

    monkeypatch.setattr(loop, "initial_carry", begin)
    assert train.main([*arguments(algo="td3"), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "1 diverged" in shown and "diverged, left out: 1" in shown and "seed 6 at step 40" in shown
    curves = run_folder.read_curves(out)
    for number, diverged in ((5, np.nan), (6, 40.0), (7, np.nan)):
        np.testing.assert_array_equal(curves["diverged"][curves["seed"] == number], [diverged] * 4)


def test_a_return_that_is_not_finite_freezes_a_run_for_good():
    """Evaluation may meet what training has not."""
    env, algorithm = counting(episode_length=12), learner("td3", PLAN, counting())
    setup = loop.setup(PLAN, algorithm, env)

    def reward(state, action):
        return jnp.where(state.step > 11, jnp.nan, 1.0)

    sick = counting(episode_length=12, reward=reward)
    run = setup._replace(env=sick)
    carry = loop.warmed_up(setup, jax.random.key(0))
    values = loop.evaluate(run, carry, 0)
    assert values["diverged"] == values["environment_nan"] == PLAN.warmup_rows
    assert loop.evaluate(setup, carry, 0)["diverged"] == -1
    frozen, _ = loop.epoch(setup, carry._replace(diverged=values["diverged"]), 0)
    assert frozen.diverged == PLAN.warmup_rows
    jax.tree.map(np.testing.assert_array_equal, frozen.agent, carry.agent)


def test_a_run_of_which_every_seed_diverged_ends_with_its_table(tmp_path, capsys, monkeypatch):
    (tmp_path / "sick.py").write_text(
        "import jax.numpy as jnp\nfrom brax.envs.fast import Fast\n\n"
        "class Sick(Fast):\n    def step(self, state, action):\n"
        "        return super().step(state, action).replace(reward=jnp.nan)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "run"
    assert train.main([*arguments(env="sick:Sick"), "--out", str(out)]) == train.DIVERGED
    shown = capsys.readouterr().out
    assert ": every run has diverged" in shown
    assert "NaN or overflow of environment, left" in shown
    assert "none" in shown and (out / "curve.png").exists()
    assert set(run_folder.read_curves(out)["env_step"]) == {0.0}  # It ends there, and is complete.
    with pytest.raises(SystemExit):
        train.main(["--resume", str(out)])


def breaking(at, what):
    """Episodes that terminate at step `at`, where the observation, and of `what` "both" the reward, is NaN."""
    env = counting(1000, lambda state: state.step >= at)

    def step(state, action):
        state, outcome = env.step(state, action)
        broken = (state.step >= at) & (what == "both")
        return state, outcome._replace(reward=jnp.where(broken, jnp.nan, outcome.reward))

    def observe(state):
        return jnp.where(state.step >= at, jnp.nan, env.observe(state))

    return env._replace(step=step, observe=observe)


@pytest.mark.parametrize(
    "algo, what, truncates, n_step",
    [
        pytest.param("td3", "both", True, 1, marks=pytest.mark.slow),
        ("td3", "both", False, 3),
        pytest.param("td3", "observation", True, 3, marks=pytest.mark.slow),
        pytest.param("sac", "both", False, 1, marks=pytest.mark.slow),
    ],
)
def test_an_environment_that_ends_in_nan_by_itself_freezes_nothing(algo, what, truncates, n_step):
    sick, plan = breaking(5, what)._replace(truncates=truncates), replace(PLAN, n_step=n_step)
    setup = loop.setup(plan, learner(algo, plan, sick), sick)
    carry, metrics = jax.jit(lambda key: loop.epoch(setup, loop.warmed_up(setup, key), 0))(jax.random.key(0))
    assert carry.diverged == carry.environment_nan == -1 and finite(carry.agent) and finite(metrics)
    assert finite(carry.statistics) and carry.statistics.count == 4 * 30
    assert carry.dropped == (4 * 6 if what == "both" else 0)  # Each of four environments ends six times in 30 rows.
    values = loop.evaluate(setup, carry, 1)
    assert values["return_mean"] == (4 if what == "both" else 5) and values["episode_length"] == 5
    window = setup.replay.sample(carry.ring, 30, jax.random.key(1), (500,))
    assert finite(window._replace(next_observation=jnp.where(window.terminated[..., None], 0, window.next_observation)))
    assert window.terminated[0].any() == (what == "observation")


def test_the_target_of_a_state_that_is_nan_is_the_reward():
    sick = breaking(1, "observation")
    algorithm = learner("td3", PLAN, sick)
    setup = loop.setup(PLAN, algorithm, sick)
    carry = jax.jit(partial(loop.warmed_up, setup))(jax.random.key(0))
    batch = algorithm.to_batch(setup.replay.sample(carry.ring, 10, jax.random.key(1), (16,)))
    target = batch.reward + batch.discount * algorithm.next_value(carry.agent, batch, jax.random.key(2))
    np.testing.assert_array_equal(target, np.ones(16))


WRITTEN = """
import jax, jax.numpy as jnp
from purerl.environments.base import Environment, Outcome

def made(name, wrong):
    def reset(key):
        return jax.random.uniform(key), jnp.int32(0)

    def step(state, action):
        no = jnp.asarray(False)
        return (state[0], state[1] + 1), Outcome(jnp.float32(1.0), no, no)

    def observe(state):
        return jnp.where(wrong(*state), jnp.nan, jnp.stack([state[0], state[1] / 20.0]))

    return Environment(reset, step, observe, 2, 1, 20, name, False)

in_the_warm_up = made("in_the_warm_up", lambda x, t: t == 5)
at_a_reset = made("at_a_reset", lambda x, t: (t == 0) & (x > 0.9))
seldom = made("seldom", lambda x, t: (t == 3) & (x > 0.97))
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text(WRITTEN)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_run_that_diverges_between_evaluations_has_a_row_that_says_so(written, tmp_path, capsys):
    out = tmp_path / "run"
    words = [*arguments(env="broken:in_the_warm_up"), "--out", str(out)]
    assert train.main(words) == train.DIVERGED
    assert ": every run has diverged" in capsys.readouterr().out
    curves = run_folder.read_curves(out)
    assert curves["env_step"].tolist() == [0] * 3
    assert curves["diverged"].tolist() == curves["environment_nan"].tolist() == [20] * 3
    with pytest.raises(SystemExit):
        train.main(words)
    assert "complete already" in capsys.readouterr().err


def test_nan_at_a_reset_is_the_environments(written, tmp_path):
    assert train.main([*arguments(env="broken:at_a_reset"), "--out", str(tmp_path / "run")]) in (0, train.DIVERGED)
    last = run_folder.final(run_folder.read_curves(tmp_path / "run"))
    lost = ~np.isnan(last["diverged"])
    assert lost.any() and (last["environment_nan"][lost] == last["diverged"][lost]).all()


@pytest.mark.slow
def test_a_seed_that_diverges_in_a_group_of_its_own_is_left_out_as_among_others(written, tmp_path):
    columns = ("env_step", "diverged", "environment_nan")
    lasts = []
    for name, more in (("together", {}), ("alone", {"seeds_per_batch": "1"})):
        out = tmp_path / name
        assert train.main([*arguments(env="broken:seldom", num_seeds="6", **more), "--out", str(out)]) == 0
        lasts.append(run_folder.final(run_folder.read_curves(out)))
        with pytest.raises(SystemExit):  # It is complete.
            train.main(["--resume", str(out)])
    together, alone = lasts
    assert 0 < (~np.isnan(together["diverged"])).sum() < 6
    for column in columns[1:]:
        np.testing.assert_array_equal(together[column], alone[column])


def test_where_nothing_is_stored_nothing_is_made_up(tmp_path):
    sick = breaking(1, "both")
    setup = loop.setup(PLAN, learner("td3", PLAN, sick), sick)
    carry = jax.jit(partial(loop.warmed_up, setup))(jax.random.key(0))
    assert carry.dropped == 40
    window = setup.replay.sample(carry.ring, 10, jax.random.key(1), (16,))
    assert window.terminated.all() and (window.reward == 0).all()
