"""What an event is, and when a probability becomes one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Event", "EventRules"]


@dataclass(frozen=True)
class Event:
    """One sound of one class.

    Attributes:
        class_index: which class.
        onset_seconds: where its first frame begins.
        offset_seconds: where its last frame ends; None while it still sounds.
        peak_probability: the highest smoothed probability of its frames so far.
        mean_probability: their average; frames of bridged gaps do not count.
    """

    class_index: int
    onset_seconds: float
    offset_seconds: float | None
    peak_probability: float
    mean_probability: float


@dataclass(frozen=True)
class EventRules:
    """When a probability becomes an event, and when it stops being one.

    In this order: the median over `smoothing_seconds` around each frame; a class is heard from the first frame that
    reaches its onset threshold to the last before one below its offset threshold; stretches with at most
    `max_gap_seconds` between them are one; what lies less than `refractory_seconds` after the end of the last event of
    the class is cut off; what is then shorter than `min_seconds` is left out. Seconds count in whole frames.

    Args:
        onset_thresholds: probability in [0, 1], one for all classes or one a class, such as a card's `thresholds`.
        offset_thresholds: likewise, at most the onset threshold; None is half of it.
        smoothing_seconds: length of the median filter, rounded to an odd number of frames; 0 is none. The first and
            the last frame are repeated beyond the ends.
        min_seconds: shortest event, at least 0.
        max_gap_seconds: longest pause inside an event, at least 0.
        refractory_seconds: shortest time from the end of an event to the next of its class, at least 0.

    Raises:
        ValueError: an argument out of range.

    >>> EventRules((0.5, 0.2)).offset_thresholds
    (0.25, 0.1)
    """

    onset_thresholds: float | Sequence[float] = 0.5
    offset_thresholds: float | Sequence[float] | None = None
    smoothing_seconds: float = 0.0
    min_seconds: float = 0.0
    max_gap_seconds: float = 0.0
    refractory_seconds: float = 0.0

    def __post_init__(self) -> None:
        onset = _plain("onset_thresholds", self.onset_thresholds)
        if self.offset_thresholds is None:
            offset = tuple(p / 2 for p in onset) if isinstance(onset, tuple) else onset / 2
        else:
            offset = _plain("offset_thresholds", self.offset_thresholds)
        on, off = np.atleast_1d(onset), np.atleast_1d(offset)
        if len(on) != len(off) and 1 not in (len(on), len(off)):
            raise ValueError(f"`offset_thresholds` must be one or {len(on)}, received {len(off)}")
        if (off > on).any():
            raise ValueError(f"`offset_thresholds` must be at most `onset_thresholds`, received {offset} and {onset}")
        object.__setattr__(self, "onset_thresholds", onset)
        object.__setattr__(self, "offset_thresholds", offset)
        for name in ("smoothing_seconds", "min_seconds", "max_gap_seconds", "refractory_seconds"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"`{name}` must be at least 0, received {value}")


def _plain(name: str, values: float | Sequence[float]) -> float | tuple[float, ...]:
    """Thresholds as a number or a tuple, checked."""
    try:
        array = np.asarray(values, float)
    except (TypeError, ValueError):
        array = np.full(1, np.nan)
    if array.ndim > 1 or not array.size or not ((array >= 0) & (array <= 1)).all():
        raise ValueError(f"`{name}` must be in [0, 1], one or one a class, received {values!r}")
    return tuple(array.tolist()) if array.ndim else float(array)
