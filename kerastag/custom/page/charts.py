"""Values of the charts of a report."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kerastag.metrics.intervals import compute_share_interval

__all__ = ["compute_calibration", "place_points"]

_NUM_BINS = 10
_MIN_PREDICTIONS = 5


def compute_calibration(targets: np.ndarray, probabilities: np.ndarray) -> list[dict[str, Any]]:
    """Compare predicted probabilities with how often the class is present, in ten bins of equal width.

    Args:
        targets: Labels, bool `(recordings, classes)`.
        probabilities: Predictions in [0, 1], `(recordings, classes)`.

    Returns:
        For each bin with at least five predictions: their `count`, their mean `predicted`, the `present` share of
        them whose class is present, and the `interval` of this share.
    """
    numbers = np.minimum((probabilities * _NUM_BINS).astype(int), _NUM_BINS - 1)
    bins = []
    for number in range(_NUM_BINS):
        is_in_bin = numbers == number
        count, hits = int(is_in_bin.sum()), int(targets[is_in_bin].sum())
        if count >= _MIN_PREDICTIONS:
            predicted = float(probabilities[is_in_bin].mean())
            interval = compute_share_interval(hits, count)
            bins.append({"count": count, "predicted": predicted, "present": hits / count, "interval": interval})
    return bins


def place_points(x: Sequence[float], y: Sequence[float], width: float, height: float) -> list[tuple[float, float]]:
    """Place points in a chart: `x` from its lowest to its highest value, `y` from 0 at the bottom to 1 at the top.

    >>> place_points([3.0, 4.0, 5.0], [0.0, 0.5, 1.0], width=200.0, height=100.0)
    [(0.0, 100.0), (100.0, 50.0), (200.0, 0.0)]
    """
    low, span = min(x), (max(x) - min(x)) or 1.0
    return [(round(width * (a - low) / span, 1), round(height * (1 - b), 1)) for a, b in zip(x, y, strict=True)]
