"""Operating points: the thresholds keep what they promise on other data, with the rules that find most."""

import numpy as np
import pytest

from kerastag.custom.operating_point import _count_alarms, choose_operating_point, measure_alarms
from kerastag.custom.simulation import EventStream, PlacedEvent, StreamPredictions, track_alarms
from kerastag.events import create_event_rules


def make_stream(logits, seconds_per_frame=1.0):
    """Make predictions, each of which is known one frame later."""
    framewise = (1 / (1 + np.exp(-np.asarray(logits, float)))).astype(np.float32)
    return StreamPredictions(framewise, 0.0, seconds_per_frame, seconds_per_frame * (1.0 + np.arange(len(framewise))))


def draw_ambient(hours, seed, base=-5.0, seconds_per_frame=10.0):
    """Draw background whose logits have exponential tails of different lengths in the two classes."""
    random, frames = np.random.default_rng(seed), round(3600 * hours / seconds_per_frame)
    return make_stream(base + random.exponential((0.8, 0.5), (frames, 2)), seconds_per_frame)


def place_events(lengths, logit=3.0):
    """Place sounds of class 0, 20 s apart, in quiet background."""
    logits = np.full((20 * len(lengths), 2), -7.0)
    events = []
    for number, length in enumerate(lengths):
        first = 20 * number + 5
        logits[first : first + length, 0] = logit
        events.append(PlacedEvent((0,), float(first), float(first + length), (20.0, 10.0, 0.0)[number % 3]))
    return EventStream(make_stream(logits), tuple(events))


@pytest.mark.parametrize(("hours", "per_day"), [(48, 12.0), (6, 12.0), (3, 2.0)])
def test_other_hours_have_about_as_many_false_alarms_as_were_asked_for(hours, per_day):
    point = choose_operating_point([draw_ambient(hours, seed=1)], None, (0.01, 0.01), per_day)
    days = 10
    measured = measure_alarms(point, ("a", "b"), [draw_ambient(24 * days, seed=2)], None)
    for alarms in measured:
        assert alarms.false_alarms < 3 * per_day * days
        assert alarms.false_alarms > 0.1 * per_day * days
        assert alarms.per_day == pytest.approx(alarms.false_alarms / days, rel=0.01)
        assert alarms.per_day_interval[0] < alarms.per_day < alarms.per_day_interval[1]


def test_hours_show_a_number_only_if_they_are_enough():
    quiet = make_stream(np.full((36 * 4, 1), -7.0), 100.0)
    for per_day, is_shown in ((30.0, True), (10.0, False)):
        point = choose_operating_point([quiet], None, (0.5,), per_day)
        assert point.is_shown == (is_shown,)
        assert point.thresholds == (0.5,)
        assert point.hours == 4


def test_a_threshold_is_never_below_the_given_one_and_only_as_high_as_needed():
    stream = draw_ambient(12, seed=3)
    low, high = (choose_operating_point([stream], None, (0.01, 0.01), per_day).thresholds for per_day in (200.0, 5.0))
    assert low[0] < high[0]
    assert low[1] < high[1]
    assert choose_operating_point([stream], None, (0.9, 0.01), 200.0).thresholds == (0.9, low[1])


def test_a_minimum_length_is_chosen_where_false_alarms_are_short_and_sounds_are_long():
    random = np.random.default_rng(4)
    logits = np.full((3600, 2), -7.0)
    logits[random.choice(len(logits), 50, replace=False), 0] = 5.2
    point = choose_operating_point([make_stream(logits)], place_events([5] * 15), (0.3, 0.3), 24.0)
    assert point.event_rules["min_seconds"][0] > 0
    assert point.event_rules["min_seconds"][1] == 0
    assert point.thresholds[0] < 0.9
    alarms = measure_alarms(point, ("a", "b"), [make_stream(logits)], place_events([5] * 15))[0]
    assert alarms.num_found == 15
    assert alarms.false_alarms <= 1


def test_a_minimum_length_must_find_more_than_one_of_many_sounds():
    random = np.random.default_rng(4)
    logits = np.full((3600, 2), -7.0)
    logits[random.choice(len(logits), 50, replace=False), 0] = 5.2
    for num_faint, has_length in ((1, False), (6, True)):
        events = place_events([5] * 40, logit=6.0)
        for number in range(num_faint):  # found with a minimum length only, which allows a lower threshold
            events.predictions.framewise[20 * number + 5 : 20 * number + 10, 0] = 0.95
        point = choose_operating_point([make_stream(logits)], events, (0.3, 0.3), 24.0)
        assert bool(point.event_rules) == has_length


def test_no_rule_is_chosen_where_sounds_are_short():
    point = choose_operating_point([draw_ambient(6, seed=5)], place_events([1] * 9), (0.3, 0.3), 12.0)
    assert dict(point.event_rules) == {}


def test_many_thresholds_at_once_count_the_alarms_of_single_streams():
    streams = [draw_ambient(0.1, seed=seed, base=-2.0, seconds_per_frame=1.0) for seed in (6, 7)]
    thresholds, rules = np.array([[0.2, 0.16], [0.3, 0.2]]), {"smoothing_seconds": 3.0, "min_seconds": 2.0}
    counts = _count_alarms(streams, thresholds, rules)
    for row, expected in zip(thresholds, counts, strict=True):
        alarms = [a for stream in streams for a in track_alarms(stream, create_event_rules(rules, row.tolist()))]
        assert [sum(alarm.class_index == k for alarm in alarms) for k in range(2)] == expected.tolist()
    assert counts.min() > 0


def test_sounds_are_found_with_their_delay_and_by_level_and_claims_are_counted():
    stream = place_events([4, 4, 4, 4, 4, 4])
    logits = np.log(stream.predictions.framewise / (1 - stream.predictions.framewise))
    logits[20 + 5 : 20 + 9, 0] = -7.0  # the second sound, at 10 dB, is missed
    logits[45:47, 1] = 3.0  # the third sound has an alarm of the other class
    events = EventStream(make_stream(logits), stream.events)
    point = choose_operating_point([draw_ambient(2, seed=8)], None, (0.5, 0.5), 24.0)
    first, second = measure_alarms(point, ("a", "b"), [draw_ambient(2, seed=9)], events)
    assert (first.num_events, first.num_found) == (6, 5)
    assert first.found_by_snr == {"20": (2, 2), "10": (1, 2), "0": (2, 2)}
    assert first.delay_seconds == 1.0
    assert first.delay_interval == (1.0, 1.0)
    assert first.share_interval[0] < 5 / 6 < first.share_interval[1]
    assert (second.num_events, second.delay_seconds, second.num_others, second.num_others_claimed) == (0, None, 6, 1)


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match="`ambient` must have at least one stream; received: none"):
        choose_operating_point([], None, (0.5,), 1.0)
    with pytest.raises(ValueError, match="`false_alarms_per_day` must be above 0; received: 0"):
        choose_operating_point([draw_ambient(1, seed=0)], None, (0.5, 0.5), 0.0)
