"""The polyphonic sound detection score of framewise probabilities, over all thresholds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

from kerastag.metrics.event_table import EventTable, check_framewise, join_sorted_keys

__all__ = ["PSDS_1", "PSDS_2", "PsdsScenario", "compute_psds"]

_ROUNDING = 1e-6
_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class PsdsScenario:
    """Tolerances and costs of the polyphonic sound detection score.

    Args:
        detection_tolerance: Share of a detection that true events of its class must cover, else it is false, in (0, 1].
        ground_truth_tolerance: Share of a true event that detections which are not false must cover, in (0, 1].
        cross_trigger_tolerance: Share of a false detection that true events of another class must cover to make it a
            cross trigger of that class, in (0, 1].
        cross_trigger_weight: Cost of cross triggers relative to false detections, at least 0.
        instability_weight: Weight of the standard deviation over classes, subtracted from their mean, at least 0.
        max_rate: Upper limit of the effective rate of false detections, per hour, above 0.

    Raises:
        ValueError: An argument is out of range.
    """

    detection_tolerance: float
    ground_truth_tolerance: float
    cross_trigger_tolerance: float = 0.3
    cross_trigger_weight: float = 0.0
    instability_weight: float = 1.0
    max_rate: float = 100.0

    def __post_init__(self) -> None:
        for name in ("detection_tolerance", "ground_truth_tolerance", "cross_trigger_tolerance"):
            if not 0 < (value := getattr(self, name)) <= 1:
                raise ValueError(f"`{name}` must be above 0 and at most 1; received: {value}")
        for name in ("cross_trigger_weight", "instability_weight"):
            if not (value := getattr(self, name)) >= 0:
                raise ValueError(f"`{name}` must be at least 0; received: {value}")
        if not self.max_rate > 0:
            raise ValueError(f"`max_rate` must be above 0; received: {self.max_rate}")


PSDS_1 = PsdsScenario(0.7, 0.7)
"""DCASE's first scenario: a system that has to react at the right time."""
PSDS_2 = PsdsScenario(0.1, 0.1, 0.3, cross_trigger_weight=0.5)
"""DCASE's second scenario: a system that must not confuse classes."""


def compute_psds(
    ground_truth: EventTable,
    framewise: np.ndarray,
    seconds_per_frame: float,
    clip_seconds: float,
    scenario: PsdsScenario = PSDS_1,
    *,
    smoothing_seconds: float = 0.0,
    max_thresholds: int = 200,
) -> float:
    """Compute the polyphonic sound detection score of framewise probabilities, in [0, 1].

    The detections of a class are the runs of frames at or above a threshold, for every threshold. With TPR the share of
    its true events that are detected, and eFPR its false detections per hour plus, weighted, its cross triggers per
    hour of events of each other class, averaged over those classes, the score is::

        1 / max_rate * integral from 0 to max_rate of max(0, mean over classes of TPR - weight * their deviation)

    Args:
        ground_truth: True events; classes without any are skipped.
        framewise: Probabilities in [0, 1], `(clips, frames, classes)`.
        seconds_per_frame: Hop from one frame to the next, seconds, above 0.
        clip_seconds: Length of a clip, seconds, above 0; detections end there at the latest.
        scenario: Tolerances and costs; `PSDS_1` and `PSDS_2` are those of DCASE.
        smoothing_seconds: Length of the median filter over the probabilities, seconds, as in `EventRules`.
        max_thresholds: Largest number of thresholds per class, at least 1; they lie closer together where few
            detections are false.

    Raises:
        ValueError: The shapes do not fit, an argument is out of range, or there is no true event.

    >>> import numpy as np
    >>> from kerastag.metrics import EventTable, compute_psds
    >>> framewise = np.zeros((1, 10, 1)); framewise[0, 3:6] = 0.9
    >>> ground_truth = EventTable([0], [0], [3.0], [6.0], num_clips=1, num_classes=1)
    >>> compute_psds(ground_truth, framewise, seconds_per_frame=1.0, clip_seconds=10.0)
    1.0

    Reference:
        Bilen et al., "A framework for the robust evaluation of sound event detection", 2020, eq. 1 to 10; all
        thresholds as in Ebbers et al., "Threshold-independent evaluation of sound event detection scores", 2022.
    """
    framewise = check_framewise(framewise, ground_truth)
    for name, value in {"seconds_per_frame": seconds_per_frame, "clip_seconds": clip_seconds}.items():
        if not 0 < value < np.inf:
            raise ValueError(f"`{name}` must be above 0; received: {value}")
    if not len(ground_truth):
        raise ValueError("`ground_truth` must have an event; received: none")
    half = max(0, round((smoothing_seconds / seconds_per_frame - 1) / 2))
    if half:
        framewise = median_filter(framewise, (1, 2 * half + 1, 1), mode="nearest")
    curves = []
    for k in np.unique(ground_truth.class_index):
        probabilities = framewise[:, :, k]
        thresholds = np.unique(probabilities)[::-1]
        if len(thresholds) > max_thresholds:
            thresholds = thresholds[np.unique(np.geomspace(1, len(thresholds), max_thresholds).round().astype(int)) - 1]
        points = [(0.0, 0.0)]
        for threshold in thresholds:
            detections = _find_detections(probabilities >= threshold, seconds_per_frame, clip_seconds)
            points.append(_compute_operating_point(ground_truth, k, detections, clip_seconds, scenario))
        curves.append(np.array(points))
    return _integrate(curves, scenario)


def _compute_operating_point(
    ground_truth: EventTable,
    class_index: int,
    detections: tuple[np.ndarray, np.ndarray, np.ndarray],
    clip_seconds: float,
    scenario: PsdsScenario,
) -> tuple[float, float]:
    """Compute eFPR and TPR of a class from the clip, onset and offset of its detections."""
    clip, onset, offset = detections
    # Pairs of a true event and a detection of the same clip; the event may be of any class.
    event, detection = join_sorted_keys(ground_truth.clip, clip)
    shared_onset = np.maximum(ground_truth.onset[event], onset[detection])
    shared = np.maximum(np.minimum(ground_truth.offset[event], offset[detection]) - shared_onset, 0.0)
    coverage = np.zeros((len(clip), ground_truth.num_classes))  # of each detection, by events of each class
    np.add.at(coverage, (detection, ground_truth.class_index[event]), shared)
    coverage /= np.maximum(offset - onset, _ROUNDING)[:, None]
    is_relevant = coverage[:, class_index] >= scenario.detection_tolerance - _ROUNDING
    is_of_class = ground_truth.class_index == class_index
    counts = is_relevant[detection] & is_of_class[event]
    detected_seconds = np.zeros(len(ground_truth))
    np.add.at(detected_seconds, event[counts], shared[counts])
    detected_share = detected_seconds[is_of_class] / ground_truth.durations[is_of_class]
    true_positives = (detected_share >= scenario.ground_truth_tolerance - _ROUNDING).sum()
    rate = (~is_relevant).sum() / (ground_truth.num_clips * clip_seconds / _SECONDS_PER_HOUR)
    # Cross triggers are false detections; they count per hour of the events of each other class.
    num_classes = ground_truth.num_classes
    seconds = np.bincount(ground_truth.class_index, ground_truth.durations, minlength=num_classes)
    others = np.flatnonzero((seconds > 0) & (np.arange(num_classes) != class_index))
    if len(others):
        is_trigger = coverage[~is_relevant][:, others] >= scenario.cross_trigger_tolerance - _ROUNDING
        cross_trigger_rates = is_trigger.sum(axis=0) / (seconds[others] / _SECONDS_PER_HOUR)
        rate += scenario.cross_trigger_weight * np.mean(cross_trigger_rates)
    return float(rate), float(true_positives / is_of_class.sum())


def _find_detections(
    is_active: np.ndarray, seconds_per_frame: float, clip_seconds: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return clip, onset and offset of each run of active frames."""
    steps = np.diff(np.pad(is_active.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    clip, first = np.nonzero(steps > 0)
    onset = first * seconds_per_frame
    offset = np.minimum(np.nonzero(steps < 0)[1] * seconds_per_frame, clip_seconds)
    is_in_clip = offset - onset > _ROUNDING
    return clip[is_in_clip], onset[is_in_clip], offset[is_in_clip]


def _integrate(curves: list[np.ndarray], scenario: PsdsScenario) -> float:
    """Compute the score from the points (eFPR, TPR) of each class, whose TPR at a rate is the best one up to it."""
    rates = np.concatenate([[0.0, scenario.max_rate], *(curve[:, 0] for curve in curves)])
    rates = np.unique(np.minimum(rates, scenario.max_rate))
    best_tprs = []
    for curve in curves:
        curve = curve[np.argsort(curve[:, 0], kind="stable")]
        best_tpr = np.maximum.accumulate(curve[:, 1])
        best_tprs.append(best_tpr[np.searchsorted(curve[:, 0], rates[:-1], "right") - 1])
    effective_tpr = np.mean(best_tprs, axis=0) - scenario.instability_weight * np.std(best_tprs, axis=0)
    return float(np.sum(np.maximum(effective_tpr, 0.0) * np.diff(rates)) / scenario.max_rate)
