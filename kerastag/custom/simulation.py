"""A simulated stream: sound goes through the exported files as in `kerastag stream`, and alarms are counted."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kerastag.custom.clips import Clips
from kerastag.data.audio_lists import Recording
from kerastag.data.sound_sources import find_sounds
from kerastag.data.soundscape_mixer import (
    MIX_SAMPLE_RATE,
    Excerpt,
    Soundscape,
    SoundscapeConfig,
    SoundscapeEvent,
    SoundscapeMixer,
)
from kerastag.edge.streaming import StreamingResult, StreamingTagger
from kerastag.events import Event, EventRules, EventTracker, limit_framewise
from kerastag.labels import LabelSet
from kerastag.rng import generator

__all__ = [
    "SNRS_DB",
    "Alarm",
    "EventStream",
    "PlacedEvent",
    "StreamPredictions",
    "compose_events",
    "render_events",
    "simulate_stream",
    "track_alarms",
]

SNRS_DB = (20.0, 10.0, 0.0)
"""Levels of the events of a simulated stream: power relative to that of the background, dB."""

_LEAD_SECONDS, _TAIL_SECONDS = 3.0, 4.0  # before and after the event of a scene
_BACKGROUND_DB = (-60.0, -30.0)
_MAX_CLIPS = 60
_SEED = 27


@dataclass(frozen=True, eq=False)
class StreamPredictions:
    """What a streaming tagger predicts for a stream.

    Attributes:
        framewise: Probabilities that an event tracker takes, float32 `(frames, classes)`.
        start_seconds: Start of the first frame.
        seconds_per_frame: Distance from one frame to the next.
        known_seconds: Position of the stream at which each frame was known, `(frames,)`.
    """

    framewise: np.ndarray
    start_seconds: float
    seconds_per_frame: float
    known_seconds: np.ndarray

    @property
    def hours(self) -> float:
        """Duration of the frames."""
        return len(self.framewise) * self.seconds_per_frame / 3600

    def select(self, classes: Sequence[int]) -> "StreamPredictions":
        """Select classes by their index."""
        framewise = self.framewise[:, list(classes)]
        return StreamPredictions(framewise, self.start_seconds, self.seconds_per_frame, self.known_seconds)


@dataclass(frozen=True)
class PlacedEvent:
    """A sound in a simulated stream: its classes, when it is there, and how loud it is."""

    classes: tuple[int, ...]
    onset_seconds: float
    offset_seconds: float
    snr_db: float


@dataclass(frozen=True)
class Alarm:
    """An alarm: the beginning of an event that `kerastag stream` reports, and when it reports it."""

    class_index: int
    onset_seconds: float
    reported_seconds: float


@dataclass(frozen=True, eq=False)
class EventStream:
    """A simulated stream with events, and what a tagger that was not trained on them predicts."""

    predictions: StreamPredictions
    events: tuple[PlacedEvent, ...]


def simulate_stream(tagger: StreamingTagger, blocks: Iterable[np.ndarray], sample_rate: int) -> StreamPredictions:
    """Tag a stream as `kerastag stream` does, up to the probabilities that its event tracker takes.

    Args:
        tagger: Streaming tagger, at the start of a stream.
        blocks: Consecutive blocks of the waveform, at least one frame in all.
        sample_rate: Sample rate of the blocks, Hz.

    Raises:
        ValueError: The stream is too short for one frame.
    """
    framewise, known, start_seconds = list[np.ndarray](), list[np.ndarray](), 0.0
    results = itertools.chain.from_iterable(tagger.feed(block, sample_rate) for block in blocks)
    for result in itertools.chain(results, _flush(tagger)):
        if not framewise:
            start_seconds = result.framewise_start_seconds
        framewise.append(limit_framewise(result.framewise, result.probabilities).astype(np.float32))
        known.append(np.full(len(result.framewise), result.end_seconds))
    if not framewise:
        raise ValueError("`blocks` must be as long as a frame of the model, or longer; received: less")
    return StreamPredictions(np.concatenate(framewise), start_seconds, tagger.seconds_per_frame, np.concatenate(known))


def track_alarms(predictions: StreamPredictions, rules: EventRules) -> list[Alarm]:
    """Report the alarms of a stream as `kerastag stream` does: frames arrive in the groups in which they were known."""
    tracker = EventTracker(predictions.framewise.shape[1], predictions.seconds_per_frame, rules)
    borders = np.flatnonzero(np.diff(predictions.known_seconds)) + 1
    alarms, first = [], 0
    for last in [*borders.tolist(), len(predictions.framewise)]:
        start_seconds = predictions.start_seconds + first * predictions.seconds_per_frame
        events = tracker.update(start_seconds, predictions.framewise[first:last])
        alarms += _create_alarms(events, float(predictions.known_seconds[last - 1]))
        first = last
    return alarms + _create_alarms(tracker.flush(), float(predictions.known_seconds[-1]))


def compose_events(
    clips: Clips, rows: Sequence[int], max_seconds: float, channel: str | int = "mean"
) -> list[SoundscapeEvent]:
    """Compose the events of a simulated stream: the sound of each clip, once at each of `SNRS_DB`, in random order.

    Of more than 60 clips, 60 are used, with the same share of each class.
    Recordings that are longer than `max_seconds` are left out, as their labels do not say where the sound is, like
    those that are silent. `excerpt.number` is the row of the clip.
    """
    random, events = generator(_SEED, 0), []
    by_class = np.argsort([int(np.argmax(clips.targets[row])) for row in rows], kind="stable")
    chosen = by_class[np.linspace(0, len(rows) - 1, min(len(rows), _MAX_CLIPS)).astype(int)]
    for row in np.asarray(rows)[chosen].tolist():
        clip = clips.audio[row]
        if not isinstance(clip, Recording) or not clips.targets[row].any():
            continue
        waveform = clip.load_waveform(MIX_SAMPLE_RATE, max_seconds + 1, channel)
        spans = find_sounds([waveform])
        if len(waveform) > max_seconds * MIX_SAMPLE_RATE or not spans:
            continue
        start, end = spans[0][0], spans[-1][1]
        excerpt = Excerpt(int(np.flatnonzero(clips.targets[row])[0]), clip.name, int(row), start, end - start)
        events += [SoundscapeEvent(excerpt, _LEAD_SECONDS, snr_db) for snr_db in SNRS_DB]
    order = random.permutation(len(events))
    return [events[position] for position in order]


def render_events(
    clips: Clips, events: Sequence[SoundscapeEvent], backgrounds: Sequence[np.ndarray], channel: str | int = "mean"
) -> Iterator[tuple[np.ndarray, PlacedEvent]]:
    """Render scenes of one event each, which follow each other in a stream, at `MIX_SAMPLE_RATE`.

    Args:
        clips: Clips that the events were composed from.
        events: Events of `compose_events`.
        backgrounds: Waveforms to mix the events into, at `MIX_SAMPLE_RATE`; none for noise.
        channel: Channel of recordings with several, as in `kerastag.audio.load`.

    Yields:
        The waveform of a scene, and its event with its place in the stream.
    """
    sounds, position = _ClipSounds(clips, [event.excerpt for event in events], channel), 0.0
    background = _Backgrounds(backgrounds) if backgrounds else None
    for number, event in enumerate(events):
        random = generator(_SEED, 1, number, event.excerpt.number)
        # In whole seconds: the Fourier transform of noise whose length has large prime factors takes many times longer.
        seconds = float(np.ceil(_LEAD_SECONDS + event.excerpt.seconds + _TAIL_SECONDS))
        excerpt, level_db = None, float(random.uniform(*_BACKGROUND_DB))
        if background is not None:
            excerpt = background.draw(random, seconds)
            level = np.sqrt(np.mean(np.square(background.load_waveform(excerpt), dtype=np.float64)))
            level_db = float(np.clip(20 * np.log10(max(level, 1e-9)), *_BACKGROUND_DB))
        scene = Soundscape((event,), level_db, excerpt, float(random.uniform(1, 2)), int(random.integers(2**63)))
        config = SoundscapeConfig(soundscape_seconds=seconds)
        waveform = SoundscapeMixer(sounds, config, background=background).render(scene, MIX_SAMPLE_RATE)
        onset = position + event.onset_seconds
        classes = tuple(np.flatnonzero(clips.targets[event.excerpt.number]).tolist())
        yield waveform, PlacedEvent(classes, onset, onset + event.excerpt.seconds, event.snr_db)
        position += len(waveform) / MIX_SAMPLE_RATE


class _ClipSounds:
    """The sounds of clips, for `SoundscapeMixer`."""

    def __init__(self, clips: Clips, excerpts: Sequence[Excerpt], channel: str | int) -> None:
        self.labels = LabelSet.from_names(clips.class_names)
        self._clips, self._excerpts, self._channel = clips, excerpts, channel

    def draw(self, random: np.random.Generator, max_seconds: float) -> Excerpt:
        excerpt = self._excerpts[int(random.integers(len(self._excerpts)))]
        return replace(excerpt, seconds=min(excerpt.seconds, max_seconds))

    def load_waveform(self, excerpt: Excerpt) -> np.ndarray:
        clip = self._clips.audio[excerpt.number]
        waveform = clip if isinstance(clip, np.ndarray) else clip.load_waveform(MIX_SAMPLE_RATE, channel=self._channel)
        first = round(excerpt.start_seconds * MIX_SAMPLE_RATE)
        return waveform[first : first + round(excerpt.seconds * MIX_SAMPLE_RATE)]


class _Backgrounds:
    """Waveforms as backgrounds, for `SoundscapeMixer`."""

    def __init__(self, waveforms: Sequence[np.ndarray]) -> None:
        self._waveforms = waveforms

    def draw(self, random: np.random.Generator, max_seconds: float) -> Excerpt:
        return Excerpt(-1, "ambient", int(random.integers(len(self._waveforms))), 0.0, max_seconds)

    def load_waveform(self, excerpt: Excerpt) -> np.ndarray:
        return self._waveforms[excerpt.number]


def _flush(tagger: StreamingTagger) -> Iterator[StreamingResult]:
    """Yield the last results, once those before them were taken."""
    yield from tagger.flush()


def _create_alarms(events: Iterable[Event], reported_seconds: float) -> list[Alarm]:
    return [
        Alarm(event.class_index, event.onset_seconds, reported_seconds)
        for event in events
        if event.offset_seconds is None
    ]
