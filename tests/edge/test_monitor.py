"""The state of a source: digital silence, and samples that are not audio."""

import numpy as np
import pytest

from kerastag.edge.monitor import SourceMonitor


def test_only_long_digital_silence_is_silent():
    monitor = SourceMonitor("listening", 10.0, 3_600.0)
    offset = np.full((1_600, 2), [0.25, -0.5], np.float32)  # of a cheap sound card
    dithered = offset + np.float32(1 / 32_768) * (np.arange(1_600) % 2)[:, None]
    for silence in (np.zeros(1_600, np.float32), offset, dithered):
        monitor.add_audio(silence, 3_599.0)
        assert monitor.state == "listening"
        monitor.add_audio(silence, 1.0)
        assert monitor.state == "silent"
        monitor.add_audio(np.zeros(0, np.float32), 0.0)  # says nothing
        assert monitor.state == "silent"
        noise = silence + np.float32(3 / 32_768) * (np.arange(1_600) % 2).reshape((-1,) + (1,) * (silence.ndim - 1))
        monitor.add_audio(noise, 0.1)
        assert monitor.state == "listening"


def test_zero_disables_the_state_of_silence():
    monitor = SourceMonitor("listening", 10.0, 0.0)
    monitor.add_audio(np.zeros(1_600, np.float32), 1e9)
    assert monitor.state == "listening"


@pytest.mark.parametrize("first", ["", "listening"])
def test_a_source_without_audio_is_lost_until_audio_comes(first):
    monitor = SourceMonitor(first, 10.0, 3_600.0)
    monitor.add_invalid(9.0)
    assert monitor.state == first
    monitor.add_invalid(1.0)
    assert monitor.state == "lost"
    monitor.add_audio(np.linspace(-1, 1, 10), 0.1)
    assert monitor.state == "listening"
    monitor.add_invalid(9.0)
    assert monitor.state == "listening"
    monitor.add_timeout()
    assert monitor.state == "lost"
