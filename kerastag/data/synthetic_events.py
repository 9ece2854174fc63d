"""Five classes of sounds from a seed, and scenes of them as packs: what a recipe hears when it is given no data."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import numpy as np

from kerastag.data.mixing import MIX_RATE, Excerpt, SceneRules, generator
from kerastag.data.soundscapes import ScenesReport, write_scenes
from kerastag.labels import LabelSet

__all__ = ["SYNTHETIC_EVENTS", "SyntheticSounds", "write_synthetic_scenes"]


def _chirps(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A bird's: short tones that rise, one after the other."""
    period, low, rise = random.uniform(0.12, 0.25), random.uniform(2000, 3500), random.uniform(4000, 9000)
    within = t % period
    return np.sin(2 * np.pi * (low * within + rise * within**2)) * np.exp(-0.5 * ((within / period - 0.4) / 0.15) ** 2)


def _clicks(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A ratchet's: short bursts of a ringing body."""
    within = t % random.uniform(0.08, 0.2)
    return np.exp(-within * random.uniform(200, 500)) * np.sin(2 * np.pi * random.uniform(1500, 3500) * within)


def _bursts(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Steam's: noise that swells and dies away."""
    swell = 0.5 - 0.5 * np.cos(2 * np.pi * t * random.uniform(1, 2.5) + random.uniform(0, 2 * np.pi))
    return random.standard_normal(len(t)) * swell**2


def _hums(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A transformer's: a low tone and its harmonics."""
    base, partials = random.uniform(90, 250), np.arange(1, 9)[:, None]
    phases = random.uniform(0, 2 * np.pi, partials.shape)
    return (np.sin(2 * np.pi * base * partials * t + phases) / partials).sum(axis=0)


def _sweeps(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A siren's: one tone that goes up and down."""
    middle, width, speed = random.uniform(700, 1200), random.uniform(250, 500), random.uniform(0.4, 1.2)
    return np.sin(2 * np.pi * middle * t + width / speed * np.sin(2 * np.pi * speed * t + random.uniform(0, 6)))


SYNTHETIC_EVENTS: Mapping[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "bursts": _bursts,
    "chirps": _chirps,
    "clicks": _clicks,
    "hums": _hums,
    "sweeps": _sweeps,
}
"""Class -> function of times in seconds and a generator that gives the samples at those times."""


class SyntheticSounds:
    """A generator -> sounds of five classes, for `Mixer`: each sounds a little different every time.

    Args:
        min_seconds: shortest sound.
        max_seconds: longest sound.

    >>> sounds = SyntheticSounds()
    >>> excerpt = sounds.draw(np.random.default_rng(0), 5.0)
    >>> sounds.labels.names[excerpt.class_index], sounds.waveform(excerpt).shape
    ('sweeps', (48554,))
    """

    def __init__(self, min_seconds: float = 0.4, max_seconds: float = 3.0) -> None:
        if not 0 < min_seconds <= max_seconds:
            raise ValueError(f"`min_seconds` must be above 0 and at most {max_seconds}, received {min_seconds}")
        self.labels = LabelSet.from_names(SYNTHETIC_EVENTS)
        self._seconds = min_seconds, max_seconds

    def draw(self, random: np.random.Generator, max_seconds: float) -> Excerpt:
        class_index = int(random.integers(len(self.labels)))
        shortest, longest = self._seconds
        seconds = round(random.uniform(min(shortest, max_seconds), min(longest, max_seconds)), 3)
        return Excerpt(class_index, self.labels.names[class_index], int(random.integers(2**63)), 0.0, seconds)

    def waveform(self, excerpt: Excerpt) -> np.ndarray:
        times = np.arange(round(excerpt.seconds * MIX_RATE)) / MIX_RATE
        return SYNTHETIC_EVENTS[self.labels.names[excerpt.class_index]](times, generator(excerpt.number))


def write_synthetic_scenes(
    folder: str | os.PathLike[str],
    *,
    sample_rate: int,
    counts: Mapping[str, int] | None = None,
    rules: SceneRules | None = None,
    seed: int = 0,
    with_audio: bool = False,
    with_jams: bool = False,
    progress: bool | None = False,
) -> dict[str, ScenesReport]:
    """A seed -> packs of synthetic scenes and their events: `bal_train.h5`, `bal_train.tsv`, `eval.h5`, `eval.tsv`.

    Args:
        folder: where to write.
        sample_rate: of the scenes, Hz.
        counts: split -> scenes in it; None is 300 of `bal_train` and 120 of `eval`.
        rules: what scenes are like.
        seed: not negative.
        with_audio, with_jams: as for `write_scenes`.
        progress: show a progress bar; None where standard error is a terminal.

    Returns:
        Split -> what was written.

    Raises:
        ValueError: an argument out of range.
    """
    counts = {"bal_train": 300, "eval": 120} if counts is None else counts
    return {
        split: write_scenes(
            SyntheticSounds(),
            folder,
            split,
            count,
            sample_rate=sample_rate,
            rules=rules,
            seed=seed,
            attributes={"source": f"kerastag, synthesized, seed {seed}", "license": "CC0-1.0"},
            with_audio=with_audio,
            with_jams=with_jams,
            progress=progress,
        )
        for split, count in counts.items()
    }
