"""Everything that can be set, with its default, its limits and what it means. No JAX here: `--help` reads this file.

`Plan` shapes the compiled program: changing one of its values compiles anew. The hyperparameters of an algorithm are
numbers that flow through the program: every `float` of `DDPG`, `TD3` and `SAC` may be a traced array and may carry an
axis; what is not a `float` (`policy_delay`, the kind of noise) shapes the program too. `None` means: leave it out.
"""

import dataclasses
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Annotated, ClassVar, Literal, get_type_hints

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError


def _whole(value):
    """`"1e6"` and `1e6` are whole numbers too; `True` is not."""
    if isinstance(value, bool):
        raise ValueError("should be a whole number")
    if isinstance(value, str):
        try:
            value = float(value) if "e" in value.lower() else int(value)
        except ValueError:
            raise ValueError("should be a whole number") from None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _widths(value):
    return value.replace("x", ",").split(",") if isinstance(value, str) else value


def _listed(value):
    if not isinstance(value, str):
        return value
    return () if value.lower() == "none" else tuple(dict.fromkeys(value.replace(" ", "").split(",")))


def _single(value):
    """A number that float32 holds: 0, or of a size from 1e-30 to 1e30. NaN and infinity are none."""
    if value != 0 and not 1e-30 <= abs(value) <= 1e30:
        raise ValueError("should be a finite number, 0 or of a size from 1e-30 to 1e30")
    return value


def _no_flag(value):
    if isinstance(value, bool):
        raise ValueError("should be a number")
    return value


def _none(value):
    return None if isinstance(value, str) and value.lower() == "none" else value


def _seconds(value):
    """A number of seconds, or text: `"5400"`, `"1:30:00"`."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return TypeAdapter(timedelta).validate_python(value).total_seconds()
    except ValidationError:
        raise ValueError("should be seconds or hours:minutes:seconds") from None


def number(description, **limits):
    limits = Field(description=description, **limits)
    return Annotated[float, BeforeValidator(_no_flag), limits, AfterValidator(_single)]


def optional(description, **limits):
    return Annotated[number(description, **limits) | None, BeforeValidator(_none), Field(description=description)]


def duration(description):
    limits = Field(description=description, gt=0, le=1e9)
    seconds = Annotated[float, BeforeValidator(_seconds), BeforeValidator(_no_flag), limits]
    return Annotated[seconds | None, BeforeValidator(_none), Field(description=description)]


def count(description, least=1, most=2**31 - 1):
    limits = Field(description=description, ge=least, le=most, strict=True)
    return Annotated[int, BeforeValidator(_whole), limits]


def optional_count(description):
    return Annotated[count(description) | None, BeforeValidator(_none), Field(description=description)]


def count_or_auto(description, least=1):
    kinds = count(description, least) | Literal["auto"] | None
    return Annotated[kinds, BeforeValidator(_none), Field(description=description)]


def choice(description, *values):
    return Annotated[Literal[values], Field(description=description)]


def choices(description, *values):
    """Any of `values`, as `A,B`; none of them by default."""
    return Annotated[tuple[Literal[values], ...], BeforeValidator(_listed), Field(description=description)]


def text(description):
    return Annotated[str, Field(description=description, min_length=1)]


def optional_text(description):
    return Annotated[str | None, BeforeValidator(_none), Field(description=description)]


def flag(description):
    return Annotated[bool, Field(description=description)]


@cache
def fields(cls):
    """`{name: (default, description, adapter)}` of a settings class, in the order of its definition."""
    hints = get_type_hints(cls, include_extras=True)
    return {
        f.name: (f.default, TypeAdapter(hints[f.name]).json_schema().get("description", ""), TypeAdapter(hints[f.name]))
        for f in dataclasses.fields(cls)
    }


def checked(cls, name, value):
    """`value` as the type of field `name` of `cls`. Raises a one-line ValueError naming value, limit and default."""
    default, _, adapter = fields(cls)[name]
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        limit = first["msg"].removeprefix("Value error, ").removeprefix("Input ").replace("a valid integer", "whole")
        raise ValueError(
            f"{name} is {value!r} but {limit}; the default is {'none' if default is None else default!r}"
        ) from None


class Settings:
    """A frozen dataclass whose Python values are checked when it is made. Traced arrays pass unchecked."""

    def __post_init__(self):
        for name in fields(type(self)):
            value = getattr(self, name)
            if not hasattr(value, "dtype"):
                object.__setattr__(self, name, checked(type(self), name, value))


def nearest(value, divisor):
    """The multiples of `divisor` around `value`, in words."""
    low = value // divisor * divisor
    return f"{low} or {low + divisor}" if low > 0 else f"{divisor}"


@dataclass(frozen=True, kw_only=True)
class Plan(Settings):
    """What shapes the program of one run. One *step* is one transition of one environment; one *row* is a step of all.

    Raises ValueError where the numbers do not fit each other.
    """

    total_steps: count("environment steps of one run, over all its environments, with warm-up", most=2**53) = 1_000_000
    num_envs: count("environments that one run steps together", most=2**20) = 16
    updates_per_step: count(
        "critic updates per step of all environments; num_envs of them: one per transition", most=2**20
    ) = 16
    batch_size: count("transitions in a minibatch", most=2**24) = 256
    buffer_size: count("transitions that the replay buffer holds") = 1_000_000
    warmup_steps: count("environment steps with uniformly random actions, before learning starts") = 10_000
    num_evals: count("evaluations, the one before training included", least=2) = 26
    eval_episodes: count("whole episodes per evaluation, without exploration noise", most=2**20) = 10
    eval_length: optional_count("steps of an evaluated episode at most; none: its time limit, at most 1,000,000") = None
    ring: choice("what the replay buffer keeps; auto: compact where that is exact", "auto", "compact", "plain") = "auto"
    ring_dtype: choice("of the observations that the replay buffer keeps", "float32", "bfloat16", "float16") = "float32"
    n_step: count("steps of reward before bootstrapping; never across the end of an episode", most=1000) = 1
    normalize_observations: flag("scale observations by their running mean and variance") = False
    widths: Annotated[
        tuple[count("width", most=2**16), ...],
        BeforeValidator(_widths),
        Field(description="widths of the hidden layers, as 256,256", min_length=1),
    ] = (256, 256)
    activation: choice("activation of the hidden layers", "relu", "tanh", "swish", "elu", "gelu") = "relu"
    layer_norm: flag("normalise each hidden layer (Ba et al. 2016) before its activation") = False
    precision: choice(
        "precision of matrix products in the networks; parameters, targets and physics are float32",
        "float32",
        "tf32",
        "bf16",
    ) = "tf32"

    def __post_init__(self):
        super().__post_init__()
        for name in ("buffer_size", "warmup_steps"):
            value = getattr(self, name)
            if value % self.num_envs:
                raise ValueError(
                    f"{name} {value} is no multiple of num_envs {self.num_envs}; the nearest is "
                    f"{nearest(value, self.num_envs)}"
                )
        if self.batch_size > self.warmup_steps:
            raise ValueError(
                f"batch_size {self.batch_size} is more than the warmup_steps {self.warmup_steps} there are to sample "
                f"from; raise warmup_steps to {-(-self.batch_size // self.num_envs) * self.num_envs} or more"
            )
        if self.batch_size > self.buffer_size:
            raise ValueError(
                f"batch_size {self.batch_size} is more than the buffer_size {self.buffer_size}; "
                f"raise buffer_size to {-(-self.batch_size // self.num_envs) * self.num_envs} or more"
            )
        if self.total_steps // self.num_envs >= 2**31:
            raise ValueError(
                f"total_steps {self.total_steps} are more than 2147483647 steps of each of num_envs {self.num_envs}; "
                f"raise num_envs, or lower total_steps to {(2**31 - 1) * self.num_envs}"
            )
        if self.n_step > min(self.warmup_rows, self.rows):
            raise ValueError(
                f"n_step {self.n_step} is more than the {min(self.warmup_rows, self.rows)} rows that are in the buffer "
                f"when learning starts; the largest that works is {min(self.warmup_rows, self.rows)}"
            )
        if self.total_steps <= self.warmup_steps:
            raise ValueError(
                f"total_steps {self.total_steps} leaves nothing to learn from after warmup_steps {self.warmup_steps}; "
                f"raise total_steps or lower warmup_steps"
            )

    @property
    def rows(self):
        """Rows of the ring; each holds one transition of every environment."""
        return self.buffer_size // self.num_envs

    @property
    def warmup_rows(self):
        return self.warmup_steps // self.num_envs

    @property
    def num_updates(self):
        """Critic updates of a run."""
        return (self.total_steps - self.warmup_steps) // self.num_envs * self.updates_per_step

    @property
    def num_epochs(self):
        """Stretches of training, each followed by an evaluation."""
        return self.num_evals - 1


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

    actor_lr: number("learning rate of the actor (Adam)", gt=0) = 3e-4
    critic_lr: number("learning rate of the critics (Adam)", gt=0) = 3e-4
    lr_schedule: choice(
        "schedule of the learning rates; linear and cosine fall to 0 at the end of the run",
        "constant",
        "linear",
        "cosine",
    ) = "constant"
    gamma: number("discount per step", ge=0, le=1) = 0.99
    tau: number("weight of the new parameters in the target networks, per update", gt=0, le=1) = 0.005
    reward_scale: number("factor on rewards in the targets; returns are reported unscaled", gt=0) = 1.0
    weight_decay: optional("decoupled weight decay of actor and critics (AdamW); none: off", ge=0) = None
    max_grad_norm: optional("largest global norm of a gradient of actor or critics; none: no clipping", gt=0) = None


@dataclass(frozen=True, kw_only=True)
class DDPG(Learning):
    """Hyperparameters of DDPG.

    The defaults are those of OurDDPG.py in the present code of the TD3 paper's authors (arXiv:1802.09477; 256x256, 3e-4
    since 2021-04). The paper's own, 400x300 and 1e-3, are the preset `paper-2018`.
    """

    exploration_noise: number("standard deviation of the exploration noise; actions lie in [-1, 1]", ge=0) = 0.1
    noise: choice("exploration noise: independent, or Ornstein-Uhlenbeck", "gaussian", "ou") = "gaussian"
    ou_theta: number("pull of Ornstein-Uhlenbeck noise toward 0, per step", ge=0, le=1) = 0.15
    noise_schedule: choice("how the noise goes to final_noise", "constant", "linear", "exponential") = "constant"
    final_noise: number("scale of the noise at the end of the run, on a linear or exponential schedule", ge=0) = 0.01

    def __post_init__(self):
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

    target_noise: number("standard deviation of the noise that smooths target actions", ge=0) = 0.2
    noise_clip: number("bound of the smoothing noise", ge=0) = 0.5
    policy_delay: count("critic updates per update of actor and targets") = 2
    num_critics: count("critics whose least value is the target's", most=64) = 2


@dataclass(frozen=True, kw_only=True)
class SAC(Learning):
    """Hyperparameters of SAC. The defaults are the authors' (arXiv:1812.05905)."""

    initial_only: ClassVar[tuple[str, ...]] = ("initial_alpha",)

    alpha: optional("fixed temperature; none: learned", gt=0) = None
    initial_alpha: number("temperature that learning begins with; idle where alpha is fixed", gt=0) = 1.0
    alpha_lr: number("learning rate of the temperature (Adam); idle where alpha is fixed", gt=0) = 3e-4
    target_entropy: optional("entropy [nats] that a learned temperature aims at; none: minus the action size") = None


@dataclass(frozen=True)
class Cycle:
    """How learning and acting interleave: the smallest stretch of training that repeats.

    A cycle makes `actor_updates` rounds of `critic_updates` critic updates and one actor update, then collects
    `collects` rows; there are `per_epoch` of them between two evaluations. One of `actor_updates` and `collects` is 1.
    """

    collects: int
    critic_updates: int
    actor_updates: int
    per_epoch: int


def cycle(plan, delay):
    """The `Cycle` of `plan` for an algorithm that makes `delay` critic updates per actor update.

    Raises ValueError where delay and updates_per_step do not fit, or where epochs would not be of one length.
    """
    updates = plan.updates_per_step
    if updates % delay and delay % updates:
        fitting = [n for n in range(1, updates + delay) if n % delay == 0 or delay % n == 0]
        low, high = max(n for n in fitting if n < updates), min(n for n in fitting if n > updates)
        raise ValueError(
            f"updates_per_step {updates} and policy_delay {delay} do not fit: one must divide the other; the nearest "
            f"updates_per_step is {low} or {high}"
        )
    collects = max(1, delay // updates)
    unit = plan.num_envs * collects * plan.num_epochs
    learning = plan.total_steps - plan.warmup_steps
    if learning % unit:
        low = learning // unit * unit + plan.warmup_steps
        works = f"{low} or {low + unit}" if learning >= unit else f"{low + unit}"
        raise ValueError(
            f"total_steps {plan.total_steps} less warmup_steps {plan.warmup_steps} does not divide into "
            f"{plan.num_epochs} epochs (num_evals - 1) of whole cycles of {plan.num_envs * collects} steps; "
            f"the nearest total_steps is {works}"
        )
    return Cycle(collects, delay, max(1, updates // delay), learning // unit)
