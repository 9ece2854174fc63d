"""Events compared with the rules applied frame by frame, for any split of the probabilities."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastag.events import Event, EventRules, EventTracker, create_event_rules, find_events, limit_framewise

LEVELS = np.array([0.0, 0.1, 0.29, 0.3, 0.45, 0.5, 0.7, 1.0])


@st.composite
def draw_cases(draw: st.DrawFn) -> tuple[np.ndarray, float, EventRules]:
    frames, classes = draw(st.integers(0, 40)), draw(st.integers(1, 3))
    picks = draw(st.binary(min_size=frames * classes, max_size=frames * classes))  # faster than a list of integers
    probabilities = LEVELS[np.frombuffer(picks, np.uint8) % 8].reshape(frames, classes)
    seconds = draw(st.sampled_from([0.1, 0.25, 1.0]))
    times = st.sampled_from([0.0, 0.2, 0.3, 0.5, 1.0, 2.1])
    rules = EventRules(
        tuple(draw(st.sampled_from([0.3, 0.5, 0.7])) for _ in range(classes)),
        draw(st.sampled_from([None, 0.3, 0.1])),
        smoothing_seconds=draw(times),
        min_seconds=draw(times | st.tuples(*classes * [times])),
        max_gap_seconds=draw(times),
        refractory_seconds=draw(times),
    )
    return probabilities, seconds, rules


def count_frames(seconds: float, per_frame: float, up: bool) -> int:
    frames = round(seconds / per_frame, 6)
    return int(np.ceil(frames) if up else np.floor(frames))


def apply_rules(probabilities: np.ndarray, seconds: float, rules: EventRules, start: float = 0.0) -> list[Event]:
    """Apply the rules to a whole recording, one after the other."""
    frames, classes = probabilities.shape
    half = max(0, round((rules.smoothing_seconds / seconds - 1) / 2))
    least_seconds = np.broadcast_to(rules.min_seconds, classes)
    events = []
    for k in range(classes):
        values = probabilities[:, k].tolist()
        column = [sorted(values[min(max(i + d, 0), frames - 1)] for d in range(-half, half + 1))[half]
                  for i in range(frames)]  # fmt: skip
        onset = np.broadcast_to(rules.onset_thresholds, classes)[k]
        offset = np.broadcast_to(rules.offset_thresholds, classes)[k]
        active, is_active = [], False
        for p in column:
            is_active = p >= onset or (is_active and p >= offset)
            active.append(is_active)
        runs = [[i] for i in range(frames) if active[i] and (i == 0 or not active[i - 1])]
        for run in runs:
            while run[-1] + 1 < frames and active[run[-1] + 1]:
                run.append(run[-1] + 1)
        merged: list[list[int]] = []
        for run in runs:
            if merged and run[0] - merged[-1][-1] - 1 <= count_frames(rules.max_gap_seconds, seconds, up=False):
                merged[-1] += run
            else:
                merged.append(run)
        first_allowed = 0
        for run in merged:
            run = [i for i in run if i >= first_allowed]
            if run and run[-1] + 1 - run[0] >= count_frames(least_seconds[k], seconds, up=True):
                first_allowed = run[-1] + 1 + count_frames(rules.refractory_seconds, seconds, up=True)
                inside = [column[i] for i in run]
                first, last = start + seconds * run[0], start + seconds * run[-1] + seconds
                events.append(Event(k, first, last, max(inside), sum(inside) / len(inside)))
    return sorted(events, key=lambda event: (event.onset_seconds, event.class_index))


def check_equal(actual: list[Event], expected: list[Event]) -> None:
    assert [e.class_index for e in actual] == [e.class_index for e in expected]
    for name in ("onset_seconds", "offset_seconds", "peak_probability", "mean_probability"):
        np.testing.assert_allclose([getattr(e, name) for e in actual], [getattr(e, name) for e in expected], atol=1e-9)


@settings(max_examples=100)
@given(draw_cases(), st.sampled_from([0.0, 3.7]))
def test_events_follow_the_rules(case: tuple[np.ndarray, float, EventRules], start: float) -> None:
    probabilities, seconds, rules = case
    check_equal(find_events(probabilities, seconds, rules, start), apply_rules(probabilities, seconds, rules, start))


@settings(max_examples=100)
@given(draw_cases(), st.lists(st.integers(1, 7), max_size=40))
def test_the_tracker_reports_the_same_events_for_any_blocks(
    case: tuple[np.ndarray, float, EventRules], sizes: list[int]
) -> None:
    probabilities, seconds, rules = case
    blocks = np.split(np.arange(len(probabilities)), np.minimum(np.cumsum(sizes), len(probabilities)))
    reports = []
    for frames_at_once in ([[i] for i in range(len(probabilities))], blocks):
        tracker = EventTracker(probabilities.shape[1], seconds, rules)
        events = [e for rows in frames_at_once if len(rows)
                  for e in tracker.update(5.0 + seconds * rows[0], probabilities[rows])]  # fmt: skip
        reports.append([*events, *tracker.flush()])
    ended = [e for e in reports[0] if e.offset_seconds is not None]
    whole = find_events(probabilities, seconds, rules, 5.0)
    assert sorted(ended, key=lambda e: (e.onset_seconds, e.class_index)) == whole  # bit for bit
    check_equal([e for e in reports[1] if e.offset_seconds is not None], ended)
    begun = [(e.class_index, e.onset_seconds) for e in reports[0] if e.offset_seconds is None]
    assert sorted(begun) == sorted((e.class_index, e.onset_seconds) for e in whole)


def test_each_event_is_reported_as_soon_as_it_is_certain() -> None:
    rules = EventRules(0.5, 0.3, smoothing_seconds=3, min_seconds=2, max_gap_seconds=1, refractory_seconds=3)
    tracker = EventTracker(1, 1.0, rules)
    reports = {
        i: [(e.onset_seconds, e.offset_seconds) for e in tracker.update(float(i), [p])]
        for i, p in enumerate([0, 0.9, 0.9, 0.9, 0, 0, 0, 0.9, 0.9, 0.9, 0.9])
    }
    # The second frame makes the event long enough, and its median needs the third. It ends at 4, which is certain after
    # a pause of one frame, and the median needs another frame. The next event begins after three seconds.
    assert {i: events for i, events in reports.items() if events} == {
        3: [(1.0, None)],
        6: [(1.0, 4.0)],
        9: [(7.0, None)],
    }
    assert [(e.onset_seconds, e.offset_seconds) for e in tracker.flush()] == [(7.0, 11.0)]


def test_dropped_audio_ends_the_event_and_another_begins_after_it() -> None:
    tracker = EventTracker(1, 0.5, EventRules(max_gap_seconds=100, smoothing_seconds=1.5))
    tracker.update(0.0, [[0.9]] * 4)
    events = tracker.update(10.0, [[0.9]] * 4) + tracker.flush()
    assert [(e.onset_seconds, e.offset_seconds) for e in events] == [(0.0, 2.0), (10.0, None), (10.0, 12.0)]


def test_setting_the_clock_back_ends_the_event() -> None:
    tracker = EventTracker(1, 0.5, EventRules(refractory_seconds=1000))
    tracker.update(7200.0, [[0.9]] * 4)
    events = tracker.update(3600.0, [[0.9]] * 2) + tracker.flush()
    assert [(e.onset_seconds, e.offset_seconds) for e in events] == [(7200.0, 7202.0), (3600.0, None), (3600.0, 3601.0)]


def test_refractory_time_continues_through_dropped_audio() -> None:
    tracker = EventTracker(1, 0.5, EventRules(refractory_seconds=3))
    tracker.update(0.0, [[0.9]] * 2)
    events = tracker.update(2.0, [[0.9]] * 8)
    assert [(e.onset_seconds, e.offset_seconds) for e in events] == [(0.0, 1.0), (4.0, None)]


def test_a_drifting_clock_does_not_end_an_event() -> None:
    tracker = EventTracker(1, 0.1)
    events = [e for i in range(2000) for e in tracker.update(i * 0.1004, [0.9])]
    assert len(events) == 1
    assert tracker.flush()[0].offset_seconds == pytest.approx(1999 * 0.1004 + 0.1)


def test_a_tracker_needs_constant_memory() -> None:
    def measure_size(tracker: EventTracker) -> int:
        return sum(
            value.nbytes if isinstance(value, np.ndarray) else sys.getsizeof(value) for value in vars(tracker).values()
        )

    tracker = EventTracker(20, 0.1, EventRules(smoothing_seconds=0.5, max_gap_seconds=0.3, refractory_seconds=1))
    random = np.random.default_rng(0)
    sizes = []
    for i in range(40):
        tracker.update(i * 10.0, random.random((100, 20)))
        sizes.append(measure_size(tracker))
    assert max(sizes[20:]) == max(sizes[:20])


def test_a_flushed_tracker_starts_again() -> None:
    tracker = EventTracker(1, 1.0, EventRules(refractory_seconds=100))
    first = tracker.update(0.0, [[0.9]]) + tracker.flush()
    assert tracker.update(0.0, [[0.9]]) + tracker.flush() == first
    assert tracker.flush() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"onset_thresholds": 1.5}, "`onset_thresholds` must be in [0, 1], one number or one per class; received: 1.5"),
        ({"onset_thresholds": ()}, "`onset_thresholds` must be in"),
        ({"onset_thresholds": "loud"}, "received: 'loud'"),
        ({"offset_thresholds": float("nan")}, "`offset_thresholds` must be in"),
        ({"offset_thresholds": 0.6}, "`offset_thresholds` must be at most `onset_thresholds`; received: 0.6 and 0.5"),
        (
            {"onset_thresholds": (0.5, 0.6), "offset_thresholds": (0.1,) * 3},
            "`offset_thresholds` must be one number or 2",
        ),
        ({"min_seconds": -1}, "`min_seconds` must be at least 0; received: -1"),
        ({"min_seconds": (1.0, -1.0)}, "`min_seconds` must be at least 0; received: (1.0, -1.0)"),
        (
            {"onset_thresholds": (0.5, 0.6), "min_seconds": [1.0] * 3},
            "`min_seconds` must be one number or 2; received: 3",
        ),
        ({"smoothing_seconds": float("inf")}, "`smoothing_seconds` must be at least 0; received: inf"),
    ],
)
def test_invalid_rules_are_rejected(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError) as error:
        EventRules(**arguments)
    assert message in str(error.value)


def test_invalid_probabilities_and_arguments_are_rejected() -> None:
    tracker = EventTracker(2, 0.5)
    for values, message in (
        ([0.1], r"\(2,\) or \(frames, 2\); received: shape \(1,\)"),
        ([0.1, np.nan], r"in \[0, 1\]; received: nan"),
        ([0.1, 1.5], r"in \[0, 1\]; received: 0.1 to 1.5"),
    ):
        with pytest.raises(ValueError, match="`probabilities` must be " + message):
            tracker.update(0.0, values)
    with pytest.raises(ValueError, match="`start_seconds` must be finite; received: nan"):
        tracker.update(float("nan"), [0.1, 0.1])
    with pytest.raises(ValueError, match="`num_classes` must be at least 1; received: 0"):
        EventTracker(0, 0.5)
    with pytest.raises(ValueError, match="`seconds_per_frame` must be above 0; received: 0"):
        EventTracker(2, 0)
    with pytest.raises(ValueError, match="`onset_thresholds` must be one number or 3; received: 2"):
        EventTracker(3, 0.5, EventRules((0.5, 0.5)))
    with pytest.raises(ValueError, match="`min_seconds` must be one number or 3; received: 2"):
        EventTracker(3, 0.5, EventRules(min_seconds=(0.5, 0.5)))
    with pytest.raises(ValueError, match=r"must be \(frames, classes\); received: shape \(2,\)"):
        find_events([0.1, 0.2], 0.5)


def test_framewise_probabilities_are_limited_to_the_clipwise_ones():
    rng = np.random.default_rng(0)
    framewise, clipwise = rng.random((2, 5, 3), np.float32), rng.random((2, 3), np.float32)
    limited = limit_framewise(framewise, clipwise)
    assert limited.dtype == np.float32
    for clip, frame, k in np.ndindex(framewise.shape):
        assert limited[clip, frame, k] == min(framewise[clip, frame, k], clipwise[clip, k])
    np.testing.assert_array_equal(limit_framewise(framewise[1], clipwise[1]), limited[1])
    assert find_events(limit_framewise([[0.9], [0.9]], [0.4]), 1.0) == []


def test_rules_of_the_card_apply_where_the_user_chooses_none():
    card_rules = {"offset_ratio": 0.75, "smoothing_seconds": 3.0, "refractory_seconds": 5.0}
    rules = create_event_rules(card_rules, (0.4, 0.8), smoothing_seconds=0.0, min_seconds=None, max_gap_seconds=1.0)
    np.testing.assert_allclose(rules.offset_thresholds, (0.3, 0.6))
    assert rules == EventRules((0.4, 0.8), rules.offset_thresholds, 0.0, 0.0, 1.0, 5.0)
    assert create_event_rules(card_rules, (0.4, 0.8), 0.5).offset_thresholds == (0.4, 0.5)
    assert create_event_rules({}, (0.4, 0.8)) == EventRules((0.4, 0.8))


def test_a_minimum_length_of_each_class_in_the_card_applies_to_the_selected_classes():
    card_rules = {"min_seconds": (0.0, 2.0, 1.0)}
    assert create_event_rules(card_rules, (0.4, 0.8, 0.5)).min_seconds == (0.0, 2.0, 1.0)
    assert create_event_rules(card_rules, (0.4, 0.8), classes=(2, 1)).min_seconds == (1.0, 2.0)
    assert create_event_rules(card_rules, (0.4, 0.8), classes=(2, 1), min_seconds=3.0).min_seconds == 3.0
