"""Events, and the rules by which probabilities become events."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["DURATIONS", "Event", "EventRules", "create_event_rules"]

DURATIONS = ("smoothing_seconds", "min_seconds", "max_gap_seconds", "refractory_seconds")
"""Names of the durations of `EventRules`."""


@dataclass(frozen=True)
class Event:
    """One sound of one class.

    Attributes:
        class_index: Index of the class.
        onset_seconds: Time at which the first frame begins.
        offset_seconds: Time at which the last frame ends; None while the event continues.
        peak_probability: Highest smoothed probability of the frames so far.
        mean_probability: Mean smoothed probability of the frames so far, without those of bridged gaps.
    """

    class_index: int
    onset_seconds: float
    offset_seconds: float | None
    peak_probability: float
    mean_probability: float


@dataclass(frozen=True)
class EventRules:
    """Rules by which framewise probabilities become events.

    The rules apply in this order:

    1. Each probability is replaced with the median over `smoothing_seconds` around its frame.
    2. A class is active from a frame that reaches its onset threshold to the last frame before one below its offset
       threshold.
    3. Active stretches with at most `max_gap_seconds` between them become one event.
    4. The part of an event that lies less than `refractory_seconds` after the previous event of its class is removed.
    5. An event that is then shorter than `min_seconds` is dropped.

    Durations are rounded to whole frames.

    Args:
        onset_thresholds: Probability in [0, 1], one for all classes or one per class, such as the thresholds of a card.
        offset_thresholds: Likewise, at most the onset threshold; None is half of it.
        smoothing_seconds: Length of the median filter, rounded to an odd number of frames; 0 disables it. The first and
            the last frame are repeated beyond the ends.
        min_seconds: Shortest duration of an event, at least 0, one for all classes or one per class.
        max_gap_seconds: Longest pause inside an event, at least 0.
        refractory_seconds: Shortest time from the end of an event to the next event of its class, at least 0.

    Raises:
        ValueError: An argument is out of range.

    >>> from kerastag.events import EventRules
    >>> EventRules((0.5, 0.2)).offset_thresholds
    (0.25, 0.1)
    """

    onset_thresholds: float | Sequence[float] = 0.5
    offset_thresholds: float | Sequence[float] | None = None
    smoothing_seconds: float = 0.0
    min_seconds: float | Sequence[float] = 0.0
    max_gap_seconds: float = 0.0
    refractory_seconds: float = 0.0

    def __post_init__(self) -> None:
        onset = _convert_thresholds("onset_thresholds", self.onset_thresholds)
        if self.offset_thresholds is None:
            offset = tuple(p / 2 for p in onset) if isinstance(onset, tuple) else onset / 2
        else:
            offset = _convert_thresholds("offset_thresholds", self.offset_thresholds)
        on, off = np.atleast_1d(onset), np.atleast_1d(offset)
        if len(on) != len(off) and 1 not in (len(on), len(off)):
            raise ValueError(f"`offset_thresholds` must be one number or {len(on)}; received: {len(off)}")
        if (off > on).any():
            raise ValueError(f"`offset_thresholds` must be at most `onset_thresholds`; received: {offset} and {onset}")
        object.__setattr__(self, "onset_thresholds", onset)
        object.__setattr__(self, "offset_thresholds", offset)
        if np.ndim(self.min_seconds):
            min_seconds = tuple(np.asarray(self.min_seconds, float).tolist())
            if len(min_seconds) != len(on) > 1:
                raise ValueError(f"`min_seconds` must be one number or {len(on)}; received: {len(min_seconds)}")
            object.__setattr__(self, "min_seconds", min_seconds)
        for name in DURATIONS:
            value = getattr(self, name)
            if not all(0 <= each < math.inf for each in np.atleast_1d(value)):
                raise ValueError(f"`{name}` must be at least 0; received: {value}")


def create_event_rules(
    card_rules: Mapping[str, Any],
    onset_thresholds: Sequence[float],
    off_threshold: float | None = None,
    classes: Sequence[int] | None = None,
    **durations: float | None,
) -> EventRules:
    """Create the rules for events that a user has chosen, with the rules of the card where none is chosen.

    Args:
        card_rules: `event_rules` of the card of the model.
        onset_thresholds: Onset threshold of each class, in [0, 1].
        off_threshold: Offset threshold of all classes, which is limited to the onset threshold; None is the onset
            threshold times `offset_ratio` of the card, by default half of it.
        classes: Index in the card of each class; None for all classes of the card.
        durations: `smoothing_seconds`, `min_seconds`, `max_gap_seconds` and `refractory_seconds`; None is that of the
            card, by default 0.

    Raises:
        ValueError: A rule is out of range.

    >>> from kerastag.events import create_event_rules
    >>> rules = create_event_rules({"offset_ratio": 0.75, "min_seconds": 2.0}, [0.5], smoothing_seconds=1.0)
    >>> rules.offset_thresholds[0], rules.smoothing_seconds, rules.min_seconds
    (0.375, 1.0, 2.0)
    """
    ratio = card_rules.get("offset_ratio", 0.5)
    offset_thresholds = [ratio * on if off_threshold is None else min(off_threshold, on) for on in onset_thresholds]
    chosen = {name: value for name, value in durations.items() if value is not None}
    defaults: dict[str, Any] = {name: card_rules[name] for name in DURATIONS if name in card_rules}
    if classes is not None and np.ndim(defaults.get("min_seconds", 0.0)):
        defaults["min_seconds"] = [defaults["min_seconds"][k] for k in classes]
    return EventRules(onset_thresholds, offset_thresholds, **{**defaults, **chosen})


def _convert_thresholds(name: str, values: float | Sequence[float]) -> float | tuple[float, ...]:
    try:
        array = np.asarray(values, float)
    except (TypeError, ValueError):
        array = np.full(1, np.nan)
    if array.ndim > 1 or not array.size or not ((array >= 0) & (array <= 1)).all():
        raise ValueError(f"`{name}` must be in [0, 1], one number or one per class; received: {values!r}")
    return tuple(array.tolist()) if array.ndim else float(array)
