"""Synthetic signals on which every exported file is compared with Keras, the same each time."""

from __future__ import annotations

import numpy as np

from kerastag.export.preparation import PreparedModel

__all__ = ["make_embeddings", "make_inputs", "make_waveforms"]

_LEVELS = (0.5, 0.05, 0.005)  # peaks; a device in a quiet room records a hundredth of full scale


def make_inputs(prepared: PreparedModel) -> dict[str, np.ndarray]:
    """Make the probes for a model, by name, each a batch of one input, float32."""
    if prepared.input_name == "embedding":
        return {name: each[None] for name, each in make_embeddings(*prepared.input_shape).items()}
    waveforms = make_waveforms(prepared.card.sample_rate, prepared.num_samples)
    if prepared.input_name == "waveform":
        return {name: each[None] for name, each in waveforms.items()}
    return {name: prepared.front_end.compute_log_mel(each)[None] for name, each in waveforms.items()}


def make_waveforms(sample_rate: int, num_samples: int) -> dict[str, np.ndarray]:
    """Make silence, a sine, and noise and a speech-like sound at three levels.

    Args:
        sample_rate: Sample rate of the waveforms, Hz.
        num_samples: Length of the waveforms in samples.

    Returns:
        Waveforms by name, float32 in 16-bit steps, `(num_samples,)`.

    >>> sorted(make_waveforms(16_000, 100))[:2]
    ['noise 0.005', 'noise 0.05']
    """
    seconds = np.arange(num_samples) / sample_rate
    waveforms = {"silence": np.zeros(num_samples), "sine": 0.5 * np.sin(2 * np.pi * 440 * seconds)}
    noise = np.random.default_rng(0).standard_normal(num_samples)
    for name, waveform in (("noise", noise), ("speech", _make_speech(seconds, sample_rate))):
        for level in _LEVELS:
            waveforms[f"{name} {level:g}"] = level * waveform / np.abs(waveform).max()
    # In 16-bit steps, as recordings are: between them, float arithmetic adds rounding errors to a pure tone.
    return {name: (np.rint(32_767 * each) / 32_768).astype(np.float32) for name, each in waveforms.items()}


def make_embeddings(num_segments: int, num_features: int) -> dict[str, np.ndarray]:
    """Make embeddings in AudioSet's 8-bit steps, some of them padded with segments of zeros.

    Args:
        num_segments: Number of segments of a clip.
        num_features: Number of features of a segment.

    Returns:
        Embeddings by name, float32, `(num_segments, num_features)`.

    >>> int(make_embeddings(10, 128)["one segment"].any(axis=1).sum())
    1
    """
    noise = np.random.default_rng(0).normal(0, 40, (num_segments, num_features)).clip(-128, 127).round() / 128
    segments = np.arange(num_segments)[:, None]
    embeddings = {
        "noise 1": noise,
        "noise 0.1": (noise * 12.8).round() / 128,
        "padding": np.zeros_like(noise),
        "half padding": np.where(segments < num_segments // 2, noise, 0),
        "one segment": np.where(segments < 1, noise, 0),
        "equal segments": np.repeat(noise[:1], num_segments, axis=0),
    }
    return {name: each.astype(np.float32) for name, each in embeddings.items()}


def _make_speech(seconds: np.ndarray, sample_rate: int) -> np.ndarray:
    """Make three syllables per second: harmonics of a gliding pitch under two formants, with noise between them."""
    rng = np.random.default_rng(1)
    pitch = 140 + 30 * np.sin(2 * np.pi * 0.7 * seconds)
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    voice = np.zeros(len(seconds))
    for harmonic in range(1, 30):
        frequency = 140 * harmonic
        level = np.exp(-(((frequency - 600) / 400) ** 2)) + 0.4 * np.exp(-(((frequency - 1_900) / 500) ** 2)) + 0.02
        voice += level * np.sin(harmonic * phase)
    syllables = np.clip(np.sin(2 * np.pi * 3 * seconds), 0, None) ** 2
    return voice * syllables + 0.02 * rng.standard_normal(len(seconds))
