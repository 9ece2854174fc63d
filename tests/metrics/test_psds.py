"""The polyphonic sound detection score: what public implementations give, and its corner cases."""

import numpy as np
import pytest
from detection.made_up import CLIP_SECONDS, PSDS, SECONDS_PER_FRAME, made_up

from kerastag.metrics import PSDS_1, PSDS_2, EventTable, PsdsRules, psds

THIRD = PsdsRules(0.5, 0.5, 0.3, cross_trigger_weight=1.0, instability_weight=0.0, max_rate=400.0)


@pytest.mark.parametrize("seed", PSDS)
def test_equals_sed_scores_eval(seed):
    truth, framewise = made_up(seed)
    scores = [psds(truth, framewise, SECONDS_PER_FRAME, CLIP_SECONDS, rules) for rules in (PSDS_1, PSDS_2, THIRD)]
    assert scores == pytest.approx(PSDS[seed], abs=1e-12)


def test_perfect_and_hopeless_probabilities():
    truth = EventTable.from_rows([(0, 0, 1.0, 3.0), (1, 1, 2.0, 2.5)], 2, 2)
    perfect = np.zeros((2, 20, 2))
    perfect[0, 2:6, 0], perfect[1, 4:5, 1] = 0.9, 0.8
    for rules in (PSDS_1, PSDS_2):
        assert psds(truth, perfect, 0.5, 10.0, rules) == 1.0
        assert psds(truth, perfect[::-1], 0.5, 10.0, rules) == 0.0
        assert psds(truth, np.full((2, 20, 2), 0.5), 0.5, 10.0, rules) < 0.05


def test_false_detections_cost_what_their_rate_says():
    """One hour of clips; the event is found below a threshold at which there are ten false detections."""
    truth = EventTable.from_rows([(0, 0, 0.0, 1.0)], 360, 1)
    framewise = np.zeros((360, 10, 1))
    framewise[0, 0], framewise[1:11, 5] = 0.5, 0.9
    assert psds(truth, framewise, 1.0, 10.0) == pytest.approx(0.9)
    assert psds(truth, framewise, 1.0, 10.0, PsdsRules(0.7, 0.7, max_rate=20)) == pytest.approx(0.5)


def test_cross_triggers_cost_more_where_they_count():
    """Class 0 is false once, on an event of class 1: a false detection an hour, and 3600 an hour of that class."""
    truth = EventTable.from_rows([(0, 0, 0.0, 1.0), (1, 1, 5.0, 6.0)], 360, 2)
    framewise = np.zeros((360, 10, 2))
    framewise[0, 0, 0], framewise[1, 5, 0], framewise[1, 5, 1] = 0.5, 0.9, 0.9
    rules = {"detection_tolerance": 0.1, "truth_tolerance": 0.1, "instability_weight": 0.0}
    free, dear = (PsdsRules(**rules, cross_trigger_weight=weight) for weight in (0.0, 0.01))
    assert psds(truth, framewise, 1.0, 10.0, free) == pytest.approx((1 + 0.99) / 2)
    assert psds(truth, framewise, 1.0, 10.0, dear) == pytest.approx((1 + 0.63) / 2)


def test_smoothing_joins_and_few_thresholds_come_near():
    truth, framewise = made_up(3)
    rough = np.repeat(framewise, 2, axis=1)
    rough[:, ::7] = 0
    whole, smooth, cut = (
        psds(truth, rough, 0.1, CLIP_SECONDS, PSDS_2, **settings)
        for settings in ({}, {"smoothing_seconds": 0.3}, {"smoothing_seconds": 0.3, "max_thresholds": 12})
    )
    assert smooth > whole + 0.02
    assert cut == pytest.approx(smooth, abs=0.08)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((1, 4, 3)), 0.5, 10.0), r"`framewise` must be \(1, frames, 2\) as the events are, received"),
        ((np.zeros((1, 4, 2)), 0.5, 0.0), "`duration_seconds` and `seconds_per_frame` must be above 0, received 0.0"),
        ((np.full((1, 4, 2), np.nan), 0.5, 10.0), r"`framewise` must be in \[0, 1\], received nan"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        psds(EventTable.from_rows([(0, 0, 0.0, 1.0)], 1, 2), *arguments)


def test_rules_and_truths_that_make_no_sense():
    with pytest.raises(ValueError, match="`truth_tolerance` must be above 0 and at most 1, received 2"):
        PsdsRules(0.5, 2)
    with pytest.raises(ValueError, match="`instability_weight` must be at least 0, received -1"):
        PsdsRules(0.5, 0.5, instability_weight=-1)
    with pytest.raises(ValueError, match="`max_rate` must be above 0, received 0"):
        PsdsRules(0.5, 0.5, max_rate=0)
    with pytest.raises(ValueError, match="`truth` must have an event, received none"):
        psds(EventTable.from_rows([], 1, 2), np.zeros((1, 4, 2)), 0.5, 10.0)
