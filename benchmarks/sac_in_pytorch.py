"""SAC in PyTorch, written from arXiv:1812.05905 and independent of purerl's SAC, for `benchmarks.authors`.

The authors' code is in TensorFlow 1, so it is not run. Networks begin as there: Glorot initialization and zero biases.
Actions are in [-1, 1].
"""

import copy

import numpy as np
import torch
from torch import nn
from torch.nn import functional

RATE, GAMMA, TAU, WIDTH = 3e-4, 0.99, 0.005, 256


def network(inputs, outputs):
    """Return two hidden layers and an output layer."""
    layers = nn.Linear(inputs, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, outputs)
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


class SAC:
    """An agent with the methods of those of the TD3 authors, and `explore`."""

    def __init__(self, obs_size, action_size):
        self.actor = network(obs_size, 2 * action_size)
        self.critics = nn.ModuleList([network(obs_size + action_size, 1) for _ in range(2)])
        self.targets = copy.deepcopy(self.critics)
        self.log_alpha = torch.zeros((), requires_grad=True)
        self.target_entropy = -float(action_size)
        parameters = self.actor.parameters(), self.critics.parameters(), [self.log_alpha]
        self.actor_optimizer, self.critic_optimizer, self.alpha_optimizer = (
            torch.optim.Adam(each, lr=RATE) for each in parameters
        )

    def select_action(self, state):
        """Return the action without exploration."""
        with torch.no_grad():
            mean, _ = self.actor(torch.as_tensor(state)).chunk(2, dim=-1)
        return torch.tanh(mean).numpy()

    def explore(self, state):
        """Return a sampled action."""
        with torch.no_grad():
            return self.sample(torch.as_tensor(state)[None])[0][0].numpy()

    def sample(self, state):
        """Return actions `[B, A]` and their log-probabilities `[B, 1]`."""
        mean, log_std = self.actor(state).chunk(2, dim=-1)
        gaussian = torch.distributions.Normal(mean, log_std.clamp(-20, 2).exp())
        before = gaussian.rsample()
        change = 2 * (np.log(2) - before - functional.softplus(-2 * before))  # log(1 - tanh²)
        return torch.tanh(before), (gaussian.log_prob(before) - change).sum(-1, keepdim=True)

    def train(self, buffer, batch_size):
        """Make one update of everything."""
        state, action, after, reward, alive = buffer.sample(batch_size)
        alpha = self.log_alpha.exp().detach()
        with torch.no_grad():
            next_action, log_prob = self.sample(after)
            value = self.lower(self.targets, after, next_action) - alpha * log_prob
            target = reward + GAMMA * alive * value
        both = torch.cat([state, action], 1)
        step(self.critic_optimizer, sum(functional.mse_loss(critic(both), target) for critic in self.critics))
        action, log_prob = self.sample(state)
        step(self.actor_optimizer, (alpha * log_prob - self.lower(self.critics, state, action)).mean())
        surplus = (log_prob + self.target_entropy).detach()
        step(self.alpha_optimizer, -(self.log_alpha.exp() * surplus).mean())
        with torch.no_grad():
            for ours, theirs in zip(self.critics.parameters(), self.targets.parameters(), strict=True):
                theirs.lerp_(ours, TAU)

    def lower(self, critics, state, action):
        """Return the lower of both values, `[B, 1]`."""
        both = torch.cat([state, action], 1)
        return torch.min(*(critic(both) for critic in critics))


def step(optimizer, loss):
    """Move the parameters of `optimizer` down the gradient of `loss`."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
