"""F1 of predicted events, by segments and by events, and the thresholds with the highest F1."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from kerastag.events import EventRules
from kerastag.metrics.event_table import EventTable, check_framewise, expand_ranges, join_sorted_keys

__all__ = ["F1Scores", "compute_event_f1", "compute_segment_f1", "tune_thresholds"]

_ROUNDING = 1e-6  # seconds; tables of events have milliseconds


@dataclass(frozen=True, eq=False)
class F1Scores:
    """Numbers of segments or events of each class, `(classes,)`, with the scores computed from them.

    `num_matched` are in both the ground truth and the predictions.
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

    def as_dict(self) -> dict[str, float | list[float | None]]:
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
        ValueError: The tables differ in clips or classes, or the length is out of range.

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
    matched_cells = np.intersect1d(true_cells, predicted_cells, assume_unique=True)
    # The class comes last in the number of a cell, so that it is the remainder by the number of classes.
    num_classes = ground_truth.num_classes
    return _count_by_class(
        num_classes, *(cells % num_classes for cells in (matched_cells, true_cells, predicted_cells))
    )


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
    true_classes = ground_truth.class_index
    return _count_by_class(ground_truth.num_classes, true_classes[is_matched], true_classes, predicted.class_index)


def tune_thresholds(
    ground_truth: EventTable,
    framewise: np.ndarray,
    seconds_per_frame: float,
    rules: EventRules | None = None,
    *,
    by: Literal["event", "segment"] = "event",
    offset_ratio: float = 0.5,
    num_candidates: int = 20,
) -> EventRules:
    """Find the onset threshold of each class with the highest F1; return `rules` with these thresholds.

    Args:
        ground_truth: True events of clips that are part of neither training nor evaluation, such as those of
            `kerastag make-soundscapes --split valid=...`.
        framewise: Probabilities in [0, 1], `(clips, frames, classes)`.
        seconds_per_frame: Hop from one frame to the next, seconds, above 0.
        rules: Rules that define an event. A class of which no threshold finds any event keeps their onset threshold.
        by: F1 to maximize, `"event"` or `"segment"`, the latter in segments of one second.
        offset_ratio: Offset threshold divided by onset threshold, in [0, 1].
        num_candidates: Number of thresholds to try per class, at least 1, evenly spaced over the ranks of the highest
            probabilities of the clips. Of equally good thresholds, the highest is selected.

    Raises:
        ValueError: An argument is out of range, or the shapes do not fit.

    >>> import numpy as np
    >>> from kerastag.metrics import EventTable, tune_thresholds
    >>> framewise = np.zeros((1, 4, 1)); framewise[0, 1:3] = 0.3
    >>> ground_truth = EventTable([0], [0], [0.5], [1.5], num_clips=1, num_classes=1)
    >>> tune_thresholds(ground_truth, framewise, 0.5).onset_thresholds
    (0.3,)
    """
    framewise, rules = check_framewise(framewise, ground_truth), rules or EventRules()
    if not 0 <= offset_ratio <= 1:
        raise ValueError(f"`offset_ratio` must be in [0, 1]; received: {offset_ratio}")
    if num_candidates < 1:
        raise ValueError(f"`num_candidates` must be at least 1; received: {num_candidates}")
    if by not in ("event", "segment"):
        raise ValueError(f"`by` must be one of event, segment; received: {by!r}")
    compute_f1 = compute_event_f1 if by == "event" else compute_segment_f1
    peaks = framewise.max(axis=1)
    thresholds = np.broadcast_to(np.asarray(rules.onset_thresholds, float), ground_truth.num_classes).copy()
    best_f1 = np.zeros(ground_truth.num_classes)
    for rank in np.linspace(0, 1, num_candidates):
        candidates = np.quantile(peaks, rank, axis=0, method="higher").astype(float)
        candidate_rules = _replace_thresholds(rules, candidates, offset_ratio)
        predicted = EventTable.from_framewise(framewise, seconds_per_frame, candidate_rules)
        f1 = np.nan_to_num(compute_f1(ground_truth, predicted).by_class)
        is_better = (f1 >= best_f1) & (f1 > 0)
        thresholds[is_better], best_f1[is_better] = candidates[is_better], f1[is_better]
    return _replace_thresholds(rules, thresholds, offset_ratio)


def _find_active_cells(table: EventTable, segment_seconds: float) -> np.ndarray:
    """Return a sorted array with one number for each clip, segment and class with an event."""
    first = np.floor(table.onset / segment_seconds + _ROUNDING).astype(int)
    end = np.ceil(table.offset / segment_seconds - _ROUNDING).astype(int)
    rows, segment = expand_ranges(first, np.maximum(end - first, 1))
    return np.unique((segment * table.num_clips + table.clip[rows]) * table.num_classes + table.class_index[rows])


def _count_by_class(num_classes: int, *class_indices: np.ndarray) -> F1Scores:
    return F1Scores(*(np.bincount(classes, minlength=num_classes) for classes in class_indices))


def _check_tables(ground_truth: EventTable, predicted: EventTable) -> None:
    for name in ("num_clips", "num_classes"):
        if (expected := getattr(ground_truth, name)) != (received := getattr(predicted, name)):
            raise ValueError(
                f"`ground_truth` and `predicted` must have the same `{name}`; received: {expected} and {received}"
            )


def _divide(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0


def _replace_thresholds(rules: EventRules, onset: np.ndarray, offset_ratio: float) -> EventRules:
    return replace(rules, onset_thresholds=onset.tolist(), offset_thresholds=(offset_ratio * onset).tolist())
