"""Sounds of known class -> scenes: some of them at random times and levels over a background."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import soxr

from kerastag.labels import LabelSet

__all__ = ["MIX_RATE", "Background", "Excerpt", "Mixer", "Scene", "SceneEvent", "SceneRules", "Sounds", "generator"]

MIX_RATE = 44_100
"""Scenes are mixed at this rate, Hz, and resampled once, so that those of one seed differ only in rate."""

_SOUNDS_TRIED, _ONSETS_TRIED = 8, 8  # an event for which none of them finds room is left out
_APART_SECONDS = 0.5  # between two events of one class, so that they are two
_FADE_SECONDS = 0.01
_LOWEST_HZ = 50.0  # the noise of the background rises no further below
_PEAK = 0.95
_SILENCE = 1e-4  # a background is not raised above its level by more than this is below


@dataclass(frozen=True)
class Excerpt:
    """A part of a recording, or a sound that is made.

    Attributes:
        class_index: of the class that sounds.
        source: name of the recording, or of what makes the sound.
        number: of the recording in its list, or the seed of the sound.
        start_seconds: where in the recording it begins.
        seconds: how long it is.
    """

    class_index: int
    source: str
    number: int
    start_seconds: float
    seconds: float


@dataclass(frozen=True)
class SceneEvent:
    """An excerpt, when it sounds in the scene, and how many dB its power is above the background's."""

    excerpt: Excerpt
    onset_seconds: float
    snr_db: float

    @property
    def offset_seconds(self) -> float:
        """When it ends, to the millisecond."""
        return round(self.onset_seconds + self.excerpt.seconds, 3)


@dataclass(frozen=True)
class Scene:
    """What a scene is made of.

    Attributes:
        events: by onset, at least one.
        background_db: power of the background below full scale, dB.
        background: what sounds in it; None is noise.
        noise_exponent: the noise's power falls with this power of the frequency: 1 is pink, 2 is brown.
        noise_seed: of the noise.
    """

    events: tuple[SceneEvent, ...]
    background_db: float
    background: Excerpt | None
    noise_exponent: float
    noise_seed: int

    @property
    def labels(self) -> tuple[int, ...]:
        """The classes that sound, each once."""
        return tuple(sorted({event.excerpt.class_index for event in self.events}))


@dataclass(frozen=True)
class SceneRules:
    """What scenes are like.

    Args:
        scene_seconds: length of a scene.
        min_events: fewest events of a scene, 1 or more.
        max_events: most events of a scene.
        max_event_seconds: a longer sound is cut to an excerpt of this length.
        max_overlap: most events that sound at once.
        snr_db: lowest and highest power of an event above the background, dB.
        background_db: lowest and highest power of the background below full scale, dB.
        noise_exponents: lowest and highest slope of the background's noise: 1 is pink, 2 is brown.

    Raises:
        ValueError: an argument out of range.
    """

    scene_seconds: float = 10.0
    min_events: int = 1
    max_events: int = 4
    max_event_seconds: float = 5.0
    max_overlap: int = 3
    snr_db: tuple[float, float] = (0.0, 20.0)
    background_db: tuple[float, float] = (-55.0, -35.0)
    noise_exponents: tuple[float, float] = (1.0, 2.0)

    def __post_init__(self) -> None:
        for name in ("scene_seconds", "max_event_seconds"):
            if not 0.1 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"`{name}` must be at least 0.1, received {value}")
        for name in ("min_events", "max_overlap"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"`{name}` must be at least 1, received {value}")
        if self.max_events < self.min_events:
            raise ValueError(
                f"`max_events` must be at least `min_events` ({self.min_events}), received {self.max_events}"
            )
        for name, least, most in (("snr_db", -60, 60), ("background_db", -90, -20), ("noise_exponents", 0, 3)):
            low, high = getattr(self, name)
            object.__setattr__(self, name, (low, high))
            if not least <= low <= high <= most:
                raise ValueError(f"`{name}` must be two numbers from {least} to {most}, received {low} and {high}")


class Sounds(Protocol):
    """What events are drawn from: recordings, or sounds that are made."""

    labels: LabelSet

    def draw(self, random: np.random.Generator, max_seconds: float) -> Excerpt:
        """A generator -> a sound of any class, each class as often as the others."""
        ...

    def waveform(self, excerpt: Excerpt) -> np.ndarray:
        """What `draw` gave -> its samples at `MIX_RATE`."""
        ...


class Background(Protocol):
    """What is drawn to sound behind the events."""

    def draw(self, random: np.random.Generator, seconds: float) -> Excerpt:
        """A generator -> a part of a recording."""
        ...

    def waveform(self, excerpt: Excerpt) -> np.ndarray:
        """What `draw` gave -> its samples at `MIX_RATE`."""
        ...


class Mixer:
    """A seed and the number of a scene -> what is in it, and how it sounds.

    Scene i is a pure function of the arguments and of i.

    Args:
        sounds: what events are drawn from.
        rules: what scenes are like.
        seed: not negative.
        split: name of the split; scenes of two splits have nothing in common.
        background: what sounds behind the events; None is noise between pink and brown.

    >>> from kerastag.data.synthetic_events import SyntheticSounds
    >>> mixer = Mixer(SyntheticSounds(), SceneRules(scene_seconds=2.0), seed=0, split="train")
    >>> mixer.render(mixer.scene(5), 16_000).shape
    (32000,)
    """

    def __init__(
        self,
        sounds: Sounds,
        rules: SceneRules | None = None,
        *,
        seed: int = 0,
        split: str = "",
        background: Background | None = None,
    ) -> None:
        if seed < 0:
            raise ValueError(f"`seed` must not be negative, received {seed}")
        self.sounds, self.rules, self.background = sounds, rules or SceneRules(), background
        self._key = (seed, int.from_bytes(split.encode()))

    def scene(self, number: int) -> Scene:
        """The number of a scene, from 0 -> what it is made of."""
        random, rules = generator(*self._key, number), self.rules
        events: list[SceneEvent] = []
        for _ in range(random.integers(rules.min_events, rules.max_events + 1)):
            for _ in range(_SOUNDS_TRIED):
                if (event := self._event(random, events)) is not None:
                    events.append(event)
                    break
        background = self.background.draw(random, rules.scene_seconds) if self.background else None
        return Scene(
            tuple(sorted(events, key=lambda event: event.onset_seconds)),
            random.uniform(*rules.background_db),
            background,
            random.uniform(*rules.noise_exponents),
            int(random.integers(2**63)),
        )

    def render(self, scene: Scene, sample_rate: int) -> np.ndarray:
        """A scene -> its waveform at `sample_rate`, Hz, float32 `(samples,)`; nothing is clipped."""
        samples = round(self.rules.scene_seconds * MIX_RATE)
        level = 10 ** (scene.background_db / 20)
        mix = level * self._background(scene, samples)
        for event in scene.events:
            waveform = _faded(self.sounds.waveform(event.excerpt))
            first = round(event.onset_seconds * MIX_RATE)
            waveform = waveform[: samples - first]
            mix[first : first + len(waveform)] += level * 10 ** (event.snr_db / 20) * _normalized(waveform, 0.0)
        if sample_rate != MIX_RATE:
            mix = soxr.resample(_below(mix), MIX_RATE, sample_rate, quality="HQ")
        wanted = round(self.rules.scene_seconds * sample_rate)
        mix = np.pad(mix[:wanted], (0, max(0, wanted - len(mix))))
        return _below(mix).astype(np.float32)

    def _event(self, random: np.random.Generator, others: list[SceneEvent]) -> SceneEvent | None:
        """A sound and an onset at which there is room for it, if one is found."""
        rules = self.rules
        excerpt = self.sounds.draw(random, min(rules.max_event_seconds, rules.scene_seconds))
        snr_db = random.uniform(*rules.snr_db)
        for onset in random.uniform(0, rules.scene_seconds - excerpt.seconds, _ONSETS_TRIED):
            event = SceneEvent(excerpt, math.floor(onset * 1000) / 1000, snr_db)
            if self._fits(event, others):
                return event
        return None

    def _fits(self, event: SceneEvent, others: list[SceneEvent]) -> bool:
        first, end = event.onset_seconds, event.offset_seconds
        for other in others:
            if other.excerpt.class_index == event.excerpt.class_index and (
                first < other.offset_seconds + _APART_SECONDS and other.onset_seconds < end + _APART_SECONDS
            ):
                return False
        together = [other for other in others if other.onset_seconds < end and first < other.offset_seconds]
        # As many sound at once as at some onset.
        at_once = [
            sum(other.onset_seconds <= moment < other.offset_seconds for other in together)
            for moment in (first, *(other.onset_seconds for other in together if other.onset_seconds > first))
        ]
        return max(at_once) < self.rules.max_overlap

    def _background(self, scene: Scene, samples: int) -> np.ndarray:
        """What sounds behind, with a power of 1."""
        if self.background is None or scene.background is None:
            return _noise(generator(scene.noise_seed), samples, scene.noise_exponent)
        waveform = self.background.waveform(scene.background)
        return _normalized(np.resize(waveform, samples), _SILENCE)  # a short one is repeated


def generator(*key: int) -> np.random.Generator:
    """Whole numbers, not negative -> the random numbers that belong to them."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def _noise(random: np.random.Generator, samples: int, exponent: float) -> np.ndarray:
    spectrum = np.fft.rfft(random.standard_normal(samples))
    hertz = np.fft.rfftfreq(samples, 1 / MIX_RATE)
    spectrum *= np.maximum(hertz, _LOWEST_HZ) ** (-exponent / 2)
    spectrum[0] = 0
    return _normalized(np.fft.irfft(spectrum, samples), 0.0)


def _faded(waveform: np.ndarray) -> np.ndarray:
    """Its ends rise and fall within a hundredth of a second, so that cutting makes no click."""
    length = min(round(_FADE_SECONDS * MIX_RATE), len(waveform) // 2)
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / max(1, length))
    faded = waveform.astype(np.float64) - waveform.mean()
    faded[:length] *= ramp
    faded[len(faded) - length :] *= ramp[::-1]
    return faded


def _normalized(waveform: np.ndarray, floor: float) -> np.ndarray:
    """With a power of 1, or less where it is no louder than `floor`."""
    level = math.sqrt(float(np.mean(np.square(waveform, dtype=np.float64))))
    return waveform / max(level, floor, 1e-12)


def _below(waveform: np.ndarray) -> np.ndarray:
    return waveform * min(1.0, _PEAK / max(float(np.abs(waveform).max()), 1e-12))
