"""Tests of the processes that decode recordings."""

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from serving.servers import SAMPLE_RATE, create_waveform, encode

from kerastag import audio
from kerastag.serving.decoding import DecoderPool
from kerastag.serving.errors import RequestError
from kerastag.serving.jobs import Job
from kerastag.serving.uploads import MemoryBudget, Upload

LONG = create_waveform(33.0)


@pytest.fixture
def pool() -> Iterator[DecoderPool]:
    pool = DecoderPool(max_seconds=3_600, cpu_seconds=60, memory_mb=2_048)
    yield pool
    pool.close()
    assert not pool._idle


def decode(pool, content, sample_rate=SAMPLE_RATE, channel="mean", job=None, name=None):
    """Decode a recording to one array."""
    with Upload(MemoryBudget(1 << 30), name) as upload:
        upload.write(content)
        with pool.decode(upload, sample_rate, channel, job or Job(60)) as decoded:
            # The memory of a block is used again.
            return np.concatenate([block.copy() for block in decoded.blocks])


def get_error(pool, content, **options):
    with pytest.raises(RequestError) as error:
        decode(pool, content, **options)
    return error.value.status, error.value.code


def get_interrupted_error(pool, job, interrupt):
    """Decode a recording, do something after its first block, and return the error."""
    with Upload(MemoryBudget(1 << 30), "a.wav") as upload:
        upload.write(encode(LONG, format="FLAC"))
        try:
            with pool.decode(upload, SAMPLE_RATE, "mean", job) as decoded:
                next(decoded.blocks)
                interrupt()
                for _ in decoded.blocks:
                    pass
        except RequestError as error:
            return error
    raise AssertionError("the recording must not be decoded")


@pytest.mark.parametrize("sample_rate", [SAMPLE_RATE, 16_000])
@pytest.mark.parametrize(("format", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS")])
def test_samples_are_those_of_the_file_bit_for_bit(pool, tmp_path, format, subtype, sample_rate):
    content = encode(LONG, format=format, subtype=subtype)
    path = tmp_path / "a"
    path.write_bytes(content)
    for _ in range(2):
        np.testing.assert_array_equal(decode(pool, content, sample_rate), audio.load(path, sample_rate))
    needs_decoder = (subtype, sample_rate) != ("PCM_16", SAMPLE_RATE)
    assert pool.num_started == needs_decoder


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the program ffmpeg")
def test_ffmpeg_decodes_what_libsndfile_does_not(pool, tmp_path):
    path = tmp_path / "a.m4a"
    source = tmp_path / "a.wav"
    source.write_bytes(encode(LONG[: 15 * SAMPLE_RATE]))
    subprocess.run(["ffmpeg", "-v", "error", "-i", source, path], check=True)
    np.testing.assert_array_equal(decode(pool, path.read_bytes()), audio.load(path, SAMPLE_RATE))


def test_a_process_is_used_again_after_an_error(pool):
    assert get_error(pool, b"hello") == (415, "unsupported_audio")
    stereo = encode(np.stack([LONG, LONG], axis=1))
    assert get_error(pool, stereo, channel="3") == (422, "invalid_audio")
    assert len(decode(pool, encode(LONG, format="FLAC"))) == len(LONG)
    assert pool.num_started == 1


def test_a_recording_that_is_too_long_is_an_error_soon():
    pool = DecoderPool(max_seconds=30, cpu_seconds=60, memory_mb=2_048)
    silence = encode(np.zeros(1_800 * 8_000, np.int16), 8_000, format="FLAC")
    start = time.monotonic()
    assert get_error(pool, silence) == (413, "too_long")
    assert time.monotonic() - start < 20
    assert len(decode(pool, encode(LONG[: 20 * SAMPLE_RATE]))) == 20 * SAMPLE_RATE
    assert pool.num_started == 1
    pool.close()


def test_a_process_that_dies_costs_only_its_recording(pool):
    pool.warm_up()
    pid = pool._idle[0].pid
    error = get_interrupted_error(pool, Job(60), lambda: os.kill(pid, signal.SIGKILL))
    assert (error.status, error.message) == (422, "a.wav: cannot be decoded: it ends its decoder")
    assert len(decode(pool, encode(LONG, format="FLAC"))) == len(LONG)
    assert pool.num_started == 2


def test_a_process_that_died_while_idle_is_replaced(pool):
    decode(pool, encode(LONG, format="FLAC"))
    os.kill(pool._idle[0].pid, signal.SIGKILL)
    pool._idle[0]._process.wait()
    assert len(decode(pool, encode(LONG, format="FLAC"))) == len(LONG)


def test_a_process_that_hangs_costs_no_more_than_the_time_of_its_request(pool):
    pool.warm_up()
    os.kill(pool._idle[0].pid, signal.SIGSTOP)
    assert get_error(pool, encode(LONG, format="FLAC"), job=Job(0.5)) == (504, "timeout")
    assert len(decode(pool, encode(LONG, format="FLAC"))) == len(LONG)


def test_processor_time_is_limited():
    pool = DecoderPool(max_seconds=1e6, cpu_seconds=1, memory_mb=2_048)
    silence = encode(np.zeros(1_200 * 8_000, np.int16), 8_000, format="FLAC")
    with pytest.raises(RequestError, match="recording: cannot be decoded: it needs too much processor time") as error:
        decode(pool, silence, sample_rate=1_000_000)
    assert error.value.status == 422
    pool.close()


def test_memory_is_limited(pool):
    decode(pool, encode(LONG, format="FLAC"))
    status = Path(f"/proc/{pool._idle[0].pid}/status").read_text(encoding="ascii")
    peak_mb = int(re.search(r"VmPeak:\s+(\d+) kB", status)[1]) >> 10
    tight = DecoderPool(max_seconds=3_600, cpu_seconds=60, memory_mb=peak_mb + 30)
    assert len(decode(tight, encode(LONG, format="FLAC"))) == len(LONG)
    content = encode(np.zeros((20_000, 1_000), np.int16), 48_000)
    assert len(decode(pool, content))
    assert get_error(tight, content) == (413, "too_large")
    assert len(decode(tight, encode(LONG, format="FLAC"))) == len(LONG)
    tight.close()


def test_a_request_that_is_given_up_frees_its_process(pool):
    job = Job(60)
    assert get_interrupted_error(pool, job, job.cancel).code == "client_closed_request"
    assert len(decode(pool, encode(LONG, format="FLAC"))) == len(LONG)


def test_many_recordings_at_once_get_their_own_samples(pool):
    waveforms = [create_waveform(25.0, seed=seed) for seed in range(3)]
    results = {}

    def work(seed):
        results[seed] = decode(pool, encode(waveforms[seed], subtype="FLOAT"))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, waveform in enumerate(waveforms):
        np.testing.assert_array_equal(results[seed], waveform)
    assert len(pool._idle) == pool.num_started <= 3
    for decoder in pool._idle:
        decoder.idle_since -= 120
    pool.end_idle()
    assert len(pool._idle) == 1


def test_the_process_has_no_access_to_the_environment_of_the_server(pool, monkeypatch):
    monkeypatch.setenv("KERASTAG_SECRET", "correct-horse")
    pool.warm_up()
    with open(f"/proc/{pool._idle[0].pid}/environ", "rb") as file:  # noqa: PTH123
        assert b"correct-horse" not in file.read()
