"""Windows against the truth: shares counted one by one, chance as a fine grid of windows gives it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerastag.metrics import EventTable, localization, peaks, window_chance


@st.composite
def truths(draw):
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 90), st.integers(1, 40)),
            min_size=1,
            max_size=8,
        )
    )
    return EventTable.from_rows([(i, k, a / 10, min(10, (a + n) / 10)) for i, k, a, n in rows], 3, 2)


def events_of(truth, clip, k):
    own = (truth.clip == clip) & (truth.class_index == k)
    return list(zip(truth.onset[own], truth.offset[own], strict=True))


@given(truths(), st.sampled_from([0.0, 1.0, 3.0]))
def test_chance_is_that_of_windows_everywhere(truth, length):
    overlap, center = window_chance(truth, length, 10.0)
    starts = np.linspace(0, 10 - length, 4001)
    for row, pair in enumerate(np.unique(truth.pair)):
        events = events_of(truth, *divmod(pair, 2))
        over = np.any([(starts < b) & (starts + length > a) for a, b in events], axis=0)
        inside = np.any([(starts + length / 2 > a) & (starts + length / 2 < b) for a, b in events], axis=0)
        assert overlap[row] == pytest.approx(over.mean(), abs=0.01)
        assert center[row] == pytest.approx(inside.mean(), abs=0.01)


@given(truths(), st.lists(st.integers(0, 70), min_size=6, max_size=6), st.sampled_from([0.0, 3.0]))
def test_shares_are_counted_pair_by_pair(truth, starts, length):
    start_seconds = np.reshape(starts, (3, 2)) / 10 + 0.003  # off the grid of the events' ends
    classes = np.array([[0, 1], [1, 0], [0, 0]])
    found = localization(truth, start_seconds, classes, length, 10.0)
    chosen, over, inside = 0, 0, 0
    for clip in range(3):
        for k in range(2):
            events = events_of(truth, clip, k)
            windows = start_seconds[clip][classes[clip] == k]
            if events and len(windows):
                chosen += 1
                over += any(windows[0] < b and windows[0] + length > a for a, b in events)
                inside += any(a < windows[0] + length / 2 < b for a, b in events)
    assert found.all.positives == len(np.unique(truth.pair))
    assert found.all.chosen == chosen
    if chosen:
        assert found.all.overlap == pytest.approx(over / chosen)
        assert found.all.center == pytest.approx(inside / chosen)


def test_short_and_close_events_are_counted_apart():
    rows = [
        (0, 0, 1.0, 3.0),  # short
        (1, 0, 1.0, 3.1),  # neither
        (2, 0, 1.0, 2.0),  # short and close
        (2, 0, 4.0, 5.0),
        (3, 0, 1.0, 5.0),  # close
        (3, 0, 6.0, 7.0),
        (4, 0, 1.0, 2.0),  # short, too far apart to be close
        (4, 0, 4.1, 5.0),
        (4, 1, 2.1, 4.0),  # short, another class
    ]
    truth = EventTable.from_rows(rows, 5, 2)
    found = localization(truth, np.full((5, 1), 1.5), np.zeros((5, 1), int), 0.0, 10.0)
    assert [figures.positives for figures in (found.all, found.short, found.close)] == [6, 4, 2]
    assert [figures.chosen for figures in (found.all, found.short, found.close)] == [5, 3, 2]
    assert found.all.center == 1.0
    assert found.short.center_chance == pytest.approx((0.2 + 0.2 + 0.19) / 3)


def test_an_event_at_the_clips_end_may_be_out_of_reach():
    truth = EventTable.from_rows([(0, 0, 0.0, 1.0), (1, 0, 0.0, 2.0)], 2, 1)
    found = localization(truth, np.zeros((2, 1)), np.zeros((2, 1), int), 3.0, 10.0).all
    assert (found.overlap, found.center, found.center_possible) == (1.0, 0.5, 0.5)
    assert found.center_chance == pytest.approx(0.5 * 0.5 / 7)


def test_a_peak_of_several_frames_is_in_the_middle_of_the_first_of_them():
    framewise = np.array([[0.1, 1, 1, 1, 0.2, 1], [0, 0, 0, 0, 0, 0], [0, 0.5, 0.5, 0, 0, 0.2], [0, 0, 0, 0, 0.3, 0.3]])
    start, _ = peaks(framewise[:, :, None], 1.0)
    assert start[:, 0].tolist() == [2.5, 3.0, 2.0, 5.0]


def test_peaks_are_the_middles_of_the_most_probable_frames():
    framewise = np.random.default_rng(0).random((4, 20, 3))
    start, classes = peaks(framewise, 0.5)
    assert classes.tolist() == [[0, 1, 2]] * 4
    for i in range(4):
        for k in range(3):
            assert start[i, k] == (np.argmax(framewise[i, :, k]) + 0.5) * 0.5
    truth = EventTable.from_rows([(i, 1, start[i, 1] - 0.1, start[i, 1] + 0.1) for i in range(4)], 4, 3)
    found = localization(truth, start, classes, 0.0, 10.0).all
    assert (found.overlap, found.center, found.positives) == (1.0, 1.0, 4)
    assert found.center_chance == pytest.approx(0.02, abs=1e-6)


def test_the_table_and_the_dictionary_say_what_no_pair_has():
    truth = EventTable.from_rows([(0, 0, 1.0, 4.0)], 1, 2)
    found = localization(truth, [[0.0]], [[1]], 3.0, 10.0)
    assert found.as_dict()["all"]["overlap"] is None
    assert found.as_dict()["all"]["positives"] == 1
    lines = found.table().splitlines()
    assert lines[0].split() == ["pairs", "chosen", "center", "inside", "chance", "possible", "overlap", "chance"]
    assert [line.split() for line in lines[1:]] == [
        ["all", "1", "0", "-", "-", "-", "-", "-"],
        ["short", "0", "0", "-", "-", "-", "-", "-"],
        ["close", "0", "0", "-", "-", "-", "-", "-"],
    ]


def test_bad_arguments():
    truth = EventTable.from_rows([(0, 0, 1.0, 4.0)], 1, 2)
    with pytest.raises(ValueError, match=r"must be \(1, windows\), received \(2, 1\) and \(1, 1\)"):
        localization(truth, [[0.0], [1.0]], [[1]], 3.0, 10.0)
    with pytest.raises(ValueError, match=r"`clip_seconds` must be at least 0 and below `duration_seconds` \(10.0\)"):
        localization(truth, [[0.0]], [[1]], 10.0, 10.0)
