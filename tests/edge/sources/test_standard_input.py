"""Standard input as a stream, through real pipes: slow writers, silent ones, none, and an end on demand."""

import contextlib
import os
import threading
import time

import numpy as np
import pytest

from kerastag.edge.sources.interruptible import InterruptibleReader, Stalled
from kerastag.edge.sources.pcm import PcmFormat
from kerastag.edge.sources.standard_input import StandardInput

RAMP = np.arange(-8_000, 8_000, dtype="<i2")


@contextlib.contextmanager
def piped(write):
    """The descriptor of a pipe into which a thread writes."""
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


def test_samples_survive_any_cut_of_the_pipe():
    def write(file):
        data = RAMP.tobytes()
        for at in range(0, len(data), 4_999):
            file.write(data[at : at + 4_999])
            time.sleep(0.001)

    with piped(write) as descriptor:
        source = StandardInput(PcmFormat(), print, descriptor=descriptor)
        blocks = list(source)
        source.close()
    assert {len(block.samples) for block in blocks} == {1_600}
    np.testing.assert_array_equal(np.concatenate([block.samples for block in blocks])[:, 0] * 32_768, RAMP)


def test_a_silent_writer_is_reported_once_and_waited_for():
    said = []

    def write(file):
        file.write(RAMP[:2_000].tobytes())
        time.sleep(0.4)
        file.write(RAMP[2_000:].tobytes())

    with piped(write) as descriptor:
        source = StandardInput(PcmFormat(), said.append, descriptor=descriptor, patience_seconds=0.1)
        samples = np.concatenate([block.samples for block in source])
        source.close()
    np.testing.assert_array_equal(samples[:, 0] * 32_768, RAMP)
    assert said == ["standard input: nothing came for 0.1 s; it is waited for", "standard input: goes on"]


def test_it_ends_while_it_waits():
    gate = threading.Event()
    with piped(lambda file: (file.write(RAMP.tobytes()), gate.wait(10))) as descriptor:
        source = StandardInput(PcmFormat(), print, descriptor=descriptor)
        threading.Timer(0.2, source.stop).start()
        assert sum(len(block.samples) for block in source) == len(RAMP)
        source.close()
        gate.set()


def test_an_empty_pipe_and_a_terminal_are_refused():
    with piped(lambda file: None) as descriptor:
        source = StandardInput(PcmFormat(), print, descriptor=descriptor)
        with pytest.raises(ValueError, match="standard input: must have at least one sample, received none"):
            list(source)
        source.close()
    main, terminal = os.openpty()
    with pytest.raises(ValueError, match="must be a pipe of raw PCM or WAV, received a terminal"):
        StandardInput(PcmFormat(), print, descriptor=terminal)
    os.close(main)
    os.close(terminal)


def test_a_reader_keeps_what_came_before_the_silence():
    source, sink = os.pipe()
    reader = InterruptibleReader(source, 0.05)
    os.write(sink, b"abc")
    with pytest.raises(Stalled, match="nothing came for 0.05 s"):
        reader.read(4)
    os.write(sink, b"d")
    assert reader.read(4) == b"abcd"
    reader.stop()
    assert reader.read(1) == b""
    reader.close()
    reader.stop()  # after the end: harmless
    os.close(source)
    os.close(sink)
