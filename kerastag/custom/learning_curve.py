"""How average precision grows with the number of recordings, and of which class more would help most."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kerastag.custom.clips import Clips
from kerastag.data.splits import hold_out
from kerastag.metrics.classification import compute_metrics

if TYPE_CHECKING:  # The page of a run estimates gains without Keras.
    from kerastag.custom.embeddings import Kind
    from kerastag.custom.tagger import TaggerTrainer

__all__ = ["estimate_gains", "measure_learning_curve"]

_SHARES = (0.25, 0.5)
_MIN_CLIPS = 4
_MIN_FOLDS = 2
_MORE_CLIPS = 10
_MIN_GAIN = 0.005
_LEAST_ERROR = 1e-3


def measure_learning_curve(
    trainer: TaggerTrainer, kinds: Sequence[Kind], probabilities: np.ndarray, max_seconds: float = 20.0
) -> dict[str, Any]:
    """Measure the average precision of heads that are trained on a quarter, on half and on all of the recordings.

    Heads are trained on the cached embeddings, as in the cross-validation, and evaluated on the fold that is held out.
    As many folds are used as there is time for, at least two, which an uncertainty needs. Background is always trained
    on, and the backbone is not fine-tuned. Where most classes have fewer than four recordings to train on, there is
    nothing to leave out.

    Args:
        trainer: Trainer of the run, whose heads are initialized again.
        kinds: What the bags of each fold consist of.
        probabilities: Predictions of the cross-validation with the first seed, `(recordings, classes)`.
        max_seconds: Time after which no other fold is begun.

    Returns:
        JSON values: `folds`, the number of folds; `seconds`; and `points`, one for each share of the recordings, with
        `share`, the mean number `clips` of recordings of each class, and its `average_precision` in each fold, which is
        None where the fold or the training clips have no recording of the class. Empty without a measurement.
    """
    clips, seed, start = trainer.clips, trainer.config.seeds[0], time.perf_counter()
    folds = np.unique(clips.folds[clips.recordings])
    num_clips = clips.targets[clips.recordings].sum(axis=0) * (1 - 1 / len(folds))
    if np.median(num_clips[num_clips > 0]) < _MIN_CLIPS:
        return {}
    held_out = np.zeros(clips.targets.shape, np.float32)
    held_out[clips.recordings] = probabilities
    measured: dict[float, list[tuple[np.ndarray, list[float | None]]]] = {share: [] for share in (*_SHARES, 1.0)}
    for number, (fold, kind) in enumerate(zip(folds, kinds, strict=True), start=1):
        test_rows = clips.recordings[clips.folds[clips.recordings] == fold]
        for share, results in measured.items():
            rows = _select_share(clips, fold, share, seed)
            predictions = held_out[test_rows]
            if share < 1:
                predictions = trainer.train_head(kind, rows, seed).predict(trainer.bags[kind], test_rows)
            counts = clips.targets[rows].sum(axis=0)
            results.append((counts, _compute_precision(clips.targets[test_rows], predictions, counts)))
        if number >= _MIN_FOLDS and (time.perf_counter() - start) * (number + 1) / number > max_seconds:
            break
    points = [
        {
            "share": share,
            "clips": np.mean([counts for counts, _ in results], axis=0).round(2).tolist(),
            "average_precision": [precision for _, precision in results],
        }
        for share, results in measured.items()
    ]
    return {"folds": number, "seconds": round(time.perf_counter() - start, 2), "points": points}


def estimate_gains(curve: dict[str, Any]) -> list[dict[str, Any]]:
    """Estimate of which classes ten more recordings would help most, the largest gain first.

    The missing part of the average precision, `1 - AP`, is assumed to shrink like `n ** -b` with the number of
    recordings `n`, with one exponent for all classes, which is fitted to their mean in each fold. So a class gains most
    that is often confused and has few recordings. Of classes with few recordings, slopes of their own would be mostly
    noise. Nothing is claimed unless `b` is above twice its standard error over the folds.

    The gains are good for an order only. They are too large, since the other classes would not grow along.

    Args:
        curve: Result of `measure_learning_curve`, not empty.

    Returns:
        For each class: its index `class`, its number of `clips`, its `average_precision`, and its `gain`.
    """
    clips = np.array([point["clips"] for point in curve["points"]], float)  # (points, classes)
    precision = np.array([point["average_precision"] for point in curve["points"]], float)  # (points, folds, classes)
    is_measured = ~np.isnan(precision).any(axis=0)  # (folds, classes)
    folds, classes = np.flatnonzero(is_measured.any(axis=1)), np.flatnonzero(is_measured.any(axis=0))
    if len(folds) < _MIN_FOLDS:
        return []
    sizes = np.log2(clips[:, classes].mean(axis=1))
    missing = np.array([1 - precision[:, fold, is_measured[fold]].mean(axis=1) for fold in folds])  # (folds, points)
    exponents = -np.polyfit(sizes, np.log2(np.maximum(missing, _LEAST_ERROR)).T, 1)[0]
    exponent, error = exponents.mean(), exponents.std(ddof=1) / np.sqrt(len(folds))
    if exponent <= 2 * error:
        return []
    gains = []
    for k in classes.tolist():
        current = float(precision[-1, is_measured[:, k], k].mean())
        gain = float((1 - current) * (1 - (1 + _MORE_CLIPS / clips[-1, k]) ** -exponent))
        if gain >= _MIN_GAIN:
            gains.append({"class": k, "clips": clips[-1, k], "average_precision": current, "gain": gain})
    return sorted(gains, key=lambda each: -each["gain"])


def _select_share(clips: Clips, fold: int, share: float, seed: int) -> np.ndarray:
    """Select a share of the recordings of every class outside of a fold, and all clips that are always trained on."""
    train_rows = np.flatnonzero(clips.folds != fold)
    is_recording = np.isin(train_rows, clips.recordings)
    rows = train_rows[is_recording]
    if share < 1:
        rows = rows[hold_out(clips.targets[rows], 1 - share, seed)[0]]
    return np.concatenate([rows, train_rows[~is_recording]])


def _compute_precision(targets: np.ndarray, predictions: np.ndarray, counts: np.ndarray) -> list[float | None]:
    """Compute the average precision of each class; None where these recordings or those trained on have none."""
    precision: list[float | None] = [None] * targets.shape[1]
    present = np.flatnonzero(targets.any(axis=0) & ~targets.all(axis=0))
    if len(present):
        metrics = compute_metrics(targets[:, present], predictions[:, present])
        for k, value in zip(present.tolist(), metrics.average_precision.tolist(), strict=True):
            precision[k] = round(value, 4) if counts[k] else None
    return precision
