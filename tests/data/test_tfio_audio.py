"""Decoding inside the graph gives the waveforms of `kerastag.audio`."""

import numpy as np
import pytest
import soundfile

tf = pytest.importorskip("tensorflow")

from kerastag import audio  # noqa: E402
from kerastag.data import tfio_audio  # noqa: E402

pytestmark = pytest.mark.skipif(not tfio_audio.is_available(), reason="needs tensorflow-io and TensorFlow 2.16")

KINDS = {
    "WAV": ["PCM_U8", "PCM_16", "PCM_24", "FLOAT"],
    "WAVEX": ["PCM_16", "FLOAT"],
    "FLAC": ["PCM_S8", "PCM_16", "PCM_24"],
    "OGG": ["VORBIS"],
    "MP3": ["MPEG_LAYER_III"],
}


def write(path, samples, rate, container="WAV", subtype="PCM_16"):
    soundfile.write(path, samples, rate, format=container, subtype=subtype)
    return str(path)


def make_noise(frames, channels=1):
    return np.random.default_rng(0).uniform(-0.5, 0.5, (frames, channels)).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("container", "subtype"), [(c, s) for c, subtypes in KINDS.items() for s in subtypes])
def test_samples_equal_those_of_soundfile(tmp_path, container, subtype, channels):
    path = write(tmp_path / "clip.misnamed", make_noise(20_012, channels), 32_000, container, subtype)
    dataset = tf.data.Dataset.from_tensor_slices([path, path]).map(lambda p: tfio_audio.load(p, 32_000))
    expected = audio.load(path, 32_000)
    for waveform in dataset:
        np.testing.assert_allclose(waveform.numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("rate_in", "rate_out"), [(44_100, 32_000), (44_100, 16_000), (48_000, 32_000), (22_050, 32_000), (8_000, 16_000)]
)
def test_the_spectrum_after_resampling_equals_that_of_soxr(tmp_path, rate_in, rate_out):
    path = write(tmp_path / "clip.wav", make_noise(8 * rate_in + 123), rate_in)
    actual, expected = tfio_audio.load(path, rate_out).numpy(), audio.load(path, rate_out)
    assert abs(len(actual) - len(expected)) <= 1
    length = min(len(actual), len(expected))
    powers = [np.abs(np.fft.rfft(x[:length] * np.hanning(length))) ** 2 for x in (actual, expected)]
    bands = int(0.9 * min(rate_in, rate_out) / 2 / 100)  # of 100 Hz
    edges = np.arange(1, bands + 1) * 100 * length // rate_out
    decibels = 10 * np.log10([np.add.reduceat(power, edges)[:-1] for power in powers])
    np.testing.assert_allclose(decibels[0], decibels[1], rtol=0, atol=0.1)
    inner = slice(rate_out // 10, length - rate_out // 10)
    sine = np.sin(2 * np.pi * 1000 * np.arange(8 * rate_in) / rate_in).astype(np.float32)
    resampled = tfio_audio.resample(sine, rate_in, rate_out).numpy()
    np.testing.assert_allclose(
        resampled[inner], np.sin(2 * np.pi * 1000 * np.arange(len(resampled)) / rate_out)[inner], rtol=0, atol=1e-3
    )


def test_a_wav_whose_format_comes_after_other_chunks(tmp_path):
    path = tmp_path / "clip.wav"
    write(path, make_noise(5000), 16_000, subtype="PCM_24")
    data = path.read_bytes()
    path.write_bytes(data[:12] + b"JUNK\x05\x00\x00\x00abcde\x00" + data[12:])
    np.testing.assert_array_equal(tfio_audio.load(str(path), 16_000).numpy(), audio.load(path, 16_000))


@pytest.mark.parametrize(("container", "subtype"), [("WAV", "PCM_32"), ("OGG", "OPUS"), ("AIFF", "PCM_16")])
def test_other_kinds_of_audio_are_refused(tmp_path, container, subtype):
    path = write(tmp_path / "clip.audio", make_noise(9600), 48_000, container, subtype)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not a kind of audio that tensorflow-io reads"):
        tfio_audio.load(path, 48_000)


@pytest.mark.parametrize("container", ["WAV", "FLAC", "MP3"])
def test_a_file_shorter_than_its_header_is_refused(tmp_path, container):
    path = tmp_path / "clip"
    write(path, make_noise(40_000), 16_000, container, "MPEG_LAYER_III" if container == "MP3" else "PCM_16")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises((tf.errors.OpError, tf.errors.InvalidArgumentError)):
        tfio_audio.load(str(path), 16_000)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"RIFF\x00\x00\x00\x00WAVEfmt ", b"fLaC", b"hello world" * 9])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "clip.wav"
    path.write_bytes(content)
    with pytest.raises(tf.errors.InvalidArgumentError):
        tfio_audio.load(str(path), 16_000)


def test_a_missing_file_and_a_faulty_sample_rate_are_refused(tmp_path):
    with pytest.raises(tf.errors.NotFoundError):
        tfio_audio.load(str(tmp_path / "nothing.wav"), 16_000)
    with pytest.raises(ValueError, match="`sample_rate` must be a positive integer"):
        tfio_audio.resample(np.zeros(9, np.float32), 16_000, 0)
