"""The operating point of a tagger: thresholds and rules that keep false alarms rare, measured on other data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kerastag.custom.simulation import SNRS_DB, EventStream, PlacedEvent, StreamPredictions, track_alarms
from kerastag.events import EventRules, EventTracker, create_event_rules
from kerastag.metrics.intervals import compute_count_interval, compute_median_interval, compute_share_interval

__all__ = ["ClassAlarms", "OperatingPoint", "choose_operating_point", "measure_alarms"]

_MIN_SECONDS = (0.0, 0.5, 1.0, 2.0, 3.0)
_MARGIN = 0.05  # A longer minimum must find a larger share of the events than this more: there are few of them.
_LOGITS = np.arange(5.5, -4.01, -0.25)  # of the thresholds that are tried, from 0.996 to 0.018
_LOGITS_PER_PASS = 6
_NUM_TAIL_ALARMS = 20
_TOLERANCE_SECONDS = 1.0  # between an alarm and the sound that it is for


@dataclass(frozen=True)
class OperatingPoint:
    """Thresholds and rules for events.

    Attributes:
        thresholds: Threshold of each class.
        event_rules: Rules for events, as in a card: `min_seconds` of each class, or none.
        false_alarms_per_day: Largest number of false alarms per day of a class that was asked for.
        hours: Duration of the ambient sound that they were chosen on.
        is_shown: For each class, whether these hours show that the expected number is not larger, with a confidence of
            95 %. Otherwise the threshold is an estimate that goes beyond what was observed.
    """

    thresholds: tuple[float, ...]
    event_rules: Mapping[str, Sequence[float]]
    false_alarms_per_day: float
    hours: float
    is_shown: tuple[bool, ...]

    @property
    def origin(self) -> str:
        """Text for the card."""
        return f"{self.false_alarms_per_day:g} false alarms per day and class, from {self.hours:.1f} h of ambient sound"

    @property
    def needed_hours(self) -> float:
        """Hours of ambient sound without a false alarm that would show the number; infinite for 0."""
        rate = self.false_alarms_per_day
        return compute_count_interval(0)[1] * 24 / rate if rate else math.inf

    def create_rules(self) -> EventRules:
        """Create the rules that `kerastag stream` has with a card of these values."""
        return create_event_rules(self.event_rules, self.thresholds)


@dataclass(frozen=True)
class ClassAlarms:
    """Alarms of one class in simulated streams; each interval has a confidence of 95 %.

    Attributes:
        name: Name of the class.
        threshold: Threshold of the class.
        is_shown: As in `OperatingPoint`.
        hours: Duration of the ambient sound.
        false_alarms: Number of alarms in the ambient sound.
        per_day: False alarms per day, with the exact interval for a Poisson count in `per_day_interval`.
        num_events: Number of sounds of the class in the streams with events, each at three levels.
        num_found: Number of them that an alarm was for, also by level: `found_by_snr` has pairs of found and all.
        share_interval: Wilson interval of the share of sounds that were found, for as many trials as there are clips.
        delay_seconds: Median time from the beginning of a sound to its alarm, with a bootstrap interval; None if no
            sound was found.
        num_others: Number of sounds of other classes, and `num_others_claimed` those that had an alarm of this class.
    """

    name: str
    threshold: float
    is_shown: bool
    hours: float
    false_alarms: int
    per_day: float
    per_day_interval: tuple[float, float]
    num_events: int
    num_found: int
    found_by_snr: dict[str, tuple[int, int]]
    share_interval: tuple[float, float]
    delay_seconds: float | None
    delay_interval: tuple[float, float] | None
    num_others: int
    num_others_claimed: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def choose_operating_point(
    ambient: Sequence[StreamPredictions],
    events: EventStream | None,
    least_thresholds: Sequence[float],
    false_alarms_per_day: float,
) -> OperatingPoint:
    """Choose the threshold and the minimum length of each class with which most of its sounds are found.

    For each minimum length, the threshold of a class is the lowest one with an expected number of at most
    `false_alarms_per_day`. Where the hours of ambient sound are long enough for twenty alarms at this rate, they are
    counted. Otherwise, the number is assumed to fall exponentially with the logit of the threshold beyond the twenty
    highest alarms, as far as they do on average (peaks over a threshold). The minimum length of a class is the shortest
    one with which the number of its events that are found is at most a twentieth of all below that of the best one.

    Args:
        ambient: Predictions of the tagger for ambient sound, whose alarms are all false.
        events: Stream with events; None chooses no minimum length.
        least_thresholds: Lowest threshold of each class, such as that of the best F1, in (0, 1).
        false_alarms_per_day: Largest expected number of false alarms per day of each class, above 0.

    Raises:
        ValueError: There is no ambient sound, or `false_alarms_per_day` is not above 0.
    """
    hours = sum(stream.hours for stream in ambient)
    if not hours:
        raise ValueError("`ambient` must have at least one stream; received: none")
    if not 0 < false_alarms_per_day < math.inf:
        raise ValueError(f"`false_alarms_per_day` must be above 0; received: {false_alarms_per_day}")
    allowed = false_alarms_per_day * hours / 24
    lengths = _MIN_SECONDS if events is not None else (0.0,)
    least = np.asarray(least_thresholds, float)
    candidates = [np.maximum(least, _find_thresholds(ambient, length, allowed)) for length in lengths]
    chosen = np.zeros(len(least), int)
    if events is not None:
        num_events = sum(len(event.classes) for event in events.events) / len(least)
        counts = np.array([_count_found(events, *pair) for pair in zip(lengths, candidates, strict=True)])
        chosen = np.argmax(counts >= counts.max(axis=0) - _MARGIN * num_events, axis=0)
    thresholds = np.array(candidates)[chosen, np.arange(len(least))]
    min_seconds = tuple(lengths[number] for number in chosen)
    rules = {"min_seconds": min_seconds} if any(min_seconds) else {}
    alarms = _count_alarms(ambient, thresholds[None], rules)[0]
    is_shown = [compute_count_interval(int(count))[1] <= allowed for count in alarms]
    return OperatingPoint(
        tuple(round(float(threshold), 4) for threshold in thresholds),
        rules,
        false_alarms_per_day,
        hours,
        tuple(is_shown),
    )


def measure_alarms(
    point: OperatingPoint, class_names: Sequence[str], ambient: Sequence[StreamPredictions], events: EventStream | None
) -> list[ClassAlarms]:
    """Measure false alarms, the share of sounds that are found, and their delay, on other data than was chosen on.

    Args:
        point: Thresholds and rules.
        class_names: Names of the classes, in the order of the predictions.
        ambient: Predictions of the tagger for ambient sound, whose alarms are all false.
        events: Predictions for a stream with events of a tagger that was not trained on them, or None.
    """
    rules, hours = point.create_rules(), sum(stream.hours for stream in ambient)
    false_alarms = _count_alarms(ambient, np.array([point.thresholds]), point.event_rules)[0]
    sounds = [] if events is None else list(zip(events.events, _find_delays(events, rules), strict=True))
    return [
        _summarize(k, name, point, hours, count, sounds)
        for k, (name, count) in enumerate(zip(class_names, false_alarms.tolist(), strict=True))
    ]


def _summarize(
    k: int,
    name: str,
    point: OperatingPoint,
    hours: float,
    num_false: int,
    sounds: Sequence[tuple[PlacedEvent, Mapping[int, float]]],
) -> ClassAlarms:
    """Summarize the alarms of a class; `sounds` are all sounds with the delays of the alarms for them, by class."""
    own = [(sound, delays.get(k)) for sound, delays in sounds if k in sound.classes]
    others = [delays for sound, delays in sounds if k not in sound.classes]
    alarm_delays = [delay for _, delay in own if delay is not None]
    found_by_snr = {}
    for snr_db in SNRS_DB:
        at_level = [delay is not None for sound, delay in own if sound.snr_db == snr_db]
        found_by_snr[f"{snr_db:g}"] = (sum(at_level), len(at_level))
    low, high = compute_count_interval(num_false)
    return ClassAlarms(
        name=name,
        threshold=point.thresholds[k],
        is_shown=point.is_shown[k],
        hours=hours,
        false_alarms=num_false,
        per_day=num_false * 24 / hours,
        per_day_interval=(low * 24 / hours, high * 24 / hours),
        num_events=len(own),
        num_found=len(alarm_delays),
        found_by_snr=found_by_snr,
        # The same clip at several levels is not several independent sounds.
        share_interval=compute_share_interval(len(alarm_delays) / len(SNRS_DB), len(own) / len(SNRS_DB)),
        delay_seconds=float(np.median(alarm_delays)) if alarm_delays else None,
        delay_interval=compute_median_interval(alarm_delays) if alarm_delays else None,
        num_others=len(others),
        num_others_claimed=sum(k in delays for delays in others),
    )


def _find_thresholds(ambient: Sequence[StreamPredictions], min_seconds: float, allowed: float) -> np.ndarray:
    """Find the lowest threshold of each class with at most `allowed` alarms expected in the ambient sound."""
    rules = {"min_seconds": min_seconds}
    num_classes, enough = ambient[0].framewise.shape[1], max(_NUM_TAIL_ALARMS, math.floor(allowed) + 1)
    counts = np.zeros((0, num_classes), int)
    for first in range(0, len(_LOGITS), _LOGITS_PER_PASS):
        logits = _LOGITS[first : first + _LOGITS_PER_PASS]
        thresholds = np.repeat(1 / (1 + np.exp(-logits))[:, None], num_classes, axis=1)
        counts = np.concatenate([counts, _count_alarms(ambient, thresholds, rules)])
        if (counts.max(axis=0) >= enough).all():
            break
    # At a low threshold, alarms that last for long become one.
    counts = np.maximum.accumulate(counts, axis=0)
    logits = np.array([_find_logit(column, allowed) for column in counts.T])
    return 1 / (1 + np.exp(-logits))


def _find_logit(counts: np.ndarray, allowed: float) -> float:
    """Find the logit of the threshold of one class, from the counts of alarms at the highest ones of `_LOGITS`."""
    if allowed >= _NUM_TAIL_ALARMS or counts[-1] <= allowed:
        return float(_LOGITS[max(0, int((counts <= allowed).sum()) - 1)])
    last = int(np.argmax(counts >= min(_NUM_TAIL_ALARMS, counts[-1])))
    step = -float(np.diff(_LOGITS[:2])[0])
    mean_excess = step * (0.5 + counts[:last].sum() / counts[last])  # the area below the counts, by trapezoids
    return min(float(_LOGITS[0]), float(_LOGITS[last]) + mean_excess * math.log(counts[last] / allowed))


def _count_alarms(
    ambient: Sequence[StreamPredictions], thresholds: np.ndarray, rules: Mapping[str, float | Sequence[float]]
) -> np.ndarray:
    """Count the alarms of each class at several thresholds, both `(thresholds, classes)`, with one event tracker."""
    counts = np.zeros(thresholds.size, int)
    for stream in ambient:
        classes = np.tile(np.arange(thresholds.shape[1]), len(thresholds)).tolist()
        event_rules = create_event_rules(rules, thresholds.ravel().tolist(), classes=classes)
        tracker = EventTracker(thresholds.size, stream.seconds_per_frame, event_rules)
        framewise = np.tile(stream.framewise, (1, len(thresholds)))
        for event in [*tracker.update(stream.start_seconds, framewise), *tracker.flush()]:
            counts[event.class_index] += event.offset_seconds is None
    return counts.reshape(thresholds.shape)


def _count_found(events: EventStream, min_seconds: float, thresholds: np.ndarray) -> np.ndarray:
    """Count the sounds of each class that are found, int `(classes,)`."""
    counts = np.zeros(len(thresholds), int)
    delays = _find_delays(events, create_event_rules({"min_seconds": min_seconds}, thresholds.tolist()))
    for by_class, event in zip(delays, events.events, strict=True):
        for k in by_class.keys() & set(event.classes):
            counts[k] += 1
    return counts


def _find_delays(events: EventStream, rules: EventRules) -> list[dict[int, float]]:
    """Find, for each sound, the delay of the first alarm of each class that has one while the sound is there."""
    delays: list[dict[int, float]] = [{} for _ in events.events]
    onsets = np.array([event.onset_seconds for event in events.events])
    for alarm in track_alarms(events.predictions, rules):
        # Scenes follow each other: an alarm can only be for the last sound that has begun, or begins very soon.
        row = int(np.searchsorted(onsets - _TOLERANCE_SECONDS, alarm.onset_seconds, "right")) - 1
        if row >= 0 and alarm.onset_seconds < events.events[row].offset_seconds + _TOLERANCE_SECONDS:
            delays[row].setdefault(alarm.class_index, max(0.0, alarm.reported_seconds - onsets[row]))
    return delays
