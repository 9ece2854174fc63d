"""Labels that look wrong: confident learning on predictions of held-out recordings."""

from dataclasses import dataclass

import numpy as np

__all__ = ["LabelError", "find_label_errors"]


@dataclass(frozen=True)
class LabelError:
    """A label of a recording that is probably wrong, or a label that it probably lacks.

    Attributes:
        row: Row number of the recording.
        label: Index of the class that the recording is labeled with, probably wrongly; None for a missing label.
        suggestion: Index of the class that it should probably be labeled with; None if it should only lose a label.
        margin: By how much the suggestion is more probable than the present label, above -1 and at most 1.
    """

    row: int
    label: int | None
    suggestion: int | None
    margin: float


def find_label_errors(targets: np.ndarray, probabilities: np.ndarray) -> list[LabelError]:
    """Find the labels that are probably wrong, the most probable errors first.

    The threshold of a class is the mean probability that it has in the recordings with its label. A recording
    confidently belongs to the most probable class among those that reach their thresholds. Its label is probably wrong
    if that is another class. Where recordings have several labels or none, this is applied to each class and its
    absence, as if they were two classes.

    Args:
        targets: Labels, bool `(recordings, classes)`.
        probabilities: Predictions in [0, 1] by taggers that were not trained on the recording, `(recordings, classes)`.

    Raises:
        ValueError: The arrays have different shapes.

    >>> targets = np.eye(2, dtype=bool)[[0, 0, 1, 1]]
    >>> find_label_errors(targets, np.array([[0.9, 0.1], [0.2, 0.9], [0.1, 0.8], [0.2, 0.7]]))
    [LabelError(row=1, label=0, suggestion=1, margin=0.7)]

    Reference: Northcutt et al., "Confident Learning: Estimating Uncertainty in Dataset Labels", 2021, equation 2, and
        for several labels Thyagarajan et al., "Identifying Incorrect Annotations in Multi-Label Classification Data",
        2022. All recordings off the diagonal of the confident joint are returned, without estimating their number, as
        cleanlab does with `filter_by="confident_learning"`.
    """
    if targets.shape != probabilities.shape:
        raise ValueError(f"`targets` must have the shape {probabilities.shape}; received: {targets.shape}")
    if (targets.sum(axis=1) == 1).all():
        errors = _find_wrong_classes(targets, probabilities)
    else:
        errors = [error for k in range(targets.shape[1]) for error in _find_errors_in_class(targets, probabilities, k)]
    return sorted(errors, key=lambda error: (-error.margin, error.row))


def _find_wrong_classes(targets: np.ndarray, probabilities: np.ndarray) -> list[LabelError]:
    labels, suggestions = targets.argmax(axis=1), _find_confident_classes(targets, probabilities)
    margins = probabilities - probabilities[np.arange(len(labels)), labels][:, None]
    return [
        LabelError(row, int(labels[row]), int(suggestions[row]), _round(margins[row, suggestions[row]]))
        for row in np.flatnonzero((suggestions >= 0) & (suggestions != labels)).tolist()
    ]


def _find_errors_in_class(targets: np.ndarray, probabilities: np.ndarray, k: int) -> list[LabelError]:
    is_positive, p = targets[:, k], probabilities[:, k]
    presence = _find_confident_classes(np.stack([~is_positive, is_positive], axis=1), np.stack([1 - p, p], axis=1))
    errors = []
    for row in np.flatnonzero((presence >= 0) & (presence != is_positive)).tolist():
        label, suggestion = (k, None) if is_positive[row] else (None, k)
        errors.append(LabelError(row, label, suggestion, _round(abs(2 * p[row] - 1))))
    return errors


def _find_confident_classes(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Find the most probable class of each row among those that reach their thresholds; -1 for none."""
    counts = targets.sum(axis=0)
    thresholds = np.where(counts, (probabilities * targets).sum(axis=0) / np.maximum(1, counts), np.inf)
    is_confident = probabilities >= thresholds
    classes = np.where(is_confident, probabilities, -1).argmax(axis=1)
    return np.where(is_confident.any(axis=1), classes, -1)


def _round(margin: float) -> float:
    return round(float(margin), 4)
