"""The loop of a stream: thresholds, live sources that are late, blocks that are no sound, events at the end."""

import threading
import time

import numpy as np
import pytest
import soundfile

from kerastag.edge.blocks import Block
from kerastag.edge.service import StreamService, run_stream
from kerastag.edge.settings import StreamSettings
from kerastag.edge.sinks import Outputs
from kerastag.edge.streaming import Result, StreamingTagger
from kerastag.events import EventRules, EventTracker

RATE = 16_000


def tones(seconds=6.0):
    """Near silence, a low tone from second 2 to 4, and a high one from 5.03 on."""
    times = np.arange(round(seconds * RATE)) / RATE
    low = np.sin(2 * np.pi * 300 * times) * ((times >= 2) & (times < 4))
    high = np.sin(2 * np.pi * 6_000 * times) * (times >= 5.03)
    noise = np.random.default_rng(0).normal(0, 1e-4, len(times))
    return (0.3 * (low + high) + noise).astype(np.float32)


class Blocks:
    """A source of blocks; a live one is late or stops when it is told to."""

    def __init__(self, blocks, live=False, gate=None):
        self.name, self.live, self.blocks, self.gate = "blocks", live, blocks, gate
        self.stopped = threading.Event()

    def __iter__(self):
        for block in self.blocks:
            if isinstance(block, Exception):
                raise block
            yield block
        if self.gate is not None:
            self.gate.set()
            self.stopped.wait(20)

    def stop(self):
        self.stopped.set()

    def close(self):
        pass


class Heard:
    """A sink that keeps what it gets."""

    name = "heard"

    def __init__(self):
        self.results, self.events, self.ends, self.closed = [], [], [], False
        self.slow = 0.0

    def result(self, report):
        self.results.append(report)
        time.sleep(self.slow)

    def event(self, report):
        self.events.append((report.name, report.state, round(report.onset_seconds, 1)))

    def audio(self, samples, sample_rate, end_seconds):
        self.ends.append(end_seconds)

    def reopen(self):
        pass

    def close(self):
        self.closed = True


class Notes:
    """Counts what systemd would be told."""

    def __init__(self):
        self.lines = []

    def ready(self):
        self.lines.append("ready")

    def alive(self):
        self.lines.append("alive")

    def stopping(self):
        self.lines.append("stopping")


def blocks_of(samples, length=1_600):
    return [Block(samples[at : at + length], RATE) for at in range(0, len(samples), length)]


def served(model, source, said=print, sink=None, **settings):
    tagger = StreamingTagger(model, hop_seconds=0.5)
    tracker = EventTracker(3, tagger.seconds_per_frame, EventRules((0.5, 0.5, 0.9)))
    sink, notes, outputs = sink or Heard(), Notes(), Outputs()
    outputs.add(sink)
    settings = StreamSettings(model=str(model), **settings)
    service = StreamService(tagger, tracker, [0, 1, 2], source, outputs, settings, said, notes)
    return service, sink, notes


EVENTS = [("Bark", "begin", 2.0), ("Bark", "end", 2.0), ("Rain", "begin", 5.0), ("Rain", "end", 5.0)]


@pytest.mark.parametrize("live", [False, True])
def test_results_and_events_up_to_the_end(loud_model, live):
    said = []
    service, sink, notes = served(loud_model, Blocks(blocks_of(tones()), live), said.append, stats=0.0)
    service.run()
    assert sink.events == EVENTS
    assert sink.results[-1].end_seconds == pytest.approx(6.0, abs=0.05)
    assert sink.ends == pytest.approx(np.arange(1, 61) / 10)
    assert sink.closed
    assert {report.time is None for report in sink.results} == {not live}
    assert notes.lines == ["ready", *["alive"] * 60, "stopping"]
    assert len(said) == 1
    assert said[0].startswith("stats: heard 6.0 s, lost 0.0 s in 0 gaps, 12 results, real-time factor 0.")
    assert "latency p50" in said[0]
    assert "memory" in said[0]


def test_frames_alone_are_no_event_and_its_time_is_that_of_its_begin(loud_model):
    service, sink, _ = served(loud_model, Blocks([], True))
    frames = np.full((10, 3), 0.9)
    results = [
        Result(float(second), second + 1.0, np.array(window), frames, float(second), began_at, 0.0)
        for second, (window, began_at) in enumerate([((0.6, 0.1, 0.1), 100.0), ((0.3, 0.1, 0.1), 107.0)])
    ]
    told = []
    sink.event = lambda report: told.append((report.name, report.state, report.time, report.peak_probability))
    service._tell([*results, results[1]._replace(framewise_start_seconds=9.0)])
    service._tell_events(service._tracker.flush())
    assert told == [("Bark", "begin", 100.0, 0.6), ("Bark", "end", 100.0, 0.6)]


def test_the_watchdog_is_fed_by_audio_alone(loud_model):
    gate = threading.Event()
    service, _, notes = served(loud_model, Blocks(blocks_of(tones(1.0)), True, gate))
    thread = threading.Thread(target=service.run)
    thread.start()
    assert gate.wait(20)
    while len(notes.lines) < 11:
        time.sleep(0.01)
    time.sleep(0.1)
    assert notes.lines == ["ready", *["alive"] * 10]
    service.stop()
    thread.join(20)
    assert notes.lines[-1] == "stopping"


def test_when_the_tagger_is_late_the_oldest_audio_goes_and_is_counted(loud_model):
    sink = Heard()
    sink.slow = 0.05
    source = Blocks(blocks_of(np.tile(tones(), 4)), True)
    service, _, _ = served(loud_model, source, sink=sink, queue_seconds=1.0)
    service.run()
    stats = service._tagger.stats()
    assert stats.lost_seconds > 5
    assert stats.audio_seconds + stats.lost_seconds == pytest.approx(24.0)
    assert sum(report.lost_seconds for report in sink.results) == pytest.approx(stats.lost_seconds)
    assert sink.results[-1].end_seconds == pytest.approx(24.0, abs=0.05)


def test_blocks_that_are_no_sound_count_as_lost(loud_model):
    said = []
    blocks = blocks_of(tones())
    for number in (30, 31, 45):
        blocks[number] = blocks[number]._replace(samples=np.full(1_600, np.nan, np.float32))
    service, sink, _ = served(loud_model, Blocks(blocks), said.append)
    service.run()
    assert service._tagger.stats().lost_seconds == pytest.approx(0.3)
    assert [line.split(";")[1] for line in said] == [" such blocks count as lost"] * 2
    assert sink.results[-1].end_seconds == pytest.approx(6.0, abs=0.05)
    assert [event for event in sink.events if event[0] == "Rain"] == EVENTS[2:]


@pytest.mark.parametrize("live", [False, True])
def test_a_source_that_fails_ends_the_stream_with_its_error(loud_model, live):
    service, sink, notes = served(loud_model, Blocks([*blocks_of(tones(2.5)), OSError("gone")], live))
    with pytest.raises(OSError, match="gone"):
        service.run()
    assert sink.closed
    assert notes.lines[-1] == "stopping"


def test_nobody_reading_ends_the_stream_and_its_thread(loud_model):
    class Gone(Heard):
        def event(self, report):
            raise BrokenPipeError

    service, sink, _ = served(loud_model, Blocks(blocks_of(tones()), True, threading.Event()), sink=Gone())
    service.run()
    assert sink.closed
    assert "capture" not in {thread.name for thread in threading.enumerate()}


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("audio") / "tones.wav"
    soundfile.write(path, tones(), RATE)
    return str(path)


def told(model, recording, tmp_path, **settings):
    output = tmp_path / "told.csv"
    common = {"model": str(model), "source": recording, "hop_seconds": 0.5}
    run_stream(StreamSettings(output=({"to": f"csv:{output}", "report": "events"},), **common, **settings), print)
    rows = [line.split(",") for line in output.read_text().splitlines()[1:]]
    return [(row[4], row[0], float(row[2])) for row in rows]


def test_thresholds_are_the_models_one_for_all_or_one_a_class(loud_model, recording, tmp_path):
    assert told(loud_model, recording, tmp_path / "1") == EVENTS
    everything = told(loud_model, recording, tmp_path / "2", threshold=0.1, off_threshold=0.9)
    assert {name for name, _, _ in everything} == {"Bark", "Rain", "Speech"}
    some = told(loud_model, recording, tmp_path / "3", threshold=1.0, thresholds={"/m/b": 0.5})
    assert some == EVENTS[2:]


def test_classes_are_chosen_and_short_events_left_out(loud_model, recording, tmp_path):
    assert told(loud_model, recording, tmp_path / "1", classes=("Rain", "/m/b")) == EVENTS[2:]
    assert told(loud_model, recording, tmp_path / "2", min_seconds=1.5) == EVENTS[:2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ("Brk",)}, "`classes` must be one of 3 classes, received 'Brk'"),
        ({"thresholds": {"Bar": 0.5}}, "`thresholds` must be one of 3 classes, received 'Bar'; did you mean 'Bark'"),
        ({"smoothing_seconds": -1.0}, "`smoothing_seconds` must be at least 0"),
        ({"source": "gone.wav"}, "gone.wav: there is no such file"),
        ({"mode": "incremental"}, "`mode` 'incremental' needs a `head`"),
        ({"output": ("xml:-",)}, "`output` must be json:FILE"),
        ({"queue_seconds": 0.0, "realtime": True}, "`capacity_seconds` must be above 0"),
    ],
)
def test_what_does_not_fit_is_refused(loud_model, recording, settings, message):
    given = {"model": str(loud_model), "source": recording, "output": ("terminal",), **settings}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_stream(StreamSettings(**given), print)
