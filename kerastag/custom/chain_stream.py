"""The deployed chain: the file of a recording, streamed through exported files as `kerastag stream` does."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerastag import audio
from kerastag.custom.chain_reference import Reference
from kerastag.custom.exported import ExportedTagger
from kerastag.data.audio_lists import Recording
from kerastag.dsp import FrontEnd
from kerastag.edge.blocks import Block
from kerastag.edge.config import StreamConfig
from kerastag.edge.rows import InvalidSamplesError
from kerastag.edge.runtime import AUDIO_INPUTS, LiteRTModel
from kerastag.edge.service import create_rules
from kerastag.edge.sources import open_source
from kerastag.edge.streaming import StreamingResult, StreamingTagger
from kerastag.events import EventTracker, limit_framewise

__all__ = ["DeployedChain", "Streamed"]

_BLOCK_SECONDS = 0.1
_SEAM_TOLERANCE = 0.01  # of an output frame


@dataclass(frozen=True, eq=False)
class Streamed:
    """What a stream made of the first window of a clip; `segments` to `framewise` are those of a `Reference`.

    Attributes:
        waveform: Decoded samples, `(samples,)`.
        segments: What the embedder took.
        log_mel: Log-mel spectrogram of the first segment by the front end in the card of the embedder, or None.
        embeddings: Output of the embedder.
        clipwise: Probabilities of the results.
        framewise: Probabilities of each segment; of a window, those of its last output frames, which begin at
            `first_frame`.
        limited: Probabilities from which events are detected, `(frames, classes)`.
        classes: Classes of the detected events; those that reach their threshold in the last window.
        first_frame: Number of output frames of the window before those of `framewise`.
        seam_seconds: Where the output frames of two results do not follow each other; None where they all do.
    """

    waveform: np.ndarray
    segments: np.ndarray
    log_mel: np.ndarray | None
    embeddings: np.ndarray
    clipwise: np.ndarray
    framewise: np.ndarray
    limited: np.ndarray
    classes: set[int]
    first_frame: int = 0
    seam_seconds: float | None = None


class DeployedChain:
    """Exported files in a `StreamingTagger` whose model keeps its inputs and outputs.

    Attributes:
        tagger: Streaming tagger.
        rules: Rules that `kerastag stream` has for the events of all classes.

    Args:
        exported: Exported files.
        channel: Channel of recordings with several, as in `kerastag.audio.load`.

    Raises:
        ValueError: The files do not match, or the model does not take waveforms.
    """

    def __init__(self, exported: ExportedTagger, channel: str | int = "mean") -> None:
        self._model, self._channel = _RecordedModel(exported.embedder), channel
        if self._model.input != "waveform":
            raise ValueError(f"{exported.embedder}: must take a waveform; received: {self._model.input}")
        self.tagger = StreamingTagger(self._model, exported.head)
        self._is_window, self._has_head = self.tagger.mode == "windowed", exported.head is not None
        head = None if exported.head is None else str(exported.head)
        config = StreamConfig(model=str(exported.embedder), head=head)
        self.rules = create_rules(config, self.tagger, range(len(self.tagger.labels)))

    def run(self, reference: Reference) -> Streamed:
        """Stream as much of a clip as its reference has; errors are those of `kerastag.audio.load`."""
        tagger, seconds = self.tagger, len(reference.waveform) / self.tagger.sample_rate
        self._model.calls.clear()
        samples, results = [], []
        for block in _limit(self._read(reference.recording), seconds):
            samples.append(block.samples)
            with contextlib.suppress(InvalidSamplesError):  # A stream continues; the level shows the reason.
                results += tagger.feed_block(block)
        results += tagger.flush()
        tracker = EventTracker(len(tagger.labels), tagger.seconds_per_frame, self.rules)
        events, limited = [], [np.zeros((1, len(tagger.labels)), np.float32)]
        for result in results:
            limited.append(np.nan_to_num(limit_framewise(result.framewise, result.probabilities)))
            events += tracker.update(result.framewise_start_seconds, limited[-1])
        events += tracker.flush()
        classes = {event.class_index for event in events}
        # The last window has all of the clip.
        calls = self._model.calls[-1:] if self._is_window else self._model.calls
        clipwise = _stack([result.probabilities for result in results])
        framewise, first_frame = _stack([result.framewise[0] for result in results if len(result.framewise)]), 0
        embeddings = _stack([embedding for _, embedding in calls])
        if self._is_window and results:
            clipwise = clipwise[-1:]
            classes = set(np.flatnonzero((clipwise >= self.rules.onset_thresholds).any(axis=0)).tolist())
            embeddings = embeddings.reshape(-1, embeddings.shape[-1])
            if self._has_head:
                seconds = results[-1].framewise_start_seconds - results[-1].start_seconds
                framewise, first_frame = results[-1].framewise, round(seconds / tagger.seconds_per_frame)
            else:
                framewise = clipwise  # Frames of a whole model in 8 bits differ by more than its window.
        segments = _stack([segment for segment, _ in calls])
        return Streamed(
            waveform=np.concatenate(samples) if samples else np.zeros(0, np.float32),
            segments=segments,
            log_mel=self._compute_log_mel(segments),
            embeddings=embeddings,
            clipwise=clipwise,
            framewise=framewise,
            limited=np.concatenate(limited),
            classes=classes,
            first_frame=first_frame,
            seam_seconds=_find_seam(results, tagger.seconds_per_frame),
        )

    def _read(self, recording: Recording) -> Iterator[Block]:
        """Read a file, or a part of one, as a stream does."""
        rate = self.tagger.sample_rate
        if recording.end_seconds is None:
            with contextlib.closing(open_source(str(recording.path), rate, channel=self._channel)) as source:
                yield from source
            return
        part = {
            "offset_seconds": recording.start_seconds,
            "duration_seconds": recording.end_seconds - recording.start_seconds,
        }
        for samples in audio.read_blocks(recording.path, rate, _BLOCK_SECONDS, channel=self._channel, **part):
            yield Block(samples, rate)

    def _compute_log_mel(self, segments: np.ndarray) -> np.ndarray | None:
        front_end = self._model.card.front_end
        if not front_end or not len(segments):
            return None
        return FrontEnd.from_dict(dict(front_end)).compute_log_mel(segments[0])


class _RecordedModel(LiteRTModel):
    """A model that keeps the inputs and embeddings of its calls."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, 1, AUDIO_INPUTS)
        self.calls: list[tuple[np.ndarray, np.ndarray]] = []

    def __call__(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        outputs = super().__call__(batch)
        self.calls.append((batch[0].copy(), outputs["embedding"][0].copy()))
        return outputs


def _limit(blocks: Iterator[Block], seconds: float) -> Iterator[Block]:
    """Yield the first seconds of a stream."""
    for block in blocks:
        count = round(seconds * block.sample_rate)
        if count <= 0:
            return
        yield block._replace(samples=block.samples[:count])
        seconds -= len(block.samples) / block.sample_rate


def _find_seam(results: list[StreamingResult], seconds_per_frame: float) -> float | None:
    """Return where the frames of a result do not begin at the end of those before; None where they all do."""
    end = 0.0
    for result in results:
        if abs(result.framewise_start_seconds - end) > _SEAM_TOLERANCE * seconds_per_frame:
            return result.framewise_start_seconds
        end += len(result.framewise) * seconds_per_frame
    return None


def _stack(arrays: list[np.ndarray]) -> np.ndarray:
    return np.stack(arrays) if arrays else np.zeros((0, 0), np.float32)
