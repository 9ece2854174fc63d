"""What every run can be told; recipes add the settings of their model."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]


@dataclass(kw_only=True)
class RunSettings:
    """Where a run finds its clips and leaves its results.

    Args:
        data_dir: folder of packs; without one the recipe makes and uses its synthetic set.
        run_dir: folder of the run, made when missing; without one `runs/NAME/seed_SEED`.
        seed: of everything random; not negative.
        train_packs: names of the packs to train on; those that are there are used.
        eval_pack: name of the pack to measure on.
        hold_out: share of the training clips to hold out and to measure on instead of `eval_pack`; 0 for none.
        in_memory: read the embeddings into memory at the start.
        skip_corrupt: leave out clips with values that are not finite, and classes without clips, and go on.
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
        _check("seed", self.seed, self.seed >= 0, "at least 0")
        _check("hold_out", self.hold_out, 0 <= self.hold_out < 1, "in [0, 1)")
        _check("train_packs", self.train_packs, len(self.train_packs) > 0, "at least one name")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a run's `settings.json`."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


@dataclass(kw_only=True)
class TrainingSettings(RunSettings):
    """Settings of a training run; the defaults are the published run of paper 1.

    Args:
        steps: mini-batches to train on.
        batch_size: clips a mini-batch.
        learning_rate: of Adam, at its highest.
        precision: dtype policy of the model.
        evaluate_every: steps between two evaluations; 0 for a twentieth of `steps`.
        save_every: steps between two saved states, from which an interrupted run goes on.
        balance: share of every mini-batch that is class-balanced, from 0 (natural order) to 1.
        mixup: alpha of mixup; 0 for none.
        label_smoothing: share of a target that is spread evenly; 0 for none.
        weight_decay: decoupled weight decay a step, relative to the learning rate; 0 for none.
        ema: decay a step of a moving average of the weights that is measured and saved instead; 0 for none.
        schedule: learning rate over the run: constant, or falling to zero as a half cosine.
        warmup_steps: steps over which the learning rate rises from zero.
        checkpoints: models whose predictions are averaged, evenly from 20 to 100 % of `steps`.
        batch_norm_momentum: share of BatchNorm's moving averages that a step leaves in place; they are what a model
            is measured with, so they must have caught up at the end. None for the model's own.
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
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    checkpoints: int = 9
    batch_norm_momentum: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steps", "batch_size", "save_every", "checkpoints"):
            _check(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name in ("evaluate_every", "mixup", "weight_decay", "warmup_steps"):
            _check(name, getattr(self, name), getattr(self, name) >= 0, "at least 0")
        for name in ("label_smoothing", "ema"):
            _check(name, getattr(self, name), 0 <= getattr(self, name) < 1, "in [0, 1)")
        momentum = self.batch_norm_momentum
        _check("batch_norm_momentum", momentum, momentum is None or 0 <= momentum < 1, "in [0, 1)")
        _check("balance", self.balance, 0 <= self.balance <= 1, "in [0, 1]")
        _check("learning_rate", self.learning_rate, self.learning_rate > 0, "above 0")
        _check("warmup_steps", self.warmup_steps, self.warmup_steps < self.steps, f"below `steps` ({self.steps})")

    def evaluation_steps(self) -> int:
        """Steps between two evaluations."""
        return self.evaluate_every or max(1, self.steps // 20)

    def checkpoint_steps(self) -> tuple[int, ...]:
        """The steps whose models are averaged: evenly from 20 to 100 %, the paper's 10,000 to 50,000 of 50,000.

        >>> TrainingSettings(steps=50_000).checkpoint_steps()[:3]
        (10000, 15000, 20000)
        """
        if self.checkpoints == 1:
            return (self.steps,)
        shares = (0.2 + 0.8 * i / (self.checkpoints - 1) for i in range(self.checkpoints))
        return tuple(sorted({max(1, round(self.steps * share)) for share in shares}))


def _check(name: str, value: object, fine: bool, allowed: str) -> None:
    if not fine:
        raise ValueError(f"`{name}` must be {allowed}, received {value!r}")
