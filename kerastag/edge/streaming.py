"""StreamingTagger: live audio -> the sounds in it, for months, in memory that does not grow."""

from __future__ import annotations

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
from kerastag.edge.incremental import IncrementalMode
from kerastag.edge.mode import Mode, Said
from kerastag.edge.rows import BadSamples, Grid, RowStream, mono
from kerastag.edge.runtime import HEARD, LiteRTModel
from kerastag.edge.stats import Histogram, Stats, resident_bytes
from kerastag.edge.windowed import WindowedMode
from kerastag.labels import LabelSet

__all__ = ["MODES", "Result", "StreamingTagger"]

MODES = ("auto", "windowed", "incremental")
_MIN_RATE, _MAX_RATE = 1_000, 1_000_000


class Result(NamedTuple):
    """What was heard last. Seconds count the stream's samples, missing ones included, from its first one on.

    Attributes:
        start_seconds, end_seconds: The audio that `probabilities` speak of.
        probabilities: (classes,) float32 in [0, 1].
        framewise: (frames, classes): probabilities over time of what is new since the last result, frame after frame
            `StreamingTagger.seconds_per_frame` apart; across results they follow each other without a seam, but for
            gaps in the audio. With `probabilities`, by `kerastag.events.sounding_probabilities`, what
            `EventTracker.update` takes.
        framewise_start_seconds: Where the first of them begins.
        began_at: Second 0 of the stream in seconds since 1970, as the wall's clock says now.
        lost_seconds: Audio that went missing since the last result.
    """

    start_seconds: float
    end_seconds: float
    probabilities: np.ndarray
    framewise: np.ndarray
    framewise_start_seconds: float
    began_at: float
    lost_seconds: float


class StreamingTagger:
    """Blocks of live audio, of any size, at the device's own rate -> results.

    Two modes. *Windowed*: a model of clips hears the last window (ten seconds) every hop; log-mel frames are computed
    once and kept, where the model hears those. *Incremental*: an embedder hears each segment (a second) once, and an
    attention head hears the embeddings of the last ten. The first result comes as soon as one hop or one segment is
    there: what is not there yet is silence after it (windowed) or masked (incremental).

    However the audio is cut into blocks, the results are the same. Audio that is missing, by `lost_samples` or by
    capture times that jump, moves the time stamps on and counts as silence; what it would have been part of by half
    or more is not said. One thread at a time may use it.

    Args:
        model: A `.tflite` file with its card: a tagger from `waveform` or `log_mel`; or, with a head, an embedder; or
            `BUNDLED_MODEL`, the model in the package.
        head: A `.tflite` file from `embedding` (1, segments, features) to `clipwise`, its card with the classes; target
            `streaming_head` makes the cheapest.
        mode: `"windowed"`, `"incremental"`, or `"auto"`: incremental with a head.
        hop_seconds: From one result to the next, rounded to whole output frames of the model (windowed; None is 1 s) or
            to log-mel frames, at most a segment (incremental; None is a segment).
        num_threads: Threads of the interpreter, at least 1.
        eight_bit: Whether the embedder's features are AudioSet's whole numbers, of which the head has learned
            `(x - 128) / 128`; None: where it has VGGish's front end and 128 features.
        gap_seconds: How late a block must have been captured for audio to be missing, above 0.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A file is no model, has no card, or does not fit the mode or the other one; or an argument is
            outside its range.
        ImportError: No LiteRT interpreter is installed.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        head: str | os.PathLike[str] | None = None,
        *,
        mode: str = "auto",
        hop_seconds: float | None = None,
        num_threads: int = 1,
        eight_bit: bool | None = None,
        gap_seconds: float = 2.0,
    ) -> None:
        self.mode = _mode(mode, head)
        if hop_seconds is not None and not 0 < hop_seconds < math.inf:
            raise ValueError(f"`hop_seconds` must be above 0, received {hop_seconds!r}")
        self._model = LiteRTModel(resolve_model_path(model), num_threads, HEARD)
        self._head = None if head is None else LiteRTModel(head, num_threads, ("embedding",))
        self.card: Card = (self._head or self._model).card
        """Of what names the classes."""
        _check_tags(self._head or self._model)
        self._grid = _grid(self._model)
        self._hop_seconds = hop_seconds
        self._eight_bit = _is_audioset_embedder(self._model) if eight_bit is None else eight_bit
        self._gap_seconds = gap_seconds
        self._heard_seconds = self._lost_seconds = self._busy_seconds = 0.0
        self._gaps = self._results = 0
        self._latency = Histogram()
        self._begin()

    @property
    def labels(self) -> LabelSet:
        """The classes."""
        assert self.card.labels is not None  # for the type checker: _check_tags has looked
        return self.card.labels

    @property
    def sample_rate(self) -> int:
        """The rate that the model hears, Hz: audio that has it is not resampled."""
        return self._grid.sample_rate

    @property
    def seconds_per_frame(self) -> float:
        """From one frame of `Result.framewise` to the next, seconds."""
        return self._grid.seconds(self._mode.frame_rows)

    @property
    def hop_seconds(self) -> float:
        """From one result to the next, seconds."""
        return self._grid.seconds(self._mode.hop_rows)

    @property
    def window_seconds(self) -> float:
        """How much audio a result speaks of when enough was heard."""
        return self._grid.seconds(self._mode.window_rows)

    def feed(
        self,
        samples: np.ndarray,
        sample_rate: int,
        *,
        captured_at: float | None = None,
        lost_samples: int = 0,
    ) -> list[Result]:
        """The next block -> the results that it completes.

        Args:
            samples: Floats in [-1, 1], (samples,) or (samples, channels), any number; channels are averaged.
            sample_rate: Theirs, Hz, 1,000 to 1,000,000; it may change from block to block.
            captured_at: When the first of them was captured, on the clock of `kerastag.edge.blocks.now`.
            lost_samples: Samples that are missing before them, at least 0.

        Raises:
            ValueError: An argument is outside its range; `BadSamples`, a ValueError too, where samples are NaN,
                infinite or integers read as float. The stream is as it was before and may go on.
        """
        started = time.perf_counter()
        rate, lost = _checked(sample_rate, lost_samples)
        results = self._results_of(self._hear(mono(samples), rate, captured_at, lost), started)
        self._busy_seconds += time.perf_counter() - started
        return results

    def flush(self) -> list[Result]:
        """The end of the stream -> its last results; the next block begins a new one, at second 0."""
        started = time.perf_counter()
        results = self._results_of(self._end(), started)
        self._begin()
        self._busy_seconds += time.perf_counter() - started
        return results

    def run(self, source: Iterable[Block]) -> Iterator[Result]:
        """Blocks as they come -> results as they come, and the last ones at the source's end.

        A block that holds no sound (`BadSamples`) counts as lost.
        """
        lost = Fraction(0)
        for block in source:
            lost_samples = block.lost_samples + round(lost * block.sample_rate)
            try:
                yield from self.feed(
                    block.samples, block.sample_rate, captured_at=block.captured_at, lost_samples=lost_samples
                )
                lost = Fraction(0)
            except BadSamples:
                lost = Fraction(lost_samples + len(block.samples), block.sample_rate)
        yield from self.flush()

    def stats(self) -> Stats:
        """How the stream fares, since the tagger was made."""
        at = self._latency.quantile
        return Stats(
            self._heard_seconds,
            self._lost_seconds,
            self._gaps,
            self._results,
            self._busy_seconds,
            self._busy_seconds / self._heard_seconds if self._heard_seconds else math.nan,
            at(0.5),
            at(0.95),
            at(0.99),
            self._latency.max,
            resident_bytes(),
        )

    def _begin(self) -> None:
        """A new stream."""
        self._mode = self._new_mode()
        self._clock = StreamClock(self._gap_seconds)
        self._rows: RowStream | None = None
        self._rate = self._grid.sample_rate
        self._before = Fraction(0)  # seconds before this stretch of audio without a gap
        self._samples = 0  # of this stretch
        self._told_loss = self._lost_seconds

    def _new_mode(self) -> Mode:
        if self._head is None:
            return WindowedMode(self._model, self._grid, 1.0 if self._hop_seconds is None else self._hop_seconds)
        return IncrementalMode(self._model, self._head, self._grid, self._hop_seconds, self._eight_bit)

    @property
    def _elapsed(self) -> Fraction:
        """Seconds of the stream, heard or missing: exact, so that they never drift."""
        return self._before + Fraction(self._samples, self._rate)

    def _hear(self, samples: np.ndarray, rate: int, captured_at: float | None, lost_samples: int) -> Iterator[Said]:
        lost = Fraction(lost_samples, rate)
        lost += Fraction(round(self._clock.missing(float(self._elapsed + lost), captured_at) * rate), rate)
        if lost or rate != self._rate:
            yield from self._new_stretch(rate, lost)
        if self._rows is None:
            self._rows = RowStream(rate, self._grid)
        self._samples += len(samples)
        self._heard_seconds += len(samples) / rate
        for rows in self._rows.feed(samples, self._mode.needed):
            yield from self._mode.add(rows)

    def _new_stretch(self, rate: int, lost: Fraction) -> Iterator[Said]:
        """What was heard ends here; after `lost` seconds audio at `rate` begins."""
        yield from self._end_stretch(round(self._row_now))
        self._before, self._samples, self._rate = self._elapsed + lost, 0, rate
        self._lost_seconds += float(lost)
        self._gaps += lost > 0
        if (missing := round(self._row_now) - self._mode.position) > 0:
            yield from self._mode.skip(missing)

    def _end_stretch(self, end: int) -> Iterator[Said]:
        """The rows that waited for more audio, up to row `end`: the reflection at the end may give one more."""
        if self._rows is None:
            return
        for rows in self._rows.flush():
            yield from self._mode.add(rows[: max(0, end - self._mode.position)])
        self._rows = None

    def _end(self) -> Iterator[Said]:
        yield from self._end_stretch(math.ceil(self._row_now))
        yield from self._mode.finish()

    @property
    def _row_now(self) -> Fraction:
        return self._elapsed * self._grid.sample_rate / self._grid.hop_length

    def _results_of(self, said: Iterator[Said], started: float) -> list[Result]:
        results = []
        for one in said:
            end_seconds = self._grid.seconds(one.end)
            age = self._clock.age(end_seconds)
            self._latency.add(time.perf_counter() - started if age is None else max(0.0, age))
            results.append(
                Result(
                    self._grid.seconds(one.start),
                    end_seconds,
                    one.probabilities,
                    one.framewise,
                    self._grid.seconds(one.framewise_start),
                    self._clock.began_at(),
                    self._lost_seconds - self._told_loss,
                )
            )
            self._told_loss = self._lost_seconds
        self._results += len(results)
        return results


def _mode(mode: str, head: object) -> str:
    if mode not in MODES:
        raise ValueError(f"`mode` must be one of {', '.join(MODES)}, received {mode!r}")
    found = "windowed" if head is None else "incremental"
    if mode not in ("auto", found):
        needed = "needs a `head`" if head is None else "takes no `head`"
        raise ValueError(f"`mode` {mode!r} {needed}, received {head!r}")
    return found


def _check_tags(model: LiteRTModel) -> None:
    if "clipwise" not in model.outputs:
        raise ValueError(f"{model.path}: must give `clipwise`; an embedder needs a `head`. Received: {model.outputs}")
    if model.card.labels is None:
        raise ValueError(f"{model.path}: its card names no classes")


def _is_audioset_embedder(model: LiteRTModel) -> bool:
    return model.card.front_end.get("name") == "vggish" and model.output_shapes.get("embedding", ())[-1:] == (128,)


def _grid(model: LiteRTModel) -> Grid:
    """The rows that a model hears, checked against its input."""
    if model.input == "waveform":
        if len(model.shape) != 2:
            raise ValueError(f"{model.path}: must hear `waveform` (1, samples). Received: {model.shape}")
        return Grid(model.card.sample_rate, None)
    if not model.card.front_end:
        raise ValueError(f"{model.path}: it hears log-mel, but its card has no `front_end`")
    front_end = FrontEnd.from_dict(dict(model.card.front_end))
    if model.shape[2:] != (front_end.num_mel_bins,) or front_end.sample_rate != model.card.sample_rate:
        raise ValueError(
            f"{model.path}: must hear {front_end.num_mel_bins} log-mel bands at {front_end.sample_rate} Hz, as its "
            f"card's front end makes them. Received: input {model.shape}, card {model.card.sample_rate} Hz"
        )
    return Grid(front_end.sample_rate, front_end)


def _checked(sample_rate: int, lost_samples: int) -> tuple[int, int]:
    """Both as plain integers, which seconds are counted with."""
    if not _MIN_RATE <= sample_rate <= _MAX_RATE or sample_rate != int(sample_rate):
        allowed = f"an integer from {_MIN_RATE} to {_MAX_RATE} Hz"
        raise ValueError(f"`sample_rate` must be {allowed}, received {sample_rate!r}")
    if not 0 <= lost_samples < math.inf or lost_samples != int(lost_samples):
        raise ValueError(f"`lost_samples` must be an integer of at least 0, received {lost_samples!r}")
    return int(sample_rate), int(lost_samples)
