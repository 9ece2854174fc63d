"""A recording as a stream: the samples that `audio.load` gives, at once or at their own pace."""

import threading
import time

import numpy as np
import pytest
import soundfile

from kerastag import audio
from kerastag.edge.sources.recording import Recording


@pytest.fixture
def path(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, 22_050).astype(np.float32)
    soundfile.write(tmp_path / "noise.flac", noise, 44_100)
    return str(tmp_path / "noise.flac")


def test_its_blocks_are_the_file_at_the_models_rate(path):
    source = Recording(path, 16_000)
    blocks = list(source)
    assert not source.live
    assert {(block.sample_rate, block.captured_at, block.lost_samples) for block in blocks} == {(16_000, None, 0)}
    np.testing.assert_array_equal(np.concatenate([block.samples for block in blocks]), audio.load(path, 16_000))


def test_at_its_own_pace_it_takes_as_long_as_it_sounds(path):
    source = Recording(path, 16_000, realtime=True)
    assert source.live
    began = time.monotonic()
    blocks = list(source)
    assert time.monotonic() - began >= 0.49
    np.testing.assert_allclose(np.diff([block.captured_at for block in blocks]), 0.1)


def test_it_ends_when_it_is_told_to(path):
    source = Recording(path, 16_000, realtime=True)
    threading.Timer(0.15, source.stop).start()
    assert 1 <= len(list(source)) <= 3
    fast = iter(source := Recording(path, 16_000))
    next(fast)
    source.stop()
    assert not list(fast)


def test_what_is_not_there_is_said_before_anything_else(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.wav: there is no such file"):
        Recording(tmp_path / "gone.wav", 16_000)
