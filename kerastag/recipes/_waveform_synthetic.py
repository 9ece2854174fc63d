"""Short synthesised sounds, weakly labelled, as packs of waveforms: what a recipe hears when it is given no data."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from kerastag.data.audio_lists import AudioList, Recording
from kerastag.data.audio_pack import pack_audio
from kerastag.labels import LabelSet

CLIP_SECONDS = 2.0
_EVENT_SECONDS = 0.6
_BACKGROUND = 0.02

Sound = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _tone(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return np.sin(2 * np.pi * random.uniform(400, 1000) * t)


def _harmonics(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    base = random.uniform(150, 300)
    k = np.arange(1, 8)[:, None]
    return (np.sin(2 * np.pi * base * k * t) / k).sum(axis=0) / 2


def _rising(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return np.sin(2 * np.pi * (random.uniform(500, 900) * t + 1500 * t**2))


def _falling(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return _rising(t, random)[::-1]


def _hiss(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return 0.5 * random.standard_normal(len(t))


def _clicks(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return np.exp(-400 * (t % random.uniform(0.06, 0.1))) * random.choice([-1, 1], len(t))


def _warble(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return np.sin(2 * np.pi * random.uniform(1800, 2400) * t + 30 * np.sin(2 * np.pi * random.uniform(6, 10) * t))


SOUNDS: dict[str, Sound] = {
    "tone": _tone,
    "harmonics": _harmonics,
    "rising": _rising,
    "falling": _falling,
    "hiss": _hiss,
    "clicks": _clicks,
    "warble": _warble,
}


def synthetic_clip(
    sample_rate: int, random: np.random.Generator, sounds: tuple[str, ...] | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """A generator -> two seconds of faint noise with one or two short sounds in it, and their names.

    >>> waveform, names = synthetic_clip(16_000, np.random.default_rng(0), ("hiss",))
    >>> waveform.shape, names, bool(abs(waveform).max() < 1)
    ((32000,), ('hiss',), True)
    """
    if sounds is None:
        sounds = tuple(random.choice(list(SOUNDS), random.integers(1, 3), replace=False).tolist())
    waveform = _BACKGROUND * random.standard_normal(round(CLIP_SECONDS * sample_rate))
    length = round(_EVENT_SECONDS * sample_rate)
    for name in sounds:
        start = random.integers(0, len(waveform) - length + 1)
        event = SOUNDS[name](np.arange(length) / sample_rate, random) * np.hanning(length)
        waveform[start : start + length] += random.uniform(0.1, 0.4) * event
    return np.clip(waveform, -0.99, 0.99).astype(np.float32), sounds


def write_sound_packs(
    folder: Path, *, sample_rate: int, num_train: int = 300, num_eval: int = 120, seed: int = 0
) -> dict[str, Path]:
    """A seed -> `bal_train.h5` and `eval.h5` of synthesised sounds, the way recordings become packs."""
    labels = LabelSet.from_names(SOUNDS)
    packs = {}
    for part, (split, number) in enumerate((("bal_train", num_train), ("eval", num_eval))):
        random = np.random.default_rng((seed, part))
        with tempfile.TemporaryDirectory() as wavs:
            recordings = []
            for i in range(number):
                waveform, names = synthetic_clip(sample_rate, random)
                path = Path(wavs) / f"{i:05d}.wav"
                soundfile.write(path, waveform, sample_rate)
                recordings.append(Recording(path, path.name, tuple(sorted(labels.index(name) for name in names))))
            packs[split] = pack_audio(
                AudioList(tuple(recordings), labels, (), f"synthetic sounds, seed {seed}"),
                folder / f"{split}.h5",
                sample_rate=sample_rate,
                clip_seconds=CLIP_SECONDS,
                attributes={"source": f"kerastag, synthesised, seed {seed}", "license": "CC0-1.0"},
                progress=False,
            ).path
    return packs
