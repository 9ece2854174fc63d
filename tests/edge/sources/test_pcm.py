"""Raw PCM and WAV streams: encodings, cuts, headers, and other formats."""

import io
import struct
import subprocess

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from kerastag.edge.sources.pcm import ENCODINGS, PcmFormat, read_pcm_blocks

SUBTYPES = {"U8": "PCM_U8", "S16_LE": "PCM_16", "S24_3LE": "PCM_24", "S32_LE": "PCM_32", "FLOAT_LE": "FLOAT"}


def generate_noise(seconds=0.25, rate=16_000, channels=2):
    signal = np.random.default_rng(0).uniform(-0.9, 0.9, (round(seconds * rate), channels))
    return signal.astype(np.float32)


def encode_wav(samples, rate, subtype="PCM_16", kind="WAV"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def decode(data, raw_format=None, **options):
    parts = list(read_pcm_blocks(io.BytesIO(data).read, raw_format or PcmFormat(), "pipe", **options))
    rates = {rate for rate, _ in parts}
    assert len(rates) == 1
    return rates.pop(), np.concatenate([samples for _, samples in parts])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_each_encoding_is_decoded_like_libsndfile(encoding):
    signal = generate_noise()
    subtype = SUBTYPES.get(encoding) or SUBTYPES[encoding.replace("_BE", "_LE")]
    file = io.BytesIO()
    endian = "BIG" if encoding.endswith("_BE") else "LITTLE"
    soundfile.write(file, signal, 16_000, format="RAW", subtype=subtype, endian=endian)
    file.seek(0)
    expected, _ = soundfile.read(
        file, format="RAW", subtype=subtype, endian=endian, channels=2, samplerate=16_000, dtype="float32"
    )
    rate, samples = decode(file.getvalue(), PcmFormat(encoding, 16_000, 2))
    assert rate == 16_000
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, expected, atol=1e-7)
    np.testing.assert_allclose(samples, signal, atol=0.01)


@pytest.mark.parametrize("subtype", SUBTYPES.values())
@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
def test_a_wav_header_determines_the_format(subtype, kind):
    signal = generate_noise(rate=44_100, channels=3)
    rate, samples = decode(encode_wav(signal, 44_100, subtype, kind), PcmFormat("U8", 8_000, 1))
    assert rate == 44_100
    np.testing.assert_allclose(samples, signal, atol=0.01)


def test_samples_end_at_the_length_in_the_header():
    data = encode_wav(generate_noise(channels=1), 16_000)
    assert len(decode(data + b"LIST" + bytes(500))[1]) == 4_000


def test_other_chunks_before_the_samples_are_skipped():
    data = encode_wav(generate_noise(channels=1), 16_000)
    offset = data.index(b"data")
    chunk = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    np.testing.assert_array_equal(decode(data[:offset] + chunk + data[offset:])[1], decode(data)[1])


@pytest.mark.parametrize("size", [0, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_an_unknown_length_reads_to_the_end(size):
    data = bytearray(encode_wav(generate_noise(channels=1), 16_000))
    struct.pack_into("<I", data, data.index(b"data") + 4, size)
    assert len(decode(bytes(data))[1]) == 4_000


@given(st.integers(0, 5_000), st.sampled_from(["U8", "S16_LE", "S24_3LE"]), st.floats(0.001, 1.0))
def test_any_number_of_bytes_is_decoded_once(count, encoding, block_seconds):
    data = np.random.default_rng(count).integers(128, 256, count).astype(np.uint8).tobytes()
    pcm = PcmFormat(encoding, 8_000, 3)
    parts = list(read_pcm_blocks(io.BytesIO(data).read, pcm, "pipe", block_seconds=block_seconds))
    whole = count - count % pcm.frame_bytes
    expected = pcm.decode(data[:whole])
    np.testing.assert_array_equal(np.concatenate([np.empty((0, 3)), *(part for _, part in parts)]), expected)
    assert all(len(part) for _, part in parts)


@pytest.mark.parametrize(("kind", "format_name"), [("FLAC", "FLAC"), ("OGG", "Ogg"), ("AIFF", "AIFF"), ("AU", "AU")])
def test_other_formats_are_errors_that_name_the_format(kind, format_name):
    file = io.BytesIO()
    soundfile.write(file, generate_noise(), 16_000, format=kind)
    with pytest.raises(
        ValueError, match=f"pipe: must be raw PCM or WAV; received: what begins like {format_name}\\. Decode"
    ):
        decode(file.getvalue())


def test_invalid_headers_are_errors():
    data = encode_wav(generate_noise(channels=1), 16_000)
    with pytest.raises(ValueError, match="pipe: the WAV header ends before the samples"):
        decode(data[: data.index(b"data")])
    mu_law = encode_wav(generate_noise(channels=1), 16_000, "ULAW")
    with pytest.raises(
        ValueError, match="must be integers of 8, 16, 24 or 32 bits, or floats of 32 bits; received: format 7"
    ):
        decode(mu_law)
    no_channels = bytearray(data)
    struct.pack_into("<H", no_channels, 22, 0)
    with pytest.raises(ValueError, match="pipe: WAV header: `channels` must be from 1 to 64; received: 0"):
        decode(bytes(no_channels))
    with pytest.raises(ValueError, match="must have at least 16 bytes; received: 4"):
        decode(data[:16] + struct.pack("<I", 4) + data[20:24] + data[36:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("MP3",), "`encoding` must be one of U8, S16_LE, .*received: 'MP3'"),
        (("S16_LE", 10), "`sample_rate` must be from 1000 to 1000000 Hz; received: 10"),
        (("S16_LE", 16_000, 0), "`channels` must be from 1 to 64; received: 0"),
    ],
)
def test_a_format_out_of_range_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        PcmFormat(*arguments)


def test_a_pipe_of_ffmpeg_is_decoded():
    import shutil

    if shutil.which("ffmpeg") is None:
        pytest.skip("needs the program ffmpeg")
    signal = generate_noise(rate=48_000, channels=1)
    command = ["ffmpeg", "-v", "error", "-i", "-", "-c:a", "pcm_s24le", "-f", "wav", "-"]
    data = subprocess.run(
        command, input=encode_wav(signal, 48_000, "PCM_24"), stdout=subprocess.PIPE, check=True
    ).stdout
    rate, samples = decode(data)
    assert rate == 48_000
    np.testing.assert_allclose(samples, signal, atol=1e-6)
