"""Tuned thresholds: as good as the best of every grid, and only where there is something to tune on."""

import numpy as np
import pytest
from detection.made_up import SECONDS_PER_FRAME, made_up

from kerastag.events import EventRules
from kerastag.metrics import EventTable, event_f1, segment_f1, tune_thresholds


@pytest.mark.parametrize(("by", "measure"), [("event", event_f1), ("segment", segment_f1)])
def test_every_class_gets_its_best_threshold(by, measure):
    truth, framewise = made_up(0)
    framewise[:, :, 1] *= 0.5  # another scale for one class
    base = EventRules(min_seconds=0.4)
    tuned = tune_thresholds(truth, framewise, SECONDS_PER_FRAME, base, by=by, candidates=40)
    reached = measure(truth, EventTable.found(framewise, SECONDS_PER_FRAME, tuned)).by_class
    for threshold in np.arange(0.05, 1, 0.05):
        rules = EventRules(threshold, threshold / 2, min_seconds=0.4)
        assert (measure(truth, EventTable.found(framewise, SECONDS_PER_FRAME, rules)).by_class <= reached + 1e-12).all()
    assert tuned.min_seconds == 0.4
    assert tuned.onset_thresholds[1] < 0.5
    np.testing.assert_allclose(tuned.offset_thresholds, np.array(tuned.onset_thresholds) / 2)


def test_a_class_without_events_keeps_its_threshold():
    truth, framewise = made_up(1)
    kept = truth.class_index != 2
    truth = EventTable.from_rows(
        np.stack([truth.clip, truth.class_index, truth.onset, truth.offset], axis=1)[kept], 30, 4
    )
    tuned = tune_thresholds(truth, framewise, SECONDS_PER_FRAME, EventRules((0.1, 0.2, 0.3, 0.4)))
    assert tuned.onset_thresholds[2] == 0.3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"by": "clip"}, "`by` must be event or segment, received 'clip'"),
        ({"offset_ratio": 2}, r"`offset_ratio` must be in \[0, 1\], received 2"),
        ({"candidates": 0}, "`candidates` must be at least 1, received 0"),
    ],
)
def test_bad_arguments(settings, message):
    truth, framewise = made_up(0)
    with pytest.raises(ValueError, match=message):
        tune_thresholds(truth, framewise, SECONDS_PER_FRAME, **settings)
    with pytest.raises(ValueError, match=r"`framewise` must be \(30, frames, 4\) as the events are"):
        tune_thresholds(truth, framewise[:5], SECONDS_PER_FRAME)


def test_a_class_of_which_nothing_is_found_keeps_its_threshold():
    truth, framewise = made_up(0)
    framewise[:, :, 3] = np.random.default_rng(0).random(framewise.shape[:2])[:, ::-1] * 0.01
    tuned = tune_thresholds(truth, framewise, SECONDS_PER_FRAME, EventRules(0.4, min_seconds=3.0))
    found = EventTable.found(framewise, SECONDS_PER_FRAME, tuned)
    assert event_f1(truth, found).by_class[3] == 0
    assert tuned.onset_thresholds[3] == 0.4
