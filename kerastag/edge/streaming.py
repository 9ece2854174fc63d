"""The streaming tagger: it tags live audio for months, in memory that does not grow."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from kerastag.bundled import resolve_model_path
from kerastag.card import Card
from kerastag.dsp import FrontEnd
from kerastag.edge.blocks import Block
from kerastag.edge.clock import StreamClock
from kerastag.edge.modes import IncrementalMode, Prediction, StreamingMode, WindowedMode
from kerastag.edge.pair import EmbedderAndHead, embeds_frames
from kerastag.edge.rows import InvalidSamplesError, RowGrid, RowStream, convert_to_mono
from kerastag.edge.runtime import AUDIO_INPUTS, LiteRTModel
from kerastag.edge.stats import Histogram, StreamStats, get_resident_bytes
from kerastag.labels import LabelSet

__all__ = ["StreamingResult", "StreamingTagger"]

_MODES = ("auto", "windowed", "incremental")
_MIN_SAMPLE_RATE, _MAX_SAMPLE_RATE = 1_000, 1_000_000


class StreamingResult(NamedTuple):
    """The tags of the last audio of a stream.

    Seconds count the samples of the stream from its first one on, missing ones included.

    Attributes:
        start_seconds: Start of the audio that `probabilities` refer to, seconds.
        end_seconds: End of this audio, seconds.
        probabilities: Probabilities of the classes, float32 in [0, 1], of shape (classes,).
        framewise: Probabilities over time of what is new since the last result, of shape (frames, classes), one frame
            every `StreamingTagger.seconds_per_frame`. Across results, frames follow each other without a seam except
            where audio is missing. `kerastag.events.limit_framewise` combines them with `probabilities` to what
            `EventTracker.update` takes.
        framewise_start_seconds: Start of the first frame, seconds.
        started_at: Time of day at second 0 of the stream, seconds since 1970, by the present wall clock.
        lost_seconds: Duration of the audio that is missing since the last result, seconds.
    """

    start_seconds: float
    end_seconds: float
    probabilities: np.ndarray
    framewise: np.ndarray
    framewise_start_seconds: float
    started_at: float
    lost_seconds: float


class StreamingTagger:
    """A tagger for blocks of live audio, of any length and sample rate.

    There are two modes. *Windowed*: a model for clips, or an embedder of output frames with a head, processes the last
    window, such as ten seconds, at every hop; log-mel frames are computed once and kept. *Incremental*: an embedder
    processes each segment, such as one second, once, and an attention head processes the embeddings of the last ten
    segments. The first result comes after one hop or one segment: what is not there yet is silence after the audio
    (windowed) or masked (incremental).

    The results do not depend on how the audio is cut into blocks. Missing audio, announced by `lost_samples` or
    detected by a jump of the capture times, advances the time stamps and counts as silence; results that would refer to
    it by half or more are skipped. The tagger must be used by one thread at a time.

    Args:
        model: Path of a `.tflite` file with its card: a tagger that takes `waveform` or `log_mel` or, with a head, an
            embedder; or `BUNDLED_MODEL`, the bundled model; or a loaded model, which several taggers may share.
        head: Path of a `.tflite` file from `embedding` (1, segments, features) to `clipwise`, whose card names the
            classes; the export target `streaming_head` writes the cheapest.
        mode: `"windowed"`, `"incremental"`, or `"auto"`, which is incremental with an embedder of segments and a head.
        hop_seconds: Time from one result to the next, seconds, above 0. Windowed: rounded to whole output frames of the
            model, 1 s if None. Incremental: rounded to log-mel frames, at most a segment, a segment if None.
        num_threads: Number of threads of the interpreter, at least 1.
        eight_bit: Whether the features of the embedder are the integers of AudioSet, and the head was trained on
            `(x - 128) / 128`; None means yes if it has the front end of VGGish and 128 features.
        gap_seconds: Delay of a block from which on audio counts as missing, seconds, above 0.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: A file is not a model, has no card, or does not match the mode or the other file; or an argument is
            out of range.
        ImportError: No LiteRT interpreter is installed.

    >>> from kerastag.bundled import BUNDLED_MODEL
    >>> from kerastag.edge import StreamingTagger
    >>> tagger = StreamingTagger(BUNDLED_MODEL)
    >>> results = tagger.feed(np.zeros(80_000, np.float32), sample_rate=16_000)
    >>> len(results), results[0].probabilities.shape
    (5, (10,))
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | LiteRTModel,
        head: str | os.PathLike[str] | None = None,
        *,
        mode: str = "auto",
        hop_seconds: float | None = None,
        num_threads: int = 1,
        eight_bit: bool | None = None,
        gap_seconds: float = 2.0,
    ) -> None:
        if mode not in _MODES:
            raise ValueError(f"`mode` must be one of {', '.join(_MODES)}; received: {mode!r}")
        if hop_seconds is not None and not 0 < hop_seconds < math.inf:
            raise ValueError(f"`hop_seconds` must be above 0; received: {hop_seconds!r}")
        if isinstance(model, str | os.PathLike):
            model = LiteRTModel(resolve_model_path(model), num_threads, AUDIO_INPUTS)
        self._model = model
        self.mode = _resolve_mode(mode, head, model)
        self._num_threads = num_threads
        self._head = None if head is None else LiteRTModel(head, num_threads, ("embedding",), in_memory=True)
        tagger = self._head or self._model
        self.card: Card = tagger.card
        """Card of the file that names the classes."""
        if "clipwise" not in tagger.outputs:
            raise ValueError(
                f"{tagger.path}: must return `clipwise` (an embedder needs a `head`); received: {tagger.outputs}"
            )
        if tagger.card.labels is None:
            raise ValueError(f"{tagger.path}: the card must name the classes; received: none")
        self.labels: LabelSet = tagger.card.labels
        """The classes."""
        self._grid = _create_grid(self._model)
        self._hop_seconds = hop_seconds
        if eight_bit is None:  # The features of AudioSet are those of VGGish.
            front_end = self._model.card.front_end.get("name")
            eight_bit = front_end == "vggish" and self._model.output_shapes.get("embedding", ())[-1:] == (128,)
        self._eight_bit = eight_bit
        self._gap_seconds = gap_seconds
        self._audio_seconds = self._lost_seconds = self._busy_seconds = 0.0
        self._invalid_seconds = Fraction(0)  # Duration of the last blocks, if they were not audio.
        self._gaps = self._results = 0
        self._latency = Histogram()
        self._start_stream()

    @property
    def sample_rate(self) -> int:
        """Sample rate of the model, Hz; audio with this rate is not resampled."""
        return self._grid.sample_rate

    @property
    def seconds_per_frame(self) -> float:
        """Time from one frame of `StreamingResult.framewise` to the next, seconds."""
        return self._grid.to_seconds(self._mode.frame_rows)

    @property
    def hop_seconds(self) -> float:
        """Time from one result to the next, seconds."""
        return self._grid.to_seconds(self._mode.hop_rows)

    @property
    def window_seconds(self) -> float:
        """Duration of the audio that a result refers to once there is enough, seconds."""
        return self._grid.to_seconds(self._mode.window_rows)

    def feed(
        self,
        samples: np.ndarray,
        sample_rate: int,
        *,
        captured_at: float | None = None,
        lost_samples: int = 0,
    ) -> list[StreamingResult]:
        """Process the next block.

        Args:
            samples: Floats in [-1, 1], of shape (samples,) or (samples, channels), any number; channels are averaged.
            sample_rate: Sample rate, Hz, 1,000 to 1,000,000; it may change from block to block.
            captured_at: Time at which the first sample was captured, in seconds as `read_clock` counts them.
            lost_samples: Number of samples that are missing before the block, at least 0.

        Returns:
            The results that the block completes.

        Raises:
            ValueError: An argument is out of range; its subclass `InvalidSamplesError` if samples are NaN, infinite,
                or integers read as float. The stream is unchanged and can continue.
        """
        start_time = time.perf_counter()
        rate, lost = _check_block(sample_rate, lost_samples)
        predictions = self._process(convert_to_mono(samples), rate, captured_at, lost)
        results = self._create_results(predictions, start_time)
        self._busy_seconds += time.perf_counter() - start_time
        return results

    def feed_block(self, block: Block) -> list[StreamingResult]:
        """Process a block like `feed`; one that raises `InvalidSamplesError` counts as lost before the next block."""
        rate = block.sample_rate
        lost = block.lost_samples + round(self._invalid_seconds * rate)
        try:
            results = self.feed(block.samples, rate, captured_at=block.captured_at, lost_samples=lost)
        except InvalidSamplesError:
            self._invalid_seconds = Fraction(lost + len(block.samples), rate)
            raise
        self._invalid_seconds = Fraction(0)
        return results

    def pause(self) -> list[StreamingResult]:
        """Return the results of the audio that waits for more, because its source is lost; the stream can continue."""
        start_time = time.perf_counter()
        results = self._create_results(self._pause(), start_time)
        self._busy_seconds += time.perf_counter() - start_time
        return results

    def replace_head(self, head: str | os.PathLike[str]) -> None:
        """Use another head for the same classes from the next result on, without a gap in the stream.

        The new head also processes the audio or the segments that are remembered. If it is refused, the tagger is
        unchanged.

        Args:
            head: Path of a `.tflite` file from `embedding` to `clipwise`.

        Raises:
            FileNotFoundError: The file does not exist.
            ValueError: The tagger has no head; or the file is not a model, does not match the embedder, or has other
                classes or another number of segments than the head before.
        """
        if self._head is None:
            raise ValueError(f"`head` must be None for a tagger without one; received: {os.fspath(head)!r}")
        new_head = LiteRTModel(head, self._num_threads, ("embedding",), in_memory=True)
        if "clipwise" not in new_head.outputs:
            raise ValueError(f"{new_head.path}: must return `clipwise`; received: {new_head.outputs}")
        if new_head.card.labels != self.labels:
            raise ValueError(
                f"{new_head.path}: must have the classes of the head before, {_format_names(self.labels)}; received: "
                f"{_format_names(new_head.card.labels)}"
            )
        self._mode.replace_head(new_head)
        self._head, self.card = new_head, new_head.card

    def flush(self) -> list[StreamingResult]:
        """End the stream, and return its last results; the next block starts a new stream at second 0."""
        start_time = time.perf_counter()
        results = self._create_results(self._finish(), start_time)
        self._start_stream()
        self._busy_seconds += time.perf_counter() - start_time
        return results

    def run(self, source: Iterable[Block]) -> Iterator[StreamingResult]:
        """Process blocks as they come, and yield the results, the last ones at the end of the source.

        A block whose samples are not audio (`InvalidSamplesError`) counts as lost.
        """
        for block in source:
            with contextlib.suppress(InvalidSamplesError):
                yield from self.feed_block(block)
        yield from self.flush()

    def compute_stats(self) -> StreamStats:
        """Return the statistics since the tagger was created."""
        p50, p95, p99 = map(self._latency.compute_quantile, (0.5, 0.95, 0.99))
        return StreamStats(
            self._audio_seconds,
            self._lost_seconds,
            self._gaps,
            self._results,
            self._busy_seconds,
            self._busy_seconds / self._audio_seconds if self._audio_seconds else math.nan,
            p50,
            p95,
            p99,
            self._latency.max,
            get_resident_bytes(),
        )

    def _start_stream(self) -> None:
        self._mode: StreamingMode
        if self.mode == "windowed":
            hop_seconds = 1.0 if self._hop_seconds is None else self._hop_seconds
            model = self._model if self._head is None else EmbedderAndHead(self._model, self._head)
            self._mode = WindowedMode(model, self._grid, hop_seconds)
        else:
            assert self._head is not None  # for the type checker
            self._mode = IncrementalMode(self._model, self._head, self._grid, self._hop_seconds, self._eight_bit)
        self._clock = StreamClock(self._gap_seconds)
        self._rows: RowStream | None = None
        self._rate = self._grid.sample_rate
        self._stretch_start = Fraction(0)  # Start of the present stretch of audio without a gap, seconds.
        self._stretch_samples = 0
        self._reported_lost_seconds = self._lost_seconds
        self._invalid_seconds = Fraction(0)

    @property
    def _elapsed(self) -> Fraction:
        """Duration of the stream with what is missing, seconds: an exact number, so that no error accumulates."""
        return self._stretch_start + Fraction(self._stretch_samples, self._rate)

    @property
    def _elapsed_rows(self) -> Fraction:
        return self._elapsed * self._grid.sample_rate / self._grid.hop_length

    def _process(
        self, samples: np.ndarray, rate: int, captured_at: float | None, lost_samples: int
    ) -> Iterator[Prediction]:
        lost = Fraction(lost_samples, rate)
        missing_seconds = self._clock.find_missing_seconds(float(self._elapsed + lost), captured_at)
        lost += Fraction(round(missing_seconds * rate), rate)
        if lost or rate != self._rate:
            yield from self._start_stretch(rate, lost)
        if self._rows is None:
            self._rows = RowStream(rate, self._grid)
        self._stretch_samples += len(samples)
        self._audio_seconds += len(samples) / rate
        for rows in self._rows.feed(samples, self._mode.count_needed_rows):
            yield from self._mode.add(rows)

    def _start_stretch(self, rate: int, lost: Fraction) -> Iterator[Prediction]:
        """End the present stretch of audio, and start one at another rate or after `lost` seconds."""
        yield from self._end_stretch(round(self._elapsed_rows))
        self._stretch_start, self._stretch_samples, self._rate = self._elapsed + lost, 0, rate
        self._lost_seconds += float(lost)
        self._gaps += lost > 0
        if (missing_rows := round(self._elapsed_rows) - self._mode.position) > 0:
            yield from self._mode.skip(missing_rows)

    def _end_stretch(self, end: int) -> Iterator[Prediction]:
        """Process the rows that were waiting for more audio, up to row `end`; the padding may add one beyond it."""
        if self._rows is None:
            return
        for rows in self._rows.flush():
            yield from self._mode.add(rows[: max(0, end - self._mode.position)])
        self._rows = None

    def _pause(self) -> Iterator[Prediction]:
        yield from self._end_stretch(round(self._elapsed_rows))
        yield from self._mode.pause()

    def _finish(self) -> Iterator[Prediction]:
        yield from self._end_stretch(math.ceil(self._elapsed_rows))
        yield from self._mode.finish()

    def _create_results(self, predictions: Iterator[Prediction], start_time: float) -> list[StreamingResult]:
        results = []
        for prediction in predictions:
            end_seconds = self._grid.to_seconds(prediction.end)
            age = self._clock.compute_age(end_seconds)
            self._latency.add(time.perf_counter() - start_time if age is None else max(0.0, age))
            results.append(
                StreamingResult(
                    self._grid.to_seconds(prediction.start),
                    end_seconds,
                    prediction.probabilities,
                    prediction.framewise,
                    self._grid.to_seconds(prediction.framewise_start),
                    self._clock.compute_start_time(),
                    self._lost_seconds - self._reported_lost_seconds,
                )
            )
            self._reported_lost_seconds = self._lost_seconds
        self._results += len(results)
        return results


def _resolve_mode(mode: str, head: object, model: LiteRTModel) -> str:
    if head is None:
        if mode == "incremental":
            raise ValueError(f"`head` must be a path with `mode` {mode!r}; received: {head!r}")
        return "windowed"
    resolved = "windowed" if embeds_frames(model) else "incremental"
    if mode not in ("auto", resolved):
        kind = "output frames" if resolved == "windowed" else "whole segments"
        raise ValueError(f"`mode` must be {resolved} for {model.path}, which embeds {kind}; received: {mode!r}")
    return resolved


def _format_names(labels: LabelSet | None) -> str:
    names = () if labels is None else labels.names
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "") or "none"


def _create_grid(model: LiteRTModel) -> RowGrid:
    """Return the grid of the rows that a model takes, after checking its card against its input."""
    if model.input == "waveform":
        if len(model.shape) != 2:
            raise ValueError(f"{model.path}: must take `waveform` (1, samples); received: {model.shape}")
        return RowGrid(model.card.sample_rate, None)
    if not model.card.front_end:
        raise ValueError(f"{model.path}: the card of a model that takes log-mel must have `front_end`; received: none")
    front_end = FrontEnd.from_dict(dict(model.card.front_end))
    if model.shape[2:] != (front_end.num_mel_bins,):
        raise ValueError(
            f"{model.path}: must take {front_end.num_mel_bins} log-mel bands, like the front end of its card; "
            f"received: {model.shape}"
        )
    return RowGrid(front_end.sample_rate, front_end)


def _check_block(sample_rate: int, lost_samples: int) -> tuple[int, int]:
    """Return both numbers as Python integers, which seconds are counted with."""
    if not _MIN_SAMPLE_RATE <= sample_rate <= _MAX_SAMPLE_RATE or sample_rate != int(sample_rate):
        allowed = f"an integer from {_MIN_SAMPLE_RATE} to {_MAX_SAMPLE_RATE} Hz"
        raise ValueError(f"`sample_rate` must be {allowed}; received: {sample_rate!r}")
    if not 0 <= lost_samples < math.inf or lost_samples != int(lost_samples):
        raise ValueError(f"`lost_samples` must be an integer of at least 0; received: {lost_samples!r}")
    return int(sample_rate), int(lost_samples)
