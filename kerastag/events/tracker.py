"""Events in framewise probabilities: of a stream, or of a whole recording."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from kerastag.events.rules import Event, EventRules

__all__ = ["EventTracker", "find_events", "limit_framewise"]

_FRAMES_PER_BLOCK = 256  # Memory does not grow with the length of the input.
_TOLERANCE_FRAMES = 1e-6  # so that 0.3 s are three frames of 0.1 s


class EventTracker:
    """Tracker of events in framewise probabilities that arrive over time, in constant memory.

    An event is reported twice: once it is certain to be an event, with an offset of None, and once it is certain to
    have ended. Smoothing delays both reports by half its length, `max_gap_seconds` delays the second one.

    Args:
        num_classes: Number of classes, at least 1.
        seconds_per_frame: Distance from one frame to the next, above 0 s.
        rules: Rules for events; None uses the defaults of `EventRules`.

    Raises:
        ValueError: An argument is out of range, or the thresholds are for another number of classes.

    >>> from kerastag.events import EventTracker
    >>> tracker = EventTracker(num_classes=1, seconds_per_frame=0.5)
    >>> [event.onset_seconds for event in tracker.update(10.0, [[0.1], [0.9]])]
    [10.5]
    >>> [event.offset_seconds for event in tracker.update(11.0, [0.1])]
    [11.0]
    """

    def __init__(self, num_classes: int, seconds_per_frame: float, rules: EventRules | None = None) -> None:
        if num_classes < 1:
            raise ValueError(f"`num_classes` must be at least 1; received: {num_classes}")
        if not 0 < seconds_per_frame < math.inf:
            raise ValueError(f"`seconds_per_frame` must be above 0; received: {seconds_per_frame}")
        self.num_classes, self.seconds_per_frame = num_classes, seconds_per_frame
        self._set_rules(rules or EventRules())
        self._next_seconds: float | None = None
        self._reset()

    def update(self, start_seconds: float, probabilities: np.ndarray | Sequence) -> list[Event]:
        """Process the next frames and return the events that have begun or ended, as they became certain.

        Where `start_seconds` differs by more than half a frame from the end of the last frame (audio was dropped, or a
        clock was set), every event ends with the last frame, and another one may begin with the next. Refractory time
        continues through a jump forwards, and ends with a jump backwards.

        Args:
            start_seconds: Time at which the first of the frames begins.
            probabilities: Probabilities in [0, 1] of one frame `(classes,)` or of several `(frames, classes)`.

        Raises:
            ValueError: The probabilities have another shape, or a value is outside [0, 1].
        """
        frames = np.asarray(probabilities, float)
        if frames.ndim not in (1, 2) or frames.shape[-1] != self.num_classes:
            expected = f"({self.num_classes},) or (frames, {self.num_classes})"
            raise ValueError(f"`probabilities` must be {expected}; received: shape {frames.shape}")
        if frames.size and not (frames.min() >= 0 and frames.max() <= 1):
            raise ValueError(f"`probabilities` must be in [0, 1]; received: {frames.min()} to {frames.max()}")
        frames = frames.reshape(-1, self.num_classes)
        if not math.isfinite(start_seconds):
            raise ValueError(f"`start_seconds` must be finite; received: {start_seconds}")
        events = self._jump(start_seconds)
        times = start_seconds + self.seconds_per_frame * np.arange(len(frames))
        for first in range(0, len(frames), _FRAMES_PER_BLOCK):
            events += self._smooth(frames[first : first + _FRAMES_PER_BLOCK], times[first : first + _FRAMES_PER_BLOCK])
        if len(frames):
            self._next_seconds = float(times[-1]) + self.seconds_per_frame
        return events

    def replace_rules(self, rules: EventRules) -> list[Event]:
        """Use other rules from the next frame on, and return the events that end with the last frame.

        Events that go on continue, unless the median filter has another length: then all of them end.

        Raises:
            ValueError: The thresholds are for another number of classes.
        """
        for name in ("onset_thresholds", "offset_thresholds", "min_seconds"):
            _expand_values(name, getattr(rules, name), self.num_classes)
        events = [] if rules.smoothing_seconds == self.rules.smoothing_seconds else self._end_stretch()
        self._set_rules(rules)
        return events

    def flush(self) -> list[Event]:
        """End the input, return the events that end with it and reset the tracker."""
        events = self._end_stretch()
        self._reset()
        return events

    def _set_rules(self, rules: EventRules) -> None:
        seconds_per_frame = self.seconds_per_frame
        self.rules = rules
        self._onset = _expand_values("onset_thresholds", rules.onset_thresholds, self.num_classes)
        self._offset = _expand_values("offset_thresholds", rules.offset_thresholds, self.num_classes)
        self._half = max(0, round((rules.smoothing_seconds / seconds_per_frame - 1) / 2))
        min_seconds = _expand_values("min_seconds", rules.min_seconds, self.num_classes)
        self._min_frames = np.maximum(1, np.ceil(min_seconds / seconds_per_frame - _TOLERANCE_FRAMES)).astype(int)
        self._gap_frames = math.floor(rules.max_gap_seconds / seconds_per_frame + _TOLERANCE_FRAMES)
        self._refractory_frames = math.ceil(rules.refractory_seconds / seconds_per_frame - _TOLERANCE_FRAMES)

    def _reset(self) -> None:
        self._open: dict[int, _OpenEvent] = {}
        self._blocked = np.full(self.num_classes, -1, np.int64)  # first frame that may belong to the next event
        self._active = np.zeros(self.num_classes, np.int8)
        self._count = 0  # number of smoothed frames
        self._next_seconds = None
        self._tail = np.empty((0, self.num_classes))  # frames that later medians need
        self._pending = np.empty(0)  # times of frames whose median needs later frames

    def _jump(self, start_seconds: float) -> list[Event]:
        if self._next_seconds is None:
            return []
        jump = (start_seconds - self._next_seconds) / self.seconds_per_frame
        if abs(jump) <= 0.5:
            return []
        events = self._end_stretch()
        if jump > 0:
            self._count += round(jump)
        else:
            self._blocked[:] = -1
        return events

    def _end_stretch(self) -> list[Event]:
        """Repeat the last frame for the pending medians, and end every event."""
        events = []
        if len(self._pending):
            repeated = np.repeat(self._tail[-1:], self._half, axis=0)
            events = self._smooth(repeated, np.full(self._half, np.nan))  # these times stay in `_pending`
        for k in sorted(self._open):
            events += self._finish(k)
        self._active[:] = 0
        self._tail, self._pending, self._next_seconds = self._tail[:0], self._pending[:0], None
        return events

    def _smooth(self, frames: np.ndarray, times: np.ndarray) -> list[Event]:
        if not self._half:
            return self._advance(frames, times)
        if not len(self._tail):
            self._tail = np.repeat(frames[:1], self._half, axis=0)
        frames = np.concatenate([self._tail, frames])
        times = np.concatenate([self._pending, times])
        self._tail = frames[-2 * self._half :].copy()
        num_ready = max(0, len(frames) - 2 * self._half)
        self._pending = times[num_ready:]
        if not num_ready:
            return []
        windows = np.lib.stride_tricks.sliding_window_view(frames, 2 * self._half + 1, axis=0)
        return self._advance(np.median(windows, axis=-1), times[:num_ready])

    def _advance(self, frames: np.ndarray, times: np.ndarray) -> list[Event]:
        """Process smoothed frames and return the events that begin or end with them."""
        runs = self._find_runs(frames)
        reports: list[tuple[int, int, Event]] = []  # (frame at which it became certain, class, event)
        for k in sorted(self._open.keys() | runs.keys()):
            reports += ((frame, k, event) for frame, event in self._follow(k, runs.get(k, []), frames[:, k], times))
        self._count += len(frames)
        return [event for _, _, event in sorted(reports, key=lambda report: report[:2])]

    def _find_runs(self, frames: np.ndarray) -> dict[int, list[tuple[int, int]]]:
        """Find the stretches [first, end) of frames in which each class is active."""
        # 1 where a class is active, 0 where it is not, -1 between the thresholds: there, as in the previous frame.
        below = np.where(frames < self._offset, np.int8(0), np.int8(-1))
        states = np.concatenate([self._active[None], np.where(frames >= self._onset, np.int8(1), below)])
        decided = np.where(states >= 0, np.arange(len(states))[:, None], 0)
        active = np.take_along_axis(states, np.maximum.accumulate(decided, axis=0), axis=0)[1:]
        self._active = active[-1]
        border = np.zeros((1, self.num_classes), np.int8)
        steps = np.diff(np.concatenate([border, active, border]), axis=0).T
        runs: dict[int, list[tuple[int, int]]] = {}
        classes, firsts = np.nonzero(steps > 0)
        for k, first, end in zip(classes.tolist(), firsts.tolist(), np.nonzero(steps < 0)[1].tolist(), strict=True):
            runs.setdefault(k, []).append((first, end))
        return runs

    def _follow(
        self, k: int, runs: list[tuple[int, int]], probabilities: np.ndarray, times: np.ndarray
    ) -> Iterator[tuple[int, Event]]:
        """Yield the events of one class in a block, with the frames at which they became certain."""
        for first, end in runs:
            yield from self._end_before(k, self._count + first)
            first = max(first, int(self._blocked[k]) - self._count)
            if first >= end:
                continue
            if k not in self._open:
                self._open[k] = _OpenEvent(self._count + first, float(times[first]))
            event = self._open[k]
            certain = max(first, event.first + int(self._min_frames[k]) - 1 - self._count)
            if not event.is_certain and certain < end:
                event.add(probabilities[first : certain + 1])
                event.is_certain = True
                yield self._count + certain, event.create_event(k, None)
                first = certain + 1
            event.add(probabilities[first:end])
            event.end, event.end_seconds = self._count + end, float(times[end - 1]) + self.seconds_per_frame
        yield from self._end_before(k, self._count + len(times))

    def _end_before(self, k: int, frame: int) -> Iterator[tuple[int, Event]]:
        """End the open event of a class if a run that begins at `frame` is too late to continue it."""
        if k in self._open and frame - self._open[k].end > self._gap_frames:
            end_frame = self._open[k].end + self._gap_frames
            yield from ((end_frame, event) for event in self._finish(k))

    def _finish(self, k: int) -> list[Event]:
        event = self._open.pop(k)
        if not event.is_certain:
            return []
        self._blocked[k] = event.end + self._refractory_frames
        return [event.create_event(k, event.end_seconds)]


def find_events(
    probabilities: np.ndarray | Sequence,
    seconds_per_frame: float,
    rules: EventRules | None = None,
    start_seconds: float = 0.0,
) -> list[Event]:
    """Find the events in the framewise probabilities of a recording, sorted by onset and class.

    Args:
        probabilities: Framewise probabilities in [0, 1], `(frames, classes)`.
        seconds_per_frame: Distance from one frame to the next, above 0 s.
        rules: Rules for events; None uses the defaults of `EventRules`.
        start_seconds: Time at which the first frame begins.

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

    `min(framewise, clipwise)`: the framewise prediction locates a sound, and the clipwise prediction decides better
    whether there is one at all, since a network trained with labels of whole clips never learns that a frame is silent.
    Where a network pools its frames with attention, the limit removes little but false alarms. Where it averages them,
    the clipwise probability of a short sound is too low, and the framewise probabilities are better without the limit.

    Args:
        framewise: Framewise probabilities in [0, 1], `(..., frames, classes)`, like the result.
        clipwise: Probabilities of the clip or window that the frames belong to, in [0, 1], `(..., classes)`.

    >>> from kerastag.events import limit_framewise
    >>> limit_framewise([[1.0, 0.75], [0.0, 0.25]], [0.25, 0.5]).tolist()
    [[0.25, 0.5], [0.0, 0.25]]
    """
    return np.minimum(framewise, np.asarray(clipwise)[..., None, :])


class _OpenEvent:
    """An event that may continue."""

    def __init__(self, first: int, onset_seconds: float) -> None:
        self.first, self.onset_seconds = first, onset_seconds
        self.end, self.end_seconds = first, onset_seconds
        self.is_certain = False
        self._peak, self._sum, self._frames = 0.0, 0.0, 0

    def add(self, probabilities: np.ndarray) -> None:
        if len(probabilities):
            self._peak = max(self._peak, float(probabilities.max()))
            for value in probabilities.tolist():  # one after the other, so that the sum does not depend on the blocks
                self._sum += value
            self._frames += len(probabilities)

    def create_event(self, class_index: int, offset_seconds: float | None) -> Event:
        return Event(class_index, self.onset_seconds, offset_seconds, self._peak, self._sum / self._frames)


def _expand_values(name: str, values: float | Sequence[float] | None, num_classes: int) -> np.ndarray:
    array = np.asarray(values, float)
    if array.size not in (1, num_classes):
        raise ValueError(f"`{name}` must be one number or {num_classes}; received: {array.size}")
    return np.broadcast_to(array, (num_classes,))
