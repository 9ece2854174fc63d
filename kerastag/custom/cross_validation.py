"""Cross-validation: each fold is predicted by taggers that were trained on the others."""

import sys

import numpy as np

from kerastag.custom.clips import Clips
from kerastag.custom.embeddings import KINDS, Kind
from kerastag.custom.progress import show_progress
from kerastag.custom.tagger import TaggerTrainer
from kerastag.metrics.classification import compute_metrics

__all__ = ["cross_validate", "evaluate_logistic_regression"]


def cross_validate(trainer: TaggerTrainer) -> tuple[list[Kind], list[list[float]], np.ndarray]:
    """Hold out each fold once for each seed, and print its score on standard error.

    Returns:
        What a bag consisted of in each fold; for each seed, the score of each fold; and predictions of the recordings,
        each from the training that held it out, float32 `(seeds, recordings, classes)`.
    """
    config, clips = trainer.config, trainer.clips
    folds = np.unique(clips.folds[clips.recordings])
    scores, probabilities = [], []
    with show_progress("cross-validation", len(config.seeds) * len(folds), "folds") as progress:
        kinds = [_select_kind(trainer, *pair) for pair in zip(folds, np.roll(folds, -1), strict=True)]
        for seed in config.seeds:
            predictions = np.zeros(clips.targets.shape, np.float32)
            fold_scores = []
            for number, (fold, kind) in enumerate(zip(folds, kinds, strict=True), start=1):
                train_rows, test_rows = clips.split_fold(fold)
                predictions[test_rows] = trainer.predict_held_out(kind, train_rows, test_rows, seed)
                fold_scores.append(_compute_score(clips, test_rows, predictions[test_rows]))
                progress.write(f"seed {seed}, fold {number}: {fold_scores[-1]:.4f}")
                progress.advance()
            scores.append(fold_scores)
            probabilities.append(predictions[clips.recordings])
    return kinds, scores, np.stack(probabilities)


def _select_kind(trainer: TaggerTrainer, fold: int, next_fold: int) -> Kind:
    """Select what the bags of a fold's taggers consist of: what is better on the next fold, without fine-tuning.

    Neither training nor selection uses the fold itself.
    """
    config, clips = trainer.config, trainer.clips
    if config.segments != "best":
        return config.segments
    train_rows = np.flatnonzero(~np.isin(clips.folds, (fold, next_fold)))
    test_rows = np.flatnonzero(clips.folds == next_fold)
    scores = {}
    for kind in KINDS:
        predictions = trainer.train_head(kind, train_rows, config.seeds[0]).predict(trainer.bags[kind], test_rows)
        likelihood = np.where(clips.targets[test_rows], predictions, 1 - predictions)
        log_likelihood = float(np.log(np.maximum(likelihood, 1e-7)).mean())  # decides between equal scores
        scores[kind] = _compute_score(clips, test_rows, predictions), log_likelihood
    return max(scores, key=lambda kind: scores[kind])


def _compute_score(clips: Clips, rows: np.ndarray, predictions: np.ndarray) -> float:
    """Compute the accuracy of predictions if every recording has one label, otherwise their mAP.

    The accuracy is that of the most probable class among those of the recordings, as that of logistic regression is.
    """
    if clips.has_single_labels:
        classes = np.flatnonzero(clips.targets[clips.recordings].any(axis=0))
        return float(clips.targets[rows, classes[predictions[:, classes].argmax(axis=1)]].mean())
    return compute_metrics(clips.targets[rows], predictions).map


def evaluate_logistic_regression(clips: Clips, clip_embeddings: np.ndarray) -> list[float]:
    """Compute the accuracy of logistic regression on the embeddings of whole clips in each fold, as a baseline.

    Background that is in no fold is not used. The list is empty if a recording has several labels, or if it cannot be
    trained in a fold.
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
        try:
            model.fit(x[folds != fold], y[folds != fold])
        except ValueError as error:  # A comparison must not cost the tagger.
            print(f"no logistic regression: {error}", file=sys.stderr)
            return []
        scores.append(float(model.score(x[folds == fold], y[folds == fold])))
    return scores
