"""Synthetic sounds that the bundled model recognizes with a high probability."""

import math

import numpy as np


def create_cries(num_cries, sample_rate):
    """Create cries of a baby of 1.1 s each, one after the other."""
    position = np.arange(round(1.1 * sample_rate)) / round(1.1 * sample_rate)
    phase = 2 * np.pi * np.cumsum(400 + 150 * np.sin(np.pi * position)) / sample_rate
    harmonics = sum(np.sin(number * phase) / number for number in range(1, 9))
    return np.tile(0.4 * np.sqrt(np.sin(np.pi * position)) * harmonics, num_cries).astype(np.float32)


def create_rain(seconds, sample_rate, seed=0):
    """Create rain: 4,000 drops a second, each a short burst of noise below 8 kHz."""
    rng = np.random.default_rng(seed)
    length, size = round(16_000 * seconds), 200
    waveform = np.zeros(length + size)
    times = np.arange(size) / 16_000
    for second in range(math.ceil(seconds)):
        starts = rng.integers(16_000 * second, min(16_000 * (second + 1), length), (4_000, 1))
        drops = np.exp(-times / rng.uniform(0.0006, 0.0025, (4_000, 1))) * rng.exponential(0.03, (4_000, 1))
        np.add.at(waveform, starts + np.arange(size), drops * rng.standard_normal((4_000, size)))
    positions = np.arange(round(seconds * sample_rate)) / sample_rate
    return np.interp(positions, np.arange(len(waveform)) / 16_000, waveform).astype(np.float32)
