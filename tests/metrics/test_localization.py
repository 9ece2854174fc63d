"""Localization of sub-clips: shares counted one by one, and chance from a fine grid of sub-clips."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerastag.metrics import (
    EventTable,
    LocalizationReport,
    compute_chance_localization,
    compute_localization,
    find_peaks,
)


@st.composite
def tables(draw):
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 90), st.integers(1, 40)),
            min_size=1,
            max_size=8,
        )
    )
    return EventTable.from_rows([(i, k, a / 10, min(10, (a + n) / 10)) for i, k, a, n in rows], 3, 2)


def get_events(ground_truth, clip, k):
    own = (ground_truth.clip == clip) & (ground_truth.class_index == k)
    return list(zip(ground_truth.onset[own], ground_truth.offset[own], strict=True))


@given(tables(), st.sampled_from([0.0, 1.0, 3.0]))
def test_chance_is_the_share_of_all_positions(ground_truth, length):
    overlap, center = compute_chance_localization(ground_truth, length, 10.0)
    starts = np.linspace(0, 10 - length, 4001)
    for row, pair in enumerate(np.unique(ground_truth.pair_index)):
        events = get_events(ground_truth, *divmod(pair, 2))
        over = np.any([(starts < b) & (starts + length > a) for a, b in events], axis=0)
        inside = np.any([(starts + length / 2 > a) & (starts + length / 2 < b) for a, b in events], axis=0)
        assert overlap[row] == pytest.approx(over.mean(), abs=0.01)
        assert center[row] == pytest.approx(inside.mean(), abs=0.01)


@given(tables(), st.lists(st.integers(0, 70), min_size=6, max_size=6), st.sampled_from([0.0, 3.0]))
def test_shares_are_counted_pair_by_pair(ground_truth, starts, length):
    start_seconds = np.reshape(starts, (3, 2)) / 10 + 0.003  # off the grid of the events' ends
    classes = np.array([[0, 1], [1, 0], [0, 0]])
    report = compute_localization(ground_truth, start_seconds, classes, length, 10.0)
    num_selected, overlaps, inside = 0, 0, 0
    for clip in range(3):
        for k in range(2):
            events = get_events(ground_truth, clip, k)
            windows = start_seconds[clip][classes[clip] == k]
            if events and len(windows):
                num_selected += 1
                overlaps += any(windows[0] < b and windows[0] + length > a for a, b in events)
                inside += any(a < windows[0] + length / 2 < b for a, b in events)
    assert report.all.num_pairs == len(np.unique(ground_truth.pair_index))
    assert report.all.num_selected == num_selected
    if num_selected:
        assert report.all.overlap == pytest.approx(overlaps / num_selected)
        assert report.all.center == pytest.approx(inside / num_selected)


def test_short_and_close_events_are_counted_separately():
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
    ground_truth = EventTable.from_rows(rows, 5, 2)
    report = compute_localization(ground_truth, np.full((5, 1), 1.5), np.zeros((5, 1), int), 0.0, 10.0)
    assert [scores.num_pairs for scores in (report.all, report.short, report.close)] == [6, 4, 2]
    assert [scores.num_selected for scores in (report.all, report.short, report.close)] == [5, 3, 2]
    assert report.all.center == 1.0
    assert report.short.center_chance == pytest.approx((0.2 + 0.2 + 0.19) / 3)


def test_a_center_may_not_reach_an_event_at_the_end_of_a_clip():
    ground_truth = EventTable.from_rows([(0, 0, 0.0, 1.0), (1, 0, 0.0, 2.0)], 2, 1)
    report = compute_localization(ground_truth, np.zeros((2, 1)), np.zeros((2, 1), int), 3.0, 10.0).all
    assert (report.overlap, report.center, report.center_possible) == (1.0, 0.5, 0.5)
    assert report.center_chance == pytest.approx(0.5 * 0.5 / 7)


def test_a_peak_of_several_frames_is_in_the_middle_of_the_first_of_them():
    framewise = np.array([[0.1, 1, 1, 1, 0.2, 1], [0, 0, 0, 0, 0, 0], [0, 0.5, 0.5, 0, 0, 0.2], [0, 0, 0, 0, 0.3, 0.3]])
    start, _ = find_peaks(framewise[:, :, None], 1.0)
    assert start[:, 0].tolist() == [2.5, 3.0, 2.0, 5.0]


def test_peaks_are_the_middles_of_the_most_probable_frames():
    framewise = np.random.default_rng(0).random((4, 20, 3))
    start, classes = find_peaks(framewise, 0.5)
    assert classes.tolist() == [[0, 1, 2]] * 4
    for i in range(4):
        for k in range(3):
            assert start[i, k] == (np.argmax(framewise[i, :, k]) + 0.5) * 0.5
    ground_truth = EventTable.from_rows([(i, 1, start[i, 1] - 0.1, start[i, 1] + 0.1) for i in range(4)], 4, 3)
    report = compute_localization(ground_truth, start, classes, 0.0, 10.0).all
    assert (report.overlap, report.center, report.num_pairs) == (1.0, 1.0, 4)
    assert report.center_chance == pytest.approx(0.02, abs=1e-6)


def test_shares_without_pairs_are_empty_in_the_table_and_none_in_the_dictionary():
    ground_truth = EventTable.from_rows([(0, 0, 1.0, 4.0)], 1, 2)
    report = compute_localization(ground_truth, [[0.0]], [[1]], 3.0, 10.0)
    assert report.as_dict()["all"]["overlap"] is None
    assert report.as_dict()["all"]["num_pairs"] == 1
    lines = report.format_table().splitlines()
    assert lines[0].split() == ["pairs", "selected", "center", "inside", "chance", "possible", "overlap", "chance"]
    assert [line.split() for line in lines[1:]] == [
        ["all", "1", "0", "-", "-", "-", "-", "-"],
        ["short", "0", "0", "-", "-", "-", "-", "-"],
        ["close", "0", "0", "-", "-", "-", "-", "-"],
    ]


def test_a_report_is_restored_from_its_dictionary_and_from_those_of_earlier_versions():
    ground_truth = EventTable.from_rows([(0, 0, 1.0, 4.0)], 1, 2)
    values = compute_localization(ground_truth, [[0.0]], [[0]], 3.0, 10.0).as_dict()
    assert values["all"]["num_selected"] == 1
    assert values["close"]["center"] is None
    assert LocalizationReport.from_dict(json.loads(json.dumps(values))).as_dict() == values
    old_names = {"num_pairs": "positives", "num_selected": "chosen", "center": "centre"}
    old_names |= {"center_chance": "centre_chance", "center_possible": "centre_possible"}
    old_values = {
        group: {old_names.get(name, name): value for name, value in scores.items()} for group, scores in values.items()
    }
    assert LocalizationReport.from_dict(old_values).as_dict() == values


def test_arguments_out_of_range_are_rejected():
    ground_truth = EventTable.from_rows([(0, 0, 1.0, 4.0)], 1, 2)
    with pytest.raises(ValueError, match=r"must be \(1, sub_clips\); received: shapes \(2, 1\) and \(1, 1\)"):
        compute_localization(ground_truth, [[0.0], [1.0]], [[1]], 3.0, 10.0)
    with pytest.raises(
        ValueError, match=r"`sub_clip_seconds` must be at least 0 and below `clip_seconds` \(10.0\); received: 10.0"
    ):
        compute_localization(ground_truth, [[0.0]], [[1]], 10.0, 10.0)
