"""What tagging gives: tags, timelines, and the windows of a recording made one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kerastag.labels import LabelSet

__all__ = ["POOLINGS", "Pooled", "Tag", "Timeline", "check_top"]

POOLINGS = ("max", "mean")
"""How the windows of a long recording become one clip."""


class Tag(NamedTuple):
    """One sound that was heard: the class's display name, its identifier, its probability in [0, 1]."""

    name: str
    mid: str
    probability: float


class Timeline(NamedTuple):
    """Which class sounds when.

    `seconds` (frames,) is where each output frame begins, evenly spaced; `probabilities` (frames, classes), at most
    those of the window that a frame is part of, and `clipwise` (classes,) are in [0, 1]; `labels` are the classes;
    `duration_seconds` is how long the recording is; `framewise` (frames, classes) is what the frames say without their
    windows: where in a recording a class is most probable, not whether it sounds.
    """

    seconds: np.ndarray
    probabilities: np.ndarray
    clipwise: np.ndarray
    labels: LabelSet
    duration_seconds: float
    framewise: np.ndarray

    @property
    def edges(self) -> np.ndarray:
        """Where each frame begins, and where the last one ends: (frames + 1,)."""
        return np.append(self.seconds, self.duration_seconds)


class Pooled:
    """The maximum or the weighted mean of arrays that come one by one."""

    def __init__(self, pooling: str) -> None:
        if pooling not in POOLINGS:
            raise ValueError(f"`pooling` must be one of {', '.join(POOLINGS)}, received {pooling!r}")
        self._pooling = pooling
        self._total: Any = None
        self._weight = 0.0

    def add(self, value: np.ndarray, weight: float) -> None:
        if self._pooling == "mean":
            value = value.astype(np.float64) * weight
            self._total = value if self._total is None else self._total + value
        else:
            self._total = value if self._total is None else np.maximum(self._total, value)
        self._weight += weight

    @property
    def value(self) -> np.ndarray:
        return (self._total / self._weight if self._pooling == "mean" else self._total).astype(np.float32)


def check_top(top: int, threshold: float) -> None:
    """Raise unless `top` is a whole number above zero and `threshold` a probability."""
    if not isinstance(top, int) or isinstance(top, bool) or top < 1:
        raise ValueError(f"`top` must be a whole number of at least 1, received {top!r}")
    if isinstance(threshold, str) or not 0 <= threshold <= 1:
        raise ValueError(f"`threshold` must lie in [0, 1], received {threshold!r}")
