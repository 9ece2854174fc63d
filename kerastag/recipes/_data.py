"""The clips of a run: which packs, which rows to train on, which to measure on, and their labels."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerastag.data.audio_pack import AudioPack, is_audio_pack
from kerastag.data.joined import JoinedPacks
from kerastag.data.pack import FeaturePack
from kerastag.data.sampler import hold_out
from kerastag.labels import LabelSet
from kerastag.training.settings import RunSettings

if TYPE_CHECKING:
    from kerastag.metrics import EventTable


@dataclass(frozen=True)
class Data:
    """Training clips and clips to measure on.

    Attributes:
        train: the packs trained on.
        train_rows: rows of `train` to train on.
        evaluation: where the clips to measure on are.
        evaluation_rows: rows of `evaluation`.
        evaluated: what they are, for messages: `eval`, or `held out`.
        labels: the classes.
        class_counts: clips of each class in every split that the run saw, by pack name.
        labels_per_clip: for every split, how many clips have how many labels.
    """

    train: JoinedPacks
    train_rows: np.ndarray
    evaluation: Any
    evaluation_rows: np.ndarray
    evaluated: str
    labels: LabelSet
    class_counts: dict[str, list[int]]
    labels_per_clip: dict[str, dict[str, int]]

    @property
    def targets(self) -> np.ndarray:
        """Labels of the clips to measure on."""
        return self.evaluation.targets[self.evaluation_rows]

    @property
    def has_events(self) -> bool:
        """Whether the clips to measure on are of one pack, and a table of events lies beside it."""
        packs = self.evaluation.packs
        return len(packs) == 1 and packs[0].path.with_suffix(".tsv").is_file()

    def events(self) -> "EventTable":
        """When what is in the clips to measure on begins and ends, from the table beside their pack.

        Raises:
            FileNotFoundError: no table lies there.
            ValueError: it is faulty, or has none of the clips.
        """
        from kerastag.metrics import read_events

        pack = self.evaluation.packs[0]
        return read_events(pack.path.with_suffix(".tsv"), list(pack.ids[self.evaluation_rows]), self.labels)

    @property
    def num_features(self) -> int:
        """Numbers in an embedding.

        Raises:
            ValueError: the packs hold waveforms.
        """
        if len(self.train.x_shape) != 3:
            raise ValueError(f"{self.train.packs[0].path}: holds waveforms; this system learns from embeddings")
        return self.train.x_shape[2]


def load(settings: RunSettings, data_dir: Path) -> Data:
    """Settings and a folder of packs -> the clips of the run.

    Raises:
        FileNotFoundError: none of the packs to train on is there, or not the one to measure on.
    """
    there = [name for name in settings.train_packs if (data_dir / f"{name}.h5").is_file()]
    if not there:
        wanted = " or ".join(f"{name}.h5" for name in settings.train_packs)
        raise FileNotFoundError(f"{data_dir}: no {wanted}; `kerastag pack` writes them")
    packs = {name: _open(data_dir, name, settings) for name in there}
    train = JoinedPacks(list(packs.values()))
    rows = np.arange(len(train))
    evaluation: Any = train
    if settings.hold_out:
        # The same clips are held out whatever the seed of the run, so that seeds compare.
        rows, evaluation_rows = hold_out(train.targets, settings.hold_out)
        evaluated = "held out"
    else:
        packs[settings.eval_pack] = _open(data_dir, settings.eval_pack, settings)
        evaluation, evaluated = JoinedPacks([packs[settings.eval_pack]]), settings.eval_pack
        evaluation_rows = np.arange(len(evaluation))
    return Data(
        train=train,
        train_rows=rows,
        evaluation=evaluation,
        evaluation_rows=evaluation_rows,
        evaluated=evaluated,
        labels=_labels(train.packs[0]),
        class_counts={name: pack.targets.sum(axis=0).tolist() for name, pack in packs.items()},
        labels_per_clip={name: _labels_per_clip(pack.targets) for name, pack in packs.items()},
    )


def _open(data_dir: Path, name: str, settings: RunSettings) -> FeaturePack | AudioPack:
    if is_audio_pack(data_dir / f"{name}.h5"):
        return AudioPack(data_dir / f"{name}.h5")
    pack = FeaturePack.open(data_dir / f"{name}.h5", settings.in_memory, skip_corrupt=settings.skip_corrupt)
    if pack.skipped:
        rows = ", ".join(map(str, pack.skipped[:10])) + ("…" if len(pack.skipped) > 10 else "")
        print(f"{pack.path}: left out {len(pack.skipped)} clips with NaN or infinity, rows {rows}", file=sys.stderr)
    return pack


def _labels(pack: FeaturePack | AudioPack) -> LabelSet:
    if "class_names" in pack.attributes:
        names = json.loads(str(pack.attributes["class_names"]))
        return LabelSet(json.loads(str(pack.attributes.get("class_mids", "null"))) or names, names)
    audioset = LabelSet.audioset()
    if pack.num_classes == len(audioset):
        return audioset
    return LabelSet.from_names([f"class {k}" for k in range(pack.num_classes)])


def _labels_per_clip(targets: np.ndarray) -> dict[str, int]:
    numbers, clips = np.unique(targets.sum(axis=1), return_counts=True)
    return {str(n): int(c) for n, c in zip(numbers, clips, strict=True)}
