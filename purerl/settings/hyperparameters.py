"""Hyperparameters of each algorithm: defaults, limits and descriptions. No JAX here: `--help` reads this file.

A `Number` is an input of the compiled program: it may be a traced array, with an axis over runs. All other kinds (for
example `policy_delay` and `noise`) shape the program: each value is compiled separately.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from purerl.settings.kinds import (
    Count,
    FixedNumber,
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
    """Base class of hyperparameters. Every algorithm has its own subclass.

    Attributes:
        policy_delay: critic updates per actor update. Where it can be set, as in TD3, it is a field of the subclass.
        initial_only: names of fields that are used only when a run starts. Population-based training cannot change
            them.
        fixed_in_a_run: names of other fields that population-based training cannot change, because the state of the
            agent depends on the value.
    """

    policy_delay: ClassVar[int] = 1
    initial_only: ClassVar[tuple[str, ...]] = ()
    fixed_in_a_run: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True, kw_only=True)
class Learning(Hyperparameters):
    """Hyperparameters that all algorithms share."""

    actor_lr: Annotated[PositiveNumber, Field(description="learning rate of the actor (Adam)")] = 3e-4
    critic_lr: Annotated[PositiveNumber, Field(description="learning rate of the critics (Adam)")] = 3e-4
    lr_schedule: Annotated[
        Literal["constant", "linear", "cosine"],
        Field(description="schedule of the learning rates; linear and cosine decay to 0 at the end of the run"),
    ] = "constant"
    gamma: Annotated[Number, Field(ge=0, le=1, description="discount factor per step")] = 0.99
    tau: Annotated[
        Number, Field(gt=0, le=1, description="weight of the new parameters in each update of the target networks")
    ] = 0.005
    reward_scale: Annotated[
        PositiveNumber,
        Field(description="factor that multiplies rewards in the targets; reported returns are unscaled"),
    ] = 1.0
    weight_decay: Annotated[
        OrNone[NonNegativeNumber],
        Field(description="decoupled weight decay of actor and critics (AdamW); none: no decay"),
    ] = None
    max_grad_norm: Annotated[
        OrNone[PositiveNumber],
        Field(description="maximum global norm of a gradient of actor or critics; none: no clipping"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class DDPG(Learning):
    """Hyperparameters of DDPG.

    The defaults are those of OurDDPG.py in the current code of the TD3 paper's authors (arXiv:1802.09477). It has used
    256x256 units and learning rate 3e-4 since 2021-04. The preset `paper-2018` has the values of the paper, 400x300 and
    1e-3.
    """

    exploration_noise: Annotated[
        NonNegativeNumber, Field(description="standard deviation of the exploration noise, for actions in [-1, 1]")
    ] = 0.1
    noise: Annotated[
        Literal["gaussian", "ou"],
        Field(description="kind of exploration noise: independent Gaussian, or Ornstein-Uhlenbeck"),
    ] = "gaussian"
    ou_theta: Annotated[
        Number, Field(ge=0, le=1, description="rate at which Ornstein-Uhlenbeck noise returns to 0, per step")
    ] = 0.15
    noise_schedule: Annotated[
        Literal["constant", "linear", "exponential"],
        Field(description="schedule of the noise scale; linear and exponential end at final_noise"),
    ] = "constant"
    final_noise: Annotated[
        NonNegativeNumber,
        Field(description="noise scale at the end of the run, with a linear or exponential schedule"),
    ] = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, owner, idle in (("ou_theta", "noise", "gaussian"), ("final_noise", "noise_schedule", "constant")):
            value = getattr(self, name)
            known = isinstance(value, float)  # A traced number is not a float.
            if known and getattr(self, owner) == idle and value != fields(DDPG)[name][0]:
                raise ValueError(
                    f"{name} is {value} but has no effect when {owner} is {idle!r}; "
                    f"choose another {owner}, or leave out {name}"
                )
        ends = (("exploration_noise", "cannot start from 0"), ("final_noise", "never reaches 0"))
        for name, reason in ends:
            known = isinstance(getattr(self, name), float)
            if known and getattr(self, name) == 0 and self.noise_schedule == "exponential":
                remedy = (
                    "'constant' or 'linear'" if name == "exploration_noise" else "'linear', or a final_noise above 0"
                )
                raise ValueError(f"{name} is 0 but noise_schedule 'exponential' {reason}; choose {remedy}")


@dataclass(frozen=True, kw_only=True)
class TD3(DDPG):
    """Hyperparameters of TD3.

    The defaults are those of the authors' current code (arXiv:1802.09477). It has used 256x256 units and learning rate
    3e-4 since 2019-09. The preset `paper-2018` has the values of the paper, 400x300 and 1e-3.
    """

    target_noise: Annotated[
        NonNegativeNumber,
        Field(description="standard deviation of the noise on target actions (target policy smoothing)"),
    ] = 0.2
    noise_clip: Annotated[
        NonNegativeNumber, Field(description="largest absolute value of the noise on target actions")
    ] = 0.5
    # The base class has it as a class variable, for algorithms where it cannot be set.
    policy_delay: Annotated[  # pyright: ignore[reportIncompatibleVariableOverride]
        Count, Field(description="critic updates per update of the actor and the target networks")
    ] = 2
    num_critics: Annotated[
        WholeNumber, Field(ge=1, le=64, description="number of critics; targets use the minimum of their values")
    ] = 2


@dataclass(frozen=True, kw_only=True)
class SAC(Learning):
    """Hyperparameters of SAC. The defaults are those of the authors (arXiv:1812.05905)."""

    initial_only: ClassVar[tuple[str, ...]] = ("initial_alpha",)

    alpha: Annotated[
        OrNone[PositiveNumber], Field(description="fixed temperature; none: the temperature is learned")
    ] = None
    initial_alpha: Annotated[
        PositiveNumber, Field(description="initial value of a learned temperature; unused if alpha is fixed")
    ] = 1.0
    alpha_lr: Annotated[
        PositiveNumber, Field(description="learning rate of the temperature (Adam); unused if alpha is fixed")
    ] = 3e-4
    target_entropy: Annotated[
        OrNone[Number],
        Field(description="target entropy [nats] of a learned temperature; none: minus the action size"),
    ] = None


NumCritics = Annotated[WholeNumber, Field(ge=1, le=64, description="number of critics")]
SoftDelay = Annotated[Count, Field(description="critic updates per update of the actor and the temperature")]


@dataclass(frozen=True, kw_only=True)
class TQC(SAC):
    """Hyperparameters of TQC. The defaults are those of the authors (arXiv:2005.04269)."""

    num_critics: NumCritics = 5
    num_quantiles: Annotated[
        WholeNumber, Field(ge=1, le=1024, description="quantiles of the return that each critic estimates")
    ] = 25
    dropped_quantiles: Annotated[
        WholeNumber,
        Field(
            ge=0,
            description="greatest quantiles that are left out of the target, per critic; they are chosen among those "
            "of all critics",
        ),
    ] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dropped_quantiles >= self.num_quantiles:
            raise ValueError(
                f"dropped_quantiles {self.dropped_quantiles} leaves none of the num_quantiles {self.num_quantiles}; "
                f"the largest that works is {self.num_quantiles - 1}"
            )


@dataclass(frozen=True, kw_only=True)
class REDQ(SAC):
    """Hyperparameters of REDQ. The defaults are those of the authors (arXiv:2101.05982)."""

    num_critics: NumCritics = 10
    subset_size: Annotated[
        WholeNumber,
        Field(ge=1, le=64, description="critics that are drawn for each update; its target is their minimum"),
    ] = 2
    policy_delay: SoftDelay = 20  # pyright: ignore[reportIncompatibleVariableOverride]  # as in TD3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.subset_size > self.num_critics:
            raise ValueError(
                f"subset_size {self.subset_size} is more than num_critics {self.num_critics}; "
                f"the largest that works is {self.num_critics}"
            )


@dataclass(frozen=True, kw_only=True)
class DroQ(SAC):
    """Hyperparameters of DroQ. The defaults are those of the authors (arXiv:2110.02034)."""

    dropout_rate: Annotated[
        FixedNumber, Field(ge=0, lt=1, description="probability that dropout sets a unit of the critics to 0")
    ] = 0.01
    policy_delay: SoftDelay = 20  # pyright: ignore[reportIncompatibleVariableOverride]  # as in TD3


@dataclass(frozen=True, kw_only=True)
class CrossQ(SAC):
    """Hyperparameters of CrossQ. The defaults are those of the authors (ICLR 2024, arXiv:1902.05605)."""

    # Adam corrects its moments by b1 to the power of all updates so far.
    fixed_in_a_run: ClassVar[tuple[str, ...]] = ("adam_b1",)

    # There are no target networks. The class variable takes the setting of SAC away.
    tau: ClassVar[float] = 1.0  # pyright: ignore[reportIncompatibleVariableOverride]
    actor_lr: Annotated[PositiveNumber, Field(description="learning rate of the actor (Adam)")] = 1e-3
    critic_lr: Annotated[PositiveNumber, Field(description="learning rate of the critics (Adam)")] = 1e-3
    alpha_lr: Annotated[
        PositiveNumber, Field(description="learning rate of the temperature (Adam); unused if alpha is fixed")
    ] = 1e-3
    adam_b1: Annotated[
        Number, Field(ge=0, lt=1, description="Adam's decay rate of the mean of gradients, of actor and critics")
    ] = 0.5
    renorm_warmup: Annotated[
        Count,
        Field(description="training passes of a network before its batch normalization becomes batch renormalization"),
    ] = 100_000
    policy_delay: SoftDelay = 3  # pyright: ignore[reportIncompatibleVariableOverride]  # as in TD3
