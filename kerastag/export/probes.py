"""Signals that every exported file must hear as Keras does; made by arithmetic, the same each time."""

from __future__ import annotations

import numpy as np

from kerastag.export.serving import Served

__all__ = ["embeddings", "inputs", "waveforms"]

LEVELS = (0.5, 0.05, 0.005)
"""Peaks of noise and of speech-like sound: what a device records in a quiet room is a hundredth of full scale."""


def inputs(served: Served) -> dict[str, np.ndarray]:
    """What is served -> named inputs (1, ...) of its shape, float32."""
    if served.input == "embedding":
        return {name: each[None] for name, each in embeddings(*served.shape).items()}
    sounds = waveforms(served.card.sample_rate, served.samples)
    if served.input == "waveform":
        return {name: each[None] for name, each in sounds.items()}
    return {name: served.front_end.log_mel(each)[None] for name, each in sounds.items()}


def waveforms(sample_rate: int, samples: int) -> dict[str, np.ndarray]:
    """Silence, a sine, noise and something like speech at each of `LEVELS` -> (samples,) float32, in 16-bit steps.

    >>> sorted(waveforms(16_000, 100))[:2]
    ['noise 0.005', 'noise 0.05']
    """
    seconds = np.arange(samples) / sample_rate
    made = {"silence": np.zeros(samples), "sine": 0.5 * np.sin(2 * np.pi * 440 * seconds)}
    shapes = {"noise": np.random.default_rng(0).standard_normal(samples), "speech": _speech(seconds, sample_rate)}
    for name, shape in shapes.items():
        for level in LEVELS:
            made[f"{name} {level:g}"] = level * shape / np.abs(shape).max()
    # As a recording is: float arithmetic leaves rounding of its own between the steps of a pure tone.
    return {name: (np.rint(32_767 * each) / 32_768).astype(np.float32) for name, each in made.items()}


def embeddings(segments: int, features: int) -> dict[str, np.ndarray]:
    """Segments in AudioSet's 8-bit steps, a clip that is half padding, one that is all padding: (segments, features).

    >>> int(embeddings(10, 128)["one segment"].any(axis=1).sum())
    1
    """
    steps = np.random.default_rng(0).normal(0, 40, (segments, features)).clip(-128, 127).round() / 128
    made = {"noise 1": steps, "noise 0.1": (steps * 12.8).round() / 128, "padding": np.zeros_like(steps)}
    made["half padding"] = np.where(np.arange(segments)[:, None] < segments // 2, steps, 0)
    made["one segment"] = np.where(np.arange(segments)[:, None] < 1, steps, 0)
    made["equal segments"] = np.repeat(steps[:1], segments, axis=0)
    return {name: each.astype(np.float32) for name, each in made.items()}


def _speech(seconds: np.ndarray, sample_rate: int) -> np.ndarray:
    """Syllables: harmonics of a gliding voice under two formants, three a second, with breath between them."""
    rng = np.random.default_rng(1)
    pitch = 140 + 30 * np.sin(2 * np.pi * 0.7 * seconds)
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    voice = np.zeros(len(seconds))
    for harmonic in range(1, 30):
        hertz = 140 * harmonic
        loudness = np.exp(-(((hertz - 600) / 400) ** 2)) + 0.4 * np.exp(-(((hertz - 1_900) / 500) ** 2)) + 0.02
        voice += loudness * np.sin(harmonic * phase)
    syllables = np.clip(np.sin(2 * np.pi * 3 * seconds), 0, None) ** 2
    return voice * syllables + 0.02 * rng.standard_normal(len(seconds))
