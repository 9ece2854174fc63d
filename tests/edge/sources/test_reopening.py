"""A source that vanishes: opened again with growing pauses, what was missed counted, ended at once when told to."""

import threading
import time

import numpy as np
import pytest

from kerastag.edge.blocks import Block
from kerastag.edge.sources import reopening
from kerastag.edge.sources.reopening import Lost, Reopening

RATE = 1_000


class Session:
    """Gives some blocks, then is lost, stuck, or at its end."""

    def __init__(self, count=3, then="lost"):
        self.count, self.then = count, then
        self.closed = False
        self.told = threading.Event()

    def __iter__(self):
        for _ in range(self.count):
            yield Block(np.zeros((10, 1), np.float32), RATE)
        if self.then == "lost":
            raise Lost("unplugged")
        if self.then == "stuck":
            self.told.wait(10)

    def stop(self):
        self.told.set()

    def close(self):
        self.closed = True


class Opener:
    """Sessions and refusals in a row; the last one again and again."""

    def __init__(self, *steps):
        self.steps, self.opened, self.times = list(steps), [], []

    def __call__(self):
        self.times.append(time.monotonic())
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        self.opened.append(step)
        return step


def blocks_of(source, count):
    found = []
    for block in source:
        found.append(block)
        if len(found) == count:
            source.stop()
    source.close()
    return found


def test_a_source_that_is_not_there_at_first_is_an_error():
    with pytest.raises(ValueError, match="no such input"):
        Reopening(Opener(ValueError("no such input")), "mic", print)


def test_it_comes_back_and_the_time_between_is_lost_audio():
    said = []
    opener = Opener(Session(), OSError("not there"), OSError("not there"), Session(2, "ended"), Session())
    source = Reopening(opener, "mic", said.append, first_pause_seconds=0.05)
    found = blocks_of(source, 8)
    assert [block.lost_samples > 0 for block in found] == [False] * 3 + [True, False] + [True, False, False]
    # Pauses of 0.05, 0.1 and 0.2 s; the block itself, 0.01 s long, lies in them.
    assert 330 <= found[3].lost_samples <= 900
    assert source.reopened == 2
    assert said[:2] == [
        "mic: unplugged; it is opened again as soon as it is there",
        "mic: not there; it is opened again as soon as it is there",
    ]
    assert said[2:4] == ["mic: is back after 0 s", "mic: ended; it is opened again as soon as it is there"]
    assert all(session.closed for session in opener.opened)


def test_pauses_double_up_to_the_longest(monkeypatch):
    monkeypatch.setattr(reopening, "LONGEST_PAUSE_SECONDS", 0.08)
    opener = Opener(Session(), *[OSError("gone")] * 6, Session())
    source = Reopening(opener, "mic", lambda line: None, first_pause_seconds=0.02)
    waited = []
    monkeypatch.setattr(source._stop, "wait", waited.append)
    blocks_of(source, 4)
    assert waited == [0.02, 0.04, 0.08, 0.08, 0.08, 0.08, 0.08]


def test_it_ends_at_once_however_stuck_it_is():
    stuck = Session(1, "stuck")
    source = Reopening(Opener(stuck), "mic", print)
    began = time.monotonic()
    threading.Timer(0.1, source.stop).start()
    assert len(list(source)) == 1
    source.close()
    assert stuck.closed
    waits = Reopening(Opener(Session(), OSError("gone")), "mic", lambda line: None, first_pause_seconds=60)
    threading.Timer(0.1, waits.stop).start()
    assert len(list(waits)) == 3
    assert time.monotonic() - began < 5
