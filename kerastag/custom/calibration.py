"""Calibration of probabilities: of the clips with a probability of 0.8, four of five should have the class."""

from typing import NamedTuple

import numpy as np

__all__ = ["Calibration", "compute_calibration_error", "cross_fit_calibration", "fit_calibration", "raise_thresholds"]

_LARGEST_LOGIT = 16.0  # Float32 cannot represent the probabilities beyond it.
_MIN_SLOPE, _MAX_SLOPE = 0.05, 20.0
_MAX_ITERATIONS = 100
_LEVELS = np.arange(2, 96) / 100


class Calibration(NamedTuple):
    """Platt scaling: the probability of a class becomes `sigmoid(slope * logit + offset)`, with a positive slope.

    Attributes:
        slopes: Slope of every class, float64 `(classes,)`.
        offsets: Offset of every class, float64 `(classes,)`.
    """

    slopes: np.ndarray
    offsets: np.ndarray

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrate probabilities `(..., classes)`; return float32.

        >>> calibration = Calibration(np.array([2.0]), np.array([0.0]))
        >>> calibration.apply(np.array([[0.5], [0.75]])).astype(float).round(2).tolist()
        [[0.5], [0.9]]
        """
        logits = self.slopes * _compute_logits(probabilities) + self.offsets
        return (1 / (1 + np.exp(-logits))).astype(np.float32)


def fit_calibration(y_true: np.ndarray, y_score: np.ndarray) -> Calibration:
    """Fit Platt scaling of each class to predictions of clips that were held out.

    With few clips, held-out predictions may be without an error, and the best slope would be infinite. So the targets
    are those of Platt, `(P + 1) / (P + 2)` and `1 / (N + 2)` with the numbers of positive and negative clips, and the
    logarithm of the slope and the offset have standard normal priors around 0, which one clip can move but hardly, and
    a hundred clips freely. A class that has no positive or no negative clip is not changed.

    Args:
        y_true: Labels, bool `(clips, classes)`.
        y_score: Probabilities, `(clips, classes)`.

    Returns:
        Slopes, which are above 0, and offsets.

    Reference: Platt, Probabilistic outputs for support vector machines, 1999. Deviation: the priors.
    """
    logits = _compute_logits(y_score)
    slopes, offsets = np.ones(y_true.shape[1]), np.zeros(y_true.shape[1])
    for k in np.flatnonzero(y_true.any(axis=0) & ~y_true.all(axis=0)):
        slopes[k], offsets[k] = _fit_class(y_true[:, k], logits[:, k])
    return Calibration(slopes, offsets)


def cross_fit_calibration(y_true: np.ndarray, y_score: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Calibrate the predictions of each fold by a calibration that is fitted to the other folds.

    Args:
        y_true: Labels, bool `(clips, classes)`.
        y_score: Probabilities, `(clips, classes)`.
        folds: Fold of every clip, int `(clips,)`.

    Returns:
        Calibrated probabilities, float32 `(clips, classes)`.
    """
    calibrated = np.empty(y_score.shape, np.float32)
    for fold in np.unique(folds):
        is_held_out = folds == fold
        calibration = fit_calibration(y_true[~is_held_out], y_score[~is_held_out])
        calibrated[is_held_out] = calibration.apply(y_score[is_held_out])
    return calibrated


def compute_calibration_error(y_true: np.ndarray, y_score: np.ndarray, num_bins: int = 15) -> float:
    """Compute the expected calibration error, the mean over the classes with a positive clip.

    The probabilities of a class are divided into bins of equal width. The error is the mean distance between the mean
    probability of a bin and the share of its clips that have the class, weighted by the number of clips in it.

    Args:
        y_true: Labels, bool `(clips, classes)`.
        y_score: Probabilities, `(clips, classes)`.
        num_bins: Number of bins, at least 1.

    >>> compute_calibration_error(np.array([[True], [False]]), np.array([[0.6], [0.6]]))
    0.1

    Reference: Naeini, Cooper and Hauskrecht, 2015, for each class as in Kull et al., 2019.
    """
    errors = []
    for k in np.flatnonzero(y_true.any(axis=0)):
        bins = np.minimum((y_score[:, k] * num_bins).astype(int), num_bins - 1)
        differences = np.bincount(bins, y_score[:, k] - y_true[:, k], minlength=num_bins)
        errors.append(np.abs(differences).sum() / len(y_score))
    return round(float(np.mean(errors)), 6)


def raise_thresholds(
    y_true: np.ndarray, y_score: np.ndarray, thresholds: np.ndarray, max_lost_share: float = 0.02
) -> np.ndarray:
    """Raise thresholds to one probability for all classes, the highest one at which few of the clips are lost.

    The best F1 of a class hardly depends on its threshold where nothing of the other clips is like it. One clip that is
    unlike the rest of its class then decides, and what else would be claimed at such a threshold is not known. As the
    probabilities are calibrated, one level is equally strict for all classes. With `k` lost labels of `n`, the expected
    share is taken for `(k + 1) / (n + 1)`, that of the next clip: few clips cannot show that a level loses little.

    Args:
        y_true: Labels, bool `(clips, classes)`.
        y_score: Calibrated probabilities of clips that were held out, `(clips, classes)`.
        thresholds: Lowest threshold of each class, `(classes,)`.
        max_lost_share: Largest expected share of the labels that are lost, in [0, 1].

    Returns:
        Thresholds, float64 `(classes,)`, none lower than before.

    >>> y_true, y_score = np.array([[True], [True], [False]]), np.array([[0.9], [0.8], [0.1]])
    >>> raise_thresholds(y_true, y_score, np.array([0.5]), max_lost_share=0.34).tolist()
    [0.8]
    """
    is_recalled = y_true & (y_score >= thresholds)
    raised = np.asarray(thresholds, np.float64)
    for level in _LEVELS:
        num_lost = (is_recalled & (y_score < level)).sum()
        if (num_lost + 1) / (y_true.sum() + 1) <= max_lost_share:
            raised = np.maximum(thresholds, level)
    return raised


def _compute_logits(probabilities: np.ndarray) -> np.ndarray:
    values = np.asarray(probabilities, np.float64)
    with np.errstate(divide="ignore"):
        return np.clip(np.log(values) - np.log1p(-values), -_LARGEST_LOGIT, _LARGEST_LOGIT)


def _fit_class(is_positive: np.ndarray, logits: np.ndarray) -> tuple[float, float]:
    """Minimize the cross-entropy and the priors in `(log(slope), offset)` by Newton's method with backtracking."""
    num_positive, num_negative = is_positive.sum(), (~is_positive).sum()
    targets = np.where(is_positive, (num_positive + 1) / (num_positive + 2), 1 / (num_negative + 2))

    def compute_loss(parameters: np.ndarray) -> float:
        z = np.exp(parameters[0]) * logits + parameters[1]
        return float((np.logaddexp(0, z) - targets * z).sum() + parameters @ parameters / 2)

    bounds = np.log(_MIN_SLOPE), np.log(_MAX_SLOPE)
    parameters = np.zeros(2)
    for _ in range(_MAX_ITERATIONS):
        features = np.stack([np.exp(parameters[0]) * logits, np.ones_like(logits)])  # derivatives of the logit
        p = 1 / (1 + np.exp(-(features[0] + parameters[1])))
        gradient = features @ (p - targets) + parameters
        hessian = (features * (p * (1 - p))) @ features.T + np.eye(2)  # of Gauss and Newton, positive definite
        step, loss = np.linalg.solve(hessian, gradient), compute_loss(parameters)
        scale = 1.0
        while compute_loss(parameters - scale * step) > loss and scale > 1e-6:
            scale /= 2
        parameters = parameters - scale * step
        parameters[0] = np.clip(parameters[0], *bounds)
        if np.abs(scale * step).max() < 1e-9:
            break
    return float(np.exp(parameters[0])), float(parameters[1])
