"""F1 of events and segments: what sed_eval gives, and what a plain count gives."""

import itertools

import numpy as np
import pytest
from detection.made_up import CLIP_SECONDS, EVENT_F1, SECONDS_PER_FRAME, SEGMENT_F1, made_up
from hypothesis import given
from hypothesis import strategies as st

from kerastag.events import EventRules
from kerastag.metrics import EventTable, event_f1, segment_f1


def figures(f1):
    return (f1.micro, f1.macro, f1.precision, f1.recall)


@pytest.mark.parametrize("seed", SEGMENT_F1)
def test_equals_sed_eval(seed):
    truth, framewise = made_up(seed)
    found = EventTable.found(framewise, SECONDS_PER_FRAME, EventRules(0.55, 0.55, min_seconds=0.4))
    assert figures(segment_f1(truth, found)) == pytest.approx(SEGMENT_F1[seed], abs=1e-12)
    assert figures(event_f1(truth, found)) == pytest.approx(EVENT_F1[seed], abs=1e-12)


@st.composite
def tables(draw):
    times = st.integers(0, 60)
    rows = draw(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), times, st.integers(1, 20)), max_size=7))
    return EventTable.from_rows([(i, k, a / 10, (a + n) / 10) for i, k, a, n in rows], 2, 2)


@given(tables(), tables())
def test_segments_are_counted_one_by_one(truth, found):
    def active(table, clip, k, second):
        return any(
            a < second + 1 - 1e-9 and b > second + 1e-9
            for i, c, a, b in zip(table.clip, table.class_index, table.onset, table.offset, strict=True)
            if (i, c) == (clip, k)
        )

    cells = list(itertools.product(range(2), range(2), range(int(CLIP_SECONDS))))
    agreed = [sum(active(truth, i, c, s) and active(found, i, c, s) for i, c, s in cells if c == k) for k in range(2)]
    got = segment_f1(truth, found)
    assert got.agreed.tolist() == agreed
    assert got.num_true.tolist() == [sum(active(truth, i, c, s) for i, c, s in cells if c == k) for k in range(2)]
    assert got.num_found.tolist() == [sum(active(found, i, c, s) for i, c, s in cells if c == k) for k in range(2)]


@given(tables(), tables())
def test_as_many_events_agree_as_can(truth, found):
    def close(i, j):
        same = (truth.clip[i], truth.class_index[i]) == (found.clip[j], found.class_index[j])
        collar = max(0.2, 0.2 * (truth.offset[i] - truth.onset[i]))
        ends = abs(truth.onset[i] - found.onset[j]), abs(truth.offset[i] - found.offset[j])
        return same and ends[0] <= 0.2 + 1e-6 and ends[1] <= collar + 1e-6

    def most(i, free):  # every way to give the true events from i on an event of their own
        if i == len(truth):
            return 0
        return max([most(i + 1, free), *(1 + most(i + 1, free - {j}) for j in free if close(i, j))])

    got = event_f1(truth, found)
    assert got.agreed.sum() == most(0, frozenset(range(len(found))))
    assert (got.num_true.sum(), got.num_found.sum()) == (len(truth), len(found))


def test_collars_and_classes():
    truth = EventTable.from_rows([(0, 0, 1.0, 6.0)], 1, 3)
    for onset, offset, k, agrees in (
        (1.2, 6.0, 0, 1),
        (0.8, 7.0, 0, 1),
        (1.21, 6.0, 0, 0),
        (1.0, 7.01, 0, 0),
        (1.0, 6.0, 1, 0),
    ):
        f1 = event_f1(truth, EventTable.from_rows([(0, k, onset, offset)], 1, 3))
        assert f1.micro == agrees, (onset, offset, k)
    assert event_f1(truth, EventTable.from_rows([(0, 0, 1.5, 6.0)], 1, 3), onset_collar=0.5).micro == 1
    assert event_f1(truth, EventTable.from_rows([(0, 0, 1.0, 6.4)], 1, 3), offset_share=0.0).micro == 0


def test_a_class_in_neither_table_has_no_f1():
    truth = EventTable.from_rows([(0, 0, 1.0, 2.0)], 1, 3)
    f1 = segment_f1(truth, EventTable.from_rows([(0, 1, 1.0, 2.0)], 1, 3))
    assert f1.by_class[:2].tolist() == [0.0, 0.0]
    assert np.isnan(f1.by_class[2])
    assert f1.as_dict() == {"macro": 0.0, "micro": 0.0, "precision": 0.0, "recall": 0.0, "by_class": [0.0, 0.0, None]}
    nothing = EventTable.from_rows([], 1, 3)
    assert segment_f1(nothing, nothing).macro == 0


def test_bad_arguments():
    truth = EventTable.from_rows([(0, 0, 1.0, 2.0)], 1, 3)
    with pytest.raises(ValueError, match="must have the same `num_classes`, have 3 and 2"):
        event_f1(truth, EventTable.from_rows([], 1, 2))
    with pytest.raises(ValueError, match="must have the same `num_clips`, have 1 and 2"):
        segment_f1(truth, EventTable.from_rows([], 2, 3))
    with pytest.raises(ValueError, match="`segment_seconds` must be above 0, received 0"):
        segment_f1(truth, truth, 0)
    with pytest.raises(ValueError, match="`onset_collar` must be at least 0, received -1"):
        event_f1(truth, truth, onset_collar=-1)
