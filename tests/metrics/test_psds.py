"""The polyphonic sound detection score: equal to public implementations, and right in corner cases."""

import numpy as np
import pytest
from metrics.reference_problem import CLIP_SECONDS, PSDS, SECONDS_PER_FRAME, make_problem

from kerastag.metrics import PSDS_1, PSDS_2, EventTable, PsdsScenario, compute_psds

THIRD = PsdsScenario(0.5, 0.5, 0.3, cross_trigger_weight=1.0, instability_weight=0.0, max_rate=400.0)


@pytest.mark.parametrize("seed", PSDS)
def test_scores_equal_those_of_sed_scores_eval(seed):
    ground_truth, framewise = make_problem(seed)
    scores = [
        compute_psds(ground_truth, framewise, SECONDS_PER_FRAME, CLIP_SECONDS, rules)
        for rules in (PSDS_1, PSDS_2, THIRD)
    ]
    assert scores == pytest.approx(PSDS[seed], abs=1e-12)


def test_perfect_probabilities_score_1_and_reversed_ones_0():
    ground_truth = EventTable.from_rows([(0, 0, 1.0, 3.0), (1, 1, 2.0, 2.5)], 2, 2)
    perfect = np.zeros((2, 20, 2))
    perfect[0, 2:6, 0], perfect[1, 4:5, 1] = 0.9, 0.8
    for rules in (PSDS_1, PSDS_2):
        assert compute_psds(ground_truth, perfect, 0.5, 10.0, rules) == 1.0
        assert compute_psds(ground_truth, perfect[::-1], 0.5, 10.0, rules) == 0.0
        assert compute_psds(ground_truth, np.full((2, 20, 2), 0.5), 0.5, 10.0, rules) < 0.05


def test_false_detections_cost_their_rate():
    """In one hour of clips, the event is detected below a threshold with ten false detections."""
    ground_truth = EventTable.from_rows([(0, 0, 0.0, 1.0)], 360, 1)
    framewise = np.zeros((360, 10, 1))
    framewise[0, 0], framewise[1:11, 5] = 0.5, 0.9
    assert compute_psds(ground_truth, framewise, 1.0, 10.0) == pytest.approx(0.9)
    assert compute_psds(ground_truth, framewise, 1.0, 10.0, PsdsScenario(0.7, 0.7, max_rate=20)) == pytest.approx(0.5)


def test_cross_triggers_cost_more_where_they_have_a_weight():
    """Class 0 has a false detection on an event of class 1: one per hour, and 3600 per hour of that class."""
    ground_truth = EventTable.from_rows([(0, 0, 0.0, 1.0), (1, 1, 5.0, 6.0)], 360, 2)
    framewise = np.zeros((360, 10, 2))
    framewise[0, 0, 0], framewise[1, 5, 0], framewise[1, 5, 1] = 0.5, 0.9, 0.9
    rules = {"detection_tolerance": 0.1, "ground_truth_tolerance": 0.1, "instability_weight": 0.0}
    without_weight, with_weight = (PsdsScenario(**rules, cross_trigger_weight=weight) for weight in (0.0, 0.01))
    assert compute_psds(ground_truth, framewise, 1.0, 10.0, without_weight) == pytest.approx((1 + 0.99) / 2)
    assert compute_psds(ground_truth, framewise, 1.0, 10.0, with_weight) == pytest.approx((1 + 0.63) / 2)


def test_smoothing_joins_detections_and_few_thresholds_are_accurate():
    ground_truth, framewise = make_problem(3)
    rough = np.repeat(framewise, 2, axis=1)
    rough[:, ::7] = 0
    unsmoothed, smoothed, with_few_thresholds = (
        compute_psds(ground_truth, rough, 0.1, CLIP_SECONDS, PSDS_2, **options)
        for options in ({}, {"smoothing_seconds": 0.3}, {"smoothing_seconds": 0.3, "max_thresholds": 12})
    )
    assert smoothed > unsmoothed + 0.02
    assert with_few_thresholds == pytest.approx(smoothed, abs=0.08)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (np.zeros((1, 4, 3)), 0.5, 10.0),
            r"`framewise` must be \(1, frames, 2\) like the ground truth; received: shape \(1, 4, 3\)",
        ),
        ((np.zeros((1, 4, 2)), 0.5, 0.0), "`clip_seconds` must be above 0; received: 0.0"),
        ((np.full((1, 4, 2), np.nan), 0.5, 10.0), r"`framewise` must be in \[0, 1\]; received: nan"),
    ],
)
def test_arguments_out_of_range_are_rejected(arguments, message):
    with pytest.raises(ValueError, match=message):
        compute_psds(EventTable.from_rows([(0, 0, 0.0, 1.0)], 1, 2), *arguments)


def test_invalid_scenarios_and_empty_ground_truths_are_rejected():
    with pytest.raises(ValueError, match="`ground_truth_tolerance` must be above 0 and at most 1; received: 2"):
        PsdsScenario(0.5, 2)
    with pytest.raises(ValueError, match="`instability_weight` must be at least 0; received: -1"):
        PsdsScenario(0.5, 0.5, instability_weight=-1)
    with pytest.raises(ValueError, match="`max_rate` must be above 0; received: 0"):
        PsdsScenario(0.5, 0.5, max_rate=0)
    with pytest.raises(ValueError, match="`ground_truth` must have an event; received: none"):
        compute_psds(EventTable.from_rows([], 1, 2), np.zeros((1, 4, 2)), 0.5, 10.0)
