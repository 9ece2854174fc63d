"""The service of a stream: thresholds, slow processing, blocks that are not audio, and events at the end."""

import dataclasses
import threading
import time

import numpy as np
import pytest
import soundfile

from kerastag.card import Card, write_card
from kerastag.edge.blocks import Block
from kerastag.edge.config import StreamConfig
from kerastag.edge.service import StreamService, SystemdNotifier, run_stream
from kerastag.edge.sinks import Sink, SinkGroup
from kerastag.edge.streaming import StreamingResult, StreamingTagger
from kerastag.events import EventRules, EventTracker

RATE = 16_000


def generate_tones(seconds=6.0):
    """Return faint noise with a low tone from second 2 to 4 and a high tone from second 5.03 on."""
    times = np.arange(round(seconds * RATE)) / RATE
    low = np.sin(2 * np.pi * 300 * times) * ((times >= 2) & (times < 4))
    high = np.sin(2 * np.pi * 6_000 * times) * (times >= 5.03)
    noise = np.random.default_rng(0).normal(0, 1e-4, len(times))
    return (0.3 * (low + high) + noise).astype(np.float32)


class FakeSource:
    """A source of blocks, errors, and seconds to wait; with a gate, it waits at the end until it is stopped."""

    def __init__(self, blocks, live=False, gate=None):
        self.name, self.live, self.blocks, self.gate = "blocks", live, blocks, gate
        self.stopped = threading.Event()

    def __iter__(self):
        for block in self.blocks:
            if isinstance(block, Exception):
                raise block
            if isinstance(block, float):
                self.stopped.wait(block)
                continue
            yield block
        if self.gate is not None:
            self.gate.set()
            self.stopped.wait(20)

    def stop(self):
        self.stopped.set()

    def close(self):
        pass


class CollectingSink(Sink):
    """A sink that collects what is written."""

    name = "collector"
    needs_audio = True

    def __init__(self):
        self.results, self.events, self.ends, self.closed = [], [], [], False
        self.log: list[str] = []  # Events and states in their order.
        self.delay_seconds = 0.0

    def write_result(self, report):
        self.results.append(report)
        time.sleep(self.delay_seconds)

    def write_event(self, report):
        self.events.append((report.name, report.state, round(report.onset_seconds, 1)))
        self.log.append(f"{report.name} {report.state}")

    def write_source(self, report):
        self.log.append(f"{report.state} {round(report.seconds, 1)}")

    def write_audio(self, samples, sample_rate, end_seconds):
        self.ends.append(end_seconds)

    def close(self):
        self.closed = True


class FakeNotifier(SystemdNotifier):
    """A notifier that collects its notifications."""

    def __init__(self):
        super().__init__({"WATCHDOG_USEC": "0"})
        self.lines = []

    def _send(self, line):
        self.lines.append(line)


def split_blocks(samples, length=1_600):
    return [Block(samples[at : at + length], RATE) for at in range(0, len(samples), length)]


def create_service(model, source, log=print, sink=None, **fields):
    tagger = StreamingTagger(model, hop_seconds=0.5)
    tracker = EventTracker(3, tagger.seconds_per_frame, EventRules((0.5, 0.5, 0.9)))
    sink, notifier, group = sink or CollectingSink(), FakeNotifier(), SinkGroup()
    group.add(sink)
    config = StreamConfig(model=str(model), **fields)
    service = StreamService(tagger, tracker, [0, 1, 2], source, group, config, log, notifier)
    return service, sink, notifier


EVENTS = [("Bark", "begin", 2.0), ("Bark", "end", 2.0), ("Rain", "begin", 5.0), ("Rain", "end", 5.0)]


@pytest.mark.parametrize("live", [False, True])
def test_results_and_events_are_written_up_to_the_end(loud_model, live):
    lines = []
    source = FakeSource(split_blocks(generate_tones()), live)
    service, sink, notifier = create_service(loud_model, source, lines.append, stats=0.0)
    service.run()
    assert sink.events == EVENTS
    assert sink.results[-1].end_seconds == pytest.approx(6.0, abs=0.05)
    assert sink.ends == pytest.approx(np.arange(1, 61) / 10)
    assert sink.closed
    assert {report.time is None for report in sink.results} == {not live}
    assert notifier.lines == ["READY=1", *["WATCHDOG=1"] * 60, "STOPPING=1"]
    (line,) = lines
    assert line.startswith("stats: processed 6.0 s, lost 0.0 s in 0 gaps, 12 results, real-time factor 0.")
    assert "latency p50" in line
    assert "memory" in line


def test_framewise_is_limited_by_clipwise_and_both_reports_have_the_first_time(loud_model):
    service, sink, _ = create_service(loud_model, FakeSource([], True))
    frames = np.full((10, 3), 0.9)
    results = [
        StreamingResult(float(second), second + 1.0, np.array(window), frames, float(second), started_at, 0.0)
        for second, (window, started_at) in enumerate([((0.6, 0.1, 0.1), 100.0), ((0.3, 0.1, 0.1), 107.0)])
    ]
    reports = []
    sink.write_event = lambda report: reports.append((report.name, report.state, report.time, report.peak_probability))
    service._write_results([*results, results[1]._replace(framewise_start_seconds=9.0)])
    service._write_events(service._tracker.flush())
    assert reports == [("Bark", "begin", 100.0, 0.6), ("Bark", "end", 100.0, 0.6)]


def test_only_audio_feeds_the_watchdog(loud_model):
    gate = threading.Event()
    service, _, notifier = create_service(loud_model, FakeSource(split_blocks(generate_tones(1.0)), True, gate))
    thread = threading.Thread(target=service.run)
    thread.start()
    assert gate.wait(20)
    while len(notifier.lines) < 11:
        time.sleep(0.01)
    time.sleep(0.1)
    assert notifier.lines == ["READY=1", *["WATCHDOG=1"] * 10]
    service._source.stop()
    thread.join(20)
    assert notifier.lines[-1] == "STOPPING=1"


def test_if_processing_is_slow_the_oldest_audio_is_dropped_and_counted(loud_model):
    sink = CollectingSink()
    sink.delay_seconds = 0.05
    source = FakeSource(split_blocks(np.tile(generate_tones(), 4)), True)
    service, _, _ = create_service(loud_model, source, sink=sink, queue_seconds=1.0)
    service.run()
    stats = service._tagger.compute_stats()
    assert stats.lost_seconds > 5
    assert stats.audio_seconds + stats.lost_seconds == pytest.approx(24.0)
    assert sum(report.lost_seconds for report in sink.results) == pytest.approx(stats.lost_seconds)
    assert sink.results[-1].end_seconds == pytest.approx(24.0, abs=0.05)


def test_blocks_that_are_not_audio_count_as_lost(loud_model):
    lines = []
    blocks = split_blocks(generate_tones())
    for number in (30, 31, 45):
        blocks[number] = blocks[number]._replace(samples=np.full(1_600, np.nan, np.float32))
    service, sink, _ = create_service(loud_model, FakeSource(blocks), lines.append)
    service.run()
    assert service._tagger.compute_stats().lost_seconds == pytest.approx(0.3)
    assert [line.rsplit(";", 1)[1] for line in lines] == [" such blocks count as lost (1 so far)"]
    assert sink.results[-1].end_seconds == pytest.approx(6.0, abs=0.05)
    assert [event for event in sink.events if event[0] == "Rain"] == EVENTS[2:]


@pytest.mark.parametrize("live", [False, True])
def test_a_source_that_is_lost_ends_its_events_and_continues(loud_model, live):
    lines = []
    blocks = split_blocks(generate_tones())
    source = FakeSource([*blocks[:35], 0.7, *blocks[35:]], live)  # while the low tone goes on
    service, sink, _ = create_service(loud_model, source, lines.append, timeout_seconds=0.3)
    service.run()
    first = ["listening 0.1"] if live else []
    assert sink.log[: len(first) + 4] == [*first, "Bark begin", "Bark end", "lost 3.5", "listening 3.6"]
    assert sink.log[len(first) + 4 :] == ["Bark begin", "Bark end", "Rain begin", "Rain end"]
    # The tone up to the loss is one event, the rest of it another one.
    assert [round(onset, 1) for name, state, onset in sink.events if (name, state) == ("Bark", "begin")] == [2.0, 3.5]
    assert lines == [
        "blocks: no audio for 0.3 s; the source is lost, and its events have ended",
        "blocks: listening again",
    ]
    assert service._tagger.compute_stats().audio_seconds == pytest.approx(6.0)


def test_an_event_that_began_right_before_the_loss_is_reported(loud_model):
    blocks = split_blocks(generate_tones())
    gate = threading.Event()
    source = FakeSource(blocks[:23], True, gate)  # 0.3 s of the low tone, less than a hop
    service, sink, _ = create_service(loud_model, source, timeout_seconds=0.2)
    thread = threading.Thread(target=service.run)
    thread.start()
    while "lost 2.3" not in sink.log:
        assert thread.is_alive()
        time.sleep(0.01)
    assert sink.log == ["listening 0.1", "Bark begin", "Bark end", "lost 2.3"]
    source.stop()
    thread.join(20)
    assert len(sink.log) == 4


def test_a_live_source_that_never_starts_is_lost(loud_model):
    service, sink, notifier = create_service(loud_model, FakeSource([0.3], True), timeout_seconds=0.1)
    service.run()
    assert sink.log == ["lost 0.0"]
    assert notifier.lines == ["STOPPING=1"]


def test_hours_of_digital_silence_are_reported(loud_model):
    lines = []
    silence = [Block(np.zeros(1_600, np.float32), RATE)] * 30
    source = FakeSource([*split_blocks(generate_tones(1.0)), *silence, *split_blocks(generate_tones(1.0))], True)
    service, sink, _ = create_service(loud_model, source, lines.append, silence_hours=2.0 / 3_600)
    service.run()
    assert sink.log == ["listening 0.1", "silent 3.0", "listening 4.1"]
    assert lines == ["blocks: only digital silence for 0.000555556 h; it may be muted", "blocks: listening again"]


def test_a_source_of_blocks_that_are_not_audio_is_lost_and_writes_one_line(loud_model):
    lines = []
    invalid = Block(np.full(1_600, np.nan, np.float32), RATE)
    alternating = [each for block in split_blocks(generate_tones(4.0)) for each in (block, invalid)]
    source = FakeSource([*alternating, *[invalid] * 12], True)
    service, sink, _ = create_service(loud_model, source, lines.append, timeout_seconds=1.0)
    service.run()
    assert [line for line in sink.log if line.startswith("l")] == ["listening 0.1", "lost 7.9"]
    assert lines[0].endswith("such blocks count as lost (1 so far)")
    assert lines[1:] == ["blocks: no audio for 1 s; the source is lost, and its events have ended"]


@pytest.mark.parametrize("channel", ["mean", "left", "2", "loudest"])
def test_channels_that_cancel_each_other_are_reported_once_and_one_can_be_chosen(loud_model, channel):
    tones = np.concatenate([generate_tones()] * 5)
    lines = []
    source = FakeSource(split_blocks(np.stack([tones, -tones], axis=1)))
    service, sink, _ = create_service(loud_model, source, lines.append, channel=channel)
    service.run()
    is_mean = channel == "mean"
    assert len([line for line in lines if "its channels cancel each other" in line]) == is_mean
    assert bool(sink.events) != is_mean


def test_a_channel_that_a_live_source_lacks_ends_the_stream_with_one_line(loud_model):
    source = FakeSource(split_blocks(np.zeros((16_000, 2), np.float32)))
    service, _, _ = create_service(loud_model, source, channel="3")
    with pytest.raises(ValueError, match="`channel` must be at most the number of channels, 2; received: 3"):
        service.run()


@pytest.mark.parametrize("live", [False, True])
def test_a_source_that_fails_ends_the_stream_with_its_error(loud_model, live):
    source = FakeSource([*split_blocks(generate_tones(2.5)), OSError("gone")], live)
    service, sink, notifier = create_service(loud_model, source)
    with pytest.raises(OSError, match="gone"):
        service.run()
    assert sink.events == EVENTS[:2]
    assert sink.closed
    assert notifier.lines[-1] == "STOPPING=1"


def test_a_broken_pipe_ends_the_stream_and_its_thread(loud_model):
    class BrokenSink(CollectingSink):
        def write_event(self, report):
            raise BrokenPipeError

    source = FakeSource(split_blocks(generate_tones()), True, threading.Event())
    service, sink, _ = create_service(loud_model, source, sink=BrokenSink())
    service.run()
    assert sink.closed
    assert "capture" not in {thread.name for thread in threading.enumerate()}


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("audio") / "tones.wav"
    soundfile.write(path, generate_tones(), RATE)
    return str(path)


def detect_events(model, recording, folder, **fields):
    output = folder / "events.csv"
    common = {"model": str(model), "source": recording, "hop_seconds": 0.5}
    run_stream(StreamConfig(output=({"to": f"csv:{output}", "report": "events"},), **common, **fields), print)
    rows = [line.split(",") for line in output.read_text(encoding="utf-8").splitlines()[1:]]
    return [(row[4], row[0], float(row[2])) for row in rows]


def test_thresholds_classes_and_rules_select_events(loud_model, recording, tmp_path):
    assert detect_events(loud_model, recording, tmp_path / "1") == EVENTS
    events = detect_events(loud_model, recording, tmp_path / "2", threshold=0.1, off_threshold=0.9)
    assert {name for name, _, _ in events} == {"Bark", "Rain", "Speech"}
    events = detect_events(loud_model, recording, tmp_path / "3", threshold=1.0, thresholds={"/m/b": 0.5})
    assert events == EVENTS[2:]
    assert detect_events(loud_model, recording, tmp_path / "4", classes=("Rain", "/m/b")) == EVENTS[2:]
    assert detect_events(loud_model, recording, tmp_path / "5", min_seconds=1.5) == EVENTS[:2]


def test_rules_of_the_card_apply_to_a_stream_that_chooses_none(loud_model, recording, tmp_path):
    model = tmp_path / loud_model.name
    model.write_bytes(loud_model.read_bytes())
    write_card(model, dataclasses.replace(Card.read(model), event_rules={"min_seconds": 1.5}))
    assert detect_events(model, recording, tmp_path / "1") == EVENTS[:2]
    assert detect_events(model, recording, tmp_path / "2", min_seconds=0.0) == EVENTS
    card = Card.read(model)
    lengths = [3600.0 if name == "Bark" else 0.0 for name in card.labels.names]
    write_card(model, dataclasses.replace(card, event_rules={"min_seconds": lengths}))
    assert detect_events(model, recording, tmp_path / "3") == EVENTS[2:]
    assert detect_events(model, recording, tmp_path / "4", classes=("Rain", "/m/b")) == EVENTS[2:]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"thresholds": {"Bar": 0.5}}, "`thresholds` must be one of 3 classes; received: 'Bar'; did you mean 'Bark'"),
        ({"smoothing_seconds": -1.0}, r"`smoothing_seconds` must be in \[0, 60\]; received: -1"),
        ({"queue_seconds": 0.0}, r"`queue_seconds` must be in \[0.1, 3600\]; received: 0"),
    ],
)
def test_invalid_values_are_refused(loud_model, recording, fields, message):
    fields = {"model": str(loud_model), "source": recording, "output": ("terminal",), **fields}
    with pytest.raises(ValueError, match=message):
        run_stream(StreamConfig(**fields), print)
