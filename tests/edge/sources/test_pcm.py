"""Raw PCM and WAV streams: every encoding, any cut, headers of every writer, and what is neither."""

import io
import struct
import subprocess

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from kerastag.edge.sources.pcm import ENCODINGS, PcmFormat, pcm_blocks

SUBTYPES = {"U8": "PCM_U8", "S16_LE": "PCM_16", "S24_3LE": "PCM_24", "S32_LE": "PCM_32", "FLOAT_LE": "FLOAT"}


def wave(seconds=0.25, rate=16_000, channels=2):
    signal = np.random.default_rng(0).uniform(-0.9, 0.9, (round(seconds * rate), channels))
    return signal.astype(np.float32)


def as_wav(samples, rate, subtype="PCM_16", kind="WAV"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def heard(data, assumed=None, **options):
    parts = list(pcm_blocks(io.BytesIO(data).read, assumed or PcmFormat(), "here", **options))
    rates = {rate for rate, _ in parts}
    assert len(rates) == 1
    return rates.pop(), np.concatenate([samples for _, samples in parts])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_each_encoding_is_what_libsndfile_writes_in_it(encoding):
    signal = wave()
    subtype = SUBTYPES.get(encoding) or SUBTYPES[encoding.replace("_BE", "_LE")]
    file = io.BytesIO()
    endian = "BIG" if encoding.endswith("_BE") else "LITTLE"
    soundfile.write(file, signal, 16_000, format="RAW", subtype=subtype, endian=endian)
    file.seek(0)
    expected, _ = soundfile.read(
        file, format="RAW", subtype=subtype, endian=endian, channels=2, samplerate=16_000, dtype="float32"
    )
    rate, samples = heard(file.getvalue(), PcmFormat(encoding, 16_000, 2))
    assert rate == 16_000
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, expected, atol=1e-7)
    np.testing.assert_allclose(samples, signal, atol=0.01)


@pytest.mark.parametrize("subtype", SUBTYPES.values())
@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
def test_a_wav_header_says_what_follows(subtype, kind):
    signal = wave(rate=44_100, channels=3)
    rate, samples = heard(as_wav(signal, 44_100, subtype, kind), PcmFormat("U8", 8_000, 1))
    assert rate == 44_100
    np.testing.assert_allclose(samples, signal, atol=0.01)


def test_samples_end_where_the_header_says():
    data = as_wav(wave(channels=1), 16_000)
    assert len(heard(data + b"LIST" + bytes(500))[1]) == 4_000


def test_chunks_before_the_samples_are_passed_over_and_padded_to_even_lengths():
    data = as_wav(wave(channels=1), 16_000)
    at = data.index(b"data")
    chunk = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    np.testing.assert_array_equal(heard(data[:at] + chunk + data[at:])[1], heard(data)[1])


@pytest.mark.parametrize("size", [0, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_a_length_that_the_writer_did_not_know_is_no_length(size):
    data = bytearray(as_wav(wave(channels=1), 16_000))
    struct.pack_into("<I", data, data.index(b"data") + 4, size)
    assert len(heard(bytes(data))[1]) == 4_000


@given(st.integers(0, 5_000), st.sampled_from(["U8", "S16_LE", "S24_3LE"]), st.floats(0.001, 1.0))
def test_any_number_of_bytes_gives_its_whole_samples_once(count, encoding, block_seconds):
    data = np.random.default_rng(count).integers(128, 256, count).astype(np.uint8).tobytes()
    layout = PcmFormat(encoding, 8_000, 3)
    parts = list(pcm_blocks(io.BytesIO(data).read, layout, "here", block_seconds=block_seconds))
    whole = count - count % layout.frame_bytes
    expected = layout.samples(data[:whole])
    np.testing.assert_array_equal(np.concatenate([np.empty((0, 3)), *(part for _, part in parts)]), expected)
    assert all(len(part) for _, part in parts)


@pytest.mark.parametrize(("kind", "named"), [("FLAC", "FLAC"), ("OGG", "Ogg"), ("AIFF", "AIFF"), ("AU", "AU")])
def test_other_formats_are_named_and_refused(kind, named):
    file = io.BytesIO()
    soundfile.write(file, wave(), 16_000, format=kind)
    with pytest.raises(ValueError, match=f"here: must be raw PCM or WAV, received what begins like {named}; decode"):
        heard(file.getvalue())


def test_headers_that_are_none_are_refused():
    data = as_wav(wave(channels=1), 16_000)
    with pytest.raises(ValueError, match="here: its WAV header ends before the samples"):
        heard(data[: data.index(b"data")])
    law = as_wav(wave(channels=1), 16_000, "ULAW")
    with pytest.raises(
        ValueError, match="must be integers of 8, 16, 24 or 32 bits, or floats of 32, received format 7"
    ):
        heard(law)
    silent = bytearray(data)
    struct.pack_into("<H", silent, 22, 0)
    with pytest.raises(ValueError, match="here: its WAV header is none: `channels` must be from 1 to 64, received 0"):
        heard(bytes(silent))
    with pytest.raises(ValueError, match="a format chunk of 4 bytes"):
        heard(data[:16] + struct.pack("<I", 4) + data[20:24] + data[36:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("MP3",), "`encoding` must be one of U8, S16_LE, .*received 'MP3'"),
        (("S16_LE", 10), "`sample_rate` must be from 1000 to 1000000 Hz, received 10"),
        (("S16_LE", 16_000, 0), "`channels` must be from 1 to 64, received 0"),
    ],
)
def test_a_format_outside_its_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PcmFormat(*arguments)


def test_what_ffmpeg_pipes_is_understood():
    import shutil

    if shutil.which("ffmpeg") is None:
        pytest.skip("needs the program ffmpeg")
    signal = wave(rate=48_000, channels=1)
    command = ["ffmpeg", "-v", "error", "-i", "-", "-c:a", "pcm_s24le", "-f", "wav", "-"]
    piped = subprocess.run(command, input=as_wav(signal, 48_000, "PCM_24"), stdout=subprocess.PIPE, check=True).stdout
    rate, samples = heard(piped)
    assert rate == 48_000
    np.testing.assert_allclose(samples, signal, atol=1e-6)
