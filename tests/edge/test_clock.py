"""Clocks that drift, stall, jump and are set: what is missing of the audio, and what time of day it is."""

import numpy as np
import pytest

from kerastag.edge.clock import StreamClock

DAY = 86_400.0


class Clocks:
    """A clock of capture times and a wall's clock that a test moves."""

    def __init__(self):
        self.now, self.wall = 5_000.0, 1_700_000_000.0

    def stream(self):
        return StreamClock(2.0, lambda: self.now, lambda: self.wall)


def feed(stream, captured, step=0.1):
    """Blocks of `step` seconds with these capture times -> seconds missing before each."""
    missing, second = [], 0.0
    for at in captured:
        missing.append(stream.missing(second, at))
        second += missing[-1] + step
    return missing


def test_late_blocks_are_no_gap():
    """The thread that captures sleeps for up to 1.9 s, then gets all that has waited."""
    random = np.random.default_rng(0)
    captured = 5_000 + 0.1 * np.arange(3_000)
    captured[1_000:1_019] = captured[1_019]
    captured[2_000:] += random.uniform(0, 1.5, 1_000)
    assert not any(feed(Clocks().stream(), captured))


@pytest.mark.parametrize("drift", [-3e-4, 3e-4])
def test_a_sound_card_that_runs_fast_or_slow_for_a_day_loses_nothing(drift):
    captured = 5_000 + np.arange(0, DAY, 10.0) * (1 + drift)
    assert not any(feed(Clocks().stream(), captured, step=10.0))


def test_sleep_is_missing_audio_once():
    captured = 5_000 + 0.1 * np.arange(100)
    captured[50:] += 3_600
    missing = feed(Clocks().stream(), captured)
    assert missing[50] == pytest.approx(3_600)
    assert sum(missing) == missing[50]


def test_a_clock_that_jumps_back_is_a_new_clock():
    captured = 5_000 + 0.1 * np.arange(100)
    captured[50:] -= 1_000
    captured[80:] += 5
    missing = feed(Clocks().stream(), captured)
    assert missing[80] == pytest.approx(5)
    assert sum(missing) == missing[80]


def test_the_time_of_day_follows_the_wall_clock():
    clocks = Clocks()
    stream = clocks.stream()
    stream.missing(0.0, 5_000.0)
    assert stream.began_at() == pytest.approx(1_700_000_000)
    clocks.now += 60
    clocks.wall += 60
    assert stream.began_at() == pytest.approx(1_700_000_000)
    clocks.wall += DAY  # it was set: what follows has the new day
    assert stream.began_at() == pytest.approx(1_700_000_000 + DAY)
    assert stream.age(59.0) == pytest.approx(1.0)


def test_without_capture_times_the_stream_began_when_it_was_first_asked():
    clocks = Clocks()
    stream = clocks.stream()
    assert stream.missing(1_000.0, None) == 0
    assert stream.began_at() == 1_700_000_000
    clocks.wall += 5
    assert stream.began_at() == 1_700_000_000
    assert stream.age(0.0) is None


def test_a_gap_of_no_length_is_refused():
    with pytest.raises(ValueError, match="`gap_seconds` must be above 0, received 0"):
        StreamClock(0)
