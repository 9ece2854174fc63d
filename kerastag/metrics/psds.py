"""Framewise probabilities against true events at every threshold: the polyphonic sound detection score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

from kerastag.metrics.event_table import EventTable, check_framewise
from kerastag.metrics.f1 import joined

__all__ = ["PSDS_1", "PSDS_2", "PsdsRules", "psds"]

_ROUNDING = 1e-6
_HOUR = 3600.0


@dataclass(frozen=True)
class PsdsRules:
    """What counts as detected, and what false detections cost.

    Args:
        detection_tolerance: a detection is false unless true events of its class cover this share of it.
        truth_tolerance: a true event is found when detections that are not false cover this share of it.
        cross_trigger_tolerance: a false detection is a cross trigger of another class whose true events cover this
            share of it.
        cross_trigger_weight: of cross triggers beside false detections, at least 0.
        instability_weight: of the spread between classes, which is taken off their mean, at least 0.
        max_rate: false detections an hour up to which the score looks.

    Raises:
        ValueError: an argument out of range.
    """

    detection_tolerance: float
    truth_tolerance: float
    cross_trigger_tolerance: float = 0.3
    cross_trigger_weight: float = 0.0
    instability_weight: float = 1.0
    max_rate: float = 100.0

    def __post_init__(self) -> None:
        for name in ("detection_tolerance", "truth_tolerance", "cross_trigger_tolerance"):
            if not 0 < (value := getattr(self, name)) <= 1:
                raise ValueError(f"`{name}` must be above 0 and at most 1, received {value}")
        for name in ("cross_trigger_weight", "instability_weight"):
            if not (value := getattr(self, name)) >= 0:
                raise ValueError(f"`{name}` must be at least 0, received {value}")
        if not self.max_rate > 0:
            raise ValueError(f"`max_rate` must be above 0, received {self.max_rate}")


PSDS_1 = PsdsRules(0.7, 0.7)
"""DCASE's first scenario: a system that has to react at the right time."""
PSDS_2 = PsdsRules(0.1, 0.1, 0.3, cross_trigger_weight=0.5)
"""DCASE's second scenario: a system that must not confuse classes."""


def psds(
    truth: EventTable,
    framewise: np.ndarray,
    seconds_per_frame: float,
    duration_seconds: float,
    rules: PsdsRules = PSDS_1,
    *,
    smoothing_seconds: float = 0.0,
    max_thresholds: int = 200,
) -> float:
    """Framewise probabilities of clips and their true events -> area under the curve of found events over false ones.

    For each class, detections are the stretches at or above a threshold, for every threshold. With TPR the share of its
    true events that are found, and eFPR its false detections an hour plus, weighted, its cross triggers an hour of each
    other class's events, averaged over those classes, the score is::

        1 / max_rate * integral from 0 to max_rate of max(0, mean over classes of TPR - weight * their deviation)

    Args:
        truth: the true events; classes without any are left out.
        framewise: in [0, 1], `(clips, frames, classes)`.
        seconds_per_frame: from one frame to the next, above 0.
        duration_seconds: length of a clip, above 0; frames beyond it are cut off.
        rules: what counts as detected; `PSDS_1` and `PSDS_2` are DCASE's scenarios.
        smoothing_seconds: length of a median filter over the probabilities, as in `EventRules`.
        max_thresholds: how many thresholds are tried for each class: all that it has, or else that many of them, closer
            together the higher they are, where false detections are few.

    Raises:
        ValueError: shapes that do not fit, or an argument out of range.

    >>> framewise = np.zeros((1, 10, 1)); framewise[0, 3:6] = 0.9
    >>> truth = EventTable([0], [0], [3.0], [6.0], num_clips=1, num_classes=1)
    >>> psds(truth, framewise, 1.0, 10.0)
    1.0

    Reference: Bilen et al., "A framework for the robust evaluation of sound event detection", 2020, eq. 1 to 10; all
    thresholds as in Ebbers et al., "Threshold-independent evaluation of sound event detection scores", 2022.
    """
    framewise = check_framewise(framewise)
    if framewise.shape[::2] != (truth.num_clips, truth.num_classes):
        wanted = f"({truth.num_clips}, frames, {truth.num_classes})"
        raise ValueError(f"`framewise` must be {wanted} as the events are, received {framewise.shape}")
    if not 0 < duration_seconds < np.inf or not 0 < seconds_per_frame < np.inf:
        received = f"{duration_seconds} and {seconds_per_frame}"
        raise ValueError(f"`duration_seconds` and `seconds_per_frame` must be above 0, received {received}")
    if not len(truth):
        raise ValueError("`truth` must have an event, received none")
    half = max(0, round((smoothing_seconds / seconds_per_frame - 1) / 2))
    if half:
        framewise = median_filter(framewise, (1, 2 * half + 1, 1), mode="nearest")
    curves = []
    for k in np.unique(truth.class_index):
        points = [
            _operating_point(truth, int(k), framewise[:, :, k] >= threshold, seconds_per_frame, duration_seconds, rules)
            for threshold in _thresholds(framewise[:, :, k], max_thresholds)
        ]
        curves.append(np.array([(0.0, 0.0), *points]))
    return _area(curves, rules)


def _thresholds(values: np.ndarray, most: int) -> np.ndarray:
    every = np.unique(values)[::-1]
    if len(every) <= most:
        return every
    return every[np.unique(np.geomspace(1, len(every), most).round().astype(int)) - 1]


def _operating_point(
    truth: EventTable, k: int, active: np.ndarray, seconds_per_frame: float, duration_seconds: float, rules: PsdsRules
) -> tuple[float, float]:
    """Frames of a class that are at or above a threshold, (clips, frames) -> its eFPR and TPR."""
    steps = np.diff(np.pad(active.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    clip, first = np.nonzero(steps > 0)
    onset = first * seconds_per_frame
    offset = np.minimum(np.nonzero(steps < 0)[1] * seconds_per_frame, duration_seconds)
    kept = offset - onset > _ROUNDING
    clip, onset, offset = clip[kept], onset[kept], offset[kept]
    # Every pair of a detection and a true event of the same clip, of whatever class.
    event, detection = joined(truth.clip, clip)
    shared = np.minimum(truth.offset[event], offset[detection]) - np.maximum(truth.onset[event], onset[detection])
    shared = np.maximum(shared, 0.0)
    cover = np.zeros((len(clip), truth.num_classes))
    np.add.at(cover, (detection, truth.class_index[event]), shared)
    cover /= np.maximum(offset - onset, _ROUNDING)[:, None]
    relevant = cover[:, k] >= rules.detection_tolerance - _ROUNDING
    of_class = truth.class_index == k
    counts = relevant[detection] & of_class[event]
    found = np.zeros(len(truth))
    np.add.at(found, event[counts], shared[counts])
    true_positives = (found[of_class] / truth.seconds[of_class] >= rules.truth_tolerance - _ROUNDING).sum()
    rate = (~relevant).sum() / (truth.num_clips * duration_seconds / _HOUR)
    rate += rules.cross_trigger_weight * _cross_rate(truth, k, cover[~relevant], rules)
    return float(rate), float(true_positives / of_class.sum())


def _cross_rate(truth: EventTable, k: int, cover: np.ndarray, rules: PsdsRules) -> float:
    """False detections -> how many are cross triggers, an hour of each other class's events, averaged over classes."""
    seconds = np.bincount(truth.class_index, truth.seconds, minlength=truth.num_classes)
    others = np.flatnonzero((seconds > 0) & (np.arange(truth.num_classes) != k))
    if not len(others):
        return 0.0
    triggers = (cover[:, others] >= rules.cross_trigger_tolerance - _ROUNDING).sum(axis=0)
    return float(np.mean(triggers / (seconds[others] / _HOUR)))


def _area(curves: list[np.ndarray], rules: PsdsRules) -> float:
    """Curves of (eFPR, TPR) points, one a class -> the score: each class keeps the best TPR up to a rate."""
    rates = np.concatenate([[0.0, rules.max_rate], *(curve[:, 0] for curve in curves)])
    rates = np.unique(np.minimum(rates, rules.max_rate))
    heights = []
    for curve in curves:
        curve = curve[np.argsort(curve[:, 0], kind="stable")]
        best = np.maximum.accumulate(curve[:, 1])
        heights.append(best[np.searchsorted(curve[:, 0], rates[:-1], "right") - 1])
    effective = np.mean(heights, axis=0) - rules.instability_weight * np.std(heights, axis=0)
    effective = np.maximum(effective, 0.0)
    return float(np.sum(effective * np.diff(rates)) / rules.max_rate)
