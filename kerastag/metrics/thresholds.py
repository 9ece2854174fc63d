"""Framewise probabilities of held-out clips -> the thresholds that find their events best."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from kerastag.events import EventRules
from kerastag.metrics.event_table import EventTable, check_framewise
from kerastag.metrics.f1 import event_f1, segment_f1

__all__ = ["tune_thresholds"]


def tune_thresholds(
    truth: EventTable,
    framewise: np.ndarray,
    seconds_per_frame: float,
    rules: EventRules | None = None,
    *,
    by: Literal["event", "segment"] = "event",
    offset_ratio: float = 0.5,
    candidates: int = 20,
) -> EventRules:
    """Held-out clips -> the rules with the onset threshold of each class that gives it the highest F1.

    Tune on clips that are neither trained on nor measured on: `kerastag scenes --split valid=...` makes them.

    Args:
        truth: the true events of the held-out clips.
        framewise: in [0, 1], `(clips, frames, classes)`.
        seconds_per_frame: from one frame to the next, above 0.
        rules: smoothing, lengths and pauses; their thresholds stay for a class of which no event is found at any.
        by: which F1: of events, or of segments of a second.
        offset_ratio: offset threshold divided by onset threshold, in [0, 1].
        candidates: how many thresholds are tried for each class: evenly spread over the ranks of what the class
            reaches in a clip. Of equally good ones the highest is taken.

    Raises:
        ValueError: an argument out of range, or shapes that do not fit.

    >>> framewise = np.zeros((1, 4, 1)); framewise[0, 1:3] = 0.3
    >>> truth = EventTable([0], [0], [0.5], [1.5], num_clips=1, num_classes=1)
    >>> tune_thresholds(truth, framewise, 0.5).onset_thresholds
    (0.3,)
    """
    framewise, rules = check_framewise(framewise), rules or EventRules()
    if framewise.shape[::2] != (truth.num_clips, truth.num_classes):
        wanted = f"({truth.num_clips}, frames, {truth.num_classes})"
        raise ValueError(f"`framewise` must be {wanted} as the events are, received {framewise.shape}")
    if not 0 <= offset_ratio <= 1:
        raise ValueError(f"`offset_ratio` must be in [0, 1], received {offset_ratio}")
    if candidates < 1:
        raise ValueError(f"`candidates` must be at least 1, received {candidates}")
    if by not in ("event", "segment"):
        raise ValueError(f"`by` must be event or segment, received {by!r}")
    reached = framewise.max(axis=1)
    best = np.broadcast_to(np.asarray(rules.onset_thresholds, float), truth.num_classes).copy()
    highest = np.zeros(truth.num_classes)
    for rank in np.linspace(0, 1, candidates):
        onset = np.quantile(reached, rank, axis=0, method="higher").astype(float)
        found = EventTable.found(framewise, seconds_per_frame, _with(rules, onset, offset_ratio))
        agreement = event_f1(truth, found) if by == "event" else segment_f1(truth, found)
        f1 = np.nan_to_num(agreement.by_class)
        better = (f1 >= highest) & (f1 > 0)
        best[better], highest[better] = onset[better], f1[better]
    return _with(rules, best, offset_ratio)


def _with(rules: EventRules, onset: np.ndarray, offset_ratio: float) -> EventRules:
    offset = tuple((offset_ratio * onset).tolist())
    return replace(rules, onset_thresholds=tuple(onset.tolist()), offset_thresholds=offset)
