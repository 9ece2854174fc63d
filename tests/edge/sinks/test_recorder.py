"""Recordings of events: the right samples, whole files, a quota, gaps, and a disk that is full."""

import numpy as np
import pytest
import soundfile
from edge.sinks.reported import MOMENT, event
from edge.sinks.test_text import largest_file

from kerastag.edge.sinks.recorder import Recorder, _file_name

RATE = 1_000


class Stream:
    """A ramp of samples, block after block, so that each sample tells its second."""

    def __init__(self, sink, rate=RATE, channels=2):
        self.sink, self.rate, self.channels = sink, rate, channels
        self.now = 0.0

    def go_on(self, seconds, block=0.1):
        for _ in range(round(seconds / block)):
            times = self.now + np.arange(round(block * self.rate)) / self.rate
            self.now = round(self.now + block, 6)
            samples = np.repeat((times / 200)[:, None], self.channels, axis=1).astype(np.float32)
            self.sink.audio(samples, self.rate, self.now)


def seconds_in(path):
    samples, rate = soundfile.read(path, always_2d=True)
    return samples[0, 0] * 200, samples[-1, 0] * 200 + 1 / rate, samples.shape[1], rate


def recordings(folder):
    return sorted(path for path in folder.iterdir())


@pytest.mark.parametrize("format", ["flac", "wav"])
def test_the_seconds_around_an_event(tmp_path, format):
    sink = Recorder(str(tmp_path / "new"), before_seconds=2.0, after_seconds=1.0, format=format)
    stream = Stream(sink)
    stream.go_on(12)
    sink.event(event("Dog: bark!", 10.0, time=MOMENT))
    stream.go_on(3)
    sink.event(event("Dog: bark!", 10.0, 14.5, MOMENT))
    assert not list(tmp_path.glob("new/*"))
    stream.go_on(2)
    (path,) = recordings(tmp_path / "new")
    # 2 s before the event's moment, 2026-11-18T11:06:40.250.
    assert path.name == f"2026-11-18T11-06-38.250Z_Dog_bark.{format}"
    first, end, channels, rate = seconds_in(path)
    assert (first, end) == pytest.approx((8.0, 15.5), abs=0.01)
    assert (channels, rate) == (2, RATE)
    sink.close()
    assert len(recordings(tmp_path / "new")) == 1


def test_events_that_overlap_are_one_recording(tmp_path):
    sink = Recorder(str(tmp_path), before_seconds=1.0, after_seconds=2.0)
    stream = Stream(sink)
    stream.go_on(5)
    sink.event(event("Bark", 4.0))
    sink.event(event("Rain", 4.5))
    stream.go_on(1)
    sink.event(event("Bark", 4.0, 5.5))
    stream.go_on(3)
    sink.event(event("Rain", 4.5, 8.0))
    stream.go_on(0.5)
    sink.event(event("Bark", 9.0))  # before the two seconds are over
    stream.go_on(1)
    sink.event(event("Bark", 9.0, 10.0))
    stream.go_on(5)
    (path,) = recordings(tmp_path)
    assert seconds_in(path)[:2] == pytest.approx((3.0, 12.0), abs=0.01)


@pytest.mark.parametrize(
    ("seconds", "moment"), [(-1e-9, "00-00-00.000"), (59.9999, "00-01-00.000"), (5.1, "00-00-05.100")]
)
def test_the_time_in_a_name_is_rounded_to_milliseconds(seconds, moment):
    assert _file_name(seconds, "Bark", "wav") == f"1970-01-01T{moment}Z_Bark.wav"


def test_the_end_of_the_stream_ends_the_recording(tmp_path):
    sink = Recorder(str(tmp_path))
    stream = Stream(sink)
    stream.go_on(2)
    sink.event(event("Bark", 1.5))
    stream.go_on(1)
    sink.event(event("Bark", 1.5, 3.0))
    sink.close()
    (path,) = recordings(tmp_path)
    assert seconds_in(path)[:2] == pytest.approx((0.0, 3.0), abs=0.01)


def test_a_sound_without_end_does_not_fill_the_disk_nor_the_memory(tmp_path):
    sink = Recorder(str(tmp_path), before_seconds=1.0, after_seconds=1.0, longest_seconds=5.0, delay_seconds=1.0)
    stream = Stream(sink)
    stream.go_on(3)
    sink.event(event("Rain", 2.0))
    stream.go_on(60)
    sink.event(event("Rain", 2.0, 60.0))
    stream.go_on(5)
    (path,) = recordings(tmp_path)
    assert seconds_in(path)[:2] == pytest.approx((1.0, 6.0), abs=0.01)
    assert sum(len(block) for _, block in sink._memory._blocks) <= 8.2 * RATE


def test_a_gap_or_another_rate_ends_a_recording(tmp_path):
    sink = Recorder(str(tmp_path), before_seconds=1.0, after_seconds=1.0)
    stream = Stream(sink)
    stream.go_on(3)
    sink.event(event("Bark", 2.0))
    stream.go_on(1)
    stream.now += 2.0
    stream.go_on(1)
    sink.event(event("Bark", 2.0, 4.0))
    sink.event(event("Bark", 6.5))
    stream.go_on(1)
    stream.rate = 2 * RATE
    stream.go_on(1)
    first, second = recordings(tmp_path)
    assert seconds_in(first)[:2] == pytest.approx((1.0, 4.0), abs=0.01)
    assert seconds_in(second) == pytest.approx((6.0, 8.0, 2, RATE), abs=0.01)
    sink.close()


def test_the_oldest_recordings_go_and_nothing_else(tmp_path):
    (tmp_path / "notes.flac").write_bytes(bytes(100_000))
    (tmp_path / "2020-01-01T00-00-00.000Z_Bark.flac.part").write_bytes(bytes(100))
    sink = Recorder(str(tmp_path), format="wav", before_seconds=1.0, after_seconds=1.0, quota_megabytes=0.03)
    assert not list(tmp_path.glob("*.part"))
    stream = Stream(sink)
    for second in range(5):
        stream.go_on(6)
        sink.event(event("Bark", 6.0 * second + 2.0, 6.0 * second + 3.0))  # an end alone is no recording
        sink.event(event("Bark", 6.0 * second + 2.0))
        sink.event(event("Bark", 6.0 * second + 2.0, 6.0 * second + 3.0))
    kept = [path for path in recordings(tmp_path) if path.name != "notes.flac"]
    # Each is 12 kB: two fit into 30.
    assert [path.name[:23] for path in kept] == ["1970-01-01T00-00-19.000", "1970-01-01T00-00-25.000"]
    assert (tmp_path / "notes.flac").exists()
    sink.close()


def test_a_recording_larger_than_the_quota_stays_until_the_next(tmp_path):
    sink = Recorder(str(tmp_path), format="wav", quota_megabytes=0.001)
    stream = Stream(sink)
    for onset in (2.0, 22.0):
        stream.go_on(10)
        sink.event(event("Bark", onset))
        sink.event(event("Bark", onset, onset + 1.0))
        stream.go_on(10)
        (path,) = recordings(tmp_path)
        assert seconds_in(path)[1] == pytest.approx(onset + 4.0, abs=0.01)


def test_a_full_disk_costs_the_recording_and_not_the_stream(tmp_path):
    said = []
    sink = Recorder(str(tmp_path), said.append, format="wav")
    stream = Stream(sink)

    def bark():
        stream.go_on(5)
        sink.event(event("Bark", stream.now - 2.0))
        sink.event(event("Bark", stream.now - 2.0, stream.now - 1.0))
        stream.go_on(3)

    with largest_file(1_000):
        bark()
    assert len(said) == 1
    assert said[0].startswith(f"recordings in {tmp_path}: 1970-01-01T00-00-00.000Z_Bark.wav could not be written (File")
    assert not recordings(tmp_path)
    bark()
    assert len(said) == 1
    assert len(recordings(tmp_path)) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"before_seconds": -1.0}, "`before_seconds` must be at least 0, received -1.0"),
        ({"longest_seconds": 0.0}, "`longest_seconds` must be above 0, received 0.0"),
        ({"quota_megabytes": 0.0}, "`quota_megabytes` must be above 0, received 0.0"),
        ({"format": "mp3"}, "`format` must be one of flac, wav, received 'mp3'"),
    ],
)
def test_options_outside_their_range_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        Recorder(str(tmp_path / "none"), **options)
    assert not list(tmp_path.iterdir())
