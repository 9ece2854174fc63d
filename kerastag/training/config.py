"""Configuration of runs: flat dataclasses of plain values, whose defaults are the published run of paper 1.

The command line, its `--help` and the keys of TOML files come from these dataclasses. A recipe adds the fields of its
model in a subclass.
"""

from dataclasses import dataclass
from typing import Literal

__all__ = ["RunConfig", "TrainingConfig", "checkpoint_steps", "evaluation_interval"]

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Configuration of any run: its data, its folder and its seed.

    Args:
        data_dir: Folder of packs; without one, the recipe creates and uses its synthetic dataset.
        run_dir: Run folder, created if missing; `runs/NAME/seed_SEED` by default.
        seed: Seed of everything random, at least 0.
        train_packs: Names of the packs to train on; those that exist are used.
        eval_pack: Name of the pack to evaluate on.
        hold_out: Fraction of the training clips to hold out and evaluate on instead of `eval_pack`, in [0, 1).
        in_memory: Whether to read all embeddings into memory at the start.
        skip_corrupt: Whether to skip clips with values that are not finite, and classes without clips.

    Raises:
        ValueError: A value is out of range.
    """

    data_dir: str | None = None
    run_dir: str | None = None
    seed: int = 0
    train_packs: tuple[str, ...] = ("bal_train", "unbal_train")
    eval_pack: str = "eval"
    hold_out: float = 0.0
    in_memory: bool = True
    skip_corrupt: bool = False

    def __post_init__(self) -> None:
        check_value("seed", self.seed, self.seed >= 0, "at least 0")
        check_value("hold_out", self.hold_out, 0 <= self.hold_out < 1, "in [0, 1)")
        check_value("train_packs", self.train_packs, len(self.train_packs) > 0, "at least one name")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(RunConfig):
    """Configuration of a training run.

    Args:
        steps: Number of mini-batches to train on, at least 1.
        batch_size: Clips in a mini-batch, at least 1.
        learning_rate: Highest learning rate of Adam, above 0.
        precision: Keras dtype policy of the model.
        evaluate_every: Steps between two evaluations; 0 for a twentieth of `steps`.
        save_every: Steps between two saved states, from which an interrupted run is resumed.
        balance: Fraction of every mini-batch that is class-balanced, from 0 (natural order) to 1.
        mixup: Alpha of mixup; 0 for none.
        label_smoothing: Fraction of a target that is spread evenly, in [0, 1).
        weight_decay: Decoupled weight decay per step, relative to the learning rate; 0 for none.
        ema: Decay per step of a moving average of the weights, which is evaluated and saved instead; 0 for none.
        schedule: Learning rate schedule: constant; falling to zero as a half cosine; or on plateaus, by a fifth
            whenever the loss has not fallen for more than a tenth of `steps`.
        warmup_steps: Steps over which the learning rate rises from zero; 0 with the schedule `plateau`.
        amsgrad: Whether Adam divides by the largest of all second moments so far.
        checkpoints: Number of checkpoints whose predictions are averaged, evenly spaced from 20 to 100 % of `steps`.
        swa: Whether `model.keras` gets the mean of the weights of the checkpoints (stochastic weight averaging) instead
            of those of the last one: a single network that is nearly as accurate as the mean of their predictions, if
            the learning rate is high and the first checkpoint has learned most.
        batch_norm_momentum: Momentum of the moving averages of batch normalization, in [0, 1). They must have
            converged by the end, since the model is evaluated with them. None for the model's own momentum.
        coordinator: Address HOST:PORT of process 0, where several processes train together with KERAS_BACKEND=jax, each
            on its share of every mini-batch; PORT + 1 is used too. `slurm` takes it, and the next two, from `srun`.
        num_processes: Number of processes that train together, at least 1.
        process_id: Number of this process, from 0; process 0 writes the run folder.

    Raises:
        ValueError: A value is out of range.
    """

    steps: int = 50_000
    batch_size: int = 500
    learning_rate: float = 1e-3
    precision: Precision = "float32"
    evaluate_every: int = 0
    save_every: int = 200
    balance: float = 1.0
    mixup: float = 0.0
    label_smoothing: float = 0.0
    weight_decay: float = 0.0
    ema: float = 0.0
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    warmup_steps: int = 0
    amsgrad: bool = False
    checkpoints: int = 9
    swa: bool = False
    batch_norm_momentum: float | None = None
    coordinator: str | None = None
    num_processes: int = 1
    process_id: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steps", "batch_size", "save_every", "checkpoints", "num_processes"):
            check_value(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name in ("evaluate_every", "mixup", "weight_decay", "warmup_steps"):
            check_value(name, getattr(self, name), getattr(self, name) >= 0, "at least 0")
        for name in ("label_smoothing", "ema"):
            check_value(name, getattr(self, name), 0 <= getattr(self, name) < 1, "in [0, 1)")
        check_value("process_id", self.process_id, 0 <= self.process_id < self.num_processes, "below `num_processes`")
        has_address = self.num_processes == 1 or self.coordinator is not None
        check_value("coordinator", self.coordinator, has_address, "HOST:PORT or slurm where several processes train")
        momentum = self.batch_norm_momentum
        check_value("batch_norm_momentum", momentum, momentum is None or 0 <= momentum < 1, "in [0, 1)")
        check_value("balance", self.balance, 0 <= self.balance <= 1, "in [0, 1]")
        check_value("learning_rate", self.learning_rate, self.learning_rate > 0, "above 0")
        below_steps = self.warmup_steps < self.steps
        check_value("warmup_steps", self.warmup_steps, below_steps, f"below `steps` ({self.steps})")
        can_warm_up = not self.warmup_steps or self.schedule != "plateau"
        check_value("warmup_steps", self.warmup_steps, can_warm_up, "0 with the schedule plateau")


def checkpoint_steps(config: TrainingConfig) -> tuple[int, ...]:
    """Return the steps of the checkpoints that are averaged: 10,000, 15,000, … 50,000 in paper 1.

    >>> checkpoint_steps(TrainingConfig(steps=50_000))[:3]
    (10000, 15000, 20000)
    """
    if config.checkpoints == 1:
        return (config.steps,)
    fractions = (0.2 + 0.8 * i / (config.checkpoints - 1) for i in range(config.checkpoints))
    return tuple(sorted({max(1, round(config.steps * fraction)) for fraction in fractions}))


def evaluation_interval(config: TrainingConfig) -> int:
    """Return the number of steps between two evaluations."""
    return config.evaluate_every or max(1, config.steps // 20)


def check_value(name: str, value: object, is_valid: bool, allowed: str) -> None:
    """Raise a `ValueError` that names a configuration field, unless its value is valid."""
    if not is_valid:
        raise ValueError(f"`{name}` must be {allowed}; received: {value!r}")
