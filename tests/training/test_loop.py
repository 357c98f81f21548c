"""The loop: how often, in which order, with which keys, and what evaluation measures.

Most of it is seen by `recorder`, an algorithm that learns nothing and writes down every call.
"""

from functools import cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import prepared
from toys import BUILD, HYPERS, after, contents, counting, learner

from purerl.runs import runner
from purerl.settings import schema
from purerl.settings.schema import Cycle, Plan
from purerl.training import loop, mapping
from purerl.types import Algorithm, Batch, Noise

CALLS = 512  # the most that a recorder remembers
NAMES = np.array(["", "critic", "actor"])
SMALL = {"widths": (16,), "batch_size": 32, "num_evals": 3}


class Log(NamedTuple):
    """`count` calls so far; of each: what it was, its keys, and the batch it got. `born` is the key of `init`.

    `key` is that of the values or of the actor, `own` that of a critic update.
    """

    count: jax.Array
    what: jax.Array
    key: jax.Array
    own: jax.Array
    batch: jax.Array
    born: jax.Array


def digits(key):
    """A key `[]` as four numbers that float32 holds exactly."""
    data = jax.random.key_data(key)
    return jnp.stack([data >> 16, data & 0xFFFF]).reshape(4).astype(jnp.float32)


def recorder(plan, delay=1):
    """Logs its updates, those of critics with the key of their values and their own.

    Its actions `[8]` are the digits of the key of the noise, then of the key of `explore`.
    """

    def init(key):
        batch = jnp.zeros((CALLS, plan.batch_size, 2))
        keys = jnp.zeros((CALLS, 4))
        return Log(jnp.int32(0), jnp.zeros(CALLS, jnp.int32), keys, keys, batch, digits(key))

    def next_value(log, batch, key):
        return jnp.tile(digits(key), (delay, 1))

    def update(what, log, batch, value, own):
        found = (what, value, own, batch.observation)
        logged = (x.at[log.count].set(y) for x, y in zip(log[1:5], found, strict=True))
        return Log(log.count + 1, *logged, log.born), {}

    def draw(state, progress, key):
        return state, jnp.tile(jnp.concatenate([digits(key), jnp.zeros(4)]), (plan.num_envs, 1))

    return Algorithm(
        init=init,
        policy=lambda log: (),
        act=lambda policy, observation: jnp.zeros((*observation.shape[:-1], 8)),
        explore=lambda log, observation, noise, key: noise.at[:, 4:].set(digits(key)),
        to_batch=lambda window: Batch(*(x[0] for x in window[:4]), window.next_observation[0]),
        next_value=next_value,
        update_critic=lambda log, batch, value, key: update(1, log, batch, value, digits(key)),
        update_actor=lambda log, batch, key: update(2, log, batch, digits(key), 0.0),
        noise=Noise(lambda: (), draw, lambda state, over: state),
        policy_delay=delay,
        metrics=(),
    )


class Recording(NamedTuple):
    """A recorder's run, cut where an epoch ends: `calls[i]`, `batches[i]` and `carries[i]`, `carries[0]` untrained."""

    calls: list
    batches: list
    carries: list


ROWS = 4  # that `record` collects per epoch
WARMUP = 2  # rows before


@cache
def record(delay=1, updates=1):
    """Two epochs of four rows with 64 environments that never end, after a warm-up of two rows."""
    plan = Plan(
        total_steps=64 * (WARMUP + 2 * ROWS),
        num_envs=64,
        updates_per_step=updates,
        batch_size=128,
        buffer_size=1024,
        warmup_steps=64 * WARMUP,
        num_evals=3,
    )
    run = loop.setup(plan, recorder(plan, delay), counting(action_size=8))
    carries = [jax.jit(partial(loop.warmed_up, run))(jax.random.key(0))]
    epoch = jax.jit(partial(loop.epoch, run))
    for index in range(plan.num_epochs):
        carries.append(epoch(carries[-1], index)[0])
    cuts = [int(carry.agent.count) for carry in carries]
    log, parts = carries[-1].agent, [slice(*cut) for cut in pairwise(cuts)]
    assert cuts[0] == 0 and cuts[-1] < CALLS
    return Recording([NAMES[log.what[part]].tolist() for part in parts], [log.batch[part] for part in parts], carries)


SHAPES = pytest.mark.parametrize("delay, updates", [(1, 1), (2, 1), (2, 2), (2, 8), (1, 4), (4, 2), (20, 20)])


@SHAPES
def test_the_actor_follows_every_policy_delay_critic_updates_whatever_their_number_per_step(delay, updates):
    rounds = ROWS * updates // delay
    assert record(delay, updates).calls == [(["critic"] * delay + ["actor"]) * rounds] * 2


@SHAPES
def test_the_actor_learns_from_the_last_batch_of_its_critics(delay, updates):
    for batches in record(delay, updates).batches:
        rounds = batches.reshape(-1, delay + 1, *batches.shape[1:])
        assert jnp.array_equal(rounds[:, -1], rounds[:, -2])
        assert len({batch.tobytes() for batch in np.asarray(batches)}) == ROWS * updates  # the critics' all differ


@SHAPES
def test_a_cycle_learns_from_all_rows_before_it_and_then_collects(delay, updates):
    recording, collects = record(delay, updates), max(1, delay // updates)
    for epoch, (calls, batches) in enumerate(zip(recording.calls, recording.batches, strict=True)):
        newest = batches[:, :, 1].max(axis=1)[np.array(calls) == "critic"]
        last = WARMUP + epoch * ROWS - 1
        assert newest.tolist() == np.repeat(np.arange(last, last + ROWS, collects), updates * collects).tolist()


@SHAPES
def test_an_epoch_makes_its_share_of_the_steps(delay, updates):
    for index, carry in enumerate(record(delay, updates).carries):
        assert (carry.episodes.state.step == WARMUP + index * ROWS).all()


def test_warmup_acts_uniformly_and_learns_nothing():
    carry = record().carries[0]
    written = contents(carry.ring, 2).action
    action = np.sort(np.asarray(written[:WARMUP]).ravel())
    uniform = np.linspace(-1.0, 1.0, action.size)
    assert np.abs(action - uniform).max() < 2 * 1.63 / np.sqrt(action.size)  # Kolmogorov-Smirnov, 1 %
    assert (written[WARMUP:] == 0.0).all()
    assert carry.agent.count == 0


def test_no_key_is_used_twice():
    carries = record(2, 8).carries
    last = carries[-1]
    logged = np.unique(last.agent.key[: last.agent.count], axis=0)  # one of values, one of the actor a round
    own = last.agent.own[: last.agent.count][last.agent.what[: last.agent.count] == 1]
    written = np.asarray(contents(last.ring, 2).action)
    actions = written[WARMUP : WARMUP + 2 * ROWS, 0].reshape(-1, 4)
    resets = jax.vmap(digits)(jax.random.wrap_key_data(last.episodes.pool.key))
    keys = np.concatenate([np.asarray(last.agent.born)[None], digits(last.key)[None], logged, own, actions, resets])
    assert len(keys) == 2 + 2 * ROWS * (4 + 4 + 8) + 2 * ROWS * 2 + 128
    assert len(np.unique(keys, axis=0)) == len(keys)
    assert len(np.unique(written[:WARMUP])) == written[:WARMUP].size


def small(**changes):
    """200 critic updates on eight environments, but for `changes`."""
    return Plan(**({"total_steps": 864, "num_envs": 8, "updates_per_step": 2, "warmup_steps": 64} | SMALL | changes))


def world():
    """Episodes of 2 to 8 steps, rewarded for actions near their start."""

    def reward(state, action):
        return -((action[0] - state.start) ** 2)

    return counting(8, lambda state: state.step > 1 + 9 * state.start, reward=reward)


@cache
def train(name):
    plan = small(buffer_size=512)
    return jax.jit(partial(loop.train, plan, learner(name, plan, world()), world()))


@cache
def trained(name, seed):
    return train(name)(jax.random.key(seed))


@cache
def parts(name):
    """The run of `trained`, its parts jitted by themselves."""
    plan = small(buffer_size=512)
    run = loop.setup(plan, learner(name, plan, world()), world())
    return tuple(jax.jit(partial(f, run)) for f in (loop.warmed_up, loop.epoch, loop.evaluate))


def close(tree, other, rtol):
    def assert_close(x, y):
        if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol * 1e-1)

    jax.tree.map(assert_close, tree, other)


def test_the_same_seed_twice_is_the_same_run_bit_for_bit():
    first, second = trained("td3", 0), train("td3")(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, first[0].agent, second[0].agent)
    jax.tree.map(np.testing.assert_array_equal, first[1], second[1])


def test_another_seed_is_another_run():
    first, second = (trained("td3", seed)[0] for seed in (0, 1))
    assert not jnp.array_equal(first.ring, second.ring)
    assert not jax.tree.all(jax.tree.map(jnp.array_equal, first.agent.actor.params, second.agent.actor.params))


def test_a_run_in_one_program_equals_its_parts():
    begin, epoch, evaluate = parts("td3")
    carry, curves = begin(jax.random.key(0)), []
    for index in range(2):
        curves.append(evaluate(carry, index))
        carry, metrics = epoch(carry, index)
        curves[-1] |= {"epoch": metrics}
    whole, curve = trained("td3", 0)
    close(carry, whole, rtol=1e-5)
    for name, values in curve.items():
        if name in curves[0]:
            chunks = [*(x[name] for x in curves), evaluate(carry, 2)[name]]
        else:
            chunks = [np.nan, *(x["epoch"][name] for x in curves)]
        np.testing.assert_allclose(values, chunks, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("warming_up", [loop.at_random, pytest.param(loop.exploring, marks=pytest.mark.slow)])
def test_a_cpu_warms_up_and_trains_in_one_loop_as_a_gpu_does_in_two(warming_up):
    """With cycles of two rows, a warm-up of an odd number of rows, and episodes that end within it."""
    plan, hyper, carries = small(num_envs=4, updates_per_step=1, warmup_steps=68, total_steps=132), HYPERS["td3"](), []
    numbers = mapping.flowing(hyper)
    for platform in ("cpu", "cuda"):
        programs = mapping.programs(plan, BUILD["td3"], world(), hyper, platform=platform, warming_up=warming_up)
        carry = programs.run_warm_up(numbers, mapping.keys(0, 2))
        carries.append([jax.device_get(carry)])
        for index in range(plan.num_epochs):
            carry, metrics = programs.run_epoch(numbers, carry, index)
            carries[-1].append(jax.device_get((carry.agent, carry.noise, carry.episodes, carry.ring, metrics)))
    assert plan.warmup_rows % 2 == 1 and programs.cycle.collects == 2
    close(*carries, rtol=1e-5)


@pytest.mark.parametrize("evaluations", [0, 3])
def test_evaluation_changes_nothing(evaluations):
    begin, epoch, evaluate = parts("td3")
    carry = begin(jax.random.key(0))
    for index in range(2):
        scores = [evaluate(carry, index)["return_mean"] for _ in range(evaluations)]
        assert len(set(map(float, scores))) <= 1
        carry, _ = epoch(carry, index)
    close(carry, trained("td3", 0)[0], rtol=1e-5)


def test_how_often_a_run_is_evaluated_changes_nothing_in_training():
    """Episodes of 2 to 8 steps, so that starts are drawn many times, by the programs of the command line."""
    carries, numbers, keys = [], mapping.flowing(HYPERS["td3"]()), mapping.keys(0, 2)
    for num_evals in (2, 3, 11):
        plan = small(buffer_size=512, num_evals=num_evals)
        programs = mapping.programs(plan, BUILD["td3"], world(), HYPERS["td3"]())
        carry = programs.run_warm_up(numbers, keys)
        for index in range(plan.num_epochs):
            programs.run_evaluation(numbers, carry, index)
            carry, _ = programs.run_epoch(numbers, carry, index)
        carries.append(carry)
    assert (carries[0].episodes.begun > 2 * 64).all()  # The pool was drawn several times.
    for other in carries[1:]:
        for name in ("agent", "episodes", "ring"):
            jax.tree.map(np.testing.assert_array_equal, getattr(carries[0], name), getattr(other, name))


@pytest.mark.slow
def test_more_episodes_of_evaluation_than_the_pool_holds_change_nothing():
    """Neither as parts of a run, nor as its programs."""
    few, many = ({"algo": "td3", "eval_episodes": str(number)} for number in (2, 70))
    for algorithm_and_agents in zip(*map(agents_after_an_epoch, (few, many)), strict=True):
        for one, other in zip(*map(jax.tree.leaves, algorithm_and_agents), strict=True):
            np.testing.assert_array_equal(one, other)


def agents_after_an_epoch(options):
    """By the programs over runs, and by the functions of one run, `[1, ...]`."""
    made, programs, numbers = prepared(**options, num_seeds="1")
    carry, _ = programs.run_epoch(numbers, programs.run_warm_up(numbers, mapping.keys(0, 1)), 0)
    env, build = runner.prepare(made)
    run = loop.setup(made.plan, build(made.hyper, made.plan, env), env)
    alone, _ = jax.jit(lambda key: loop.epoch(run, loop.warmed_up(run, key), 0))(mapping.keys(0, 1)[0])
    return carry.agent, jax.tree.map(lambda x: x[None], alone.agent)


def test_a_run_compiles_once():
    begin, epoch, evaluate = parts("td3")
    carry = begin(jax.random.key(3))
    for index in range(2):
        evaluate(carry, index)
        carry, _ = epoch(carry, index)
    assert [part._cache_size() for part in (begin, epoch, evaluate)] == [1, 1, 1]


@pytest.mark.parametrize(
    "name, changes, shape",
    [
        ("ddpg", {"noise": "ou", "noise_schedule": "linear"}, {}),
        ("td3", {"weight_decay": 1e-3, "max_grad_norm": 1.0}, {"normalize_observations": True, "n_step": 3}),
        ("td3", {"policy_delay": 4}, {"layer_norm": True}),
        ("sac", {}, {"normalize_observations": True}),
        ("sac", {"alpha": 0.1}, {}),
    ],
)
def test_an_epoch_leaves_the_types_of_its_carry_as_they_were(name, changes, shape):
    plan = small(buffer_size=512, **shape)
    run = loop.setup(plan, learner(name, plan, world(), **changes), world())
    before = jax.eval_shape(partial(loop.warmed_up, run), jax.random.key(0))
    after, _ = jax.eval_shape(partial(loop.epoch, run), before, jnp.int32(0))
    assert jax.tree.map(lambda x: x.update(sharding=None), before) == jax.tree.map(
        lambda x: x.update(sharding=None), after
    )


@pytest.mark.parametrize("name", ["td3", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ddpg", "sac"))])
def test_many_seeds_equal_single_seeds(name):
    """After 200 updates; kernels of another shape round otherwise, and learning makes that grow."""
    many, curves = jax.jit(jax.vmap(train(name)))(jax.vmap(jax.random.key)(jnp.arange(16)))
    for seed in (0, 13):
        single, curve = trained(name, seed)
        close(jax.tree.map(lambda x, i=seed: x[i], many.agent), single.agent, rtol=2e-3)
        close({key: values[seed] for key, values in curves.items()}, curve, rtol=2e-3)


def score(env, algorithm=None, index=0, episodes=10):
    """What evaluation says of an untrained agent."""
    plan = small(buffer_size=512, eval_episodes=episodes)
    run = loop.setup(plan, algorithm(plan, env) if algorithm else recorder(plan), env)
    carry = loop.warmed_up(run, jax.random.key(0))
    said = loop.evaluate(run, carry, index)
    return {name: float(said[name]) for name in ("return_mean", "return_std", "episode_length")}


def test_the_first_evaluation_is_before_training():
    begin, _, evaluate = parts("td3")
    _, curves = trained("td3", 0)
    untrained = evaluate(begin(jax.random.key(0)), 0)
    np.testing.assert_allclose(curves["return_mean"][0], untrained["return_mean"], rtol=1e-5)
    assert jnp.isnan(curves["q"][0]) and jnp.isfinite(curves["q"][1:]).all()
    assert {len(values) for values in curves.values()} == {3}


@pytest.mark.parametrize(
    "env, steps",
    [
        (counting(7, action_size=8), 7),
        (counting(7, terminates=after(3), action_size=8), 3),
        (counting(7, truncates=after(3), action_size=8), 3),
        (counting(7, terminates=after(7), action_size=8), 7),
        (counting(1, action_size=8), 1),
    ],
    ids=["time limit", "termination", "its own truncation", "both at once", "one step"],
)
def test_evaluation_counts_the_rewards_of_one_whole_episode_and_none_after(env, steps):
    assert score(env) == {"return_mean": steps, "return_std": 0.0, "episode_length": steps}


def test_evaluation_survives_physics_that_break_after_the_end():
    env = counting(7, after(3), reward=lambda state, action: jnp.where(state.step > 3, jnp.nan, 2.0), action_size=8)
    env = env._replace(observe=lambda state: jnp.where(state.step > 2, jnp.nan, jnp.stack([state.start, state.step])))
    assert score(env) == {"return_mean": 6.0, "return_std": 0.0, "episode_length": 3.0}


def test_every_evaluation_plays_random_episodes_of_its_own():
    env = counting(1, reward=lambda state, action: state.start, action_size=8)
    assert len({score(env, index=index)["return_mean"] for index in range(3)}) == 3
    assert 0.1 < score(env, episodes=64)["return_std"] < 0.5


@pytest.mark.parametrize("name", BUILD)
def test_evaluation_acts_without_noise_and_sac_with_its_mean_action(name):
    env = counting(6, reward=lambda state, action: action[0])._replace(observe=lambda state: jnp.ones(2))
    played = score(env, partial(learner, name, **({"policy_delay": 2} if name == "crossq" else {})))
    assert played["return_std"] < 1e-6
    assert abs(played["return_mean"]) < 6 * 0.01  # the mean of an untrained policy is near zero


def test_returns_are_reported_unscaled():
    env = counting(5, reward=lambda state, action: jnp.float32(3.0))
    assert score(env, partial(learner, "td3", reward_scale=0.1))["return_mean"] == 15.0


def test_exploration_noise_begins_anew_with_every_episode():
    env = counting(2)
    plan = small(buffer_size=512)
    run = loop.setup(plan, learner("ddpg", plan, env, noise="ou", exploration_noise=0.5), env)
    carry = loop.warmed_up(run, jax.random.key(0))
    for row, forgotten in ((8, False), (9, True), (10, False), (11, True)):
        carry = loop.collect(run, carry, row, loop.exploring)
        assert ((carry.noise == 0.0) == forgotten).all()


def test_statistics_of_observations_take_in_every_row_once():
    env = counting(2)
    plan = small(buffer_size=1024, normalize_observations=True)
    run = loop.setup(plan, learner("ddpg", plan, env), env)
    carry, _ = jax.jit(partial(loop.epoch, run))(loop.warmed_up(run, jax.random.key(0)), 0)
    seen = contents(carry.ring, 2).observation[: carry.statistics.count.astype(int) // 8].reshape(-1, 2)
    assert len(seen) == 64 + 400
    np.testing.assert_allclose(carry.statistics.mean, seen.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(carry.statistics.variance, seen.var(axis=0), rtol=1e-4)


@pytest.mark.parametrize(
    "delay, updates, expected",
    [
        (1, 1, Cycle(1, 1, 1, 100)),
        (2, 1, Cycle(2, 2, 1, 50)),
        (2, 8, Cycle(1, 2, 4, 100)),
        (4, 2, Cycle(2, 4, 1, 50)),
    ],
)
def test_a_cycle_is_the_smallest_stretch_that_repeats(delay, updates, expected):
    plan = small(total_steps=64 + 2 * 800, updates_per_step=updates, buffer_size=512)
    assert schema.cycle(plan, delay) == expected


FIT: dict[str, Any] = {"total_steps": 160 + 1600, "num_envs": 8, "warmup_steps": 160, "buffer_size": 320} | SMALL
MISFITS = {  # what is changed, the policy delay, the setting to change, the values that the error offers
    "buffer": ({"buffer_size": 325}, 1, "buffer_size", (320, 328)),
    "buffer below one row": ({"buffer_size": 5, "batch_size": 8}, 1, "buffer_size", (8,)),
    "warm-up": ({"warmup_steps": 161, "total_steps": 5000}, None, "warmup_steps", (160, 168)),
    "batch": ({"batch_size": 163, "total_steps": 5000}, None, "warmup_steps", (168,)),
    "n-step": ({"n_step": 21}, 1, "n_step", (20,)),
    "n-step in a short ring": ({"n_step": 21, "buffer_size": 80}, 1, "n_step", (10,)),
    "updates": ({"updates_per_step": 5}, 2, "updates_per_step", (4, 6)),
    "too few updates": ({"updates_per_step": 3}, 4, "updates_per_step", (4,)),
    "total": ({"total_steps": 1765}, 1, "total_steps", (1760, 1776)),
    "total of long cycles": ({"total_steps": 1776, "updates_per_step": 1}, 2, "total_steps", (1760, 1792)),
    "total below one epoch": ({"total_steps": 161}, 1, "total_steps", (176,)),
}


def fit(changes, delay):
    plan = Plan(**(FIT | changes))
    return plan if delay is None else schema.cycle(plan, delay)


@pytest.mark.parametrize("changes, delay, setting, offers", MISFITS.values(), ids=MISFITS.keys())
def test_numbers_that_do_not_fit_are_answered_with_the_nearest_that_do(changes, delay, setting, offers):
    with pytest.raises(ValueError) as error:
        fit(changes, delay)
    message = str(error.value)
    assert "\n" not in message and f"{setting} " in message
    assert all(str(number) in message for number in ((FIT | changes).get(setting, 21), *offers))
    for offer in offers:
        fit(changes | {setting: offer}, delay)


def test_a_run_of_nothing_but_warmup_is_refused():
    with pytest.raises(ValueError, match="total_steps 160 leaves no steps for learning after warmup_steps 160"):
        Plan(**(FIT | {"total_steps": 160}))


@pytest.mark.parametrize("index, steps, updates", [(0, 0, 0), (1, 960, 200), (2, 1760, 400)])
def test_steps_and_updates_of_an_evaluation_are_counted_from_the_plan(index, steps, updates):
    plan = Plan(**(FIT | {"updates_per_step": 2}))
    assert (loop.env_steps(plan, index), loop.updates(plan, index)) == (steps, updates)


@pytest.mark.parametrize("episodes", [65, 257])
def test_any_number_of_episodes_may_be_evaluated(episodes):
    assert score(counting(2, action_size=8), episodes=episodes)["episode_length"] == 2
