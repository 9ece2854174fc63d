"""Events against the true ones: F1 by segments of a second, and by events whose ends agree within collars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from kerastag.metrics.event_table import EventTable

__all__ = ["F1Figures", "event_f1", "joined", "segment_f1"]

_ROUNDING = 1e-6  # seconds: tables say milliseconds


@dataclass(frozen=True, eq=False)
class F1Figures:
    """What agrees, class by class.

    Attributes:
        agreed: segments or events that both tables have, `(classes,)`.
        num_true: those of the truth, `(classes,)`.
        num_found: those that were found, `(classes,)`.
    """

    agreed: np.ndarray
    num_true: np.ndarray
    num_found: np.ndarray

    @property
    def by_class(self) -> np.ndarray:
        """`2 agreed / (num_true + num_found)`, `(classes,)`; NaN for a class in neither table."""
        total = self.num_true + self.num_found
        return np.divide(2.0 * self.agreed, total, out=np.full(len(total), np.nan), where=total > 0)

    @property
    def macro(self) -> float:
        """Mean of `by_class` over the classes in either table; 0 where there is none."""
        by_class = self.by_class
        return float(np.nanmean(by_class)) if np.isfinite(by_class).any() else 0.0

    @property
    def micro(self) -> float:
        """F1 of all classes together."""
        return _ratio(2 * self.agreed.sum(), self.num_true.sum() + self.num_found.sum())

    @property
    def precision(self) -> float:
        """Share of what was found that is true, all classes together."""
        return _ratio(self.agreed.sum(), self.num_found.sum())

    @property
    def recall(self) -> float:
        """Share of what is true that was found, all classes together."""
        return _ratio(self.agreed.sum(), self.num_true.sum())

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        by_class = [None if np.isnan(value) else float(value) for value in self.by_class]
        names = ("macro", "micro", "precision", "recall")
        return {**{name: getattr(self, name) for name in names}, "by_class": by_class}


def segment_f1(truth: EventTable, found: EventTable, segment_seconds: float = 1.0) -> F1Figures:
    """True and found events -> agreement of segments: a class is active in a segment when it sounds in any part of it.

    Args:
        truth: the true events.
        found: those that were found in the same clips.
        segment_seconds: length of a segment, above 0.

    Raises:
        ValueError: tables of other clips or classes, or an argument out of range.

    >>> truth = EventTable([0], [0], [0.5], [2.5], num_clips=1, num_classes=1)
    >>> segment_f1(truth, EventTable([0], [0], [1.0], [2.0], num_clips=1, num_classes=1)).micro
    0.5

    Reference: Mesaros, Heittola, Virtanen, "Metrics for polyphonic sound event detection", 2016, section 3.1.
    """
    _check_same(truth, found)
    if not segment_seconds > 0:
        raise ValueError(f"`segment_seconds` must be above 0, received {segment_seconds}")
    true, claimed = (_active(table, segment_seconds) for table in (truth, found))
    counts = [_per_class(cells, truth.num_classes) for cells in (np.intersect1d(true, claimed), true, claimed)]
    return F1Figures(*counts)


def event_f1(
    truth: EventTable,
    found: EventTable,
    *,
    onset_collar: float = 0.2,
    offset_collar: float = 0.2,
    offset_share: float = 0.2,
) -> F1Figures:
    """True and found events -> agreement of events: same class, onset and offset within their collars.

    The offset's collar is `max(offset_collar, offset_share * seconds of the true event)`. Each event agrees with at
    most one; as many agree as can.

    Args:
        truth: the true events.
        found: those that were found in the same clips.
        onset_collar: seconds, at least 0.
        offset_collar: seconds, at least 0.
        offset_share: of the true event's length, at least 0.

    Raises:
        ValueError: tables of other clips or classes, or an argument out of range.

    >>> truth = EventTable([0], [0], [0.5], [2.5], num_clips=1, num_classes=1)
    >>> event_f1(truth, EventTable([0], [0], [0.7], [2.9], num_clips=1, num_classes=1)).micro
    1.0

    Reference: Mesaros, Heittola, Virtanen, 2016, section 3.2; collars of DCASE's challenges.
    """
    _check_same(truth, found)
    for name, value in (
        ("onset_collar", onset_collar),
        ("offset_collar", offset_collar),
        ("offset_share", offset_share),
    ):
        if not value >= 0:
            raise ValueError(f"`{name}` must be at least 0, received {value}")
    i, j = joined(truth.pair, found.pair)
    collar = np.maximum(offset_collar, offset_share * truth.seconds[i])
    close = (np.abs(truth.onset[i] - found.onset[j]) <= onset_collar + _ROUNDING) & (
        np.abs(truth.offset[i] - found.offset[j]) <= collar + _ROUNDING
    )
    graph = csr_matrix((np.ones(close.sum(), bool), (i[close], j[close])), (len(truth), len(found)))
    matched = maximum_bipartite_matching(graph, "column") >= 0
    counts = [
        np.bincount(classes, minlength=truth.num_classes)
        for classes in (truth.class_index[matched], truth.class_index, found.class_index)
    ]
    return F1Figures(*counts)


def joined(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two sorted arrays of keys -> the rows of every pair with equal keys.

    >>> [rows.tolist() for rows in joined(np.array([1, 2, 2]), np.array([2, 2, 3]))]
    [[1, 1, 2, 2], [0, 1, 0, 1]]
    """
    first, end = np.searchsorted(right, left, "left"), np.searchsorted(right, left, "right")
    counts = end - first
    i = np.repeat(np.arange(len(left)), counts)
    j = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    return i, j


def _active(table: EventTable, segment_seconds: float) -> np.ndarray:
    """A number for each clip, segment and class in which it sounds, sorted."""
    first = np.floor(table.onset / segment_seconds + _ROUNDING).astype(int)
    end = np.ceil(table.offset / segment_seconds - _ROUNDING).astype(int)
    counts = np.maximum(end - first, 1)
    row = np.repeat(np.arange(len(table)), counts)
    segment = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[row]
    # The class last, so that the cells of a class are found again.
    return np.unique((segment * table.num_clips + table.clip[row]) * table.num_classes + table.class_index[row])


def _per_class(cells: np.ndarray, num_classes: int) -> np.ndarray:
    return np.bincount(cells % num_classes, minlength=num_classes)


def _check_same(truth: EventTable, found: EventTable) -> None:
    for name in ("num_clips", "num_classes"):
        if (wanted := getattr(truth, name)) != (received := getattr(found, name)):
            raise ValueError(f"`truth` and `found` must have the same `{name}`, have {wanted} and {received}")


def _ratio(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0
