"""Results of a tagger: tags and timelines, and the pooling of the windows of a recording."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kerastag.labels import LabelSet
from kerastag.tagger.windows import Window

__all__ = ["POOLINGS", "Tag", "Timeline", "WindowFrames", "WindowPooling", "check_tag_limits"]

POOLINGS = ("max", "mean")
"""Ways of pooling the windows of a long recording."""


class Tag(NamedTuple):
    """Display name and identifier of a class, and its probability, in [0, 1]."""

    name: str
    mid: str
    probability: float


class Timeline(NamedTuple):
    """Probabilities of the classes over time.

    Attributes:
        seconds: Start of each output frame, evenly spaced, `(frames,)`.
        probabilities: Probability of each class in each frame, in [0, 1], at most that of the window which contains the
            frame, `(frames, classes)`.
        clipwise: Probability of each class in the recording, in [0, 1], `(classes,)`.
        labels: Classes.
        duration_seconds: Duration of the recording.
        framewise: Probabilities of the frames without the limit by their windows, `(frames, classes)`. They show where
            in a recording a class is most probable, not whether it occurs.
    """

    seconds: np.ndarray
    probabilities: np.ndarray
    clipwise: np.ndarray
    labels: LabelSet
    duration_seconds: float
    framewise: np.ndarray

    @property
    def edges(self) -> np.ndarray:
        """Start of each frame and end of the last one, seconds, `(frames + 1,)`."""
        return np.append(self.seconds, self.duration_seconds)


class WindowFrames(NamedTuple):
    """Output frames of one window that no earlier window has; the arrays are those of a `Timeline`.

    `outputs` are those of the model for the whole window.
    """

    window: Window
    clipwise: np.ndarray
    probabilities: np.ndarray
    framewise: np.ndarray
    outputs: Mapping[str, np.ndarray]


class WindowPooling:
    """Maximum or weighted mean of arrays that arrive one by one; `pooling` is one of `POOLINGS`."""

    def __init__(self, pooling: str) -> None:
        if pooling not in POOLINGS:
            raise ValueError(f"`pooling` must be one of {', '.join(POOLINGS)}; received: {pooling!r}")
        self._is_mean = pooling == "mean"
        self._total: Any = 0.0 if self._is_mean else -np.inf
        self._weight = 0.0

    def add(self, value: np.ndarray, weight: float) -> None:
        """Add the array of one window; the maximum ignores its weight."""
        if self._is_mean:
            self._total = self._total + value.astype(np.float64) * weight
            self._weight += weight
        else:
            self._total = np.maximum(self._total, value)

    @property
    def value(self) -> np.ndarray:
        """Maximum or mean of the arrays so far, float32."""
        return (self._total / self._weight if self._is_mean else self._total).astype(np.float32)


def check_tag_limits(top: int, threshold: float) -> None:
    """Raise unless `top` is a positive integer and `threshold` a probability."""
    if not isinstance(top, int) or isinstance(top, bool) or top < 1:
        raise ValueError(f"`top` must be an integer of at least 1; received: {top!r}")
    if isinstance(threshold, str) or not 0 <= threshold <= 1:
        raise ValueError(f"`threshold` must be in [0, 1]; received: {threshold!r}")
