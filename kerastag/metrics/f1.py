"""F1 of predicted events: by segments of a second, and by events whose onsets and offsets agree within collars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from kerastag.metrics.event_table import EventTable, expand_ranges, join_sorted_keys

__all__ = ["F1Scores", "compute_event_f1", "compute_segment_f1"]

_ROUNDING = 1e-6  # seconds; tables of events have milliseconds


@dataclass(frozen=True, eq=False)
class F1Scores:
    """Numbers of matching segments or events of each class, with the scores computed from them.

    Attributes:
        num_matched: Number of segments or events in both tables, `(classes,)`.
        num_true: Number in the ground truth, `(classes,)`.
        num_predicted: Number in the predictions, `(classes,)`.
    """

    num_matched: np.ndarray
    num_true: np.ndarray
    num_predicted: np.ndarray

    @property
    def by_class(self) -> np.ndarray:
        """F1 of each class, `2 num_matched / (num_true + num_predicted)`; NaN for a class in neither table."""
        total = self.num_true + self.num_predicted
        return np.divide(2.0 * self.num_matched, total, out=np.full(len(total), np.nan), where=total > 0)

    @property
    def macro(self) -> float:
        """Mean of `by_class` over the classes in either table; 0 without any."""
        by_class = self.by_class
        return float(np.nanmean(by_class)) if np.isfinite(by_class).any() else 0.0

    @property
    def micro(self) -> float:
        """F1 of all classes together."""
        return _divide(2 * self.num_matched.sum(), self.num_true.sum() + self.num_predicted.sum())

    @property
    def precision(self) -> float:
        """Share of the predictions that match the ground truth, all classes together."""
        return _divide(self.num_matched.sum(), self.num_predicted.sum())

    @property
    def recall(self) -> float:
        """Share of the ground truth that is predicted, all classes together."""
        return _divide(self.num_matched.sum(), self.num_true.sum())

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists for strict JSON; NaN becomes None."""
        by_class = [None if np.isnan(value) else float(value) for value in self.by_class]
        names = ("macro", "micro", "precision", "recall")
        return {**{name: getattr(self, name) for name in names}, "by_class": by_class}


def compute_segment_f1(ground_truth: EventTable, predicted: EventTable, segment_seconds: float = 1.0) -> F1Scores:
    """Compute the F1 of segments, where a class is active in a segment if any part of an event lies in it.

    Args:
        ground_truth: True events.
        predicted: Predicted events of the same clips and classes.
        segment_seconds: Length of a segment, seconds, above 0.

    Raises:
        ValueError: The tables differ in clips or classes, or an argument is out of range.

    >>> from kerastag.metrics import EventTable, compute_segment_f1
    >>> ground_truth = EventTable([0], [0], [0.5], [2.5], num_clips=1, num_classes=1)
    >>> compute_segment_f1(ground_truth, EventTable([0], [0], [1.0], [2.0], num_clips=1, num_classes=1)).micro
    0.5

    Reference:
        Mesaros, Heittola, Virtanen, "Metrics for polyphonic sound event detection", 2016, section 3.1.
    """
    _check_tables(ground_truth, predicted)
    if not segment_seconds > 0:
        raise ValueError(f"`segment_seconds` must be above 0; received: {segment_seconds}")
    true_cells, predicted_cells = (_find_active_cells(table, segment_seconds) for table in (ground_truth, predicted))
    matched_cells = np.intersect1d(true_cells, predicted_cells)
    num_classes = ground_truth.num_classes
    counts = [
        np.bincount(cells % num_classes, minlength=num_classes)
        for cells in (matched_cells, true_cells, predicted_cells)
    ]
    return F1Scores(*counts)


def compute_event_f1(
    ground_truth: EventTable,
    predicted: EventTable,
    *,
    onset_collar: float = 0.2,
    offset_collar: float = 0.2,
    offset_share: float = 0.2,
) -> F1Scores:
    """Compute the F1 of events, where events match if class, onset and offset agree.

    Onsets agree within `onset_collar`, offsets within `max(offset_collar, offset_share * duration of the true event)`.
    Each event matches at most one, and as many match as possible.

    Args:
        ground_truth: True events.
        predicted: Predicted events of the same clips and classes.
        onset_collar: Tolerance of onsets, seconds, at least 0.
        offset_collar: Tolerance of offsets, seconds, at least 0.
        offset_share: Tolerance of offsets as a share of the duration of the true event, at least 0.

    Raises:
        ValueError: The tables differ in clips or classes, or an argument is out of range.

    >>> from kerastag.metrics import EventTable, compute_event_f1
    >>> ground_truth = EventTable([0], [0], [0.5], [2.5], num_clips=1, num_classes=1)
    >>> compute_event_f1(ground_truth, EventTable([0], [0], [0.7], [2.9], num_clips=1, num_classes=1)).micro
    1.0

    Reference:
        Mesaros, Heittola, Virtanen, 2016, section 3.2; collars of the DCASE challenges.
    """
    _check_tables(ground_truth, predicted)
    collars = {"onset_collar": onset_collar, "offset_collar": offset_collar, "offset_share": offset_share}
    for name, value in collars.items():
        if not value >= 0:
            raise ValueError(f"`{name}` must be at least 0; received: {value}")
    i, j = join_sorted_keys(ground_truth.pair_index, predicted.pair_index)
    collar = np.maximum(offset_collar, offset_share * ground_truth.durations[i])
    onsets_agree = np.abs(ground_truth.onset[i] - predicted.onset[j]) <= onset_collar + _ROUNDING
    offsets_agree = np.abs(ground_truth.offset[i] - predicted.offset[j]) <= collar + _ROUNDING
    agree = onsets_agree & offsets_agree
    graph = csr_matrix((np.ones(agree.sum(), bool), (i[agree], j[agree])), (len(ground_truth), len(predicted)))
    is_matched = maximum_bipartite_matching(graph, "column") >= 0
    counts = [
        np.bincount(classes, minlength=ground_truth.num_classes)
        for classes in (ground_truth.class_index[is_matched], ground_truth.class_index, predicted.class_index)
    ]
    return F1Scores(*counts)


def _find_active_cells(table: EventTable, segment_seconds: float) -> np.ndarray:
    """Return a sorted array with one number for each clip, segment and class with an event."""
    first = np.floor(table.onset / segment_seconds + _ROUNDING).astype(int)
    end = np.ceil(table.offset / segment_seconds - _ROUNDING).astype(int)
    rows, segment = expand_ranges(first, np.maximum(end - first, 1))
    # The class comes last, so that the remainder by the number of classes is the class.
    return np.unique((segment * table.num_clips + table.clip[rows]) * table.num_classes + table.class_index[rows])


def _check_tables(ground_truth: EventTable, predicted: EventTable) -> None:
    for name in ("num_clips", "num_classes"):
        if (expected := getattr(ground_truth, name)) != (received := getattr(predicted, name)):
            raise ValueError(
                f"`ground_truth` and `predicted` must have the same `{name}`; received: {expected} and {received}"
            )


def _divide(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0
