"""The environment of `benchmarks.training.walk`, as one of Gymnasium."""

import gymnasium
import numpy as np


class Walk(gymnasium.Env):
    """The environment, without its time limit."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (17,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (6,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position = self.np_random.normal(size=17).astype(np.float32)
        return self.position, {}

    def step(self, action):
        self.position = 0.9 * self.position + 0.1 * np.resize(action, 17)
        return self.position, float(self.position.sum()), False, False, {}
