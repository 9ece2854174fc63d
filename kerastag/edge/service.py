"""The service that runs a stream: it captures audio, tags it, detects events, writes outputs, and ends cleanly."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from types import FrameType

import numpy as np

from kerastag.audio.channels import CANCELLATION, ChannelMixer
from kerastag.edge.blocks import Block, BoundedAudioQueue
from kerastag.edge.clock import read_clock
from kerastag.edge.config import StreamConfig
from kerastag.edge.head_watch import HeadWatcher
from kerastag.edge.monitor import SourceMonitor
from kerastag.edge.rows import InvalidSamplesError
from kerastag.edge.sinks import SinkContext, SinkGroup, open_sinks
from kerastag.edge.sinks.sink import SourceReport, create_event_report, create_result_report
from kerastag.edge.sources import PcmFormat, Source, is_microphone, open_source
from kerastag.edge.stats import format_stats
from kerastag.edge.streaming import StreamingResult, StreamingTagger
from kerastag.events import Event, EventRules, EventTracker, create_event_rules, limit_framewise
from kerastag.events.rules import DURATIONS
from kerastag.labels import LabelSet

__all__ = ["StreamService", "SystemdNotifier", "create_rules", "run_stream", "select_classes"]

_RAW_SAMPLE_RATE = 16_000
# Delay from which on audio counts as missing. A network may delay it by more than the timeout of its source.
_MICROPHONE_GAP_SECONDS, _NETWORK_GAP_SECONDS = 2.0, 15.0
_CANCELLATION_SECONDS = 10.0
_INVALID_LOG_SECONDS = 3_600.0  # Samples that are not audio are reported at most once in this time.


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
    head_watcher = HeadWatcher(config.head) if config.watch_head and config.head is not None else None
    tagger = StreamingTagger(
        config.model,
        config.head,
        mode=config.mode,
        hop_seconds=config.hop_seconds,
        num_threads=config.threads,
        gap_seconds=_MICROPHONE_GAP_SECONDS
        if is_microphone(config.source)
        else max(_NETWORK_GAP_SECONDS, 1.5 * config.timeout_seconds),
    )
    classes = select_classes(config, tagger)
    tracker = EventTracker(len(classes), tagger.seconds_per_frame, create_rules(config, tagger, classes))
    source = open_source(
        config.source,
        tagger.sample_rate,
        realtime=config.realtime,
        pcm=PcmFormat(config.encoding, config.rate or _RAW_SAMPLE_RATE, config.channels),
        microphone_rate=config.rate,
        channels=config.channels,
        channel=config.channel,
        timeout_seconds=config.timeout_seconds,
        log=log,
    )
    try:
        rules, frames = tracker.rules, 2 * tagger.seconds_per_frame + tagger.hop_seconds
        context = SinkContext(
            log=log,
            classes=tuple(tagger.labels.names[k] for k in classes) if config.classes else (),
            model=tagger.card.origin,
            delay_seconds=frames + rules.smoothing_seconds + float(np.max(rules.min_seconds)) + 1.0,
            is_live=source.live,
            mqtt_options=config.mqtt_options,
        )
        sinks = open_sinks(config.output, context)
        StreamService(tagger, tracker, classes, source, sinks, config, log, head_watcher=head_watcher).run()
    finally:
        source.close()


class StreamService:
    """The loop of a stream.

    The source has its own thread, which passes blocks to the tagger through a bounded queue. When it is full, a live
    source loses its oldest audio, and any other one waits. A source that gives no audio for `timeout_seconds` is lost:
    events that go on are reported as ended, and the outputs get its state. `SIGTERM` and `SIGINT` end the stream, like
    an error of the source: audio that was captured is still tagged, and events that go on are reported as ended.
    `SIGHUP` reopens output files. A head whose file changes is replaced, if there is a watcher of it; one that is
    damaged or does not match is reported, and the previous one stays in use. The outputs are closed at the end; the
    source is not.
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
        head_watcher: HeadWatcher | None = None,
    ) -> None:
        self._tagger, self._tracker, self._classes = tagger, tracker, list(classes)
        self._source, self._sinks, self._config, self._log = source, sinks, config, log
        self._notifier = notifier or SystemdNotifier(os.environ)
        self._must_reopen, self._head_watcher = False, head_watcher
        self._mixer, self._has_reported_cancellation = ChannelMixer(config.channel), False
        self._state = "" if source.live else "listening"
        self._monitor = SourceMonitor(self._state, config.timeout_seconds, 3_600 * config.silence_hours)
        self._invalid_blocks, self._invalid_log_time = 0, -_INVALID_LOG_SECONDS
        self._source_error: Exception | None = None
        self._started_at: float | None = None
        self._onset_times: dict[str, float] = {}  # By class, of the events that go on.

    def run(self) -> None:
        """Run the stream until it ends, or until a source that is not reopened fails with its ValueError or OSError."""
        with self._handle_signals():
            try:
                self._process_stream()
            except BrokenPipeError:
                pass  # The reader of standard output is gone.
            finally:
                self._notifier.send_stopping()
                self._sinks.close()
        if self._config.stats is not None:
            self._log_stats()

    def _process_stream(self) -> None:
        is_ready, stats_time = False, read_clock()
        with contextlib.closing(self._capture_blocks()) as blocks:
            for block in blocks:
                if self._head_watcher is not None and self._head_watcher.check():
                    self._replace_head()
                if block is None:
                    self._monitor.add_timeout()
                    self._update_state()
                    continue
                if not is_ready:
                    self._notifier.send_ready()
                    is_ready = True
                self._notifier.send_alive()
                self._process_block(block)
                if self._config.stats and read_clock() - stats_time >= self._config.stats:
                    self._log_stats()
                    stats_time = read_clock()
                if self._must_reopen:
                    self._must_reopen = False
                    self._sinks.reopen()
        self._report_cancellation()
        self._write_results(self._tagger.flush())
        self._write_events(self._tracker.flush())
        if self._source_error is not None:
            raise self._source_error

    def _process_block(self, block: Block) -> None:
        try:
            results = self._tagger.feed_block(self._mix(block))
        except InvalidSamplesError as error:
            self._log_invalid(error)
            self._monitor.add_invalid(block.seconds)
            self._update_state()
            return
        self._monitor.add_audio(block.samples, block.seconds)
        self._update_state()
        if self._sinks.needs_audio and len(block.samples):
            stats = self._tagger.compute_stats()
            self._sinks.write_audio(block.samples, block.sample_rate, stats.audio_seconds + stats.lost_seconds)
        self._write_results(results)

    def _replace_head(self) -> None:
        """Use the head that is in the file now, with its thresholds; events that go on continue."""
        try:
            self._tagger.replace_head(self._config.head or "")
        except (ValueError, OSError) as error:
            self._log(f"{error}; the previous head stays in use")
            return
        rules = create_rules(self._config, self._tagger, self._classes)
        self._write_events(self._tracker.replace_rules(rules))
        self._log(f"{self._config.head}: changed; the new head is in use")

    def _mix(self, block: Block) -> Block:
        """Mix the channels of a block to mono, and report channels that cancel each other."""
        if block.samples.ndim == 1:
            return block
        try:
            mixed = block._replace(samples=self._mixer.mix(block.samples))
        except ValueError as error:
            raise ValueError(f"{self._source.name}: {error}") from None
        if self._mixer.num_frames >= _CANCELLATION_SECONDS * block.sample_rate:
            self._report_cancellation()
        return mixed

    def _report_cancellation(self) -> None:
        if self._mixer.has_cancelled and not self._has_reported_cancellation:
            self._has_reported_cancellation = True
            self._log(f"{self._source.name}: warning: {CANCELLATION}")
        self._mixer.num_frames = self._mixer.num_cancelled = 0

    def _update_state(self) -> None:
        """Report the state of the source if it has changed; where the source is lost, end the events that go on."""
        previous, self._state = self._state, self._monitor.state
        if self._state == previous:
            return
        if self._state == "lost":
            self._write_results(self._tagger.pause())
            self._write_events(self._tracker.flush())
        stats, live = self._tagger.compute_stats(), self._source.live
        seconds, moment = stats.audio_seconds + stats.lost_seconds, time.time() if live else None
        self._sinks.write_source(SourceReport(self._state, self._source.name, seconds, moment))
        message = {
            "lost": f"no audio for {self._config.timeout_seconds:g} s; the source is lost, and its events have ended",
            "silent": f"only digital silence for {self._config.silence_hours:g} h; it may be muted",
            "listening": "listening again" if previous else "",
        }[self._state]
        if message:
            self._log(f"{self._source.name}: {message}")

    def _log_invalid(self, error: InvalidSamplesError) -> None:
        self._invalid_blocks += 1
        if read_clock() - self._invalid_log_time >= _INVALID_LOG_SECONDS:
            self._log(f"{self._source.name}: {error}; such blocks count as lost ({self._invalid_blocks} so far)")
            self._invalid_log_time = read_clock()

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

    def _capture_blocks(self) -> Generator[Block | None, None, None]:
        """Yield the blocks of the source, and None whenever nothing has come for the timeout."""
        queue = BoundedAudioQueue(self._config.queue_seconds, waits=not self._source.live)

        def fill_queue() -> None:
            try:
                for block in self._source:
                    queue.put(block)
            except Exception as error:  # The main thread raises it again, after the last results.
                self._source_error = error
            finally:
                queue.close()

        thread = threading.Thread(target=fill_queue, name="capture", daemon=True)
        thread.start()
        try:
            yield from queue.read(self._config.timeout_seconds)
        finally:
            self._source.stop()
            queue.close()
            thread.join()

    @contextlib.contextmanager
    def _handle_signals(self) -> Generator[None, None, None]:
        """Handle signals for a while; a second `SIGTERM` or `SIGINT` ends the process at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            for each in (signal.SIGTERM, signal.SIGINT):
                signal.signal(each, signal.SIG_DFL)
            self._source.stop()

        def reopen(number: int, frame: FrameType | None) -> None:
            self._must_reopen = True

        handlers = {signal.SIGTERM: stop, signal.SIGINT: stop}
        if hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = reopen
        previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _log_stats(self) -> None:
        self._log(f"stats: {format_stats(self._tagger.compute_stats())}")


def _get_class_index(labels: LabelSet, field: str, name: str) -> int:
    try:
        return labels.index(name)
    except ValueError as error:
        raise ValueError(str(error).replace("`name_or_mid`", f"`{field}`")) from None


def select_classes(config: StreamConfig, tagger: StreamingTagger) -> list[int]:
    """Return the indices of the selected classes; an unknown one is a ValueError."""
    names = config.classes or tagger.labels.names
    return list(dict.fromkeys(_get_class_index(tagger.labels, "classes", name) for name in names))


def create_rules(config: StreamConfig, tagger: StreamingTagger, classes: Sequence[int]) -> EventRules:
    """Create the rules for the events of the classes with these indices; an unknown threshold is a ValueError."""
    card_thresholds = tagger.card.thresholds or ()
    thresholds = {k: card_thresholds[k] if config.threshold is None else config.threshold for k in classes}
    for name, threshold in config.thresholds.items():
        k = _get_class_index(tagger.labels, "thresholds", name)
        if k in thresholds:
            thresholds[k] = threshold
    durations = {name: getattr(config, name) for name in DURATIONS}
    card_rules, onset_thresholds = tagger.card.event_rules, tuple(thresholds.values())
    return create_event_rules(card_rules, onset_thresholds, config.off_threshold, classes, **durations)


class SystemdNotifier:
    """A sender of the protocol of `sd_notify`: lines in datagrams to the socket that `NOTIFY_SOCKET` names.

    Without systemd it does nothing. Systemd restarts a service that does not call `send_alive` within `WatchdogSec`.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._interval: float | None = None
        self._due = 0.0
        if environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
            with contextlib.suppress(ValueError):
                # Half of the time that systemd waits, as its manual recommends.
                self._interval = int(environment.get("WATCHDOG_USEC", "")) / 2e6

    def send_ready(self) -> None:
        self._send("READY=1")

    def send_alive(self) -> None:
        """Feed the watchdog; a call before it is due does nothing."""
        if self._interval is not None and read_clock() >= self._due:
            self._due = read_clock() + self._interval
            self._send("WATCHDOG=1")

    def send_stopping(self) -> None:
        self._send("STOPPING=1")

    def _send(self, line: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(line.encode(), address)
