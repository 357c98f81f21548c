"""All settings besides the hyperparameters: defaults, limits and descriptions. No JAX here: `--help` reads this file.

- `Job` holds what is run: algorithm, environment, preset and seeds.
- `Plan` holds the settings that shape the compiled program. A new value of one of them compiles a new program.
- `Keep` holds how a run is saved, and when it stops early.
- `Population` and `Search` hold the settings of the tables [pbt] and [search].
- `Config` holds all settings of one program.
"""

import os
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple, get_args

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
    fields,
    nearest,
)
from purerl.settings.registry import ALGORITHMS, Preset

Part = Literal["actor", "critic", "optimizer", "ring", "statistics"]  # of another run, for a warm start
PARTS = get_args(Part)
Activation = Literal["relu", "tanh", "swish", "elu", "gelu"]


class HiddenLayers(NamedTuple):
    """The hidden layers of one network.

    Attributes:
        widths: units of each layer.
        activation: the name of the activation function.
        layer_norm: whether layer normalization precedes each activation.
    """

    widths: tuple[int, ...]
    activation: str
    layer_norm: bool


@dataclass(frozen=True, kw_only=True)
class Plan(Settings):
    """Settings that shape the compiled program of one run.

    A *step* is one transition of one environment. A *row* is one step of every environment.

    Raises ValueError if the settings do not fit together.
    """

    total_steps: Annotated[
        WholeNumber,
        Field(
            ge=1, le=2**53, description="environment steps of one run, summed over its environments, including warm-up"
        ),
    ] = 1_000_000
    num_envs: Annotated[
        WholeNumber, Field(ge=1, le=2**20, description="number of environments that one run steps in parallel")
    ] = 16
    updates_per_step: Annotated[
        WholeNumber,
        Field(
            ge=1,
            le=2**20,
            description="critic updates per step of all environments; set it to num_envs for one update per transition",
        ),
    ] = 16
    batch_size: Annotated[WholeNumber, Field(ge=1, le=2**24, description="transitions in a minibatch")] = 256
    buffer_size: Annotated[Count, Field(description="capacity of the replay buffer [transitions]")] = 1_000_000
    warmup_steps: Annotated[
        Count, Field(description="environment steps with uniformly random actions before learning starts")
    ] = 10_000
    num_evals: Annotated[
        WholeNumber, Field(ge=2, le=COUNT_LIMIT, description="number of evaluations, including the one before training")
    ] = 26
    eval_episodes: Annotated[
        WholeNumber, Field(ge=1, le=2**20, description="complete episodes per evaluation, without exploration noise")
    ] = 10
    eval_length: Annotated[
        OrNone[Count],
        Field(description="maximum length of an evaluated episode [steps]; none: its time limit, at most 1,000,000"),
    ] = None
    ring: Annotated[
        Literal["auto", "compact", "plain"],
        Field(
            description="layout of the replay buffer; compact: store each observation once; plain: store whole "
            "transitions; auto: compact where it is exact"
        ),
    ] = "auto"
    ring_dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], Field(description="data type of observations in the replay buffer")
    ] = "float32"
    n_step: Annotated[
        WholeNumber,
        Field(
            ge=1,
            le=1000,
            description="number of rewards in a target before bootstrapping; never past the end of an episode",
        ),
    ] = 1
    normalize_observations: Annotated[
        bool, Field(description="normalize observations by their running mean and variance")
    ] = False
    widths: Annotated[Widths, Field(description="widths of the hidden layers, for example 256,256")] = (256, 256)
    activation: Annotated[Activation, Field(description="activation function of the hidden layers")] = "relu"
    layer_norm: Annotated[
        bool, Field(description="apply layer normalization (Ba et al. 2016) before the activation of each hidden layer")
    ] = False
    actor_widths: Annotated[
        OrNone[Widths], Field(description="widths of the actor's hidden layers; none: the same as widths")
    ] = None
    actor_activation: Annotated[
        OrNone[Activation], Field(description="activation function of the actor; none: the same as activation")
    ] = None
    actor_layer_norm: Annotated[
        OrNone[bool], Field(description="layer normalization in the actor; none: the same as layer_norm")
    ] = None
    critic_widths: Annotated[
        OrNone[Widths], Field(description="widths of the critics' hidden layers; none: the same as widths")
    ] = None
    critic_activation: Annotated[
        OrNone[Activation], Field(description="activation function of the critics; none: the same as activation")
    ] = None
    critic_layer_norm: Annotated[
        OrNone[bool],
        Field(description="layer normalization in the critics; none: the same as layer_norm, and on for droq"),
    ] = None
    initialization: Annotated[
        Literal["small", "pytorch", "glorot", "lecun"],
        Field(
            description="initial weights; small: hidden kernels uniform in ±1/√fan_in, output kernels in ±3e-3, "
            "biases 0; pytorch: kernels and biases uniform in ±1/√fan_in; glorot: Glorot uniform, biases 0; lecun: "
            "LeCun normal, biases 0"
        ),
    ] = "small"
    precision: Annotated[
        Literal["float32", "tf32", "bf16"],
        Field(description="precision of matrix products in the networks; parameters, targets and physics stay float32"),
    ] = "tf32"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("buffer_size", "warmup_steps"):
            value = getattr(self, name)
            if value % self.num_envs:
                raise ValueError(
                    f"{name} {value} is not a multiple of num_envs {self.num_envs}; the nearest is "
                    f"{nearest(value, self.num_envs)}"
                )
        if self.batch_size > self.warmup_steps:
            raise ValueError(
                f"batch_size {self.batch_size} is more than the warmup_steps {self.warmup_steps} in the buffer when "
                f"learning starts; "
                f"raise warmup_steps to {-(-self.batch_size // self.num_envs) * self.num_envs} or more"
            )
        if self.batch_size > self.buffer_size:
            raise ValueError(
                f"batch_size {self.batch_size} is more than the buffer_size {self.buffer_size}; "
                f"raise buffer_size to {-(-self.batch_size // self.num_envs) * self.num_envs} or more"
            )
        if self.total_steps // self.num_envs >= 2**31:
            raise ValueError(
                f"total_steps {self.total_steps} with num_envs {self.num_envs} is more than 2147483647 steps per "
                f"environment; "
                f"raise num_envs, or lower total_steps to {(2**31 - 1) * self.num_envs}"
            )
        if self.n_step > min(self.warmup_rows, self.rows):
            raise ValueError(
                f"n_step {self.n_step} is more than the {min(self.warmup_rows, self.rows)} rows that are in the buffer "
                f"when learning starts; the largest that works is {min(self.warmup_rows, self.rows)}"
            )
        if self.total_steps <= self.warmup_steps:
            raise ValueError(
                f"total_steps {self.total_steps} leaves no steps for learning after warmup_steps {self.warmup_steps}; "
                f"raise total_steps or lower warmup_steps"
            )

    @property
    def rows(self) -> int:
        """Number of rows of the replay buffer. A row holds one transition of every environment."""
        return self.buffer_size // self.num_envs

    @property
    def warmup_rows(self) -> int:
        return self.warmup_steps // self.num_envs

    @property
    def num_updates(self) -> int:
        """Number of critic updates of a run."""
        return (self.total_steps - self.warmup_steps) // self.num_envs * self.updates_per_step

    @property
    def actor_layers(self) -> HiddenLayers:
        return self._layers(self.actor_widths, self.actor_activation, self.actor_layer_norm)

    @property
    def critic_layers(self) -> HiddenLayers:
        return self._layers(self.critic_widths, self.critic_activation, self.critic_layer_norm)

    def _layers(self, widths: tuple[int, ...] | None, activation: str | None, layer_norm: bool | None) -> HiddenLayers:
        """Return the hidden layers of one network. None selects the setting that both networks share."""
        return HiddenLayers(
            self.widths if widths is None else widths,
            self.activation if activation is None else activation,
            self.layer_norm if layer_norm is None else layer_norm,
        )

    @property
    def num_epochs(self) -> int:
        """Number of epochs. Each epoch ends with an evaluation."""
        return self.num_evals - 1


@dataclass(frozen=True)
class Cycle:
    """The smallest unit of training that repeats: first updates, then environment steps.

    A cycle makes `actor_updates` rounds, then collects `collects` rows. A round is `critic_updates` critic updates and
    one actor update. There are `per_epoch` cycles between two evaluations. `actor_updates` or `collects` is 1.
    """

    collects: int
    critic_updates: int
    actor_updates: int
    per_epoch: int


def cycle(plan: Plan, delay: int) -> Cycle:
    """Return the `Cycle` of `plan` for an algorithm that makes `delay` critic updates per actor update.

    Raises ValueError if neither of `delay` and `updates_per_step` divides the other, or if the epochs would not all
    have the same length.
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
            f"total_steps {plan.total_steps} minus warmup_steps {plan.warmup_steps} cannot be divided into "
            f"{plan.num_epochs} epochs (num_evals - 1) of whole cycles of {plan.num_envs * collects} steps; "
            f"the nearest total_steps is {works}"
        )
    return Cycle(collects, delay, max(1, updates // delay), learning // unit)


@dataclass(frozen=True, kw_only=True)
class Job(Settings):
    """What is run: algorithm, environment, preset and seeds."""

    algo: Annotated[Text, Field(description=f"algorithm: {', '.join(ALGORITHMS)}, or module:NAME for your own")] = "td3"
    env: Annotated[
        Text,
        Field(
            description="environment: a name in envs/, a Brax or Gymnasium task, playground:TASK, gymnax:NAME, a TOML "
            "file, or module:NAME for your own"
        ),
    ] = "inverted_pendulum"
    backend: Annotated[
        OrNone[str],
        Field(
            description="physics engine of Brax: generalized, spring, positional or mjx; none: the environment's own"
        ),
    ] = None
    episode_length: Annotated[
        OrNone[Count], Field(description="time limit of an episode [steps]; none: the environment's limit, or 1000")
    ] = None
    preset: Annotated[Preset, Field(description="set of default settings, which files and flags override")] = "tuned"
    num_seeds: Annotated[
        WholeNumber, Field(ge=1, le=2**20, description="number of independent runs, trained in parallel")
    ] = 8
    seed: Annotated[
        WholeNumber,
        Field(ge=0, le=COUNT_LIMIT, description="seed of the first run; the other runs use the next integers"),
    ] = 0
    seeds_per_batch: Annotated[
        OrNone[Count | Literal["auto"]],
        Field(
            description="seeds (in a sweep: runs) that train at the same time, one group after another; auto: as many "
            "as fit in memory; none: all"
        ),
    ] = None
    init_from: Annotated[
        OrNone[Text],
        Field(
            description="folder of another run: its agents are the beginning of this run; none: begin with random "
            "parameters"
        ),
    ] = None
    init_seed: Annotated[
        Literal["best", "median", "worst", "same"] | WholeNumber,
        Field(
            description="seed of that run from which every seed begins: by final return, the same seed, or its number"
        ),
    ] = "best"
    init_parts: Annotated[
        Several[Part],
        Field(
            description="what is taken from that run: actor, critic, optimizer (its state), ring (the newest "
            "warmup_steps transitions, in place of a warm-up), statistics (of observations)"
        ),
    ] = ("actor", "critic", "statistics")

    def __post_init__(self) -> None:
        super().__post_init__()
        registry.find_algorithm(self.algo)
        self._check_init()
        if self.seed + self.num_seeds > 2**31:
            raise ValueError(
                f"seed {self.seed} with num_seeds {self.num_seeds} goes past 2147483647; "
                f"the largest seed that works is {2**31 - self.num_seeds}"
            )

    def _check_init(self) -> None:
        """Raise ValueError if the settings of a warm start do not fit together. Make its folder an absolute path."""
        parts = self.init_parts
        if self.init_from is None:
            for name in ("init_seed", "init_parts"):
                if getattr(self, name) != fields(Job)[name].default:
                    raise ValueError(f"{name} is {getattr(self, name)!r} but has no effect without init_from")
            return
        object.__setattr__(self, "init_from", os.path.abspath(os.path.expanduser(self.init_from)))
        if not parts:
            raise ValueError(f"init_parts is empty; choose some of {', '.join(PARTS)}, or leave out init_from")
        if "optimizer" in parts and not {"actor", "critic"} & set(parts):
            raise ValueError("init_parts has the state of the optimizer without its network; add actor or critic")


@dataclass(frozen=True, kw_only=True)
class Keep(Settings):
    """How a run is saved, and when it stops early.

    These settings do not change the results. A resumed run may use other values.
    """

    checkpoint_every: Annotated[
        OrNone[Annotated[WholeNumber, Field(ge=0, le=COUNT_LIMIT)] | Literal["auto"]],
        Field(
            description="write a checkpoint every N evaluations and at the end; auto: every 15 minutes and at the end; "
            "0: only when the run stops early"
        ),
    ] = "auto"
    checkpoint_keep: Annotated[Count, Field(description="number of newest checkpoints to keep")] = 1
    checkpoint_ring: Annotated[
        bool, Field(description="store the replay buffer in checkpoints; without it, resuming is not exact")
    ] = True
    time_limit: Annotated[
        OrNone[Duration],
        Field(
            description="stop the run, as Ctrl-C does, before this time has passed [seconds or h:mm:ss]; none: no limit"
        ),
    ] = None
    log: Annotated[
        Several[Literal["csv", "jsonl", "tensorboard", "wandb"]],
        Field(description="loggers that record evaluations in addition to curves.csv"),
    ] = ()
    log_video_every: Annotated[
        WholeNumber,
        Field(
            ge=0,
            le=COUNT_LIMIT,
            description="draw an episode of the best seed every N evaluations, into RUN/videos and to wandb if it logs "
            "there; 0: never",
        ),
    ] = 0
    devices: Annotated[
        OrNone[Count | Literal["auto"]],
        Field(description="number of devices of this machine (GPUs or CPU cores) that share the runs; auto: all"),
    ] = "auto"


@dataclass(frozen=True, kw_only=True)
class Population(Settings):
    """Settings of population-based training, the table [pbt] (`purerl/runs/pbt.py`)."""

    every: Annotated[Count, Field(description="evaluations between two exploit steps")] = 1
    fraction: Annotated[
        Number, Field(gt=0, le=0.5, description="share of the settings: the worst are replaced by as many of the best")
    ] = 0.25
    factor: Annotated[Number, Field(gt=1, description="factor that multiplies or divides a copied hyperparameter")] = (
        1.2
    )


@dataclass(frozen=True, kw_only=True)
class Search(Settings):
    """Settings of a hyperparameter search, the table [search] without space and rungs (`purerl/sweeps/search.py`)."""

    trials: Annotated[Count, Field(description="total number of trials; the first has the settings of the file")] = 32
    batch: Annotated[Count, Field(description="trials that train in one program")] = 8
    sampler: Annotated[Literal["tpe", "random", "cmaes"], Field(description="sampler of Optuna")] = "tpe"
    objective: Annotated[Literal["final", "area"], Field(description="score of a seed")] = "final"
    aggregate: Annotated[
        Literal["iqm", "mean", "min"], Field(description="statistic over the scores of all seeds, which is maximized")
    ] = "iqm"
    seed: Annotated[WholeNumber, Field(ge=0, le=COUNT_LIMIT, description="seed of the sampler")] = 0
    keep: Annotated[
        WholeNumber, Field(ge=2, le=COUNT_LIMIT, description="after a rung, one of this many trials continues")
    ] = 2


@dataclass(frozen=True)
class Config:
    """All settings of one program.

    `swept` maps the name of each swept hyperparameter to its values, one per setting. `hyper` holds the values of the
    first setting.
    """

    job: Job
    plan: Plan
    hyper: Hyperparameters
    keep: Keep
    swept: dict[str, tuple[float, ...]] = field(default_factory=dict)
    pbt: Population | None = None

    def __post_init__(self) -> None:
        for name in (*self.hyper.initial_only, *self.hyper.fixed_in_a_run):
            if self.pbt and name in self.swept:
                raise ValueError(f"[pbt] cannot change {name} after a run has started; list another hyperparameter")
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
        """`[(setting, seed)]` of all runs, in order. Every setting has the same seeds."""
        seeds = range(self.job.seed, self.job.seed + self.job.num_seeds)
        return [(setting, seed) for setting in range(self.num_settings) for seed in seeds]

    @property
    def group_size(self) -> int:
        """Number of runs that train at the same time; for `seeds_per_batch` "auto", the maximum."""
        at_once = self.job.seeds_per_batch
        return at_once if isinstance(at_once, int) else self.num_runs
