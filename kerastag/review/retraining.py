"""Training of a head on the clips of a run and the answers of a review, from cached embeddings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerastag.custom.answers import Answer, apply_answers, assign_part_folds
from kerastag.custom.calibration import fit_calibration
from kerastag.custom.clips import BACKGROUND, Clips
from kerastag.custom.config import CustomConfig
from kerastag.custom.head import AttentionHead, Bags
from kerastag.custom.report import select_thresholds
from kerastag.data.audio_lists import Recording
from kerastag.metrics.classification import compute_metrics
from kerastag.review.pool import Pool

__all__ = ["HeadTrainer", "Part", "TrainedHead", "get_part"]

Part = tuple[str, float, float | None]
"""What `Answer.part` is: the path of a recording, and the start and the end of a part of it."""


@dataclass(frozen=True, eq=False)
class TrainedHead:
    """A head that was trained on clips and answers, and what it predicts.

    Attributes:
        weights: Weights of the head.
        thresholds: Threshold of every class, float `(classes,)`.
        clips: Clips of the run with corrected labels, and then the parts with answers.
        held_out: Predictions of the clips and parts by heads that were not trained on them, `(clips, classes)`.
        pool: Predictions of the parts of the pool, `(parts, classes)`.
        pool_rows: Row among `clips` of each part of the pool, int `(parts,)`; -1 for those without an answer.
        num_answers: Number of answers that it was trained on.
    """

    weights: list[np.ndarray]
    thresholds: np.ndarray
    clips: Clips
    held_out: np.ndarray
    pool: np.ndarray
    pool_rows: np.ndarray
    num_answers: int


class HeadTrainer:
    """Trains heads as `kerastag learn` does, on the same clips with answers in addition.

    Args:
        config: Configuration of the run.
        clips: Clips of the run, all of which can be read.
        bags: Embeddings of the seconds of each clip, `(segments, features)`.
        pool: Parts that are asked about.
        thresholds: Thresholds of the head in use, below which no threshold of a new head lies.

    Raises:
        ValueError: The run has no cross-validation.
    """

    def __init__(
        self, config: CustomConfig, clips: Clips, bags: Sequence[np.ndarray], pool: Pool, thresholds: Sequence[float]
    ) -> None:
        if clips.folds.max(initial=-1) < 1:
            raise ValueError(
                f"`folds` must be at least 3 in the run, whose labels are reviewed; received: {config.folds}"
            )
        self.config, self.clips, self.pool = config, clips, pool
        self.thresholds = np.asarray(thresholds, float)
        self.bags = list(bags)
        """Embeddings of the seconds of each clip."""
        self._bag_of_part = {get_part(part): bag for part, bag in zip(pool.parts, pool.bags, strict=True)}
        self._index_of_part = {get_part(part): index for index, part in enumerate(pool.parts)}
        self.head = AttentionHead(config, len(clips.class_names), bags[0].shape[1])
        """The head, which has the weights of the last training."""
        self._num_segments = max(map(len, [*bags, *pool.bags]))
        self.baseline = self.train([])
        """The head without answers."""

    def train(self, answers: Sequence[Answer]) -> TrainedHead:
        """Train heads without each fold, and then one on everything, calibrated on what was held out.

        Answers about parts that are neither clips nor in the pool are left out.
        """
        num_clips, seed = len(self.clips), self.config.seeds[0]
        clips = apply_answers(self.clips, answers)
        keys = [get_part(part) if isinstance(part, Recording) else None for part in clips.audio]
        rows = [row for row, key in enumerate(keys) if row < num_clips or key in self._bag_of_part]
        clips, keys = clips.select(np.array(rows)), [keys[row] for row in rows]
        bags = self._pad([*self.bags, *(self._bag_of_part[key] for key in keys[num_clips:] if key)], clips)
        folds = assign_part_folds(clips, num_clips)
        held_out = np.zeros(clips.targets.shape, np.float32)
        for fold in np.unique(folds[folds >= 0]):
            self.head.train(bags, np.flatnonzero(folds != fold), seed)
            held_out[folds == fold] = self.head.predict(bags, np.flatnonzero(folds == fold))
        self.head.train(bags, np.arange(len(clips)), seed)
        is_whole = (folds >= 0) & clips.is_known.all(axis=1)
        calibration = fit_calibration(clips.targets[is_whole], held_out[is_whole])
        self.head.calibrate(calibration)
        always_trained = np.flatnonzero(folds < 0)
        held_out = calibration.apply(held_out)
        if len(always_trained):
            held_out[always_trained] = self.head.predict(bags, always_trained)
        pool_rows = np.full(len(self.pool), -1)
        for row, key in enumerate(keys[num_clips:], start=num_clips):
            pool_rows[self._index_of_part[key]] = row
        is_held_out = folds >= 0
        return TrainedHead(
            weights=self.head.model.get_weights(),
            thresholds=self._select_thresholds(clips, held_out, is_held_out, is_new=bool(answers)),
            clips=clips,
            held_out=held_out,
            pool=self._predict_pool(),
            pool_rows=pool_rows,
            num_answers=len(answers),
        )

    def compare(self, trained: TrainedHead, answers: Sequence[Answer]) -> dict[str, Any]:
        """Compare a head with the one without answers, as JSON values.

        Returns:
            `clips`: accuracy or mAP of held-out clips with their corrected labels; `answers`: share of the answers that
            the heads agree with, which the new one does not know; `alarms_per_hour`: in the parts of the pool without
            an answer. Each of them has `before` and `after`; those that cannot be computed are missing.
        """
        num_clips = len(self.clips)
        rows = np.flatnonzero(self.clips.folds >= 0)
        targets = trained.clips.targets[rows]
        heads = {"before": self.baseline, "after": trained}
        values: dict[str, Any] = {"clips": {"metric": _name_metric(targets)}}
        for name, head in heads.items():
            values["clips"][name] = _compute_score(targets, head.held_out[:num_clips][rows])
        names = self.clips.class_names
        predictions = {name: self._list_predictions(head) for name, head in heads.items()}
        some = [each for each in answers if each.part in predictions["after"] and each.class_name in names]
        if some:
            values["answers"] = {"count": len(some)}
            for name, head in heads.items():
                values["answers"][name] = _compute_agreement(some, predictions[name], head.thresholds, names)
        is_open = trained.pool_rows < 0
        hours = sum(len(bag) for bag, is_part in zip(self.pool.bags, is_open, strict=True) if is_part) / 3600
        if hours:
            values["alarms_per_hour"] = {"hours": hours}
            for name, head in heads.items():
                is_alarm = (head.pool >= head.thresholds) & is_open[:, None]
                is_alarm[:, np.array([each == BACKGROUND for each in names])] = False
                values["alarms_per_hour"][name] = self.pool.count_runs(is_alarm) / hours
        return values

    def _list_predictions(self, head: TrainedHead) -> dict[Part, np.ndarray]:
        """List the predictions of all parts by a head that was not trained on them."""
        clips = (get_part(clip) if isinstance(clip, Recording) else None for clip in head.clips.audio)
        held_out = {key: row for key, row in zip(clips, head.held_out, strict=True) if key}
        return {**dict(zip(self._index_of_part, head.pool, strict=True)), **held_out}

    def _pad(self, bags: Sequence[np.ndarray], clips: Clips) -> Bags:
        """Pad bags to one length for all trainings, as another one would compile the head again."""
        padded = Bags.pad(bags, clips.targets, clips.is_known)
        missing = self._num_segments - padded.x.shape[1]
        return Bags(np.pad(padded.x, ((0, 0), (0, missing), (0, 0))), padded.lengths, clips.targets, clips.is_known)

    def _predict_pool(self) -> np.ndarray:
        num_classes = len(self.clips.class_names)
        if not len(self.pool):
            return np.zeros((0, num_classes), np.float32)
        targets = np.zeros((len(self.pool), num_classes), bool)
        return self.head.predict(Bags.pad(self.pool.bags, targets), np.arange(len(self.pool)))

    def _select_thresholds(
        self, clips: Clips, held_out: np.ndarray, is_held_out: np.ndarray, is_new: bool
    ) -> np.ndarray:
        """Select the thresholds with the best F1 on what was held out, none below that of the head in use."""
        if not is_new:
            return self.thresholds
        thresholds = self.thresholds.copy()
        for k in range(len(thresholds)):
            rows = is_held_out & clips.is_known[:, k]
            (best,) = select_thresholds(clips.targets[rows, k : k + 1], held_out[rows, k : k + 1])
            thresholds[k] = max(thresholds[k], best)
        return thresholds


def _compute_agreement(
    answers: Sequence[Answer], predictions: dict[Part, np.ndarray], thresholds: np.ndarray, names: Sequence[str]
) -> float:
    indices = [names.index(answer.class_name) for answer in answers]
    decisions = [predictions[answer.part][k] >= thresholds[k] for answer, k in zip(answers, indices, strict=True)]
    return float(np.mean([decision == answer.answer for decision, answer in zip(decisions, answers, strict=True)]))


def get_part(recording: Recording) -> Part:
    """Return the part of a file that a recording is."""
    return os.path.realpath(recording.path), recording.start_seconds, recording.end_seconds


def _name_metric(targets: np.ndarray) -> str:
    return "accuracy" if (targets.sum(axis=1) == 1).all() else "mAP"


def _compute_score(targets: np.ndarray, predictions: np.ndarray) -> float:
    if _name_metric(targets) == "accuracy":
        return float(targets[np.arange(len(targets)), predictions.argmax(axis=1)].mean())
    return compute_metrics(targets, predictions).map
