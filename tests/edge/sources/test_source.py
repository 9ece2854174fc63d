"""Recordings as sources, and sources that are lost and reopened, with growing pauses and the lost samples counted."""

import threading
import time

import numpy as np
import pytest
import soundfile

from kerastag import audio
from kerastag.edge.blocks import Block
from kerastag.edge.sources import source as module
from kerastag.edge.sources.pcm import SourceLostError
from kerastag.edge.sources.source import RecordingSource, ReopeningSource

RATE = 1_000


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


def test_a_source_that_is_missing_at_first_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.wav: no such file"):
        RecordingSource(tmp_path / "gone.wav", 16_000)
    with pytest.raises(ValueError, match="no such input"):
        ReopeningSource(FakeOpener(ValueError("no such input")), print)


class FakeSession:
    """A session of some blocks that is then lost, stuck, or at its end."""

    name = "mic"

    def __init__(self, count=3, then="lost"):
        self.count, self.then = count, then
        self.closed = False
        self.is_stopped = threading.Event()

    def __iter__(self):
        for _ in range(self.count):
            yield Block(np.zeros((10, 1), np.float32), RATE)
        if self.then == "lost":
            raise SourceLostError("unplugged")
        if self.then == "stuck":
            self.is_stopped.wait(10)

    def stop(self):
        self.is_stopped.set()

    def close(self):
        self.closed = True


class FakeOpener:
    """A function that returns sessions or raises errors in a given order, and then repeats the last one."""

    def __init__(self, *steps):
        self.steps, self.sessions = list(steps), []

    def __call__(self):
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        self.sessions.append(step)
        return step


def collect_blocks(source, count):
    blocks = []
    for block in source:
        blocks.append(block)
        if len(blocks) == count:
            source.stop()
    source.close()
    return blocks


def test_the_time_until_a_source_is_back_counts_as_lost():
    lines = []
    missing = OSError("not there")
    opener = FakeOpener(FakeSession(), missing, missing, FakeSession(2, "ended"), FakeSession())
    source = ReopeningSource(opener, lines.append, first_pause_seconds=0.05)
    blocks = collect_blocks(source, 8)
    assert [block.lost_samples > 0 for block in blocks] == [False] * 3 + [True, False] + [True, False, False]
    # The pauses are 0.05, 0.1 and 0.2 s, and the block is 0.01 s of them.
    assert 330 <= blocks[3].lost_samples <= 900
    assert [line.split()[2] for line in lines].count("back") == 2
    assert lines[:2] == [
        "mic: unplugged; it is reopened as soon as possible",
        "mic: not there; it is reopened as soon as possible",
    ]
    assert lines[2:4] == ["mic: is back after 0 s", "mic: ended; it is reopened as soon as possible"]
    assert all(session.closed for session in opener.sessions)


def test_pauses_double_up_to_the_longest_one(monkeypatch):
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 0.08)
    opener = FakeOpener(FakeSession(), *[OSError("gone")] * 6, FakeSession())
    source = ReopeningSource(opener, lambda line: None, first_pause_seconds=0.02)
    pauses = []
    monkeypatch.setattr(source._stop, "wait", pauses.append)
    collect_blocks(source, 4)
    assert pauses == [0.02, 0.04, 0.08, 0.08, 0.08, 0.08, 0.08]


def test_stop_ends_a_stuck_source_at_once():
    session = FakeSession(1, "stuck")
    source = ReopeningSource(FakeOpener(session), print)
    start_time = time.monotonic()
    threading.Timer(0.1, source.stop).start()
    assert len(list(source)) == 1
    source.close()
    assert session.closed
    opener = FakeOpener(FakeSession(), OSError("gone"))
    waiting = ReopeningSource(opener, lambda line: None, first_pause_seconds=60)
    threading.Timer(0.1, waiting.stop).start()
    assert len(list(waiting)) == 3
    assert time.monotonic() - start_time < 5
