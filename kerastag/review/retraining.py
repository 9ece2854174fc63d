"""Training of a head on the clips of a run and the answers of a review, from cached embeddings."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from kerastag.custom.answers import Answer, apply_answers, assign_part_folds
from kerastag.custom.calibration import Calibration, fit_calibration
from kerastag.custom.clips import BACKGROUND, Clips
from kerastag.custom.config import CustomConfig
from kerastag.custom.head import AttentionHead, Bags
from kerastag.custom.report import select_thresholds
from kerastag.data.audio_lists import Recording
from kerastag.metrics.classification import compute_metrics
from kerastag.review.pool import Pool

__all__ = ["HeadTrainer", "Part", "TrainedHead", "get_part"]

_PARTS_PER_PREDICTION = 1_024

Part = tuple[str, float, float | None]
"""What `Answer.part` is: the path of a recording, and the start and the end of a part of it."""


@dataclass(frozen=True, eq=False)
class TrainedHead:
    """A head that was trained on clips and answers, and what it predicts.

    Attributes:
        weights: Weights of the head before the calibration.
        calibration: Calibration of its probabilities.
        thresholds: Threshold of every class, float `(classes,)`.
        clips: Clips of the run with corrected labels, and then the parts with answers.
        bags: Embeddings and labels of these.
        held_out: Predictions of these by heads that were not trained on them, `(clips, classes)`; NaN for parts before
            the cross-validation.
        raw_pool: Predictions of the parts of the pool before the calibration, `(parts, classes)`.
        num_answers: Number of answers that it was trained on.
    """

    weights: list[np.ndarray]
    calibration: Calibration
    thresholds: np.ndarray
    clips: Clips
    bags: Bags
    held_out: np.ndarray
    raw_pool: np.ndarray
    num_answers: int

    @property
    def pool(self) -> np.ndarray:
        """Predictions of the parts of the pool, `(parts, classes)`."""
        return self.calibration.apply(self.raw_pool)


class HeadTrainer:
    """Trains heads as `kerastag learn` does, on the same clips with answers in addition.

    Args:
        config: Configuration of the run.
        clips: Clips of the run, all of which can be read.
        bags: Embeddings of the segments of each clip, `(segments, features)`.
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
        """Embeddings of the segments of each clip."""
        self._bag_of_part = {get_part(part): bag for part, bag in zip(pool.parts, pool.bags, strict=True)}
        self._index_of_part = {get_part(part): index for index, part in enumerate(pool.parts)}
        self.head = AttentionHead(config, len(clips.class_names), bags[0].shape[1])
        """The head, which has the weights of the last training."""
        self._num_segments = max(map(len, [*bags, *pool.bags]))
        num_classes = len(clips.class_names)
        unchanged = Calibration(np.ones(num_classes), np.zeros(num_classes))
        self.baseline = self.cross_validate(self._train([], unchanged, np.zeros((len(clips), num_classes), np.float32)))
        """The head without answers."""

    def train(self, answers: Sequence[Answer], previous: TrainedHead) -> TrainedHead:
        """Train a head on all clips and answers, in a second or two.

        It has the calibration, the thresholds and the held-out predictions of a previous head, until `cross_validate`
        returns it with its own. Answers about parts that are neither clips nor in the pool are left out.
        """
        trained = self._train(answers, previous.calibration, previous.held_out[: len(self.clips)])
        return replace(trained, thresholds=previous.thresholds)

    def cross_validate(self, trained: TrainedHead, pause: Callable[[], object] = lambda: None) -> TrainedHead:
        """Train heads without each fold, with which a head gets its held-out predictions, calibration and thresholds.

        Args:
            trained: Head.
            pause: Function that is called before each training, and may use `head` for something else.
        """
        clips, bags, seed = trained.clips, trained.bags, self.config.seeds[0]
        folds = assign_part_folds(clips, len(self.clips))
        raw = np.zeros(clips.targets.shape, np.float32)
        for fold in np.unique(folds[folds >= 0]):
            pause()
            self.head.train(bags, np.flatnonzero(folds != fold), seed)
            raw[folds == fold] = self.head.predict(bags, np.flatnonzero(folds == fold))
        pause()
        is_held_out = folds >= 0
        is_whole = is_held_out & clips.is_known.all(axis=1)
        calibration = fit_calibration(clips.targets[is_whole], raw[is_whole])
        held_out = calibration.apply(raw)
        held_out[~is_held_out] = np.nan
        thresholds = self.thresholds
        if trained.num_answers:
            thresholds = self._select_thresholds(clips, held_out, is_held_out)
        return replace(trained, calibration=calibration, thresholds=thresholds, held_out=held_out)

    def apply(self, trained: TrainedHead) -> keras.Model:
        """Return the model of the head with the weights and the calibration of a trained one."""
        self.head.model.set_weights(trained.weights)
        self.head.calibrate(trained.calibration)
        return self.head.model

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
        answered = {get_part(part) for part in trained.clips.audio[num_clips:] if isinstance(part, Recording)}
        is_open = np.array([part not in answered for part in self._index_of_part], bool)
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

    def _train(self, answers: Sequence[Answer], calibration: Calibration, held_out: np.ndarray) -> TrainedHead:
        num_clips = len(self.clips)
        clips = apply_answers(self.clips, answers)
        keys = [get_part(part) if isinstance(part, Recording) else None for part in clips.audio[num_clips:]]
        rows = [row for row, key in enumerate(keys) if key in self._bag_of_part]
        clips = clips.select(np.array([*range(num_clips), *(num_clips + row for row in rows)]))
        bags = self._pad([*self.bags, *(self._bag_of_part[keys[row]] for row in rows)], clips)  # type: ignore[index]
        self.head.train(bags, np.arange(len(clips)), self.config.seeds[0])
        unknown = np.full((len(rows), len(clips.class_names)), np.nan, np.float32)
        return TrainedHead(
            weights=self.head.model.get_weights(),
            calibration=calibration,
            thresholds=self.thresholds,
            clips=clips,
            bags=bags,
            held_out=np.concatenate([held_out, unknown]),
            raw_pool=self._predict_pool(),
            num_answers=len(answers),
        )

    def _pad(self, bags: Sequence[np.ndarray], clips: Clips) -> Bags:
        """Pad bags to one length for all trainings, as another one would compile the head again."""
        padded = Bags.pad(bags, clips.targets, clips.is_known)
        missing = self._num_segments - padded.x.shape[1]
        return Bags(np.pad(padded.x, ((0, 0), (0, missing), (0, 0))), padded.lengths, clips.targets, clips.is_known)

    def _predict_pool(self) -> np.ndarray:
        num_classes = len(self.clips.class_names)
        if not len(self.pool):
            return np.zeros((0, num_classes), np.float32)
        predictions = []
        for first in range(0, len(self.pool), _PARTS_PER_PREDICTION):  # Padded to float32, all of them may be large.
            bags = self.pool.bags[first : first + _PARTS_PER_PREDICTION]
            padded = Bags.pad(bags, np.zeros((len(bags), num_classes), bool))
            predictions.append(self.head.predict(padded, np.arange(len(bags))))
        return np.concatenate(predictions)

    def _select_thresholds(self, clips: Clips, held_out: np.ndarray, is_held_out: np.ndarray) -> np.ndarray:
        """Select the thresholds with the best F1 on what was held out, none below that of the head in use."""
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
