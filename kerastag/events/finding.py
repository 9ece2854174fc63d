"""The framewise probabilities of a whole recording -> its events."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kerastag.events.rules import Event, EventRules
from kerastag.events.tracker import EventTracker

__all__ = ["find_events", "sounding_probabilities"]


def find_events(
    probabilities: np.ndarray | Sequence,
    seconds_per_frame: float,
    rules: EventRules | None = None,
    start_seconds: float = 0.0,
) -> list[Event]:
    """The framewise probabilities of a recording -> its events, by onset and class.

    Args:
        probabilities: in [0, 1], `(frames, classes)`.
        seconds_per_frame: from one frame to the next, above 0.
        rules: what an event is.
        start_seconds: where the first frame begins.

    Raises:
        ValueError: another shape, a value outside [0, 1], or thresholds of another number of classes.

    >>> rules = EventRules(onset_thresholds=0.5, offset_thresholds=0.3)
    >>> [(e.onset_seconds, e.offset_seconds) for e in find_events([[0.4], [0.6], [0.4], [0.1]], 0.25, rules)]
    [(0.25, 0.75)]
    """
    frames = np.asarray(probabilities, float)
    if frames.ndim != 2:
        raise ValueError(f"`probabilities` must be (frames, classes), received shape {frames.shape}")
    tracker = EventTracker(frames.shape[1], seconds_per_frame, rules)
    events = [*tracker.update(start_seconds, frames), *tracker.flush()]
    finished = (event for event in events if event.offset_seconds is not None)
    return sorted(finished, key=lambda event: (event.onset_seconds, event.class_index))


def sounding_probabilities(framewise: np.ndarray | Sequence, clipwise: np.ndarray | Sequence) -> np.ndarray:
    """What a model says of frames and of their clip -> how probable it is that a class sounds in a frame.

    `min(framewise, clipwise)`: it does where the frame and the clip both say so. The frames say when. Whether at all,
    the clip knows better: a network that learned from tags of whole clips was never told that a frame is silent, and
    mn above all finds nearly every class in some frames of silence or speech. Where frames were learned and attention
    chooses among them, little changes but that what the clip denies is gone. Where the clip is their average, a short
    sound leaves it less probable than its own frames, and they are better taken alone.

    Args:
        framewise: in [0, 1], `(..., frames, classes)`.
        clipwise: of the clip or window that the frames are part of, in [0, 1], `(..., classes)`.

    Returns:
        `(..., frames, classes)`, of the arguments' precision.

    >>> sounding_probabilities([[1.0, 0.75], [0.0, 0.25]], [0.25, 0.5]).tolist()
    [[0.25, 0.5], [0.0, 0.25]]
    """
    return np.minimum(framewise, np.asarray(clipwise)[..., None, :])
