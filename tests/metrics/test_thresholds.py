"""Tuned thresholds: at least as good as a grid, and unchanged for classes without events."""

import numpy as np
import pytest
from metrics.reference_problem import SECONDS_PER_FRAME, make_problem

from kerastag.events import EventRules
from kerastag.metrics import EventTable, compute_event_f1, compute_segment_f1, tune_thresholds


@pytest.mark.parametrize(("by", "compute_f1"), [("event", compute_event_f1), ("segment", compute_segment_f1)])
def test_every_class_gets_its_best_threshold(by, compute_f1):
    ground_truth, framewise = make_problem(0)
    framewise[:, :, 1] *= 0.5  # another scale for one class
    base = EventRules(min_seconds=0.4)
    tuned = tune_thresholds(ground_truth, framewise, SECONDS_PER_FRAME, base, by=by, num_candidates=40)
    best_f1 = compute_f1(ground_truth, EventTable.from_framewise(framewise, SECONDS_PER_FRAME, tuned)).by_class
    for threshold in np.arange(0.05, 1, 0.05):
        rules = EventRules(threshold, threshold / 2, min_seconds=0.4)
        assert (
            compute_f1(ground_truth, EventTable.from_framewise(framewise, SECONDS_PER_FRAME, rules)).by_class
            <= best_f1 + 1e-12
        ).all()
    assert tuned.min_seconds == 0.4
    assert tuned.onset_thresholds[1] < 0.5
    np.testing.assert_allclose(tuned.offset_thresholds, np.array(tuned.onset_thresholds) / 2)


def test_a_class_without_events_keeps_its_threshold():
    ground_truth, framewise = make_problem(1)
    is_used = ground_truth.class_index != 2
    ground_truth = EventTable.from_rows(
        np.stack([ground_truth.clip, ground_truth.class_index, ground_truth.onset, ground_truth.offset], axis=1)[
            is_used
        ],
        30,
        4,
    )
    tuned = tune_thresholds(ground_truth, framewise, SECONDS_PER_FRAME, EventRules((0.1, 0.2, 0.3, 0.4)))
    assert tuned.onset_thresholds[2] == 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "clip"}, "`by` must be one of event, segment; received: 'clip'"),
        ({"offset_ratio": 2}, r"`offset_ratio` must be in \[0, 1\]; received: 2"),
        ({"num_candidates": 0}, "`num_candidates` must be at least 1; received: 0"),
    ],
)
def test_arguments_out_of_range_are_rejected(options, message):
    ground_truth, framewise = make_problem(0)
    with pytest.raises(ValueError, match=message):
        tune_thresholds(ground_truth, framewise, SECONDS_PER_FRAME, **options)
    with pytest.raises(ValueError, match=r"`framewise` must be \(30, frames, 4\) like the ground truth"):
        tune_thresholds(ground_truth, framewise[:5], SECONDS_PER_FRAME)


def test_a_class_without_predicted_events_keeps_its_threshold():
    ground_truth, framewise = make_problem(0)
    framewise[:, :, 3] = np.random.default_rng(0).random(framewise.shape[:2])[:, ::-1] * 0.01
    tuned = tune_thresholds(ground_truth, framewise, SECONDS_PER_FRAME, EventRules(0.4, min_seconds=3.0))
    predicted = EventTable.from_framewise(framewise, SECONDS_PER_FRAME, tuned)
    assert compute_event_f1(ground_truth, predicted).by_class[3] == 0
    assert tuned.onset_thresholds[3] == 0.4
