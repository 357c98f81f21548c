"""purerl's environments as Gymnasium sees them."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from toys import after, counting

import purerl

gymnasium = pytest.importorskip("gymnasium")
check_env = pytest.importorskip("gymnasium.utils.env_checker").check_env


class Single(gymnasium.Env):
    """The one copy of a `VectorEnv`, seen as the `Env` that Gymnasium's checker takes."""

    def __init__(self, envs):
        self.envs = envs
        self.observation_space, self.action_space = envs.single_observation_space, envs.single_action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        observation, infos = self.envs.reset(seed=seed, options=options)
        self._np_random, self._np_random_seed = self.envs._np_random, self.envs._np_random_seed
        return observation[0], infos

    def step(self, action):
        observation, reward, terminated, truncated, infos = self.envs.step(action[None])
        over = bool(terminated[0] or truncated[0])
        return infos["final_obs"][0] if over else observation[0], reward[0], bool(terminated[0]), bool(truncated[0]), {}


def test_gymnasiums_own_checker_passes():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "(?s).*(Box (action|observation) space|spec.*None|not create alternative)")
        check_env(Single(purerl.VectorEnv("Pendulum-v1")), skip_render_check=True)


def test_spaces_are_batches_of_the_single_ones():
    envs = purerl.VectorEnv("Pendulum-v1", num_envs=3)
    observation, infos = envs.reset(seed=0)
    assert envs.observation_space.contains(observation) and infos == {}
    assert envs.single_action_space == gymnasium.spaces.Box(-2.0, 2.0, (1,), np.float32)
    action = envs.action_space.sample()
    observation, reward, terminated, truncated, _ = envs.step(action)
    assert envs.observation_space.contains(observation) and action.shape == (3, 1)
    assert [x.dtype for x in (reward, terminated, truncated)] == [np.float64, bool, bool]
    assert reward.shape == terminated.shape == truncated.shape == (3,)


def test_a_pendulum_here_moves_as_the_one_there():
    envs, other = purerl.VectorEnv("Pendulum-v1", num_envs=2), gymnasium.make("Pendulum-v1")
    (cosine, sine, speed), *_ = envs.reset(seed=3)[0]
    other.reset()
    other.unwrapped.state = np.array([np.arctan2(sine, cosine), speed])
    for action in np.random.default_rng(0).uniform(-2, 2, (30, 1)).astype(np.float32):
        observation, reward, *_ = envs.step(np.stack([action, -action]))
        expected, their_reward, *_ = other.step(action)
        np.testing.assert_allclose(observation[0], expected, atol=1e-3)
        assert reward[0] == pytest.approx(their_reward, abs=1e-2)


def test_an_episode_begins_anew_in_the_same_step_and_its_last_observation_is_told():
    envs = purerl.VectorEnv(
        counting(episode_length=3, terminates=lambda state: (state.step > 1) & (state.start < 0.5)), 16
    )
    start = envs.reset(seed=0)[0][:, 0]
    dies = start < 0.5
    assert 0 < dies.sum() < 16
    assert envs.step(np.zeros((16, 1), np.float32))[4] == {}
    observation, _, terminated, truncated, infos = envs.step(np.zeros((16, 1), np.float32))
    assert (terminated == dies).all() and not truncated.any() and (infos["_final_obs"] == dies).all()
    for i in range(16):
        if dies[i]:
            assert infos["final_obs"][i] == pytest.approx([start[i], 2.0]) and observation[i, 1] == 0
        else:
            assert infos["final_obs"][i] is None and observation[i] == pytest.approx([start[i], 2.0])
    _, _, terminated, truncated, infos = envs.step(np.zeros((16, 1), np.float32))
    assert (truncated == ~dies).all() and not terminated.any() and infos["final_obs"][~dies][0][1] == 3.0


def test_a_seed_decides_on_everything_and_starts_do_not_run_out():
    envs = purerl.VectorEnv(counting(episode_length=1), 4)

    def starts(seed):
        seen = [envs.reset(seed=seed)[0][:, 0]]
        return np.concatenate(seen + [envs.step(np.zeros((4, 1), np.float32))[0][:, 0] for _ in range(100)])

    first = starts(0)
    assert (starts(1) != first).any() and (starts(0) == first).all()
    assert len(set(first.tolist())) > 128  # A pool holds 64.


def test_gymnasiums_wrappers_take_it():
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(purerl.VectorEnv(counting(terminates=after(4)), 2))
    envs.reset(seed=0)
    for _ in range(4):
        *_, infos = envs.step(np.zeros((2, 1), np.float32))
    assert infos["episode"]["r"].tolist() == [4.0, 4.0] and infos["episode"]["l"].tolist() == [4, 4]


def test_what_it_does_not_know_is_refused():
    envs = purerl.VectorEnv(counting(reward=lambda state, action: jnp.sum(action)), 2)
    with pytest.raises(gymnasium.error.ResetNeeded):
        envs.step(np.zeros((2, 1), np.float32))
    with pytest.raises(ValueError, match="takes no reset options"):
        envs.reset(options={"reset_mask": np.ones(2, bool)})


WRONG = {
    "one for all": (np.zeros(1, np.float32), "actions are of shape (1,); they must be of shape (2, 1)"),
    "flat": (np.zeros(2, np.float32), "actions are of shape (2,); they must be of shape (2, 1)"),
    "turned": (np.zeros((1, 2), np.float32), "of shape (1, 2); they must be of shape (2, 1)"),
    "too many": (np.zeros((3, 1), np.float32), "of shape (3, 1); they must be of shape (2, 1)"),
    "too wide": (np.zeros((2, 2), np.float32), "of shape (2, 2); they must be of shape (2, 1)"),
    "deep": (np.zeros((2, 1, 1), np.float32), "of shape (2, 1, 1)"),
    "a number": (0.0, "actions are of shape (); they must be of shape (2, 1)"),
    "nothing": (None, "actions are of shape (); they must be of shape (2, 1)"),
    "ragged": ([[0.0], [0.0, 1.0]], "actions are of different lengths; they must be of shape (2, 1)"),
    "text": (np.asarray([["0"], ["1"]]), "actions are of <U1; they must be real numbers"),
    "complex": (np.zeros((2, 1), complex), "actions are of complex128; they must be real numbers"),
    "objects": (np.asarray([[None], [None]]), "actions are of object; they must be real numbers"),
    "not a number": (np.asarray([[0.0], [np.nan]]), "the action of environment 1 is [nan]; it must be finite"),
    "infinite": (jnp.asarray([[jnp.inf], [0.0]]), "the action of environment 0 is [inf]; it must be finite"),
}


@pytest.fixture(scope="module")
def two():
    envs = purerl.VectorEnv(counting(), 2)
    envs.reset(seed=0)
    return envs


@pytest.mark.parametrize("actions, words", WRONG.values(), ids=WRONG.keys())
def test_actions_that_fit_no_environment_are_refused(two, actions, words):
    with pytest.raises(ValueError) as error:
        two.step(actions)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [list, np.float64, np.int8, jnp.float32, jnp.bfloat16])
def test_actions_of_any_kind_of_number_are_taken(two, kind):
    actions = [[1], [0]] if kind is list else np.ones((2, 1), kind) if kind in (np.float64, np.int8) else None
    assert two.step(jnp.ones((2, 1), kind) if actions is None else actions)[0].shape == (2, 2)


@pytest.mark.parametrize("num_envs", [0, -1, 1.5, True])
def test_a_number_of_environments_is_checked(num_envs):
    with pytest.raises(ValueError, match=f"counting: num_envs is {num_envs}; it must be a positive int"):
        purerl.VectorEnv(counting(), num_envs)
