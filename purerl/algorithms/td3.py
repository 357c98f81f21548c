"""Twin delayed DDPG (Fujimoto et al. 2018, arXiv:1802.09477): DDPG with three changes ("tricks")."""

from functools import partial

from jaxtyping import Array, Float

from purerl.algorithms import ddpg
from purerl.algorithms.equations import clipped_double_q, smoothed
from purerl.algorithms.exploration import standard_normal
from purerl.algorithms.networks import deterministic_actor, value_critic
from purerl.algorithms.own_networks import Factory, make_critics
from purerl.settings.hyperparameters import TD3 as Hyper
from purerl.settings.schema import Plan
from purerl.types import Algorithm, Batch, EnvSizes, Key


def next_value(hyper: Hyper, model: ddpg.Model, state: ddpg.State, batch: Batch, key: Key) -> Float[Array, "*C B"]:
    """Return minᵢ Q'ᵢ(s', clip(μ'(s') + clip(ε))), `[C, B]`, with the same ε for all critics."""
    action = ddpg.act(model, state.target_actor, batch.next_observation)
    epsilon = hyper.target_noise * standard_normal(key, action.shape)
    action = smoothed(action, epsilon, hyper.noise_clip)  # trick 3: target policy smoothing
    q = model.critic.apply(state.target_critic, batch.next_observation, action)
    return clipped_double_q(q)  # trick 1: clipped double-Q learning


def td3(
    hyper: Hyper,
    plan: Plan,
    env: EnvSizes,
    actor: Factory = deterministic_actor,
    critic: Factory = value_critic,
) -> Algorithm:
    """Return TD3 for the observations and actions of `env`. `actor` and `critic` make the networks, as in DDPG."""
    model = ddpg.make_model(hyper, plan, env, make_critics(critic, plan, env, hyper.num_critics), actor)
    return ddpg.make_algorithm(model)._replace(
        next_value=partial(next_value, hyper, model),
        policy_delay=hyper.policy_delay,  # trick 2: delayed policy updates; 1 in DDPG
    )
