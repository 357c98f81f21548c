"""The hyperparameters of each algorithm, with defaults, limits and meaning. No JAX here: `--help` reads this file.

They are numbers that flow through the compiled program: every `float` may be a traced array and may carry an axis over
runs. What is not a `float` (`policy_delay`, the kind of noise) shapes the program.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from purerl.settings.kinds import (
    Count,
    NonNegativeNumber,
    Number,
    OrNone,
    PositiveNumber,
    Settings,
    WholeNumber,
    fields,
)


@dataclass(frozen=True, kw_only=True)
class Hyperparameters(Settings):
    """The settings of an algorithm. Every algorithm has a class of its own, derived from this one.

    Attributes:
        policy_delay: critic updates per actor update. A field of the algorithms where it can be set, as for TD3.
        initial_only: names of fields that count only when a run begins, so that no population changes them.
    """

    policy_delay: ClassVar[int] = 1
    initial_only: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True, kw_only=True)
class Learning(Hyperparameters):
    """What DDPG, TD3 and SAC share."""

    actor_lr: Annotated[PositiveNumber, Field(description="learning rate of the actor (Adam)")] = 3e-4
    critic_lr: Annotated[PositiveNumber, Field(description="learning rate of the critics (Adam)")] = 3e-4
    lr_schedule: Annotated[
        Literal["constant", "linear", "cosine"],
        Field(description="schedule of the learning rates; linear and cosine fall to 0 at the end of the run"),
    ] = "constant"
    gamma: Annotated[Number, Field(ge=0, le=1, description="discount per step")] = 0.99
    tau: Annotated[
        Number, Field(gt=0, le=1, description="weight of the new parameters in the target networks, per update")
    ] = 0.005
    reward_scale: Annotated[
        PositiveNumber, Field(description="factor on rewards in the targets; returns are reported unscaled")
    ] = 1.0
    weight_decay: Annotated[
        OrNone[NonNegativeNumber],
        Field(description="decoupled weight decay of actor and critics (AdamW); none: off"),
    ] = None
    max_grad_norm: Annotated[
        OrNone[PositiveNumber],
        Field(description="largest global norm of a gradient of actor or critics; none: no clipping"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class DDPG(Learning):
    """Hyperparameters of DDPG.

    The defaults are those of OurDDPG.py in the present code of the TD3 paper's authors (arXiv:1802.09477; 256x256, 3e-4
    since 2021-04). The paper's own, 400x300 and 1e-3, are the preset `paper-2018`.
    """

    exploration_noise: Annotated[
        NonNegativeNumber, Field(description="standard deviation of the exploration noise; actions lie in [-1, 1]")
    ] = 0.1
    noise: Annotated[
        Literal["gaussian", "ou"], Field(description="exploration noise: independent, or Ornstein-Uhlenbeck")
    ] = "gaussian"
    ou_theta: Annotated[
        Number, Field(ge=0, le=1, description="pull of Ornstein-Uhlenbeck noise toward 0, per step")
    ] = 0.15
    noise_schedule: Annotated[
        Literal["constant", "linear", "exponential"], Field(description="how the noise goes to final_noise")
    ] = "constant"
    final_noise: Annotated[
        NonNegativeNumber,
        Field(description="scale of the noise at the end of the run, on a linear or exponential schedule"),
    ] = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, owner, idle in (("ou_theta", "noise", "gaussian"), ("final_noise", "noise_schedule", "constant")):
            value = getattr(self, name)
            known = isinstance(value, float)  # A traced number is not.
            if known and getattr(self, owner) == idle and value != fields(DDPG)[name][0]:
                raise ValueError(
                    f"{name} is {value} but has no effect where {owner} is {idle!r}; "
                    f"take another {owner}, or leave it out"
                )
        ends = (("exploration_noise", "starts from it and cannot leave 0"), ("final_noise", "never comes to 0"))
        for name, reason in ends:
            known = isinstance(getattr(self, name), float)
            if known and getattr(self, name) == 0 and self.noise_schedule == "exponential":
                remedy = (
                    "'constant' or 'linear'" if name == "exploration_noise" else "'linear', or a final_noise over 0"
                )
                raise ValueError(f"{name} is 0 but noise_schedule 'exponential' {reason}; take {remedy}")


@dataclass(frozen=True, kw_only=True)
class TD3(DDPG):
    """Hyperparameters of TD3.

    The defaults are those of the authors' present code (arXiv:1802.09477; 256x256, 3e-4 since 2019-09). The paper's
    own, 400x300 and 1e-3, are the preset `paper-2018`.
    """

    target_noise: Annotated[
        NonNegativeNumber, Field(description="standard deviation of the noise that smooths target actions")
    ] = 0.2
    noise_clip: Annotated[NonNegativeNumber, Field(description="bound of the smoothing noise")] = 0.5
    # The base class has it as one of the class, for the algorithms where it cannot be set.
    policy_delay: Annotated[  # pyright: ignore[reportIncompatibleVariableOverride]
        Count, Field(description="critic updates per update of actor and targets")
    ] = 2
    num_critics: Annotated[WholeNumber, Field(ge=1, le=64, description="critics whose least value is the target's")] = 2


@dataclass(frozen=True, kw_only=True)
class SAC(Learning):
    """Hyperparameters of SAC. The defaults are the authors' (arXiv:1812.05905)."""

    initial_only: ClassVar[tuple[str, ...]] = ("initial_alpha",)

    alpha: Annotated[OrNone[PositiveNumber], Field(description="fixed temperature; none: learned")] = None
    initial_alpha: Annotated[
        PositiveNumber, Field(description="temperature that learning begins with; idle where alpha is fixed")
    ] = 1.0
    alpha_lr: Annotated[
        PositiveNumber, Field(description="learning rate of the temperature (Adam); idle where alpha is fixed")
    ] = 3e-4
    target_entropy: Annotated[
        OrNone[Number],
        Field(description="entropy [nats] that a learned temperature aims at; none: minus the action size"),
    ] = None
