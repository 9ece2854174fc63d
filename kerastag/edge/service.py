"""A stream from its source to its outputs: captures, tags, finds events, tells, and ends cleanly when it is to end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from types import FrameType
from typing import Any

from kerastag.edge.blocks import Block, now
from kerastag.edge.notify import Notifier
from kerastag.edge.queue import BoundedAudioQueue
from kerastag.edge.reports import event_report, result_report
from kerastag.edge.rows import BadSamples
from kerastag.edge.settings import StreamSettings
from kerastag.edge.sinks import Outputs, Surroundings, open_outputs
from kerastag.edge.sources import PcmFormat, Source, is_microphone, open_source
from kerastag.edge.stats import stats_line
from kerastag.edge.streaming import Result, StreamingTagger
from kerastag.events import Event, EventRules, EventTracker, sounding_probabilities
from kerastag.labels import LabelSet

__all__ = ["StreamService", "run_stream"]

_RAW_RATE = 16_000
# Later than this, audio counts as missing: a network may hold it back, and its source is given up only after ten.
_MICROPHONE_GAP_SECONDS, _NETWORK_GAP_SECONDS = 2.0, 15.0


def run_stream(settings: StreamSettings, report: Callable[[str], None]) -> None:
    """Settings -> a stream that goes on until its source ends, a signal comes, or nobody reads its standard output.

    Args:
        settings: What to do.
        report: Takes one line for people, from any thread.

    Raises:
        ValueError, OSError, ImportError: The model, the source or an output cannot be opened; or the source, when it
            is no live one, fails.
    """
    gap_seconds = _MICROPHONE_GAP_SECONDS if is_microphone(settings.source) else _NETWORK_GAP_SECONDS
    tagger = StreamingTagger(
        settings.model,
        settings.head,
        mode=settings.mode,
        hop_seconds=settings.hop_seconds,
        num_threads=settings.threads,
        gap_seconds=gap_seconds,
    )
    classes = _chosen(settings, tagger.labels)
    tracker = EventTracker(len(classes), tagger.seconds_per_frame, _rules(settings, tagger, classes))
    pcm = PcmFormat(settings.encoding, settings.rate or _RAW_RATE, settings.channels)
    source = open_source(
        settings.source,
        tagger.sample_rate,
        realtime=settings.realtime,
        pcm=pcm,
        microphone_rate=settings.rate,
        channels=settings.channels,
        report=report,
    )
    try:
        chosen = tuple(tagger.labels.names[k] for k in classes) if settings.classes else ()
        surroundings = Surroundings(report, chosen, tagger.card.origin, _delay_seconds(tagger, tracker.rules))
        outputs = open_outputs(settings.output, surroundings)
        StreamService(tagger, tracker, classes, source, outputs, settings, report).run()
    finally:
        source.close()


class StreamService:
    """The loop of a stream.

    A live source has a thread of its own, which hands its blocks to the tagger through a bounded queue; any other one
    is asked for the next block when the tagger is done with the last. `SIGTERM` and `SIGINT` end the stream: what was
    captured is still tagged, sounds that go on are told as ended. `SIGHUP` opens output files anew.

    Args:
        tagger: From blocks to results.
        tracker: From probabilities of the chosen classes to events.
        classes: Indices of the chosen classes.
        source: Of the blocks; it stays open.
        outputs: Closed at the end.
        settings: Of the stream.
        report: Takes one line for people.
        notifier: Of systemd; None is that of the environment.
    """

    def __init__(
        self,
        tagger: StreamingTagger,
        tracker: EventTracker,
        classes: Sequence[int],
        source: Source,
        outputs: Outputs,
        settings: StreamSettings,
        report: Callable[[str], None],
        notifier: Notifier | None = None,
    ) -> None:
        self._tagger, self._tracker, self._classes = tagger, tracker, list(classes)
        self._source, self._outputs, self._settings, self._report = source, outputs, settings, report
        self._notifier = notifier or Notifier()
        self._stopping = self._reopen = False
        self._began_at: float | None = None
        self._times: dict[str, float] = {}  # of the onsets of sounds that go on
        self._capture_error: Exception | None = None

    def run(self) -> None:
        """Until the end.

        Raises:
            ValueError, OSError: The source failed, and is none that is opened again.
        """
        undo = self._listen_to_signals()
        told = now()
        try:
            self._stream(told)
        except BrokenPipeError:
            pass  # nobody reads the results any more
        finally:
            self._notifier.stopping()
            self._outputs.close()
            undo()
        if self._settings.stats is not None:
            self._say_stats()

    def stop(self) -> None:
        """End the stream soon, from a signal handler or another thread."""
        if not self._stopping:
            self._stopping = True
            self._source.stop()

    def _stream(self, told: float) -> None:
        lost_seconds, ready = 0.0, False
        with contextlib.closing(self._blocks()) as blocks:
            for block in blocks:
                if not ready:
                    self._notifier.ready()
                    ready = True
                self._notifier.alive()
                lost_seconds = self._hear(block, lost_seconds)
                if self._settings.stats and now() - told >= self._settings.stats:
                    self._say_stats()
                    told = now()
                if self._reopen:
                    self._reopen = False
                    self._outputs.reopen()
        self._tell(self._tagger.flush())
        self._tell_events(self._tracker.flush())

    def _hear(self, block: Block, lost_seconds: float) -> float:
        """One block, with what was lost before it -> what is lost before the next one."""
        samples, rate = block.samples, block.sample_rate
        lost = block.lost_samples + round(lost_seconds * rate)
        try:
            results = self._tagger.feed(samples, rate, captured_at=block.captured_at, lost_samples=lost)
        except BadSamples as error:
            if not lost_seconds:
                self._report(f"{self._source.name}: {error}; such blocks count as lost")
            return (lost + len(samples)) / rate
        if self._outputs.records and len(samples):
            heard = self._tagger.stats()
            self._outputs.audio(samples, rate, heard.audio_seconds + heard.lost_seconds)
        self._tell(results)
        return 0.0

    def _tell(self, results: Sequence[Result]) -> None:
        labels, live = self._tagger.labels, self._source.live
        for result in results:
            self._began_at = result.began_at if live else None
            self._outputs.result(result_report(result, labels, self._classes, self._settings.top, live))
            sounding = sounding_probabilities(result.framewise, result.probabilities)[:, self._classes]
            self._tell_events(self._tracker.update(result.framewise_start_seconds, sounding))

    def _tell_events(self, events: Sequence[Event]) -> None:
        for event in events:
            report = event_report(event, self._tagger.labels, self._classes, self._began_at)
            # The time of day is set, and better known, as time goes on; an event has the one that it began with.
            time = self._times.pop(report.mid, report.time) if report.state == "end" else report.time
            if report.state == "begin" and time is not None:
                self._times[report.mid] = time
            self._outputs.event(report._replace(time=time))

    def _blocks(self) -> Generator[Block, None, None]:
        if not self._source.live:
            yield from self._source
            return
        queue = BoundedAudioQueue(self._settings.queue_seconds)
        capture = threading.Thread(target=self._capture, args=(queue,), name="capture", daemon=True)
        capture.start()
        try:
            yield from queue
        finally:
            self._source.stop()
            capture.join()
        if self._capture_error is not None:
            raise self._capture_error

    def _capture(self, queue: BoundedAudioQueue) -> None:
        try:
            for block in self._source:
                queue.put(block)
        except Exception as error:  # whatever it is, the main thread has to know
            self._capture_error = error
        finally:
            queue.close()

    def _listen_to_signals(self) -> Callable[[], None]:
        """Handle signals from now on -> what undoes it; a second request to end is no longer a polite one."""
        if threading.current_thread() is not threading.main_thread():
            return lambda: None
        before: dict[int, Any] = {}

        def end(number: int, frame: FrameType | None) -> None:
            for each in (signal.SIGTERM, signal.SIGINT):
                signal.signal(each, signal.SIG_DFL)
            self.stop()

        def reopen(number: int, frame: FrameType | None) -> None:
            self._reopen = True

        for each in (signal.SIGTERM, signal.SIGINT):
            before[each] = signal.signal(each, end)
        if hasattr(signal, "SIGHUP"):
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, reopen)

        def undo() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        return undo

    def _say_stats(self) -> None:
        self._report(f"stats: {stats_line(self._tagger.stats())}")


def _chosen(settings: StreamSettings, labels: LabelSet) -> list[int]:
    """Indices of the classes to listen for, each once, in the order in which they were named."""
    names = settings.classes or labels.names
    return list(dict.fromkeys(_index(labels, "classes", name) for name in names))


def _index(labels: LabelSet, setting: str, name: str) -> int:
    try:
        return labels.index(name)
    except ValueError as error:
        raise ValueError(str(error).replace("`name_or_mid`", f"`{setting}`")) from None


def _rules(settings: StreamSettings, tagger: StreamingTagger, classes: Sequence[int]) -> EventRules:
    own = tagger.card.thresholds or ()
    onset = {k: own[k] if settings.threshold is None else settings.threshold for k in classes}
    for name, threshold in settings.thresholds.items():
        k = _index(tagger.labels, "thresholds", name)
        if k in onset:
            onset[k] = threshold
    off = settings.off_threshold
    return EventRules(
        tuple(onset.values()),
        None if off is None else tuple(min(off, on) for on in onset.values()),
        settings.smoothing_seconds,
        settings.min_seconds,
        settings.max_gap_seconds,
        settings.refractory_seconds,
    )


def _delay_seconds(tagger: StreamingTagger, rules: EventRules) -> float:
    """How late an event may be known: a hop and its last output frame, smoothing, and what makes it sure."""
    frames = 2 * tagger.seconds_per_frame + tagger.hop_seconds
    return frames + rules.smoothing_seconds + rules.min_seconds + rules.max_gap_seconds + 1.0
