"""Raw PCM and WAV streams: encodings, cuts and headers; standard input: slow writers, silent writers, and none."""

import contextlib
import io
import os
import struct
import sys
import threading
import time

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastag.audio import AudioWarning
from kerastag.edge.sources.pcm import (
    ENCODINGS,
    InterruptibleReader,
    PcmFormat,
    SourceLostError,
    StandardInputSource,
    read_pcm_blocks,
)

RAMP = np.arange(-8_000, 8_000, dtype="<i2")
SUBTYPES = {"U8": "PCM_U8", "S16_LE": "PCM_16", "S24_3LE": "PCM_24", "S32_LE": "PCM_32", "FLOAT_LE": "FLOAT"}


def generate_noise(channels=2):
    return np.random.default_rng(0).uniform(-0.9, 0.9, (4_000, channels)).astype(np.float32)


def encode_wav(samples, rate, subtype="PCM_16", kind="WAV"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def decode(data, raw_format=None):
    blocks = list(read_pcm_blocks(io.BytesIO(data).read, raw_format or PcmFormat(), "pipe", live=False))
    assert {block.captured_at for block in blocks} == {None}
    (rate,) = {block.sample_rate for block in blocks}
    return rate, np.concatenate([block.samples for block in blocks])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_each_encoding_is_decoded_like_libsndfile(encoding):
    signal = generate_noise()
    subtype = SUBTYPES.get(encoding) or SUBTYPES[encoding.replace("_BE", "_LE")]
    file = io.BytesIO()
    endian = "BIG" if encoding.endswith("_BE") else "LITTLE"
    raw = {"format": "RAW", "subtype": subtype, "endian": endian}
    soundfile.write(file, signal, 16_000, **raw)
    file.seek(0)
    expected, _ = soundfile.read(file, channels=2, samplerate=16_000, dtype="float32", **raw)
    rate, samples = decode(file.getvalue(), PcmFormat(encoding, 16_000, 2))
    assert rate == 16_000
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, expected, atol=1e-7)
    np.testing.assert_allclose(samples, signal, atol=0.01)


@pytest.mark.parametrize("subtype", SUBTYPES.values())
def test_a_wav_header_determines_the_format(subtype):
    signal = generate_noise(channels=3)
    for kind in ("WAV", "WAVEX"):
        rate, samples = decode(encode_wav(signal, 44_100, subtype, kind), PcmFormat("U8", 8_000, 1))
        assert rate == 44_100
        np.testing.assert_allclose(samples, signal, atol=0.01)


def test_samples_are_found_among_other_chunks_and_read_to_the_end_if_their_length_is_unknown():
    data = encode_wav(generate_noise(channels=1), 16_000)
    assert len(decode(data + b"LIST" + bytes(500))[1]) == 4_000
    offset = data.index(b"data")
    chunk = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    np.testing.assert_array_equal(decode(data[:offset] + chunk + data[offset:])[1], decode(data)[1])
    for size in (0, 0x7FFF_FFFF, 0xFFFF_FFFF):
        unknown = bytearray(data)
        struct.pack_into("<I", unknown, offset + 4, size)
        assert len(decode(bytes(unknown))[1]) == 4_000


@pytest.mark.parametrize("size", [44, 4_000])
def test_samples_after_those_in_a_wav_header_are_read_with_a_warning(size):
    data = bytearray(encode_wav(generate_noise(channels=1), 16_000))
    expected = decode(bytes(data))[1]
    struct.pack_into("<I", data, data.index(b"data") + 4, size)
    with pytest.warns(AudioWarning, match="pipe: longer than its WAV header says"):
        np.testing.assert_array_equal(decode(bytes(data))[1], expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9_000), st.sampled_from(["U8", "S16_LE", "S24_3LE"]))
def test_any_number_of_bytes_is_decoded_once(count, encoding):
    data = np.random.default_rng(count).integers(128, 256, count).astype(np.uint8).tobytes()
    pcm = PcmFormat(encoding, 1_000, 3)
    blocks = [block.samples for block in read_pcm_blocks(io.BytesIO(data).read, pcm, "pipe", live=False)]
    expected = pcm.decode(data[: count - count % pcm.frame_bytes])
    np.testing.assert_array_equal(np.concatenate([np.empty((0, 3)), *blocks]), expected)
    assert all(map(len, blocks))


@pytest.mark.parametrize(("kind", "format_name"), [("FLAC", "FLAC"), ("OGG", "Ogg"), ("AIFF", "AIFF"), ("AU", "AU")])
def test_other_formats_are_errors_that_name_the_format(kind, format_name):
    file = io.BytesIO()
    soundfile.write(file, generate_noise(), 16_000, format=kind)
    with pytest.raises(ValueError, match=f"pipe: must be raw PCM or WAV; .* what begins like {format_name}\\. Decode"):
        decode(file.getvalue())


def test_invalid_headers_are_errors():
    data = encode_wav(generate_noise(channels=1), 16_000)
    with pytest.raises(ValueError, match="pipe: the WAV header ends before the samples"):
        decode(data[: data.index(b"data")])
    mu_law = encode_wav(generate_noise(channels=1), 16_000, "ULAW")
    with pytest.raises(ValueError, match="integers of 8, 16, 24 or 32 bits, or floats of 32 bits; received: format 7"):
        decode(mu_law)
    no_channels = bytearray(data)
    struct.pack_into("<H", no_channels, 22, 0)
    with pytest.raises(ValueError, match="pipe: WAV header: `channels` must be from 1 to 64; received: 0"):
        decode(bytes(no_channels))
    with pytest.raises(ValueError, match="must have at least 16 bytes; received: 4"):
        decode(data[:16] + struct.pack("<I", 4) + data[20:24] + data[36:])


@pytest.mark.parametrize("size", [2**20, 2**32 - 1, 0])
def test_a_header_without_samples_ends_after_a_mebibyte(size):
    bytes_read = 0

    def read(count):
        nonlocal bytes_read
        bytes_read += count
        return b"RIFF\xff\xff\xff\xffWAVE" if count == 12 else struct.pack("<4sI", b"LIST", size)[:count]

    with pytest.raises(ValueError, match="pipe: WAV header: the chunks before the samples must have at most 1048576 b"):
        list(read_pcm_blocks(read, PcmFormat(), "pipe", live=False))
    assert bytes_read < 1.1 * 2**20


def test_closed_standard_input_is_an_error(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ValueError, match="must be a pipe of raw PCM or WAV; received: a closed descriptor"):
        StandardInputSource(PcmFormat())


def test_a_format_out_of_range_is_an_error():
    with pytest.raises(ValueError, match="`encoding` must be one of U8, S16_LE, .*received: 'MP3'"):
        PcmFormat("MP3")
    with pytest.raises(ValueError, match="`sample_rate` must be from 1000 to 1000000 Hz; received: 10"):
        PcmFormat("S16_LE", 10)


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
        source = StandardInputSource(PcmFormat(), descriptor=descriptor)
        blocks = list(source)
        source.close()
    assert {len(block.samples) for block in blocks} == {1_600}
    np.testing.assert_array_equal(np.concatenate([block.samples for block in blocks])[:, 0] * 32_768, RAMP)


def test_a_silent_writer_is_waited_for():
    def write(file):
        file.write(RAMP[:2_000].tobytes())
        time.sleep(0.2)
        file.write(RAMP[2_000:].tobytes())

    with open_pipe(write) as descriptor:
        source = StandardInputSource(PcmFormat(), descriptor=descriptor)
        samples = np.concatenate([block.samples for block in source])
        source.close()
    np.testing.assert_array_equal(samples[:, 0] * 32_768, RAMP)


def test_stop_ends_a_waiting_source():
    gate = threading.Event()
    with open_pipe(lambda file: (file.write(RAMP.tobytes()), gate.wait(10))) as descriptor:
        source = StandardInputSource(PcmFormat(), descriptor=descriptor)
        threading.Timer(0.1, source.stop).start()
        assert sum(len(block.samples) for block in source) == len(RAMP)
        source.close()
        gate.set()


def test_an_empty_pipe_and_a_terminal_are_errors():
    with open_pipe(lambda file: None) as descriptor:
        source = StandardInputSource(PcmFormat(), descriptor=descriptor)
        with pytest.raises(ValueError, match="standard input: must have at least one sample; received: none"):
            list(source)
        source.close()
    main, terminal = os.openpty()
    with pytest.raises(ValueError, match="must be a pipe of raw PCM or WAV; received: a terminal"):
        StandardInputSource(PcmFormat(), descriptor=terminal)
    os.close(main)
    os.close(terminal)


def test_a_reader_keeps_what_came_before_a_timeout():
    source, sink = os.pipe()
    reader = InterruptibleReader(source, 0.05)
    os.write(sink, b"abc")
    with pytest.raises(SourceLostError, match="nothing came for 0.05 s"):
        reader.read(4)
    os.write(sink, b"d")
    assert reader.read(4) == b"abcd"
    reader.stop()
    assert reader.read(1) == b""
    reader.close()
    reader.stop()  # does nothing
    os.close(source)
    os.close(sink)
