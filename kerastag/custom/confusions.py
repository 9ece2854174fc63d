"""Which classes are predicted in place of others."""

from collections.abc import Sequence

import numpy as np

__all__ = ["count_confusions", "find_most_confused"]


def count_confusions(y_true: np.ndarray, y_score: np.ndarray) -> np.ndarray:
    """Count how many clips of the row's class were predicted as the column's class.

    A clip is predicted as its most probable class. A clip with several labels is right if that is any of them.

    >>> count_confusions(np.eye(2, dtype=bool), np.array([[0.9, 0.1], [0.8, 0.2]])).tolist()
    [[1, 0], [1, 0]]
    """
    counts = np.zeros((y_true.shape[1], y_true.shape[1]), int)
    for labels, predicted in zip(y_true, y_score.argmax(axis=1), strict=True):
        true_classes = predicted if labels[predicted] else labels  # a row number, or a mask of rows
        counts[true_classes, predicted] += 1
    return counts


def find_most_confused(counts: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """Describe the at most eight pairs of classes that are confused most often, one line each."""
    errors = counts * ~np.eye(len(counts), dtype=bool)
    order = np.argsort(-errors, axis=None, kind="stable")[:8]
    return [
        f"{class_names[k]} predicted as {class_names[j]}: {errors[k, j]} of {counts[k].sum()}"
        for k, j in zip(*np.unravel_index(order, errors.shape), strict=True)
        if errors[k, j]
    ]
