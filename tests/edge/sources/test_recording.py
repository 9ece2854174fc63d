"""A recording as a source, as fast as possible or at its own speed."""

import threading
import time

import numpy as np
import pytest
import soundfile

from kerastag import audio
from kerastag.edge.sources.recording import RecordingSource


@pytest.fixture
def path(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, 22_050).astype(np.float32)
    soundfile.write(tmp_path / "noise.flac", noise, 44_100)
    return str(tmp_path / "noise.flac")


def test_blocks_are_the_resampled_file(path):
    source = RecordingSource(path, 16_000)
    blocks = list(source)
    assert not source.live
    assert {(block.sample_rate, block.captured_at, block.lost_samples) for block in blocks} == {(16_000, None, 0)}
    np.testing.assert_array_equal(np.concatenate([block.samples for block in blocks]), audio.load(path, 16_000))


def test_in_realtime_the_blocks_take_the_duration_of_the_recording(path):
    source = RecordingSource(path, 16_000, realtime=True)
    assert source.live
    start_time = time.monotonic()
    blocks = list(source)
    assert time.monotonic() - start_time >= 0.49
    np.testing.assert_allclose(np.diff([block.captured_at for block in blocks]), 0.1)


def test_stop_ends_the_blocks(path):
    source = RecordingSource(path, 16_000, realtime=True)
    threading.Timer(0.15, source.stop).start()
    assert 1 <= len(list(source)) <= 3
    iterator = iter(source := RecordingSource(path, 16_000))
    next(iterator)
    source.stop()
    assert not list(iterator)


def test_a_missing_file_is_an_error_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.wav: no such file"):
        RecordingSource(tmp_path / "gone.wav", 16_000)
