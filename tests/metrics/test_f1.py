"""F1 of events and segments: equal to sed_eval, and to counting one by one."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics.reference_problem import CLIP_SECONDS, EVENT_F1, SECONDS_PER_FRAME, SEGMENT_F1, make_problem

from kerastag.events import EventRules
from kerastag.metrics import EventTable, compute_event_f1, compute_segment_f1


def get_scores(f1):
    return (f1.micro, f1.macro, f1.precision, f1.recall)


@pytest.mark.parametrize("seed", SEGMENT_F1)
def test_scores_equal_those_of_sed_eval(seed):
    ground_truth, framewise = make_problem(seed)
    predicted = EventTable.from_framewise(framewise, SECONDS_PER_FRAME, EventRules(0.55, 0.55, min_seconds=0.4))
    assert get_scores(compute_segment_f1(ground_truth, predicted)) == pytest.approx(SEGMENT_F1[seed], abs=1e-12)
    assert get_scores(compute_event_f1(ground_truth, predicted)) == pytest.approx(EVENT_F1[seed], abs=1e-12)


@st.composite
def tables(draw):
    times = st.integers(0, 60)
    rows = draw(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), times, st.integers(1, 20)), max_size=7))
    return EventTable.from_rows([(i, k, a / 10, (a + n) / 10) for i, k, a, n in rows], 2, 2)


@settings(max_examples=40)
@given(tables(), tables())
def test_segments_are_counted_one_by_one(ground_truth, predicted):
    def active(table, clip, k, second):
        return any(
            a < second + 1 - 1e-9 and b > second + 1e-9
            for i, c, a, b in zip(table.clip, table.class_index, table.onset, table.offset, strict=True)
            if (i, c) == (clip, k)
        )

    cells = list(itertools.product(range(2), range(2), range(int(CLIP_SECONDS))))
    matched = [
        sum(active(ground_truth, i, c, s) and active(predicted, i, c, s) for i, c, s in cells if c == k)
        for k in range(2)
    ]
    scores = compute_segment_f1(ground_truth, predicted)
    assert scores.num_matched.tolist() == matched
    assert scores.num_true.tolist() == [
        sum(active(ground_truth, i, c, s) for i, c, s in cells if c == k) for k in range(2)
    ]
    assert scores.num_predicted.tolist() == [
        sum(active(predicted, i, c, s) for i, c, s in cells if c == k) for k in range(2)
    ]


@settings(max_examples=60)
@given(tables(), tables())
def test_as_many_events_match_as_possible(ground_truth, predicted):
    def agree(i, j):
        same = (ground_truth.clip[i], ground_truth.class_index[i]) == (predicted.clip[j], predicted.class_index[j])
        collar = max(0.2, 0.2 * (ground_truth.offset[i] - ground_truth.onset[i]))
        ends = abs(ground_truth.onset[i] - predicted.onset[j]), abs(ground_truth.offset[i] - predicted.offset[j])
        return same and ends[0] <= 0.2 + 1e-6 and ends[1] <= collar + 1e-6

    def count_best(i, free):  # tries every assignment of the true events from i on
        if i == len(ground_truth):
            return 0
        return max([count_best(i + 1, free), *(1 + count_best(i + 1, free - {j}) for j in free if agree(i, j))])

    scores = compute_event_f1(ground_truth, predicted)
    assert scores.num_matched.sum() == count_best(0, frozenset(range(len(predicted))))
    assert (scores.num_true.sum(), scores.num_predicted.sum()) == (len(ground_truth), len(predicted))


def test_events_match_within_collars_and_classes():
    ground_truth = EventTable.from_rows([(0, 0, 1.0, 6.0)], 1, 3)
    for onset, offset, k, expected in (
        (1.2, 6.0, 0, 1),
        (0.8, 7.0, 0, 1),
        (1.21, 6.0, 0, 0),
        (1.0, 7.01, 0, 0),
        (1.0, 6.0, 1, 0),
    ):
        f1 = compute_event_f1(ground_truth, EventTable.from_rows([(0, k, onset, offset)], 1, 3))
        assert f1.micro == expected, (onset, offset, k)
    assert compute_event_f1(ground_truth, EventTable.from_rows([(0, 0, 1.5, 6.0)], 1, 3), onset_collar=0.5).micro == 1
    assert compute_event_f1(ground_truth, EventTable.from_rows([(0, 0, 1.0, 6.4)], 1, 3), offset_share=0.0).micro == 0


def test_a_class_in_neither_table_has_no_f1():
    ground_truth = EventTable.from_rows([(0, 0, 1.0, 2.0)], 1, 3)
    f1 = compute_segment_f1(ground_truth, EventTable.from_rows([(0, 1, 1.0, 2.0)], 1, 3))
    assert f1.by_class[:2].tolist() == [0.0, 0.0]
    assert np.isnan(f1.by_class[2])
    assert f1.as_dict() == {"macro": 0.0, "micro": 0.0, "precision": 0.0, "recall": 0.0, "by_class": [0.0, 0.0, None]}
    nothing = EventTable.from_rows([], 1, 3)
    assert compute_segment_f1(nothing, nothing).macro == 0


def test_arguments_out_of_range_are_rejected():
    ground_truth = EventTable.from_rows([(0, 0, 1.0, 2.0)], 1, 3)
    with pytest.raises(ValueError, match="must have the same `num_classes`; received: 3 and 2"):
        compute_event_f1(ground_truth, EventTable.from_rows([], 1, 2))
    with pytest.raises(ValueError, match="must have the same `num_clips`; received: 1 and 2"):
        compute_segment_f1(ground_truth, EventTable.from_rows([], 2, 3))
    with pytest.raises(ValueError, match="`segment_seconds` must be above 0; received: 0"):
        compute_segment_f1(ground_truth, ground_truth, 0)
    with pytest.raises(ValueError, match="`onset_collar` must be at least 0; received: -1"):
        compute_event_f1(ground_truth, ground_truth, onset_collar=-1)
