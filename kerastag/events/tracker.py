"""Framewise probabilities as they come -> events as they begin and end, in memory that does not grow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from kerastag.events.rules import Event, EventRules

__all__ = ["EventTracker"]

_BLOCK = 256  # frames at once, so that memory stays the same however long the input
_ROUNDING = 1e-6  # frames: 0.3 s are three frames of 0.1 s


class EventTracker:
    """Framewise probabilities as they come -> events as they begin and end.

    Memory does not grow with time. An event is reported twice: when it is sure to be one, with an offset of None, and
    when it is sure to have ended. Smoothing delays both by half its length, `max_gap_seconds` the second.

    Args:
        num_classes: 1 or more.
        seconds_per_frame: from one frame to the next, above 0.
        rules: what an event is.

    Raises:
        ValueError: an argument out of range, or thresholds of another number of classes.

    >>> tracker = EventTracker(1, 0.5)
    >>> [event.onset_seconds for event in tracker.update(10.0, [[0.1], [0.9]])]
    [10.5]
    >>> [event.offset_seconds for event in tracker.update(11.0, [0.1])]
    [11.0]
    """

    def __init__(self, num_classes: int, seconds_per_frame: float, rules: EventRules | None = None) -> None:
        if num_classes < 1:
            raise ValueError(f"`num_classes` must be at least 1, received {num_classes}")
        if not 0 < seconds_per_frame < math.inf:
            raise ValueError(f"`seconds_per_frame` must be above 0, received {seconds_per_frame}")
        rules = rules or EventRules()
        self.num_classes, self.seconds_per_frame, self.rules = num_classes, seconds_per_frame, rules
        self._onset = _per_class("onset_thresholds", rules.onset_thresholds, num_classes)
        self._offset = _per_class("offset_thresholds", rules.offset_thresholds, num_classes)
        self._half = max(0, round((rules.smoothing_seconds / seconds_per_frame - 1) / 2))
        self._min_frames = max(1, math.ceil(rules.min_seconds / seconds_per_frame - _ROUNDING))
        self._gap_frames = math.floor(rules.max_gap_seconds / seconds_per_frame + _ROUNDING)
        self._refractory_frames = math.ceil(rules.refractory_seconds / seconds_per_frame - _ROUNDING)
        self._next_seconds: float | None = None
        self._reset()

    @property
    def delay_seconds(self) -> float:
        """How much later than its frame a begun event is reported, because of smoothing."""
        return self._half * self.seconds_per_frame

    def update(self, start_seconds: float, probabilities: np.ndarray | Sequence) -> list[Event]:
        """The next frames -> what has begun or ended, in the order in which it became known.

        Where `start_seconds` is more than half a frame away from the end of the last frame (audio was dropped, a clock
        was set), nothing is known about the time between: every event ends with the last frame before, and another
        begins after. Refractory time goes on through a jump forwards, and ends with a jump backwards.

        Args:
            start_seconds: where the first of the frames begins.
            probabilities: in [0, 1], one frame `(classes,)` or several `(frames, classes)`.

        Raises:
            ValueError: another shape, or a value outside [0, 1].
        """
        frames = _checked(probabilities, self.num_classes)
        if not math.isfinite(start_seconds):
            raise ValueError(f"`start_seconds` must be finite, received {start_seconds}")
        events = self._jump(start_seconds)
        times = start_seconds + self.seconds_per_frame * np.arange(len(frames))
        for first in range(0, len(frames), _BLOCK):
            events += self._smooth(frames[first : first + _BLOCK], times[first : first + _BLOCK])
        if len(frames):
            self._next_seconds = float(times[-1]) + self.seconds_per_frame
        return events

    def flush(self) -> list[Event]:
        """The end of the input -> the events that ended with it; the tracker is as new afterwards."""
        events = self._end_stretch()
        self._reset()
        return events

    def _reset(self) -> None:
        self._open: dict[int, _OpenEvent] = {}
        self._blocked = np.full(self.num_classes, -1, np.int64)  # first frame that may be part of the next event
        self._heard = np.zeros(self.num_classes, np.int8)
        self._count = 0  # frames that left the smoothing
        self._next_seconds = None
        self._tail = np.empty((0, self.num_classes))  # frames that the next medians need
        self._waiting = np.empty(0)  # times of frames whose median needs later ones

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
        """Repeat the last frame for the medians that wait for later ones, and end every event."""
        events = []
        if len(self._waiting):
            beyond = np.repeat(self._tail[-1:], self._half, axis=0)
            events = self._smooth(beyond, np.full(self._half, np.nan))  # these times never leave `_waiting`
        for k in sorted(self._open):
            events += self._finished(k)
        self._heard[:] = 0
        self._tail, self._waiting, self._next_seconds = self._tail[:0], self._waiting[:0], None
        return events

    def _smooth(self, frames: np.ndarray, times: np.ndarray) -> list[Event]:
        if not self._half:
            return self._advance(frames, times)
        if not len(self._tail):
            self._tail = np.repeat(frames[:1], self._half, axis=0)
        frames = np.concatenate([self._tail, frames])
        times = np.concatenate([self._waiting, times])
        self._tail = frames[-2 * self._half :].copy()
        ready = max(0, len(frames) - 2 * self._half)
        self._waiting = times[ready:]
        if not ready:
            return []
        windows = np.lib.stride_tricks.sliding_window_view(frames, 2 * self._half + 1, axis=0)
        return self._advance(np.median(windows, axis=-1), times[:ready])

    def _advance(self, frames: np.ndarray, times: np.ndarray) -> list[Event]:
        """Smoothed frames -> what they begin and end."""
        runs = self._runs(frames)
        reports: list[tuple[int, int, Event]] = []  # sorted by the frame at which each became known
        for k in sorted(self._open.keys() | runs.keys()):
            reports += ((at, k, event) for at, event in self._follow(k, runs.get(k, []), frames[:, k], times))
        self._count += len(frames)
        return [event for _, _, event in sorted(reports, key=lambda report: report[:2])]

    def _runs(self, frames: np.ndarray) -> dict[int, list[tuple[int, int]]]:
        """Class -> the stretches of these frames in which it is heard, as [first, end) in frames of this block."""
        # 1 where a class is heard for sure, 0 where it is not, and between the thresholds as the frame before.
        below = np.where(frames < self._offset, np.int8(0), np.int8(-1))
        known = np.concatenate([self._heard[None], np.where(frames >= self._onset, np.int8(1), below)])
        latest = np.where(known >= 0, np.arange(len(known))[:, None], 0)
        heard = np.take_along_axis(known, np.maximum.accumulate(latest, axis=0), axis=0)[1:]
        self._heard = heard[-1]
        border = np.zeros((1, self.num_classes), np.int8)
        steps = np.diff(np.concatenate([border, heard, border]), axis=0).T
        runs: dict[int, list[tuple[int, int]]] = {}
        classes, firsts = np.nonzero(steps > 0)
        for k, first, end in zip(classes.tolist(), firsts.tolist(), np.nonzero(steps < 0)[1].tolist(), strict=True):
            runs.setdefault(k, []).append((first, end))
        return runs

    def _follow(
        self, k: int, runs: list[tuple[int, int]], probabilities: np.ndarray, times: np.ndarray
    ) -> Iterator[tuple[int, Event]]:
        """The runs of one class in a block -> (frame at which it became known, event)."""
        for first, end in runs:
            yield from self._ended_before(k, self._count + first)
            first = max(first, int(self._blocked[k]) - self._count)
            if first >= end:
                continue
            if k not in self._open:
                self._open[k] = _OpenEvent(self._count + first, float(times[first]))
            event = self._open[k]
            sure = max(first, event.first + self._min_frames - 1 - self._count)
            if not event.sure and sure < end:
                event.add(probabilities[first : sure + 1])
                event.sure = True
                yield self._count + sure, event.report(k, None)
                first = sure + 1
            event.add(probabilities[first:end])
            event.end, event.end_seconds = self._count + end, float(times[end - 1]) + self.seconds_per_frame
        yield from self._ended_before(k, self._count + len(times))

    def _ended_before(self, k: int, frame: int) -> Iterator[tuple[int, Event]]:
        """The open event of a class, if even a run that began at `frame` would be too late to go on with it."""
        if k in self._open and frame - self._open[k].end > self._gap_frames:
            at = self._open[k].end + self._gap_frames
            yield from ((at, event) for event in self._finished(k))

    def _finished(self, k: int) -> list[Event]:
        event = self._open.pop(k)
        if not event.sure:
            return []
        self._blocked[k] = event.end + self._refractory_frames
        return [event.report(k, event.end_seconds)]


class _OpenEvent:
    """What is known of an event that may go on."""

    def __init__(self, first: int, onset_seconds: float) -> None:
        self.first, self.onset_seconds = first, onset_seconds
        self.end, self.end_seconds = first, onset_seconds
        self.sure = False
        self._peak, self._sum, self._frames = 0.0, 0.0, 0

    def add(self, probabilities: np.ndarray) -> None:
        if len(probabilities):
            self._peak = max(self._peak, float(probabilities.max()))
            for value in probabilities.tolist():  # one after the other: the same sum however the input was cut
                self._sum += value
            self._frames += len(probabilities)

    def report(self, class_index: int, offset_seconds: float | None) -> Event:
        return Event(class_index, self.onset_seconds, offset_seconds, self._peak, self._sum / self._frames)


def _per_class(name: str, values: float | Sequence[float] | None, num_classes: int) -> np.ndarray:
    array = np.asarray(values, float)
    if array.size not in (1, num_classes):
        raise ValueError(f"`{name}` must be one or {num_classes}, received {array.size}")
    return np.broadcast_to(array, (num_classes,))


def _checked(probabilities: np.ndarray | Sequence, num_classes: int) -> np.ndarray:
    frames = np.asarray(probabilities, float)
    if frames.ndim not in (1, 2) or frames.shape[-1] != num_classes:
        raise ValueError(
            f"`probabilities` must be ({num_classes},) or (frames, {num_classes}), received shape {frames.shape}"
        )
    if frames.size and not (frames.min() >= 0 and frames.max() <= 1):
        raise ValueError(f"`probabilities` must be in [0, 1], received {frames.min()} to {frames.max()}")
    return frames.reshape(-1, num_classes)
