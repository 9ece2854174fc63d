"""Events of a whole recording."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kerastag.events.rules import Event, EventRules
from kerastag.events.tracker import EventTracker

__all__ = ["find_events", "limit_framewise"]


def find_events(
    probabilities: np.ndarray | Sequence,
    seconds_per_frame: float,
    rules: EventRules | None = None,
    start_seconds: float = 0.0,
) -> list[Event]:
    """Find the events in the framewise probabilities of a recording.

    Args:
        probabilities: Framewise probabilities in [0, 1], `(frames, classes)`.
        seconds_per_frame: Distance from one frame to the next, above 0 s.
        rules: Rules for events; None uses the defaults of `EventRules`.
        start_seconds: Time at which the first frame begins.

    Returns:
        Events, sorted by onset and class.

    Raises:
        ValueError: The probabilities have another shape or a value outside [0, 1], or the thresholds are for another
            number of classes.

    >>> from kerastag.events import EventRules, find_events
    >>> rules = EventRules(onset_thresholds=0.5, offset_thresholds=0.3)
    >>> events = find_events([[0.4], [0.6], [0.4], [0.1]], 0.25, rules)
    >>> [(event.onset_seconds, event.offset_seconds) for event in events]
    [(0.25, 0.75)]
    """
    frames = np.asarray(probabilities, float)
    if frames.ndim != 2:
        raise ValueError(f"`probabilities` must be (frames, classes); received: shape {frames.shape}")
    tracker = EventTracker(frames.shape[1], seconds_per_frame, rules)
    events = [*tracker.update(start_seconds, frames), *tracker.flush()]
    finished = (event for event in events if event.offset_seconds is not None)
    return sorted(finished, key=lambda event: (event.onset_seconds, event.class_index))


def limit_framewise(framewise: np.ndarray | Sequence, clipwise: np.ndarray | Sequence) -> np.ndarray:
    """Limit the framewise probabilities of a clip to its clipwise probabilities.

    `min(framewise, clipwise)`: a class is active in a frame only if both predictions agree. The framewise prediction
    locates a sound. The clipwise prediction decides better whether there is one at all: a network that is trained with
    labels of whole clips never learns that a frame is silent, and `mn` above all predicts nearly every class in some
    frames of silence or speech. Where a network pools its frames with attention, the limit removes little but false
    alarms. Where it averages them, the clipwise probability of a short sound is below that of its frames, and the
    framewise probabilities are better without the limit.

    Args:
        framewise: Framewise probabilities in [0, 1], `(..., frames, classes)`.
        clipwise: Probabilities of the clip or window that the frames belong to, in [0, 1], `(..., classes)`.

    Returns:
        Limited probabilities, `(..., frames, classes)`, with the precision of the arguments.

    >>> from kerastag.events import limit_framewise
    >>> limit_framewise([[1.0, 0.75], [0.0, 0.25]], [0.25, 0.5]).tolist()
    [[0.25, 0.5], [0.0, 0.25]]
    """
    return np.minimum(framewise, np.asarray(clipwise)[..., None, :])
