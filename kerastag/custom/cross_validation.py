"""Cross-validation: each fold is predicted by taggers that were trained on the others."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kerastag.custom.clips import Clips
from kerastag.custom.embeddings import KINDS, Kind
from kerastag.custom.trainer import TaggerTrainer
from kerastag.metrics.classification import compute_metrics

__all__ = ["CrossValidation", "compute_score", "cross_validate", "evaluate_logistic_regression"]


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """Results of a cross-validation.

    Attributes:
        kinds: What a bag consisted of, for each fold.
        scores: Score of each fold, for each seed.
        probabilities: Predictions of the recordings, each from the training that held it out, float32 `(seeds,
            recordings, classes)`.
    """

    kinds: list[Kind]
    scores: list[list[float]]
    probabilities: np.ndarray

    @property
    def best_kind(self) -> Kind:
        """What a bag consisted of in most folds."""
        return Counter(self.kinds).most_common(1)[0][0]


def cross_validate(trainer: TaggerTrainer) -> CrossValidation:
    """Hold out each fold once for each seed.

    Args:
        trainer: Trainer of the run.

    Returns:
        The results, also printed fold by fold on standard error.
    """
    config, clips = trainer.config, trainer.clips
    folds = np.unique(clips.folds[clips.recordings])
    kinds = [select_kind(trainer, fold, folds) for fold in folds]
    scores, probabilities = [], []
    for seed in config.seeds:
        predictions = np.zeros(clips.targets.shape, np.float32)
        fold_scores = []
        for number, (fold, kind) in enumerate(zip(folds, kinds, strict=True), start=1):
            train_rows, test_rows = np.flatnonzero(clips.folds != fold), np.flatnonzero(clips.folds == fold)
            predictions[test_rows] = trainer.predict_held_out(kind, train_rows, test_rows, seed)
            fold_scores.append(compute_score(clips, test_rows, predictions[test_rows]))
            print(f"seed {seed}, fold {number}: {fold_scores[-1]:.4f}", file=sys.stderr)
        scores.append(fold_scores)
        probabilities.append(predictions[clips.recordings])
    return CrossValidation(kinds, scores, np.stack(probabilities))


def select_kind(trainer: TaggerTrainer, fold: int, folds: Sequence[int] | np.ndarray) -> Kind:
    """Select what the bags of a fold's taggers consist of: what is better on the next fold, without fine-tuning.

    Neither training nor selection uses the fold itself.
    """
    config, clips = trainer.config, trainer.clips
    if config.segments != "best":
        return config.segments
    next_fold = folds[(list(folds).index(fold) + 1) % len(folds)]
    train_rows = np.flatnonzero(~np.isin(clips.folds, (fold, next_fold)))
    test_rows = np.flatnonzero(clips.folds == next_fold)
    scores = {}
    for kind in KINDS:
        head = trainer.head(kind)
        head.train(trainer.bags[kind], train_rows, config.seeds[0])
        predictions = head.predict(trainer.bags[kind], test_rows)
        likelihood = np.where(clips.targets[test_rows], predictions, 1 - predictions)
        log_likelihood = float(np.log(np.maximum(likelihood, 1e-7)).mean())  # decides between equal scores
        scores[kind] = compute_score(clips, test_rows, predictions), log_likelihood
    return max(scores, key=lambda kind: scores[kind])


def compute_score(clips: Clips, rows: np.ndarray, predictions: np.ndarray) -> float:
    """Compute the accuracy of predictions if every recording has one label, otherwise their mAP.

    Args:
        clips: Clips of the run.
        rows: Row numbers of the predicted clips.
        predictions: Probabilities `(rows, classes)`.
    """
    if clips.has_single_labels:
        return float(clips.targets[rows, predictions.argmax(axis=1)].mean())
    return compute_metrics(clips.targets[rows], predictions).map


def evaluate_logistic_regression(clips: Clips, clip_embeddings: np.ndarray) -> list[float]:
    """Compute the accuracy of logistic regression on the embeddings of whole clips, as a baseline.

    Args:
        clips: Clips of the run.
        clip_embeddings: Embeddings `(clips, features)`.

    Returns:
        Accuracy of each fold; empty if a recording has several labels. Clips of background are not used.
    """
    if not clips.has_single_labels:
        return []
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = clips.recordings
    x, y, folds = clip_embeddings[rows], clips.targets[rows].argmax(axis=1), clips.folds[rows]
    scores = []
    for fold in np.unique(folds):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        model.fit(x[folds != fold], y[folds != fold])
        scores.append(float(model.score(x[folds == fold], y[folds == fold])))
    return scores
