"""Sound that libsndfile leaves out: wrong lengths in headers, chained streams, and what follows damage."""

import io
import os
import struct
import subprocess
import sys
import threading
import tracemalloc
import warnings

import numpy as np
import pytest
import soundfile

from audio.signals import make_sine
from kerastag import audio

RATE = 16_000
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 5 * RATE).astype(np.float32)
RUBBISH = np.random.default_rng(1).bytes(3_000)


APE_ENDS = [b"APETAGEX" + struct.pack("<IIIIQ", 2_000, len(RUBBISH) + 32, 1, flags, 0) for flags in (10 << 28, 1 << 31)]
APE_TAG = APE_ENDS[0] + RUBBISH + APE_ENDS[1] + b"TAG" + bytes(range(125))


@pytest.fixture(autouse=True)
def without_ffmpeg(monkeypatch):
    """Hide ffmpeg: all of these are read without it, and in the same way with it."""
    monkeypatch.setattr("shutil.which", lambda name: None)


def encode(container, subtype="PCM_16", samples=NOISE, rate=RATE):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def load(tmp_path, content, warning=None, **options):
    """Load an audio file with some content, which gives one warning or none."""
    path = tmp_path / "clip"
    path.write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        waveform = audio.load(path, RATE, **options)
    messages = [str(each.message) for each in caught]
    assert all(message.startswith(f"{path}: ") and "\n" not in message for message in messages)
    assert len(messages) == (warning is not None), messages
    assert warning is None or warning in messages[0], messages
    return waveform


def replace(content, offset, field_format, value):
    content = bytearray(content)
    struct.pack_into(field_format, content, offset, value)
    return bytes(content)


def set_length(container, content, length):
    """Replace the length in bytes of the samples in a header."""
    if container in ("WAV", "WAVEX"):
        return replace(content, content.index(b"data") + 4, "<I", length)
    if container == "RF64":
        return replace(content, 28, "<Q", length)
    if container == "AIFF":
        return replace(content, content.index(b"SSND") + 4, ">I", length + 8)
    if container == "CAF":
        return replace(content, content.index(b"data") + 4, ">Q", length + 4)
    if container == "W64":
        return replace(content, content.index(b"data") + 16, "<Q", length + 24)
    return replace(content, 8, ">I", length)


LENGTHS = [(kind, 44) for kind in ("WAV", "WAVEX", "RF64", "AIFF", "AU", "CAF", "W64")] + [
    (kind, length) for kind in ("WAV", "RF64", "AIFF", "AU", "W64") for length in (0, 1, 80_001)
]


@pytest.mark.parametrize(("container", "length"), LENGTHS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_length_in_the_header_that_is_too_small_costs_no_samples(tmp_path, container, length, channels):
    content = encode(container, samples=np.stack([NOISE] * channels, axis=1))
    whole = load(tmp_path, content)
    assert len(whole) == 5 * RATE
    wrong = set_length(container, content, length)
    message = f"longer than the {length / 2 / channels / RATE:.2f} s in its header; using 5.00 s"
    np.testing.assert_array_equal(load(tmp_path, wrong, message), whole)
    part = load(tmp_path, wrong, "longer than", offset_seconds=3, duration_seconds=1)
    np.testing.assert_array_equal(part, whole[3 * RATE : 4 * RATE])


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "FLOAT", "ULAW", "IMA_ADPCM"])
def test_samples_of_every_encoding_after_a_length_of_zero_are_read(tmp_path, subtype):
    content = encode("WAV", subtype)
    whole = load(tmp_path, content)
    np.testing.assert_array_equal(load(tmp_path, set_length("WAV", content, 0), "longer than the 0.00 s"), whole)


@pytest.mark.parametrize("container", ["WAV", "RF64", "AIFF", "AU", "W64"])
def test_a_length_in_the_header_that_is_too_large_is_one_warning_with_both_lengths(tmp_path, container):
    content = set_length(container, encode(container), 320_000)
    waveform = load(tmp_path, content, "truncated or damaged; using 5.00 s of the 10.00 s in its header")
    assert len(waveform) == 5 * RATE


@pytest.mark.parametrize(
    "trailer",
    [
        b"LIST" + struct.pack("<I", 12) + b"INFOISFTabcd",
        b"bext" + struct.pack("<I", 602) + bytes(602) + b"id3 " + struct.pack("<I", 3) + b"abc\0",
        b"LIST" + struct.pack("<I", 4_000) + RUBBISH,
        b"TAG" + bytes(range(125)),
        bytes(4_096),
        RUBBISH[:100],
    ],
)
def test_chunks_tags_and_padding_after_the_samples_are_no_sound(tmp_path, trailer):
    whole = encode("WAV")
    np.testing.assert_array_equal(load(tmp_path, whole + trailer), load(tmp_path, whole))
    if not trailer.strip(b"\0"):
        return
    path = tmp_path / "empty"
    path.write_bytes(encode("WAV", samples=np.zeros(0)) + trailer[:100])
    with pytest.raises(ValueError, match="no samples"):
        audio.load(path, RATE)


@pytest.mark.parametrize("size", [7, 4_000])
@pytest.mark.parametrize("padding", [b"", bytes(4_096)])
def test_chunks_after_the_samples_of_a_w64_file_are_no_sound(tmp_path, size, padding):
    """Otherwise libsndfile decodes all up to the end of the file."""
    whole = encode("W64")
    name = b"levl" + bytes.fromhex("f3acd3118cd100c04f8edb8a")
    chunk = name + struct.pack("<Q", 24 + size) + (RUBBISH * 9)[:size]
    chunk += bytes(-len(chunk) % 8)
    padded = whole + bytes(-len(whole) % 8)
    np.testing.assert_array_equal(load(tmp_path, padded + 2 * chunk + padding), load(tmp_path, whole))


@pytest.mark.parametrize("removed", [1, 100, 700])
def test_an_mp3_file_that_begins_in_the_middle_of_a_frame_is_read(tmp_path, removed):
    """As a recording of a radio stream does; ffmpeg reads it, too, but need not be installed."""
    content = encode("MP3", "MPEG_LAYER_III")
    assert len(load(tmp_path, content[removed:])) >= len(NOISE) - 4 * 1152
    (tmp_path / "rubbish").write_bytes(RUBBISH)
    with pytest.raises(ValueError, match="must be audio that libsndfile supports"):
        audio.load(tmp_path / "rubbish", RATE)


def test_silence_after_a_length_of_zero_is_a_silent_recording(tmp_path):
    content = encode("WAV", samples=np.zeros(RATE))
    assert len(load(tmp_path, set_length("WAV", content, 0), "longer than the 0.00 s in its header")) == RATE


@pytest.mark.parametrize("length", [1 << 20, 0xFFFF_FFFF])
def test_a_wav_file_above_4_gib_is_read_to_its_end(tmp_path, length):
    path, num_bytes = tmp_path / "long.wav", (1 << 32) + (1 << 20)
    path.write_bytes(set_length("WAV", encode("WAV", samples=np.ones(1 << 20)), length))
    os.truncate(path, 44 + num_bytes)
    with path.open("r+b") as file:
        file.seek(44 + num_bytes - 2 * RATE)
        file.write((NOISE[:RATE] * 32_767).astype("<i2").tobytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", audio.AudioWarning)
        last = audio.load(path, RATE, offset_seconds=num_bytes / 2 / RATE - 1)
    np.testing.assert_allclose(last, NOISE[:RATE], atol=1e-4)


@pytest.mark.parametrize(
    ("total", "warning"), [(0, None), (RATE, "longer than the 1.00 s"), (20 * RATE, "of the 20.00 s")]
)
def test_the_number_of_samples_in_the_header_of_a_flac_file_costs_no_samples(tmp_path, total, warning):
    content = encode("FLAC")
    whole = load(tmp_path, content)
    wrong = replace(content, 22, ">I", total)
    np.testing.assert_array_equal(load(tmp_path, wrong, warning), whole)
    part = load(tmp_path, wrong, None if total != RATE else warning, offset_seconds=2.3, duration_seconds=1)
    np.testing.assert_array_equal(part, whole[round(2.3 * RATE) : round(3.3 * RATE)])


def remove_xing(content):
    """Remove the frame of an MP3 file with the number of its frames."""
    return content[content.index(b"\xff", 4) :]


def test_an_mp3_file_without_a_number_of_frames_is_read_to_its_end(tmp_path):
    """The first frames have the highest bit rate, so that libsndfile's estimate is far too short."""
    samples = np.concatenate([NOISE, np.tile(make_sine(RATE, RATE, level=0.01), 15)])
    path = tmp_path / "vbr.mp3"
    with soundfile.SoundFile(
        path, "w", RATE, 1, "MPEG_LAYER_III", format="MP3", bitrate_mode="VARIABLE", compression_level=0.1
    ) as file:
        file.write(samples)
    content = remove_xing(path.read_bytes())
    assert soundfile.info(io.BytesIO(content)).duration < 15
    waveform = load(tmp_path, content)
    assert len(waveform) == pytest.approx(20 * RATE, abs=0.15 * RATE)
    start = round(17.2 * RATE)
    part = load(tmp_path, content, offset_seconds=17.2, duration_seconds=0.5)
    np.testing.assert_allclose(part, waveform[start : start + RATE // 2], atol=1e-4)
    tags = b"ID3\x04\0\0\0\0\x01\0" + bytes(128) + content + b"TAG" + bytes(range(125))
    np.testing.assert_array_equal(load(tmp_path, tags), waveform)


@pytest.mark.parametrize(
    ("container", "subtype"),
    [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("FLAC", "PCM_16")],
)
def test_streams_after_the_first_one_of_a_file_are_read(tmp_path, container, subtype):
    first, second = encode(container, subtype), encode(container, subtype, NOISE[::-1])
    parts = [load(tmp_path, content) for content in (first, second)]
    waveform = load(tmp_path, first + second + first)
    assert len(waveform) == 15 * RATE
    atol = 1e-6 if container != "MP3" else 1e-3
    np.testing.assert_allclose(waveform, np.concatenate([*parts, parts[0]]), atol=atol)
    part = load(tmp_path, first + second, offset_seconds=6, duration_seconds=2)
    np.testing.assert_allclose(part, parts[1][RATE : 3 * RATE], atol=atol)


def test_links_of_an_ogg_file_may_have_other_rates_and_channels(tmp_path):
    links = [(make_sine(RATE, RATE), RATE), (np.stack([make_sine(48_000, 48_000)] * 2, axis=1), 48_000)]
    content = b"".join(encode("OGG", "VORBIS", samples, rate) for samples, rate in [*links, links[0]])
    waveform = load(tmp_path, content)
    assert len(waveform) == 3 * RATE
    for second in range(3):
        np.testing.assert_allclose(
            waveform[second * RATE :][2000:14_000], make_sine(RATE, RATE)[2000:14_000], atol=0.05
        )
    part = load(tmp_path, content, offset_seconds=1.25, duration_seconds=1)
    np.testing.assert_allclose(part[:10_000], waveform[20_000:30_000], atol=0.05)
    assert len(part) == RATE


DAMAGES = {
    "overwritten": lambda content, at: content[:at] + RUBBISH + content[at + len(RUBBISH) :],
    "inserted": lambda content, at: content[:at] + RUBBISH + content[at:],
    "zeros": lambda content, at: content[:at] + bytes(3_000) + content[at + 3_000 :],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("kind", ["mp3", "mp3 without a number of frames", "flac", "vorbis", "opus"])
def test_damage_in_the_middle_costs_only_the_middle(tmp_path, kind, damage, capfd):
    sound = np.concatenate([NOISE, NOISE])
    container, subtype, seconds_lost = {
        "mp3": ("MP3", "MPEG_LAYER_III", 1.3),
        "flac": ("FLAC", "PCM_16", 1.0),
        "vorbis": ("OGG", "VORBIS", 2.5),
        "opus": ("OGG", "OPUS", 2.5),
    }[kind.split()[0]]
    content = encode(container, subtype, sound)
    content = remove_xing(content) if "without" in kind else content
    whole = load(tmp_path, content)
    warning = "of the 10.00 s in its header" if container == "OGG" else "damaged at 2."
    waveform = load(tmp_path, damage(content, len(content) // 4), warning)
    assert len(whole) - seconds_lost * RATE < len(waveform) < len(whole) + 0.1 * RATE
    np.testing.assert_allclose(waveform[: 3 * RATE // 2], whole[: 3 * RATE // 2], atol=1e-6)
    end = whole[
        -3 * RATE : -RATE
    ]  # An MP3 that begins after damage has no header with the number of samples to cut off.
    products = np.correlate(waveform[-4 * RATE :], end)
    assert products.max() > 0.99 * (end @ end)
    assert capfd.readouterr() == ("", "")  # libmpg123 writes to file descriptor 2
    later = load(tmp_path, damage(content, len(content) // 4), offset_seconds=0.5, duration_seconds=1)
    np.testing.assert_allclose(later, whole[RATE // 2 : RATE * 3 // 2], atol=1e-3)


@pytest.mark.parametrize("trailer", [RUBBISH, 50 * RUBBISH, bytes(9_000), b"TAG" + bytes(range(125)), APE_TAG])
@pytest.mark.parametrize(("container", "subtype"), [("MP3", "MPEG_LAYER_III"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")])
def test_what_follows_the_last_frame_costs_no_samples(tmp_path, container, subtype, trailer, capfd):
    content = encode(container, subtype)
    np.testing.assert_array_equal(load(tmp_path, content + trailer), load(tmp_path, content))
    if container == "MP3":
        content = remove_xing(content)
        warning = "damaged at 5." if RUBBISH in trailer and trailer != APE_TAG else None
        assert len(load(tmp_path, content + trailer, warning)) >= len(load(tmp_path, content))
    assert capfd.readouterr().err == ""


def test_lines_of_other_threads_reach_standard_error_while_mp3_files_are_decoded(tmp_path):
    path = tmp_path / "clip.mp3"
    content = encode("MP3", "MPEG_LAYER_III")
    path.write_bytes(DAMAGES["inserted"](content, 5_000))
    code = (
        "import os, sys, threading, warnings; from kerastag import audio; warnings.simplefilter('ignore')\n"
        "threads = [threading.Thread(target=audio.load, args=(sys.argv[1], 16_000)) for _ in range(4)]\n"
        "[thread.start() for thread in threads]\n"
        "for number in range(300): os.write(2, f'line {number}\\n'.encode())\n"
        "[thread.join() for thread in threads]"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert sorted(result.stderr.splitlines()) == sorted(f"line {number}" for number in range(300))


def test_damaged_files_are_decoded_in_threads_like_one_after_the_other(tmp_path):
    path = tmp_path / "clip.mp3"
    path.write_bytes(DAMAGES["inserted"](encode("MP3", "MPEG_LAYER_III"), 5_000))
    waveforms = []

    def read():
        waveforms.append(audio.load(path, RATE))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = audio.load(path, RATE)
    assert len(waveforms) == 8
    for waveform in waveforms:
        np.testing.assert_array_equal(waveform, expected)


@pytest.mark.parametrize(("extension", "mark", "offset"), [("au", b".snd", 4), ("aiff", b"SSND", 8)])
def test_a_position_beyond_the_end_in_a_header_takes_no_memory(tmp_path, extension, mark, offset):
    path = tmp_path / f"a.{extension}"
    soundfile.write(path, np.full(8_000, 0.1), 16_000)
    content = bytearray(path.read_bytes())
    content[content.index(mark) + offset] = 0x33
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"a.{extension}: "):
        audio.load(path, 16_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
