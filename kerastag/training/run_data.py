"""The clips of a run: which packs, which rows to train on, which to evaluate on, and their labels."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerastag.data.batches import BalancedSampler
from kerastag.data.packs import AudioPack, ConcatenatedPacks, FeaturePack, open_pack
from kerastag.data.splits import hold_out
from kerastag.labels import LabelSet
from kerastag.training.config import RunConfig, TrainingConfig

if TYPE_CHECKING:
    from kerastag.metrics.event_table import EventTable

__all__ = ["RunData", "load_run_data", "make_sampler"]


@dataclass(frozen=True)
class RunData:
    """Clips to train on and clips to evaluate on.

    Attributes:
        train: Training packs, concatenated.
        train_rows: Rows of `train` to train on.
        evaluation: Pack that holds the clips to evaluate on.
        evaluation_rows: Rows of `evaluation`.
        evaluated: Name of the clips to evaluate on: that of their pack, or `held out`.
        labels: Classes.
        class_counts: Number of clips of each class in every pack of the run, by pack name.
        labels_per_clip: For every pack, how many clips have how many labels.
    """

    train: ConcatenatedPacks
    train_rows: np.ndarray
    evaluation: Any
    evaluation_rows: np.ndarray
    evaluated: str
    labels: LabelSet
    class_counts: dict[str, list[int]]
    labels_per_clip: dict[str, dict[str, int]]

    @property
    def targets(self) -> np.ndarray:
        """Labels of the clips to evaluate on, bool `(clips, classes)`."""
        return self.evaluation.targets[self.evaluation_rows]

    @property
    def num_features(self) -> int:
        """Number of features in an embedding.

        Raises:
            ValueError: The packs hold waveforms.
        """
        if len(self.train.x_shape) != 3:
            raise ValueError(f"{self.train.packs[0].path}: must hold embeddings for this system; it holds waveforms")
        return self.train.x_shape[2]

    @property
    def sample_rate(self) -> int:
        """Sample rate of packs of waveforms, Hz."""
        return self.train.packs[0].sample_rate  # type: ignore[attr-defined]

    @property
    def clip_seconds(self) -> float:
        """Length of a stored clip of waveforms, seconds."""
        return self.train.x_shape[1] / self.sample_rate

    @property
    def has_events(self) -> bool:
        """Whether the clips to evaluate on are those of one pack with an event table beside it."""
        packs = self.evaluation.packs
        return len(packs) == 1 and packs[0].path.with_suffix(".tsv").is_file()

    def events(self) -> "EventTable":
        """Read the ground truth of the clips to evaluate on, from the event table beside their pack.

        Raises:
            FileNotFoundError: There is no such table.
            ValueError: The table is faulty, or holds none of the clips.
        """
        from kerastag.metrics.event_table import read_events

        pack = self.evaluation.packs[0]
        return read_events(pack.path.with_suffix(".tsv"), list(pack.ids[self.evaluation_rows]), self.labels)


def load_run_data(config: RunConfig, data_dir: Path) -> RunData:
    """Open the packs of a run and decide which clips it trains on and is evaluated on.

    Args:
        config: Configuration of the run.
        data_dir: Folder of the packs.

    Raises:
        FileNotFoundError: None of the packs to train on exists, or the pack to evaluate on does not.
        ValueError: A pack is damaged, or packs do not belong together.
    """
    names = [name for name in config.train_packs if (data_dir / f"{name}.h5").is_file()]
    if not names:
        expected = " or ".join(f"{name}.h5" for name in config.train_packs)
        raise FileNotFoundError(f"{data_dir}: no {expected}; `kerastag pack` writes packs")
    packs = {name: _open(data_dir, name, config) for name in names}
    train = ConcatenatedPacks(list(packs.values()))
    train_rows = np.arange(len(train))
    evaluation: Any = train
    if config.hold_out:
        # The same clips are held out for every seed of the run, so that seeds can be compared.
        train_rows, evaluation_rows = hold_out(train.targets, config.hold_out)
        evaluated = "held out"
    else:
        packs[config.eval_pack] = _open(data_dir, config.eval_pack, config)
        evaluation, evaluated = ConcatenatedPacks([packs[config.eval_pack]]), config.eval_pack
        evaluation_rows = np.arange(len(evaluation))
    return RunData(
        train=train,
        train_rows=train_rows,
        evaluation=evaluation,
        evaluation_rows=evaluation_rows,
        evaluated=evaluated,
        labels=train.packs[0].labels,
        class_counts={name: pack.targets.sum(axis=0).tolist() for name, pack in packs.items()},
        labels_per_clip={name: _count_labels_per_clip(pack.targets) for name, pack in packs.items()},
    )


def make_sampler(config: TrainingConfig, data: RunData) -> BalancedSampler:
    """Make the sampler of the training clips, and warn about classes without clips."""
    targets = data.train.targets[data.train_rows]
    try:
        sampler = BalancedSampler(
            targets,
            config.batch_size,
            balance=config.balance,
            seed=config.seed,
            allow_empty_classes=config.skip_corrupt,
            class_names=data.labels.names,
        )
    except ValueError as error:
        if targets.any(axis=0).all():
            raise
        paths = ", ".join(str(pack.path) for pack in data.train.packs)
        raise ValueError(f"{paths}: {error}; `skip_corrupt` trains without these classes") from error
    if config.balance and len(sampler.empty_classes):
        names = ", ".join(data.labels.names[k] for k in sampler.empty_classes)
        print(f"skipped when balancing, no clips: {names}", file=sys.stderr)
    return sampler


def _open(data_dir: Path, name: str, config: RunConfig) -> AudioPack | FeaturePack:
    pack = open_pack(data_dir / f"{name}.h5", in_memory=config.in_memory, skip_corrupt=config.skip_corrupt)
    if pack.skipped:
        rows = ", ".join(map(str, pack.skipped[:10])) + ("…" if len(pack.skipped) > 10 else "")
        print(f"{pack.path}: skipped {len(pack.skipped)} clips with NaN or infinity, rows {rows}", file=sys.stderr)
    return pack


def _count_labels_per_clip(targets: np.ndarray) -> dict[str, int]:
    numbers, clips = np.unique(targets.sum(axis=1), return_counts=True)
    return {str(number): int(count) for number, count in zip(numbers, clips, strict=True)}
