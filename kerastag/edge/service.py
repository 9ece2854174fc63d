"""The service that runs a stream: it captures audio, tags it, detects events, writes outputs, and ends cleanly."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from types import FrameType
from typing import Any

from kerastag.edge.blocks import Block, BoundedAudioQueue
from kerastag.edge.clock import read_clock
from kerastag.edge.config import StreamConfig
from kerastag.edge.notify import SystemdNotifier
from kerastag.edge.reports import create_event_report, create_result_report
from kerastag.edge.rows import InvalidSamplesError
from kerastag.edge.sinks import SinkContext, SinkGroup, open_sinks
from kerastag.edge.sources import PcmFormat, Source, is_microphone, open_source
from kerastag.edge.stats import format_stats
from kerastag.edge.streaming import StreamingResult, StreamingTagger
from kerastag.events import Event, EventRules, EventTracker, limit_framewise
from kerastag.labels import LabelSet

__all__ = ["StreamService", "run_stream"]

_RAW_SAMPLE_RATE = 16_000
# Delay from which on audio counts as missing. A network may delay it; its source is only given up after ten seconds.
_MICROPHONE_GAP_SECONDS, _NETWORK_GAP_SECONDS = 2.0, 15.0


def run_stream(config: StreamConfig, log: Callable[[str], None]) -> None:
    """Run a stream until its source ends, a signal comes, or standard output is closed by its reader.

    Args:
        config: Configuration of the stream.
        log: Function that takes one line of text for the user; it is called from several threads.

    Raises:
        ValueError: The model, the source or an output cannot be opened, or a recording cannot be read.
        OSError: Likewise.
        ImportError: A package that the model, the source or an output needs is not installed.
    """
    tagger = StreamingTagger(
        config.model,
        config.head,
        mode=config.mode,
        hop_seconds=config.hop_seconds,
        num_threads=config.threads,
        gap_seconds=_MICROPHONE_GAP_SECONDS if is_microphone(config.source) else _NETWORK_GAP_SECONDS,
    )
    classes = _select_classes(config, tagger.labels)
    tracker = EventTracker(len(classes), tagger.seconds_per_frame, _create_rules(config, tagger, classes))
    source = open_source(
        config.source,
        tagger.sample_rate,
        realtime=config.realtime,
        pcm=PcmFormat(config.encoding, config.rate or _RAW_SAMPLE_RATE, config.channels),
        microphone_rate=config.rate,
        channels=config.channels,
        log=log,
    )
    try:
        context = SinkContext(
            log=log,
            classes=tuple(tagger.labels.names[k] for k in classes) if config.classes else (),
            model=tagger.card.origin,
            delay_seconds=_compute_delay_seconds(tagger, tracker.rules),
        )
        sinks = open_sinks(config.output, context)
        StreamService(tagger, tracker, classes, source, sinks, config, log).run()
    finally:
        source.close()


class StreamService:
    """The loop of a stream.

    A live source has its own thread, which passes blocks to the tagger through a bounded queue; any other source is
    asked for the next block when the tagger has processed the last one. `SIGTERM` and `SIGINT` end the stream: audio
    that was captured is still tagged, and events that go on are reported as ended. `SIGHUP` reopens output files.

    Args:
        tagger: Tagger.
        tracker: Event tracker for the selected classes.
        classes: Indices of the selected classes.
        source: Source of the blocks; it is not closed.
        sinks: Outputs; they are closed at the end.
        config: Configuration of the stream.
        log: Function that takes one line of text for the user.
        notifier: Notifier of systemd; None creates one from the environment.
    """

    def __init__(
        self,
        tagger: StreamingTagger,
        tracker: EventTracker,
        classes: Sequence[int],
        source: Source,
        sinks: SinkGroup,
        config: StreamConfig,
        log: Callable[[str], None],
        notifier: SystemdNotifier | None = None,
    ) -> None:
        self._tagger, self._tracker, self._classes = tagger, tracker, list(classes)
        self._source, self._sinks, self._config, self._log = source, sinks, config, log
        self._notifier = notifier or SystemdNotifier()
        self._stopping = self._must_reopen = False
        self._started_at: float | None = None
        self._onset_times: dict[str, float] = {}  # By class, of the events that go on.
        self._capture_error: Exception | None = None

    def run(self) -> None:
        """Run the stream until it ends.

        Raises:
            ValueError: The source failed, and is not one that is reopened.
            OSError: Likewise.
        """
        restore_signals = self._handle_signals()
        try:
            self._process_stream()
        except BrokenPipeError:
            pass  # The reader of standard output is gone.
        finally:
            self._notifier.send_stopping()
            self._sinks.close()
            restore_signals()
        if self._config.stats is not None:
            self._log_stats()

    def stop(self) -> None:
        """End the stream soon; a signal handler or another thread may call this."""
        if not self._stopping:
            self._stopping = True
            self._source.stop()

    def _process_stream(self) -> None:
        lost_seconds, is_ready, stats_time = 0.0, False, read_clock()
        with contextlib.closing(self._capture_blocks()) as blocks:
            for block in blocks:
                if not is_ready:
                    self._notifier.send_ready()
                    is_ready = True
                self._notifier.send_alive()
                lost_seconds = self._process_block(block, lost_seconds)
                if self._config.stats and read_clock() - stats_time >= self._config.stats:
                    self._log_stats()
                    stats_time = read_clock()
                if self._must_reopen:
                    self._must_reopen = False
                    self._sinks.reopen()
        self._write_results(self._tagger.flush())
        self._write_events(self._tracker.flush())

    def _process_block(self, block: Block, lost_seconds: float) -> float:
        """Process a block after `lost_seconds` of lost audio, and return how much is lost before the next block."""
        samples, rate = block.samples, block.sample_rate
        lost_samples = block.lost_samples + round(lost_seconds * rate)
        try:
            results = self._tagger.feed(samples, rate, captured_at=block.captured_at, lost_samples=lost_samples)
        except InvalidSamplesError as error:
            if not lost_seconds:
                self._log(f"{self._source.name}: {error}; such blocks count as lost")
            return (lost_samples + len(samples)) / rate
        if self._sinks.needs_audio and len(samples):
            stats = self._tagger.compute_stats()
            self._sinks.write_audio(samples, rate, stats.audio_seconds + stats.lost_seconds)
        self._write_results(results)
        return 0.0

    def _write_results(self, results: Sequence[StreamingResult]) -> None:
        labels, live = self._tagger.labels, self._source.live
        for result in results:
            self._started_at = result.started_at if live else None
            self._sinks.write_result(create_result_report(result, labels, self._classes, self._config.top, live))
            probabilities = limit_framewise(result.framewise, result.probabilities)[:, self._classes]
            self._write_events(self._tracker.update(result.framewise_start_seconds, probabilities))

    def _write_events(self, events: Sequence[Event]) -> None:
        for event in events:
            report = create_event_report(event, self._tagger.labels, self._classes, self._started_at)
            # The wall clock may be set while an event goes on; both its reports have the time of the first one.
            time = self._onset_times.pop(report.mid, report.time) if report.state == "end" else report.time
            if report.state == "begin" and time is not None:
                self._onset_times[report.mid] = time
            self._sinks.write_event(report._replace(time=time))

    def _capture_blocks(self) -> Generator[Block, None, None]:
        if not self._source.live:
            yield from self._source
            return
        queue = BoundedAudioQueue(self._config.queue_seconds)
        thread = threading.Thread(target=self._fill_queue, args=(queue,), name="capture", daemon=True)
        thread.start()
        try:
            yield from queue
        finally:
            self._source.stop()
            thread.join()
        if self._capture_error is not None:
            raise self._capture_error

    def _fill_queue(self, queue: BoundedAudioQueue) -> None:
        try:
            for block in self._source:
                queue.put(block)
        except Exception as error:  # The main thread raises it again.
            self._capture_error = error
        finally:
            queue.close()

    def _handle_signals(self) -> Callable[[], None]:
        """Install the signal handlers, and return a function that restores those of before.

        A second `SIGTERM` or `SIGINT` ends the process at once.
        """
        if threading.current_thread() is not threading.main_thread():
            return lambda: None
        previous: dict[int, Any] = {}

        def stop(number: int, frame: FrameType | None) -> None:
            for each in (signal.SIGTERM, signal.SIGINT):
                signal.signal(each, signal.SIG_DFL)
            self.stop()

        def reopen(number: int, frame: FrameType | None) -> None:
            self._must_reopen = True

        for each in (signal.SIGTERM, signal.SIGINT):
            previous[each] = signal.signal(each, stop)
        if hasattr(signal, "SIGHUP"):
            previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, reopen)

        def restore() -> None:
            for number, handler in previous.items():
                signal.signal(number, handler)

        return restore

    def _log_stats(self) -> None:
        self._log(f"stats: {format_stats(self._tagger.compute_stats())}")


def _select_classes(config: StreamConfig, labels: LabelSet) -> list[int]:
    """Return the indices of the selected classes, each once, in the order of the configuration."""
    names = config.classes or labels.names
    return list(dict.fromkeys(_get_class_index(labels, "classes", name) for name in names))


def _get_class_index(labels: LabelSet, field: str, name: str) -> int:
    try:
        return labels.index(name)
    except ValueError as error:
        raise ValueError(str(error).replace("`name_or_mid`", f"`{field}`")) from None


def _create_rules(config: StreamConfig, tagger: StreamingTagger, classes: Sequence[int]) -> EventRules:
    card_thresholds = tagger.card.thresholds or ()
    thresholds = {k: card_thresholds[k] if config.threshold is None else config.threshold for k in classes}
    for name, threshold in config.thresholds.items():
        k = _get_class_index(tagger.labels, "thresholds", name)
        if k in thresholds:
            thresholds[k] = threshold
    off = config.off_threshold
    return EventRules(
        tuple(thresholds.values()),
        None if off is None else tuple(min(off, on) for on in thresholds.values()),
        config.smoothing_seconds,
        config.min_seconds,
        config.max_gap_seconds,
        config.refractory_seconds,
    )


def _compute_delay_seconds(tagger: StreamingTagger, rules: EventRules) -> float:
    """Return the maximum time from the onset of an event to its report, seconds."""
    frames = 2 * tagger.seconds_per_frame + tagger.hop_seconds
    return frames + rules.smoothing_seconds + rules.min_seconds + rules.max_gap_seconds + 1.0
