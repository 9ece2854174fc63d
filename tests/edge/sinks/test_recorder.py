"""Recordings of events: their samples, whole files, a quota, gaps, and a full disk."""

import os

import numpy as np
import pytest
import soundfile
from edge.sinks.reports import MOMENT, create_event
from edge.sinks.test_text import limit_file_size

from kerastag.edge.sinks import recorder
from kerastag.edge.sinks.recorder import RecorderSink, _format_file_name
from kerastag.edge.sinks.sink import SourceReport

RATE = 1_000


class Stream:
    """A ramp of samples in blocks, so that the value of each sample is its time."""

    def __init__(self, folder, *arguments, **options):
        self.sink = RecorderSink(str(folder), *arguments, **options)
        self.rate, self.now = RATE, 0.0

    def write_event(self, *arguments, **options):
        self.sink.write_event(create_event(*arguments, **options))

    def feed(self, seconds, block=0.1):
        for _ in range(round(seconds / block)):
            times = self.now + np.arange(round(block * self.rate)) / self.rate
            self.now = round(self.now + block, 6)
            samples = np.repeat((times / 200)[:, None], 2, axis=1).astype(np.float32)
            self.sink.write_audio(samples, self.rate, self.now)


def read_interval(path):
    samples, rate = soundfile.read(path, always_2d=True)
    return samples[0, 0] * 200, samples[-1, 0] * 200 + 1 / rate, samples.shape[1], rate


def list_recordings(folder):
    return sorted(folder.iterdir())


@pytest.mark.parametrize("format", ["flac", "wav"])
def test_the_seconds_around_an_event_are_recorded(tmp_path, format):
    stream = Stream(tmp_path / "new", before_seconds=2.0, after_seconds=1.0, format=format)
    stream.feed(12)
    stream.write_event("Dog: bark!", 10.0, time=MOMENT)
    stream.feed(3)
    stream.write_event("Dog: bark!", 10.0, 14.5, MOMENT)
    assert not list(tmp_path.glob("new/*"))
    stream.feed(2)
    (path,) = list_recordings(tmp_path / "new")
    # 2 s before the time of the event, 2026-11-18T11:06:40.250.
    assert path.name == f"2026-11-18T11-06-38.250Z_Dog_bark.{format}"
    first, end, channels, rate = read_interval(path)
    assert (first, end) == pytest.approx((8.0, 15.5), abs=0.01)
    assert (channels, rate) == (2, RATE)
    stream.sink.close()
    assert len(list_recordings(tmp_path / "new")) == 1


def test_overlapping_events_are_one_recording(tmp_path):
    stream = Stream(tmp_path, before_seconds=1.0, after_seconds=2.0)
    stream.feed(5)
    stream.write_event("Bark", 4.0)
    stream.write_event("Rain", 4.5)
    stream.feed(1)
    stream.write_event("Bark", 4.0, 5.5)
    stream.feed(3)
    stream.write_event("Rain", 4.5, 8.0)
    stream.feed(0.5)
    stream.write_event("Bark", 9.0)  # before the two seconds are over
    stream.feed(1)
    stream.write_event("Bark", 9.0, 10.0)
    stream.feed(5)
    (path,) = list_recordings(tmp_path)
    assert read_interval(path)[:2] == pytest.approx((3.0, 12.0), abs=0.01)


def test_the_time_in_a_name_is_rounded_to_milliseconds():
    for seconds, moment in ((-1e-9, "00-00-00.000"), (59.9999, "00-01-00.000"), (5.1, "00-00-05.100")):
        assert _format_file_name(seconds, "Bark", "wav") == f"1970-01-01T{moment}Z_Bark.wav"


def test_the_end_of_the_stream_ends_the_recording(tmp_path):
    stream = Stream(tmp_path)
    stream.feed(2)
    stream.write_event("Bark", 1.5)
    stream.feed(1)
    stream.write_event("Bark", 1.5, 3.0)
    stream.sink.close()
    (path,) = list_recordings(tmp_path)
    assert read_interval(path)[:2] == pytest.approx((0.0, 3.0), abs=0.01)


def test_an_endless_event_fills_neither_the_disk_nor_the_memory(tmp_path):
    stream = Stream(tmp_path, before_seconds=1.0, after_seconds=1.0, longest_seconds=5.0, delay_seconds=1.0)
    stream.feed(3)
    stream.write_event("Rain", 2.0)
    stream.feed(60)
    stream.write_event("Rain", 2.0, 60.0)
    stream.feed(5)
    (path,) = list_recordings(tmp_path)
    assert read_interval(path)[:2] == pytest.approx((1.0, 6.0), abs=0.01)
    assert sum(len(block) for _, block in stream.sink._buffer._blocks) <= 8.2 * RATE


def test_a_gap_or_another_rate_ends_a_recording(tmp_path):
    stream = Stream(tmp_path, before_seconds=1.0, after_seconds=1.0)
    stream.feed(3)
    stream.write_event("Bark", 2.0)
    stream.feed(1)
    stream.now += 2.0
    stream.feed(1)
    stream.write_event("Bark", 2.0, 4.0)
    stream.write_event("Bark", 6.5)
    stream.feed(1)
    stream.rate = 2 * RATE
    stream.feed(1)
    first, second = list_recordings(tmp_path)
    assert read_interval(first)[:2] == pytest.approx((1.0, 4.0), abs=0.01)
    assert read_interval(second) == pytest.approx((6.0, 8.0, 2, RATE), abs=0.01)
    stream.sink.close()


def test_only_the_oldest_recordings_are_deleted(tmp_path):
    (tmp_path / "notes.flac").write_bytes(bytes(100_000))
    (tmp_path / "2020-01-01T00-00-00.000Z_Bark.flac.part").write_bytes(bytes(100))  # of a version before 0.1
    (tmp_path / ".4194305.2020-01-01T00-00-00.000Z_Bark.flac").write_bytes(bytes(100))  # no process has this number
    stream = Stream(tmp_path, format="wav", before_seconds=1.0, after_seconds=1.0, quota_megabytes=0.03)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.flac"]
    for second in range(5):
        stream.feed(6)
        stream.write_event("Bark", 6.0 * second + 2.0, 6.0 * second + 3.0)  # an end alone is not recorded
        stream.write_event("Bark", 6.0 * second + 2.0)
        stream.write_event("Bark", 6.0 * second + 2.0, 6.0 * second + 3.0)
    paths = [path for path in list_recordings(tmp_path) if path.name != "notes.flac"]
    # Each is 12 kB: two fit into 30.
    assert [path.name[:23] for path in paths] == ["1970-01-01T00-00-19.000", "1970-01-01T00-00-25.000"]
    assert (tmp_path / "notes.flac").exists()
    stream.sink.close()


def test_a_recording_larger_than_the_quota_stays_until_the_next_one(tmp_path):
    stream = Stream(tmp_path, format="wav", quota_megabytes=0.001)
    for onset in (2.0, 22.0):
        stream.feed(10)
        stream.write_event("Bark", onset)
        stream.write_event("Bark", onset, onset + 1.0)
        stream.feed(10)
        (path,) = list_recordings(tmp_path)
        assert read_interval(path)[1] == pytest.approx(onset + 4.0, abs=0.01)


def test_on_a_full_disk_a_recording_is_lost_and_the_stream_continues(tmp_path):
    lines = []
    stream = Stream(tmp_path, lines.append, format="wav")

    def record_event():
        stream.feed(5)
        stream.write_event("Bark", stream.now - 2.0)
        stream.write_event("Bark", stream.now - 2.0, stream.now - 1.0)
        stream.feed(3)

    with limit_file_size(1_000):
        record_event()
    assert len(lines) == 1
    name = "1970-01-01T00-00-00.000Z_Bark.wav"
    assert lines[0].startswith(f"recordings in {tmp_path}: {name} could not be written (File")
    assert not list_recordings(tmp_path)
    record_event()
    assert len(lines) == 1
    assert len(list_recordings(tmp_path)) == 1


@pytest.mark.parametrize(
    ("rate", "channels", "suffix", "recorded_channels"),
    [(1_000, 8, ".flac", 8), (1_000, 9, ".flac", 1), (1_000, 64, ".flac", 1), (1_000_000, 2, ".wav", 2)],
)
def test_what_flac_cannot_hold_is_averaged_or_written_as_wav(tmp_path, rate, channels, suffix, recorded_channels):
    sink = RecorderSink(str(tmp_path))
    samples = np.full((rate // 10, channels), 0.25, np.float32)
    for number in range(10):
        sink.write_audio(samples, rate, (number + 1) / 10)
    sink.write_event(create_event("Bark", 0.2))
    sink.close()
    (path,) = list_recordings(tmp_path)
    recorded, recorded_rate = soundfile.read(path, always_2d=True)
    assert (path.suffix, recorded_rate, recorded.shape) == (suffix, rate, (rate, recorded_channels))
    np.testing.assert_allclose(recorded, 0.25, atol=1e-4)


def test_an_error_of_libsndfile_loses_one_recording_and_not_the_stream(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(recorder, "_MAX_CHANNELS", 9)
    sink = RecorderSink(str(tmp_path), lines.append)
    sink.write_audio(np.zeros((RATE, 9), np.float32), RATE, 1.0)
    sink.write_event(create_event("Bark", 0.5))
    sink.close()
    assert len(lines) == 1
    assert "_Bark.flac could not be written (Error opening" in lines[0]


def test_recordings_of_an_earlier_stream_are_kept_and_deleted_first(tmp_path):
    def record_event(quota=1.0):
        stream = Stream(tmp_path, format="wav", quota_megabytes=quota)
        stream.feed(5)
        stream.write_event("Bark", 3.5)
        stream.sink.close()

    name = "1970-01-01T00-00-00.500Z_Bark"
    record_event()
    later = tmp_path / "2026-01-01T00-00-00.000Z_Bark.wav"  # written first, by a clock that was ahead
    later.write_bytes(bytes(18_000))
    os.utime(later, (0, 0))
    for _ in range(2):
        record_event()
    names = [f"{name}.wav", f"{name}_2.wav", f"{name}_3.wav", later.name]
    assert [path.name for path in list_recordings(tmp_path)] == names
    record_event(quota=0.06)  # three of 18 kB
    assert [path.name for path in list_recordings(tmp_path)] == [f"{name}_2.wav", f"{name}_3.wav", f"{name}_4.wav"]


def test_a_source_that_is_lost_ends_the_recording(tmp_path):
    stream = Stream(tmp_path)
    stream.feed(4)
    stream.write_event("Bark", 3.5)
    stream.write_event("Bark", 3.5, 4.0)
    assert not list_recordings(tmp_path)
    stream.sink.write_source(SourceReport("lost", "mic", 4.0, None))
    (path,) = list_recordings(tmp_path)
    assert read_interval(path)[:2] == pytest.approx((0.5, 4.0), abs=0.01)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("before_seconds", -1.0, "must be from 0 to 3600; received: -1.0"),
        ("after_seconds", 1e308, "must be from 0 to 3600; received: 1e[+]308"),
        ("longest_seconds", 0.0, "must be above 0, at most 3600; received: 0.0"),
        ("delay_seconds", float("nan"), "must be above 0; received: nan"),
        ("quota_megabytes", float("inf"), "must be above 0; received: inf"),
        ("format", "mp3", "must be one of flac, wav; received: 'mp3'"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, name, value, message):
    with pytest.raises(ValueError, match=f"`{name}` {message}"):
        RecorderSink(str(tmp_path / "none"), **{name: value})
    assert not list(tmp_path.iterdir())
