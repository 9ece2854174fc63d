"""Synthetic noises of many colors, bands and modulations, which steady sounds such as rain and waves are like."""

import functools

import numpy as np

__all__ = ["NOISE_PEAKS_DB", "draw_noise", "synthesize_noises"]

NOISE_PEAKS_DB = (-40.0, -3.0)
"""Lowest and highest peak of a noise, dB relative to full scale."""

_NUM_NOISES, _NOISE_SECONDS = 96, 5
_TILTS = (-1.0, 3.0)  # power spectrum, as the negative exponent of the frequency: blue -1, white 0, pink 1, brown 2
_MIN_HERTZ = 20.0
_BAND_SHARE, _BAND_OCTAVES = 0.5, (0.3, 3.0)
_MODULATION_SHARE, _MODULATION_HERTZ, _MODULATION_DEPTHS = 0.4, (0.05, 2.0), (0.1, 0.9)


def draw_noise(random: np.random.Generator, seconds: float, sample_rate: int) -> np.ndarray:
    """Draw a noise: blue to darker than brown, half of them in a band, two of five with a level that rises and falls.

    Args:
        random: Random generator.
        seconds: Duration, at least one sample.
        sample_rate: Sample rate, Hz.

    Returns:
        Waveform, float32 `(samples,)`, with a peak that is drawn from `NOISE_PEAKS_DB`.

    >>> noise = draw_noise(np.random.default_rng(0), 1.0, 8000)
    >>> noise.shape, bool(np.abs(noise).max() < 0.71)
    ((8000,), True)
    """
    samples = round(seconds * sample_rate)
    hertz = np.maximum(np.fft.rfftfreq(samples, 1 / sample_rate), _MIN_HERTZ)
    gain = hertz ** (-random.uniform(*_TILTS) / 2)
    if random.random() < _BAND_SHARE:
        middle = np.exp(random.uniform(np.log(100), np.log(0.4 * sample_rate)))
        gain *= np.exp(-0.5 * (np.log2(hertz / middle) / random.uniform(*_BAND_OCTAVES)) ** 2)
    waveform = np.fft.irfft(gain * random.standard_normal((2, len(gain))).T.dot([1, 1j]), samples)
    if random.random() < _MODULATION_SHARE:
        turns = random.uniform(*_MODULATION_HERTZ) * np.arange(samples) / sample_rate + random.random()
        waveform *= 1 + random.uniform(*_MODULATION_DEPTHS) * np.sin(2 * np.pi * turns)
    peak = 10 ** (random.uniform(*NOISE_PEAKS_DB) / 20)
    return (peak * waveform / max(1e-30, np.abs(waveform).max())).astype(np.float32)


@functools.cache  # It takes a second, and a run lists its clips several times.
def synthesize_noises(sample_rate: int) -> tuple[np.ndarray, ...]:
    """Synthesize noises of five seconds to train on, the same for each call."""
    random = np.random.default_rng(1)
    return tuple(draw_noise(random, _NOISE_SECONDS, sample_rate) for _ in range(_NUM_NOISES))
