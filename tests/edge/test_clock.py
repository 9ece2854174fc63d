"""The clock of a stream, with clocks that drift, stall, jump and are set."""

import numpy as np
import pytest

from kerastag.edge.clock import StreamClock

DAY = 86_400.0


class Clocks:
    """A clock of capture times and a wall clock that a test moves."""

    def __init__(self):
        self.now, self.wall = 5_000.0, 1_700_000_000.0

    def create_stream_clock(self):
        return StreamClock(2.0, lambda: self.now, lambda: self.wall)


def find_gaps(clock, captured, step=0.1):
    """Return the missing seconds before blocks of `step` seconds with these capture times."""
    missing, second = [], 0.0
    for at in captured:
        missing.append(clock.find_missing_seconds(second, at))
        second += missing[-1] + step
    return missing


def test_late_blocks_are_not_a_gap():
    random = np.random.default_rng(0)
    captured = 5_000 + 0.1 * np.arange(3_000)
    captured[1_000:1_019] = captured[1_019]  # The capturing thread slept, and then got all waiting blocks.
    captured[2_000:] += random.uniform(0, 1.5, 1_000)
    assert not any(find_gaps(Clocks().create_stream_clock(), captured))


def test_a_sound_card_that_runs_fast_or_slow_for_a_day_loses_nothing():
    for drift in (-3e-4, 3e-4):
        captured = 5_000 + np.arange(0, DAY, 10.0) * (1 + drift)
        assert not any(find_gaps(Clocks().create_stream_clock(), captured, step=10.0))


@pytest.mark.parametrize(("jump", "gap"), [(0, 3_600), (-1_000, 5)])
def test_sleep_is_missing_audio_exactly_once_also_after_the_clock_jumped_back(jump, gap):
    captured = 5_000 + 0.1 * np.arange(100)
    captured[50:] += jump
    captured[80:] += gap
    missing = find_gaps(Clocks().create_stream_clock(), captured)
    assert missing[80] == pytest.approx(gap)
    assert sum(missing) == missing[80]


def test_the_time_of_day_follows_the_wall_clock():
    clocks = Clocks()
    clock = clocks.create_stream_clock()
    clock.find_missing_seconds(0.0, 5_000.0)
    assert clock.compute_start_time() == pytest.approx(1_700_000_000)
    clocks.now += 60
    clocks.wall += 60
    assert clock.compute_start_time() == pytest.approx(1_700_000_000)
    clocks.wall += DAY  # the clock was set: what follows has the new day
    assert clock.compute_start_time() == pytest.approx(1_700_000_000 + DAY)
    assert clock.compute_age(59.0) == pytest.approx(1.0)


def test_without_capture_times_the_stream_starts_at_the_first_call():
    clocks = Clocks()
    clock = clocks.create_stream_clock()
    assert clock.find_missing_seconds(1_000.0, None) == 0
    assert clock.compute_start_time() == 1_700_000_000
    clocks.wall += 5
    assert clock.compute_start_time() == 1_700_000_000
    assert clock.compute_age(0.0) is None
    with pytest.raises(ValueError, match="`gap_seconds` must be above 0; received: 0"):
        StreamClock(0)
