"""Compose soundscapes from sounds of known classes at random times and levels over a background, and render them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import soxr

from kerastag.labels import LabelSet
from kerastag.rng import generator

MIX_SAMPLE_RATE = 44_100
"""Sample rate at which soundscapes are mixed, Hz. They are resampled once, so that only the rate depends on it."""

_SOUNDS_TRIED, _ONSETS_TRIED = 8, 8  # An event is skipped if none of them fits in.
_MIN_GAP_SECONDS = 0.5  # between two events of one class, so that they remain two
_FADE_SECONDS = 0.01
_MIN_NOISE_HZ = 50.0  # The spectrum of the background noise is flat below.
_MAX_PEAK = 0.95
_MIN_BACKGROUND_LEVEL = 1e-4  # A background recording below this level is amplified as if it had this level.


@dataclass(frozen=True)
class Excerpt:
    """A part of a recording, or a synthetic sound.

    Attributes:
        class_index: Class of the sound; -1 for a background and for a sound of no class.
        source: Name of the recording or of the synthetic class.
        number: Number of the recording in its list, or seed of the synthetic sound.
        start_seconds: Start within the recording, seconds.
        seconds: Length, seconds.
    """

    class_index: int
    source: str
    number: int
    start_seconds: float
    seconds: float


@dataclass(frozen=True)
class SoundscapeEvent:
    """An event of a soundscape.

    Attributes:
        excerpt: Sound of the event.
        onset_seconds: Start within the soundscape, seconds.
        snr_db: Power of the event relative to that of the background, dB.
    """

    excerpt: Excerpt
    onset_seconds: float
    snr_db: float

    @property
    def offset_seconds(self) -> float:
        """End within the soundscape, seconds, to the millisecond."""
        return round(self.onset_seconds + self.excerpt.seconds, 3)


@dataclass(frozen=True)
class Soundscape:
    """Everything that a soundscape is rendered from.

    Attributes:
        events: Events, sorted by onset.
        background_db: Power of the background relative to full scale, dB.
        background: Background recording; None for noise.
        noise_exponent: Exponent of the frequency with which the power of the noise falls: 1 is pink, 2 is brown.
        noise_seed: Seed of the noise.
        other_sounds: Sounds of no class.
    """

    events: tuple[SoundscapeEvent, ...]
    background_db: float
    background: Excerpt | None
    noise_exponent: float
    noise_seed: int
    other_sounds: tuple[SoundscapeEvent, ...] = ()

    @property
    def labels(self) -> tuple[int, ...]:
        """Sorted class indices of the events."""
        return tuple(sorted({event.excerpt.class_index for event in self.events}))


@dataclass(frozen=True)
class SoundscapeConfig:
    """Configuration of random soundscapes.

    Args:
        soundscape_seconds: Length of a soundscape, seconds, at least 0.1.
        min_events: Smallest number of events, at least 1.
        max_events: Largest number of events.
        max_event_seconds: Length to which longer sounds are cut, seconds, at least 0.1.
        max_overlap: Largest number of simultaneous events, at least 1.
        snr_db: Smallest and largest power of an event relative to the background, dB, in [-60, 60].
        background_db: Smallest and largest power of the background relative to full scale, dB, in [-90, -20].
        noise_exponents: Smallest and largest exponent of the background noise, in [0, 3]: 1 is pink, 2 is brown.
        max_other_sounds: Largest number of sounds of no class, at least 0.
        empty_share: Share of the soundscapes without events, in [0, 1].

    Raises:
        ValueError: An argument is out of range.
    """

    soundscape_seconds: float = 10.0
    min_events: int = 1
    max_events: int = 4
    max_event_seconds: float = 5.0
    max_overlap: int = 3
    snr_db: tuple[float, float] = (0.0, 20.0)
    background_db: tuple[float, float] = (-55.0, -35.0)
    noise_exponents: tuple[float, float] = (1.0, 2.0)
    max_other_sounds: int = 0
    empty_share: float = 0.0

    def __post_init__(self) -> None:
        for name in ("soundscape_seconds", "max_event_seconds"):
            if not 0.1 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"`{name}` must be at least 0.1; received: {value}")
        for name in ("min_events", "max_overlap"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"`{name}` must be at least 1; received: {value}")
        if self.max_other_sounds < 0:
            raise ValueError(f"`max_other_sounds` must be at least 0; received: {self.max_other_sounds}")
        if not 0 <= self.empty_share <= 1:
            raise ValueError(f"`empty_share` must be in [0, 1]; received: {self.empty_share}")
        if self.max_events < self.min_events:
            expected = f"at least `min_events` ({self.min_events})"
            raise ValueError(f"`max_events` must be {expected}; received: {self.max_events}")
        for name, least, most in (("snr_db", -60, 60), ("background_db", -90, -20), ("noise_exponents", 0, 3)):
            low, high = getattr(self, name)
            object.__setattr__(self, name, (low, high))  # a list of a TOML file becomes a tuple
            if not least <= low <= high <= most:
                expected = f"two sorted numbers in [{least}, {most}]"
                raise ValueError(f"`{name}` must be {expected}; received: {low} and {high}")


class BackgroundSource(Protocol):
    """Source of sounds to draw from, such as the recordings of a folder."""

    def draw(self, random: np.random.Generator, max_seconds: float) -> Excerpt:
        """Draw a random sound of at most `max_seconds`."""

    def load_waveform(self, excerpt: Excerpt) -> np.ndarray:
        """Load a drawn sound, `(samples,)` at `MIX_SAMPLE_RATE`."""


class SoundSource(BackgroundSource, Protocol):
    """Source of sounds of known classes, which draws every class equally often."""

    labels: LabelSet


class SoundscapeMixer:
    """Composer and renderer of random soundscapes.

    Soundscape `i` is a pure function of the arguments and `i`.

    Args:
        sounds: Source of the events.
        config: Configuration of the soundscapes.
        seed: Seed, a non-negative integer.
        split: Name of the split; different splits have different soundscapes.
        background: Source of the background; None for noise between pink and brown.
        other_sounds: Source of the sounds of no class; may be None if `config.max_other_sounds` is 0.

    Raises:
        ValueError: `seed` is negative, or a source is missing.

    >>> from kerastag.data import SoundscapeConfig, SoundscapeMixer, SyntheticSounds
    >>> mixer = SoundscapeMixer(SyntheticSounds(), SoundscapeConfig(soundscape_seconds=2.0), seed=0, split="train")
    >>> mixer.render(mixer.compose(5), 16_000).shape
    (32000,)
    """

    def __init__(
        self,
        sounds: SoundSource,
        config: SoundscapeConfig | None = None,
        *,
        seed: int = 0,
        split: str = "",
        background: BackgroundSource | None = None,
        other_sounds: BackgroundSource | None = None,
    ) -> None:
        if seed < 0:
            raise ValueError(f"`seed` must be at least 0; received: {seed}")
        self.sounds, self.config = sounds, config or SoundscapeConfig()
        self.background, self.other_sounds = background, other_sounds
        if other_sounds is None and self.config.max_other_sounds:
            raise ValueError("`other_sounds` must be a source of sounds if `max_other_sounds` is above 0")
        self._key = (seed, int.from_bytes(split.encode()))

    def compose(self, number: int) -> Soundscape:
        """Compose soundscape `number`, from 0."""
        random, config = generator(*self._key, number), self.config
        events: list[SoundscapeEvent] = []
        for _ in range(random.integers(config.min_events, config.max_events + 1)):
            for _ in range(_SOUNDS_TRIED):
                if (event := self._draw_event(random, events)) is not None:
                    events.append(event)
                    break
        background = self.background.draw(random, config.soundscape_seconds) if self.background else None
        # A generator of its own, so that the events are the same with and without other sounds.
        random_of_others = generator(*self._key, number, 1)
        is_empty = random_of_others.random() < config.empty_share
        return Soundscape(
            () if is_empty else tuple(sorted(events, key=lambda event: event.onset_seconds)),
            random.uniform(*config.background_db),
            background,
            random.uniform(*config.noise_exponents),
            int(random.integers(2**63)),
            self._draw_other_sounds(random_of_others),
        )

    def render(self, soundscape: Soundscape, sample_rate: int) -> np.ndarray:
        """Render a soundscape, float32 `(samples,)` in [-0.95, 0.95], attenuated as a whole where it would clip."""
        samples = round(self.config.soundscape_seconds * MIX_SAMPLE_RATE)
        level = 10 ** (soundscape.background_db / 20)
        mix = level * self._make_background(soundscape, samples)
        for event in (*soundscape.events, *soundscape.other_sounds):
            first = round(event.onset_seconds * MIX_SAMPLE_RATE)
            source = self.sounds if event.excerpt.class_index >= 0 else self.other_sounds
            assert source is not None
            waveform = _fade(source.load_waveform(event.excerpt))[: samples - first]
            mix[first : first + len(waveform)] += level * 10 ** (event.snr_db / 20) * _normalize_power(waveform)
        if sample_rate != MIX_SAMPLE_RATE:
            mix = soxr.resample(_limit_peak(mix), MIX_SAMPLE_RATE, sample_rate, quality="HQ")
        length = round(self.config.soundscape_seconds * sample_rate)
        mix = np.pad(mix[:length], (0, max(0, length - len(mix))))
        return _limit_peak(mix).astype(np.float32)

    def _draw_event(self, random: np.random.Generator, others: list[SoundscapeEvent]) -> SoundscapeEvent | None:
        """Draw a sound and an onset at which it fits in, or None if no onset fits."""
        config = self.config
        excerpt = self.sounds.draw(random, min(config.max_event_seconds, config.soundscape_seconds))
        snr_db = random.uniform(*config.snr_db)
        for onset in random.uniform(0, config.soundscape_seconds - excerpt.seconds, _ONSETS_TRIED):
            event = SoundscapeEvent(excerpt, math.floor(onset * 1000) / 1000, snr_db)
            if self._fits(event, others):
                return event
        return None

    def _draw_other_sounds(self, random: np.random.Generator) -> tuple[SoundscapeEvent, ...]:
        """Draw sounds of no class, of any length that fits in, without regard to each other and to the events."""
        if self.other_sounds is None:
            return ()
        config, events = self.config, []
        for _ in range(random.integers(config.max_other_sounds + 1)):
            excerpt = self.other_sounds.draw(random, config.soundscape_seconds)
            onset = random.uniform(0, config.soundscape_seconds - excerpt.seconds)
            events.append(SoundscapeEvent(excerpt, math.floor(onset * 1000) / 1000, random.uniform(*config.snr_db)))
        return tuple(events)

    def _fits(self, event: SoundscapeEvent, others: list[SoundscapeEvent]) -> bool:
        onset, offset = event.onset_seconds, event.offset_seconds
        for other in others:
            if other.excerpt.class_index == event.excerpt.class_index and (
                onset < other.offset_seconds + _MIN_GAP_SECONDS and other.onset_seconds < offset + _MIN_GAP_SECONDS
            ):
                return False
        overlapping = [other for other in others if other.onset_seconds < offset and onset < other.offset_seconds]
        # The number of simultaneous events is largest at an onset.
        moments = (onset, *(other.onset_seconds for other in overlapping if other.onset_seconds > onset))
        simultaneous = (sum(o.onset_seconds <= moment < o.offset_seconds for o in overlapping) for moment in moments)
        return max(simultaneous) < self.config.max_overlap

    def _make_background(self, soundscape: Soundscape, samples: int) -> np.ndarray:
        """Return the background with a power of 1."""
        if self.background is None or soundscape.background is None:
            return _make_noise(generator(soundscape.noise_seed), samples, soundscape.noise_exponent)
        waveform = self.background.load_waveform(soundscape.background)
        return _normalize_power(np.resize(waveform, samples), _MIN_BACKGROUND_LEVEL)  # A short recording is repeated.


def _make_noise(random: np.random.Generator, samples: int, exponent: float) -> np.ndarray:
    spectrum = np.fft.rfft(random.standard_normal(samples))
    hertz = np.fft.rfftfreq(samples, 1 / MIX_SAMPLE_RATE)
    spectrum *= np.maximum(hertz, _MIN_NOISE_HZ) ** (-exponent / 2)
    spectrum[0] = 0
    return _normalize_power(np.fft.irfft(spectrum, samples))


def _fade(waveform: np.ndarray) -> np.ndarray:
    """Fade a waveform in and out, so that cutting it makes no click, and remove its mean."""
    length = min(round(_FADE_SECONDS * MIX_SAMPLE_RATE), len(waveform) // 2)
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / max(1, length))
    faded = waveform.astype(np.float64) - waveform.mean()
    faded[:length] *= ramp
    faded[len(faded) - length :] *= ramp[::-1]
    return faded


def _normalize_power(waveform: np.ndarray, min_level: float = 0.0) -> np.ndarray:
    """Scale a waveform to a power of 1, or to less if its level is below `min_level`."""
    level = math.sqrt(float(np.mean(np.square(waveform, dtype=np.float64))))
    return waveform / max(level, min_level, 1e-12)


def _limit_peak(waveform: np.ndarray) -> np.ndarray:
    return waveform * min(1.0, _MAX_PEAK / max(float(np.abs(waveform).max()), 1e-12))
