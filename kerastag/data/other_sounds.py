"""Synthetic sounds that belong to no class, from which a tagger learns what is not one of its classes.

Noises, hums, tones, rings, clicks, speech-like and music-like sounds. None of them is a recording, so that recordings
of other sounds remain for evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from kerastag.data.soundscape_mixer import MIX_SAMPLE_RATE, Excerpt
from kerastag.rng import generator

_MIN_SECONDS = 0.5
_FRAME, _HOP = 1024, 512
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9))  # major, minor, pentatonic; semitones
_VOWEL_HZ = np.array([[730, 1090, 2440], [270, 2290, 3010], [300, 870, 2240], [530, 1840, 2480], [570, 840, 2410]])
"""First three formants of the vowels of father, feed, food, bed and law (Peterson and Barney, 1952), Hz."""
_FORMANT_WIDTHS_HZ = np.array([90.0, 120.0, 180.0])


class OtherSounds:
    """Random sounds of no class, 0.5 seconds or longer, for `SoundscapeMixer`.

    >>> from kerastag.data import OtherSounds
    >>> sounds = OtherSounds()
    >>> excerpt = sounds.draw(np.random.default_rng(1), 5.0)
    >>> excerpt.source, sounds.load_waveform(excerpt).shape
    ('tone', (210666,))
    """

    def draw(self, random: np.random.Generator, max_seconds: float) -> Excerpt:
        """Draw a kind, a length and a seed."""
        kind = list(OTHER_SOUNDS)[random.integers(len(OTHER_SOUNDS))]
        seconds = round(random.uniform(min(_MIN_SECONDS, max_seconds), max_seconds), 3)
        return Excerpt(-1, kind, int(random.integers(2**63)), 0.0, seconds)

    def load_waveform(self, excerpt: Excerpt) -> np.ndarray:
        """Synthesize a drawn sound, `(samples,)` at `MIX_SAMPLE_RATE`."""
        times = np.arange(round(excerpt.seconds * MIX_SAMPLE_RATE)) / MIX_SAMPLE_RATE
        return OTHER_SOUNDS[excerpt.source](times, generator(excerpt.number))


def _make_noise(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Synthesize steady noise, from the hiss of an amplifier to the rumble of a road, sometimes in a band."""
    hertz = np.fft.rfftfreq(len(t), 1 / MIX_SAMPLE_RATE)
    gain = np.maximum(hertz, 20.0) ** (-random.uniform(-0.5, 2.5) / 2)
    if random.random() < 0.3:
        middle, octaves = np.exp(random.uniform(np.log(200), np.log(8000))), random.uniform(0.3, 2)
        gain = gain * np.exp(-0.5 * (np.log2(np.maximum(hertz, 1.0) / middle) / octaves) ** 2)
    return np.fft.irfft(np.fft.rfft(random.standard_normal(len(t))) * gain, len(t))


def _make_wind(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Synthesize noise whose level and color change slowly, as of wind, traffic or a passing vehicle."""
    low, high = _make_noise(t, random), random.standard_normal(len(t))
    level, color = (np.abs(_draw_curve(len(t), random, random.uniform(0.1, 1.0))) for _ in range(2))
    return low / max(low.std(), 1e-12) * (0.1 + level) + 0.2 * high * level * color


def _make_hum(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Synthesize mains hum or the drone of a fan, with harmonics and some noise."""
    base = random.choice([50.0, 60.0, random.uniform(40, 400)])
    partials = np.arange(1, random.integers(2, 30))
    amplitudes = random.exponential(1.0, len(partials)) / partials ** random.uniform(0.3, 2)
    tones = sum(
        a * np.sin(2 * np.pi * (base * k * t + random.random())) for k, a in zip(partials, amplitudes, strict=True)
    )
    return tones + random.uniform(0, 0.3) * random.standard_normal(len(t))


def _make_tone(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Synthesize a pure tone or a beep that repeats, as of an appliance or an alarm."""
    hertz = np.exp(random.uniform(np.log(80), np.log(9000)))
    tone = np.sin(2 * np.pi * hertz * t)
    if random.random() < 0.5:
        period = random.uniform(0.2, 2.0)
        tone *= t % period < period * random.uniform(0.1, 0.7)
    return np.tanh(tone * random.choice([0.1, 1.0, 5.0]))


def _make_ring(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Synthesize two alternating or beating tones with a pause, as of a telephone, a bell or a siren far away."""
    low = random.uniform(300, 2000)
    high, trill, period = low * random.uniform(1.05, 1.6), random.uniform(8, 30), random.uniform(1, 4)
    choose = np.sin(2 * np.pi * trill * t) > 0
    phases = 2 * np.pi * np.cumsum(np.where(choose, low, high)) / MIX_SAMPLE_RATE
    bell = sum(np.sin(ratio * phases) / (i + 1) for i, ratio in enumerate((1.0, 2.76, 5.4)[: random.integers(1, 4)]))
    return bell * (t % period < period * random.uniform(0.3, 0.9)) * (1 + 0.5 * np.sin(2 * np.pi * trill * t))


def _make_clicks(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Synthesize irregular knocks of small bodies, each a pair, as of typing, cutlery, switches or footsteps."""
    sound = np.zeros(len(t))
    moments = np.cumsum(random.gamma(2.0, 0.5 / random.uniform(1, 12), 1000))
    for moment in moments[moments < t[-1]]:
        for delay, loudness in ((0.0, 1.0), (random.uniform(0.04, 0.15), random.uniform(0.1, 0.8))):
            first = round((moment + delay) * MIX_SAMPLE_RATE)
            body = t[: max(0, min(round(0.06 * MIX_SAMPLE_RATE), len(t) - first))]
            resonance = np.sin(2 * np.pi * np.exp(random.uniform(np.log(150), np.log(6000))) * body)
            knock = (0.5 * random.standard_normal(len(body)) + resonance) * np.exp(-body * random.uniform(80, 600))
            sound[first : first + len(body)] += loudness * random.uniform(0.3, 1) * knock
    return sound


def _make_speech(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Synthesize babble of one voice: syllables of vowels and fricatives with pauses between words."""
    syllable_hz, pitch = random.uniform(2.5, 6.5), np.exp(random.uniform(np.log(85), np.log(300)))
    num_frames = len(t) // _HOP + 2
    frame_times = np.arange(num_frames) * _HOP / MIX_SAMPLE_RATE
    num_syllables = int(frame_times[-1] * syllable_hz) + 2
    place = frame_times * syllable_hz
    vowels = _VOWEL_HZ[random.integers(len(_VOWEL_HZ), size=num_syllables)] * random.uniform(0.85, 1.2)
    formants = np.stack([np.interp(place, np.arange(num_syllables), column) for column in vowels.T], axis=1)
    is_spoken = random.random(num_syllables) < 0.8
    loudness = is_spoken * random.uniform(0.4, 1, num_syllables)
    voicing = np.sin(np.pi * (place % 1)) ** 0.7 * loudness[place.astype(int)]
    hiss = (
        np.exp(-0.5 * ((place % 1 - 0.02) / 0.08) ** 2)
        * (is_spoken & (random.random(num_syllables) < 0.5))[place.astype(int)]
    )
    contour = pitch * 2 ** (0.25 * _draw_curve(len(t), random, 1.5))
    phase = np.cumsum(contour) / MIX_SAMPLE_RATE % 1
    hertz = np.fft.rfftfreq(_FRAME, 1 / MIX_SAMPLE_RATE)
    distance = (hertz[None, :, None] - formants[:, None]) / _FORMANT_WIDTHS_HZ
    vowel_gain = (1 / (1 + distance**2) * np.array([1.0, 0.5, 0.25])).sum(axis=2) * voicing[:, None]
    hiss_gain = np.exp(-0.5 * ((hertz - random.uniform(3500, 7500)) / 1500) ** 2) * hiss[:, None]
    voice = np.diff(phase, prepend=phase[0]) + 0.02 * random.standard_normal(len(t))  # a pulse for every period
    return _filter_frames(voice, vowel_gain) + random.uniform(0.1, 0.4) * _filter_frames(
        random.standard_normal(len(t)), hiss_gain
    )


def _make_music(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Synthesize notes of a scale in one to three voices, sometimes with a beat of noise."""
    beat, key = random.uniform(0.15, 0.7), random.uniform(100, 300)
    scale, sound = _SCALES[random.integers(len(_SCALES))], np.zeros(len(t))
    for octave in random.choice(4, size=random.integers(1, 4), replace=False):
        partials = np.arange(1, random.integers(2, 12))
        amplitudes = random.exponential(1.0, len(partials)) / partials**1.3
        decay, step = random.uniform(0.5, 8), beat * random.choice([0.5, 1.0, 2.0])
        for start in np.arange(0, t[-1], step):
            if random.random() < 0.15:  # a rest
                continue
            semitones = scale[random.integers(len(scale))] + 12 * octave
            first, hertz = round(start * MIX_SAMPLE_RATE), key * 2 ** (semitones / 12)
            note = t[: min(len(t) - first, round(1.5 * step * MIX_SAMPLE_RATE))]
            envelope = np.exp(-decay * note) * np.minimum(1, note / 0.01)
            tones = sum(
                a * np.sin(2 * np.pi * k * hertz * note)
                for k, a in zip(partials, amplitudes, strict=True)
                if k * hertz < 16e3
            )
            sound[first : first + len(note)] += envelope * tones
    if random.random() < 0.5:
        hits = t % beat
        sound += (
            sound.std()
            * random.uniform(0.3, 2)
            * np.exp(-hits * random.uniform(15, 60))
            * random.standard_normal(len(t))
        )
    return sound


OTHER_SOUNDS: Mapping[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "noise": _make_noise,
    "wind": _make_wind,
    "hum": _make_hum,
    "tone": _make_tone,
    "ring": _make_ring,
    "clicks": _make_clicks,
    "speech": _make_speech,
    "music": _make_music,
}
"""Functions that synthesize the samples of a sound at given times, seconds, by name of the kind."""


def _draw_curve(samples: int, random: np.random.Generator, hertz: float) -> np.ndarray:
    """Return a smooth random curve with about `hertz` extremes per second and a standard deviation of about 1."""
    num_points = max(2, round(samples / MIX_SAMPLE_RATE * hertz * 2)) + 1
    places = np.linspace(0, num_points - 1, samples)
    left = np.minimum(places.astype(int), num_points - 2)
    smooth = 0.5 - 0.5 * np.cos(np.pi * (places - left))
    points = random.standard_normal(num_points)
    return points[left] * (1 - smooth) + points[left + 1] * smooth


def _filter_frames(waveform: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Filter a waveform by a gain per frame and frequency, `(frames, bins)`, with overlapping Hann windows."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FRAME) / _FRAME)
    padded = np.pad(waveform, (_HOP, _FRAME))
    starts = np.arange(0, len(waveform) + _HOP, _HOP)[: len(gains)]
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[starts] * window
    filtered = np.fft.irfft(np.fft.rfft(frames) * gains[: len(starts)], _FRAME)
    result = np.zeros(len(padded) + _FRAME)
    for start, frame in zip(starts, filtered, strict=True):
        result[start : start + _FRAME] += frame
    return result[_HOP : _HOP + len(waveform)]
