"""Standard input as a source, with real pipes: slow writers, silent writers, and none."""

import contextlib
import os
import threading
import time

import numpy as np
import pytest

from kerastag.edge.sources.pcm import PcmFormat
from kerastag.edge.sources.pipe import InterruptibleReader, StalledError, StandardInputSource

RAMP = np.arange(-8_000, 8_000, dtype="<i2")


@contextlib.contextmanager
def open_pipe(write):
    """Yield the descriptor of a pipe into which a thread writes."""
    source, sink = os.pipe()

    def run():
        with os.fdopen(sink, "wb", buffering=0) as file, contextlib.suppress(BrokenPipeError):
            write(file)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield source
    finally:
        os.close(source)
        thread.join()


def test_samples_do_not_depend_on_how_the_writer_cuts_them():
    def write(file):
        data = RAMP.tobytes()
        for start in range(0, len(data), 4_999):
            file.write(data[start : start + 4_999])
            time.sleep(0.001)

    with open_pipe(write) as descriptor:
        source = StandardInputSource(PcmFormat(), print, descriptor=descriptor)
        blocks = list(source)
        source.close()
    assert {len(block.samples) for block in blocks} == {1_600}
    np.testing.assert_array_equal(np.concatenate([block.samples for block in blocks])[:, 0] * 32_768, RAMP)


def test_a_silent_writer_is_reported_once():
    lines = []

    def write(file):
        file.write(RAMP[:2_000].tobytes())
        time.sleep(0.4)
        file.write(RAMP[2_000:].tobytes())

    with open_pipe(write) as descriptor:
        source = StandardInputSource(PcmFormat(), lines.append, descriptor=descriptor, timeout_seconds=0.1)
        samples = np.concatenate([block.samples for block in source])
        source.close()
    np.testing.assert_array_equal(samples[:, 0] * 32_768, RAMP)
    assert lines == ["standard input: nothing came for 0.1 s; still waiting", "standard input: continues"]


def test_stop_ends_a_waiting_source():
    gate = threading.Event()
    with open_pipe(lambda file: (file.write(RAMP.tobytes()), gate.wait(10))) as descriptor:
        source = StandardInputSource(PcmFormat(), print, descriptor=descriptor)
        threading.Timer(0.2, source.stop).start()
        assert sum(len(block.samples) for block in source) == len(RAMP)
        source.close()
        gate.set()


def test_an_empty_pipe_and_a_terminal_are_errors():
    with open_pipe(lambda file: None) as descriptor:
        source = StandardInputSource(PcmFormat(), print, descriptor=descriptor)
        with pytest.raises(ValueError, match="standard input: must have at least one sample; received: none"):
            list(source)
        source.close()
    main, terminal = os.openpty()
    with pytest.raises(ValueError, match="must be a pipe of raw PCM or WAV; received: a terminal"):
        StandardInputSource(PcmFormat(), print, descriptor=terminal)
    os.close(main)
    os.close(terminal)


def test_a_reader_keeps_what_came_before_a_timeout():
    source, sink = os.pipe()
    reader = InterruptibleReader(source, 0.05)
    os.write(sink, b"abc")
    with pytest.raises(StalledError, match="nothing came for 0.05 s"):
        reader.read(4)
    os.write(sink, b"d")
    assert reader.read(4) == b"abcd"
    reader.stop()
    assert reader.read(1) == b""
    reader.close()
    reader.stop()  # does nothing
    os.close(source)
    os.close(sink)
