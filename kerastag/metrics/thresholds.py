"""Thresholds of events, tuned on clips whose events are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from kerastag.events import EventRules
from kerastag.metrics.event_table import EventTable, check_framewise
from kerastag.metrics.f1 import compute_event_f1, compute_segment_f1

__all__ = ["tune_thresholds"]


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
    """Find the onset threshold of each class with the highest F1.

    Use clips that are part of neither training nor evaluation; `kerastag make-soundscapes --split valid=...` creates
    such clips.

    Args:
        ground_truth: True events of the held-out clips.
        framewise: Probabilities in [0, 1], `(clips, frames, classes)`.
        seconds_per_frame: Hop from one frame to the next, seconds, above 0.
        rules: Rules that define an event apart from its thresholds. A class of which no threshold finds any event keeps
            the onset threshold of these rules.
        by: F1 to maximize, `"event"` or `"segment"`, the latter in segments of one second.
        offset_ratio: Offset threshold divided by onset threshold, in [0, 1].
        num_candidates: Number of thresholds to try per class, at least 1, evenly spaced over the ranks of the highest
            probabilities of the clips. Of equally good thresholds, the highest is selected.

    Returns:
        `rules` with one onset and one offset threshold per class.

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


def _replace_thresholds(rules: EventRules, onset: np.ndarray, offset_ratio: float) -> EventRules:
    offset = tuple((offset_ratio * onset).tolist())
    return replace(rules, onset_thresholds=tuple(onset.tolist()), offset_thresholds=offset)
