"""What can be set beside the hyperparameters, with defaults, limits and meaning. No JAX here: `--help` reads this file.

`Job` says what is run, `Plan` shapes the compiled program (changing one of its values compiles anew), `Keep` says how a
run is kept; a `Config` is all of them for one program.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from purerl.settings import registry
from purerl.settings.hyperparameters import Hyperparameters
from purerl.settings.kinds import (
    COUNT_LIMIT,
    Count,
    Duration,
    Number,
    OrNone,
    Settings,
    Several,
    Text,
    WholeNumber,
    Widths,
    nearest,
)
from purerl.settings.registry import ALGORITHMS, Preset


@dataclass(frozen=True, kw_only=True)
class Plan(Settings):
    """What shapes the program of one run. One *step* is one transition of one environment; one *row* is a step of all.

    Raises ValueError where the numbers do not fit each other.
    """

    total_steps: Annotated[
        WholeNumber,
        Field(ge=1, le=2**53, description="environment steps of one run, over all its environments, with warm-up"),
    ] = 1_000_000
    num_envs: Annotated[WholeNumber, Field(ge=1, le=2**20, description="environments that one run steps together")] = 16
    updates_per_step: Annotated[
        WholeNumber,
        Field(
            ge=1,
            le=2**20,
            description="critic updates per step of all environments; num_envs of them: one per transition",
        ),
    ] = 16
    batch_size: Annotated[WholeNumber, Field(ge=1, le=2**24, description="transitions in a minibatch")] = 256
    buffer_size: Annotated[Count, Field(description="transitions that the replay buffer holds")] = 1_000_000
    warmup_steps: Annotated[
        Count, Field(description="environment steps with uniformly random actions, before learning starts")
    ] = 10_000
    num_evals: Annotated[
        WholeNumber, Field(ge=2, le=COUNT_LIMIT, description="evaluations, the one before training included")
    ] = 26
    eval_episodes: Annotated[
        WholeNumber, Field(ge=1, le=2**20, description="whole episodes per evaluation, without exploration noise")
    ] = 10
    eval_length: Annotated[
        OrNone[Count],
        Field(description="steps of an evaluated episode at most; none: its time limit, at most 1,000,000"),
    ] = None
    ring: Annotated[
        Literal["auto", "compact", "plain"],
        Field(description="what the replay buffer keeps; auto: compact where that is exact"),
    ] = "auto"
    ring_dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], Field(description="of the observations that the replay buffer keeps")
    ] = "float32"
    n_step: Annotated[
        WholeNumber,
        Field(ge=1, le=1000, description="steps of reward before bootstrapping; never across the end of an episode"),
    ] = 1
    normalize_observations: Annotated[
        bool, Field(description="scale observations by their running mean and variance")
    ] = False
    widths: Annotated[Widths, Field(description="widths of the hidden layers, as 256,256")] = (256, 256)
    activation: Annotated[
        Literal["relu", "tanh", "swish", "elu", "gelu"], Field(description="activation of the hidden layers")
    ] = "relu"
    layer_norm: Annotated[
        bool, Field(description="normalise each hidden layer (Ba et al. 2016) before its activation")
    ] = False
    precision: Annotated[
        Literal["float32", "tf32", "bf16"],
        Field(description="precision of matrix products in the networks; parameters, targets and physics are float32"),
    ] = "tf32"

    def __post_init__(self) -> None:
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
    def rows(self) -> int:
        """Rows of the ring; each holds one transition of every environment."""
        return self.buffer_size // self.num_envs

    @property
    def warmup_rows(self) -> int:
        return self.warmup_steps // self.num_envs

    @property
    def num_updates(self) -> int:
        """Critic updates of a run."""
        return (self.total_steps - self.warmup_steps) // self.num_envs * self.updates_per_step

    @property
    def num_epochs(self) -> int:
        """Stretches of training, each followed by an evaluation."""
        return self.num_evals - 1


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


def cycle(plan: Plan, delay: int) -> Cycle:
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


@dataclass(frozen=True, kw_only=True)
class Job(Settings):
    """What is run."""

    algo: Annotated[Text, Field(description=f"algorithm: {', '.join(ALGORITHMS)}, or module:NAME of your own")] = "td3"
    env: Annotated[
        Text,
        Field(
            description="a file of envs/, a Brax or Gymnasium task, playground:TASK, gymnax:NAME, a TOML file, "
            "or module:NAME"
        ),
    ] = "inverted_pendulum"
    backend: Annotated[
        OrNone[str],
        Field(description="Brax's physics: generalized, spring, positional or mjx; none: the environment's own"),
    ] = None
    episode_length: Annotated[
        OrNone[Count], Field(description="time limit of an episode [steps]; none: the environment's own, or 1000")
    ] = None
    preset: Annotated[Preset, Field(description="which settings the flags start from")] = "tuned"
    num_seeds: Annotated[WholeNumber, Field(ge=1, le=2**20, description="independent runs, trained side by side")] = 8
    seed: Annotated[
        WholeNumber, Field(ge=0, le=COUNT_LIMIT, description="seed of the first run; the others count up from it")
    ] = 0
    seeds_per_batch: Annotated[
        OrNone[Count | Literal["auto"]],
        Field(
            description="seeds (in a sweep: runs) trained at once, the others after them; auto: as many as memory "
            "holds; none: all"
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        registry.find_algorithm(self.algo)
        if self.seed + self.num_seeds > 2**31:
            raise ValueError(
                f"seed {self.seed} with num_seeds {self.num_seeds} counts beyond 2147483647; "
                f"the largest seed that works is {2**31 - self.num_seeds}"
            )


@dataclass(frozen=True, kw_only=True)
class Keep(Settings):
    """How a run is kept, and when it ends early. Nothing here changes what is computed, it may change on resuming."""

    checkpoint_every: Annotated[
        OrNone[Annotated[WholeNumber, Field(ge=0, le=COUNT_LIMIT)] | Literal["auto"]],
        Field(
            description="write a checkpoint every N evaluations; auto: every 15 minutes; 0: only where the run ends "
            "early"
        ),
    ] = "auto"
    checkpoint_keep: Annotated[Count, Field(description="newest checkpoints that are kept")] = 1
    checkpoint_ring: Annotated[
        bool, Field(description="keep the replay buffer in checkpoints; without it, resuming is not exact")
    ] = True
    time_limit: Annotated[
        OrNone[Duration],
        Field(description="end early, as Ctrl-C does, before this has passed [seconds or h:mm:ss]; none: no limit"),
    ] = None
    log: Annotated[
        Several[Literal["csv", "jsonl", "tensorboard", "wandb"]],
        Field(description="where evaluations go beside curves.csv"),
    ] = ()
    devices: Annotated[
        OrNone[Count | Literal["auto"]],
        Field(description="devices of this machine, GPUs or CPU cores, that share the runs; auto: all"),
    ] = "auto"


@dataclass(frozen=True, kw_only=True)
class Population(Settings):
    """How the settings of a program exploit and explore (`purerl/runs/pbt.py`)."""

    every: Annotated[Count, Field(description="evaluations between two exploits")] = 1
    fraction: Annotated[
        Number, Field(gt=0, le=0.5, description="of the worst settings take over from as many of the best")
    ] = 0.25
    factor: Annotated[
        Number, Field(gt=1, description="by which a number that is taken over is multiplied or divided")
    ] = 1.2


@dataclass(frozen=True, kw_only=True)
class Search(Settings):
    """How a search goes (`purerl/sweeps/search.py`), but for its space and its rungs."""

    trials: Annotated[Count, Field(description="trials in all; the first has the settings of the file")] = 32
    batch: Annotated[Count, Field(description="trials that are one program")] = 8
    sampler: Annotated[Literal["tpe", "random", "cmaes"], Field(description="of Optuna")] = "tpe"
    objective: Annotated[Literal["final", "area"], Field(description="what is maximised, over all seeds")] = "final"
    seed: Annotated[WholeNumber, Field(ge=0, le=COUNT_LIMIT, description="of the sampler")] = 0
    keep: Annotated[WholeNumber, Field(ge=2, le=COUNT_LIMIT, description="one of how many goes on after a rung")] = 2


@dataclass(frozen=True)
class Config:
    """Everything that says what a program computes.

    `swept` holds the numbers that differ from setting to setting, `{name: one of each setting}`; of these, `hyper` has
    the first setting's.
    """

    job: Job
    plan: Plan
    hyper: Hyperparameters
    keep: Keep
    swept: dict[str, tuple[float, ...]] = field(default_factory=dict)
    pbt: Population | None = None

    def __post_init__(self) -> None:
        for name in self.hyper.initial_only:
            if self.pbt and name in self.swept:
                raise ValueError(f"[pbt] cannot change {name} of a run that has begun; list another hyperparameter")
        if self.pbt and (not self.swept or self.job.seeds_per_batch not in (None, self.num_runs)):
            raise ValueError("[pbt] needs lists of numbers under [hyper], all in one program, and no seeds_per_batch")
        at_once, runs = self.job.seeds_per_batch, self.num_runs
        if isinstance(at_once, int) and runs % at_once:
            what = f"num_seeds {runs}" if self.num_settings == 1 else f"the {runs} runs (settings x seeds)"
            divisor = min((n for n in range(1, runs + 1) if runs % n == 0), key=lambda n: abs(n - at_once))
            raise ValueError(f"seeds_per_batch {at_once} does not divide {what}; the nearest that does is {divisor}")

    @property
    def num_settings(self) -> int:
        return max((len(values) for values in self.swept.values()), default=1)

    @property
    def num_runs(self) -> int:
        return self.num_settings * self.job.num_seeds

    @property
    def runs(self) -> list[tuple[int, int]]:
        """`[(setting, seed)]` of all runs, in order: every setting has the same seeds."""
        seeds = range(self.job.seed, self.job.seed + self.job.num_seeds)
        return [(setting, seed) for setting in range(self.num_settings) for seed in seeds]

    @property
    def group_size(self) -> int:
        """Runs that are trained at once; at most, where that is left to the memory."""
        at_once = self.job.seeds_per_batch
        return at_once if isinstance(at_once, int) else self.num_runs
