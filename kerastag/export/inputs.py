"""Inputs of a model: synthetic probes, clips of a pack to evaluate on, and recordings to calibrate on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kerastag import audio
from kerastag.audio.formats import find_audio_files
from kerastag.data.audio_lists import report_skipped
from kerastag.data.batches import scale
from kerastag.data.packs import AudioPack, open_pack
from kerastag.export.preparation import PreparedModel
from kerastag.export.source import create_front_end

__all__ = ["PackInputs", "make_probes", "read_representative_inputs"]

_BATCH_SIZE = 32
_LEVELS = (0.5, 0.05, 0.005)  # peaks; a device in a quiet room records a hundredth of full scale
_MAX_REPRESENTATIVE = 100


class PackInputs:
    """Clips of a pack as inputs of a model, with their targets.

    Args:
        path: Path of a pack of waveforms or embeddings, or of a folder with `eval.h5`.
        prepared: Model that takes the inputs.
        level: Factor for the samples of waveforms, above 0; the product is rounded to 16-bit steps, as in a recording.

    Raises:
        FileNotFoundError: No such pack.
        ValueError: The pack does not hold what the model takes, or has another sample rate or number of classes.
    """

    def __init__(self, path: str | os.PathLike[str], prepared: PreparedModel, level: float = 1.0) -> None:
        path = Path(path, "eval.h5") if Path(path).is_dir() else Path(path)
        self._prepared, self._level, self._pack = prepared, level, open_pack(path)
        has_waveforms = isinstance(self._pack, AudioPack)
        if has_waveforms == (prepared.input_name == "embedding"):
            content = "waveforms" if has_waveforms else "embeddings"
            raise ValueError(f"{path}: must hold what the model takes, {prepared.input_name}; received: {content}")
        if isinstance(self._pack, AudioPack) and self._pack.sample_rate != prepared.card.sample_rate:
            expected = f"must hold waveforms of {prepared.card.sample_rate} Hz"
            raise ValueError(f"{path}: {expected}; received: {self._pack.sample_rate} Hz")
        self.targets = self._pack.targets
        labels = prepared.card.labels
        if labels is not None and self.targets.shape[1] != len(labels):
            raise ValueError(f"{path}: must have the model's {len(labels)} classes; received: {self.targets.shape[1]}")

    def __len__(self) -> int:
        return len(self.targets)

    def batches(self, rows: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Yield batches of inputs, of the clips with the given row numbers or of all."""
        rows = np.arange(len(self)) if rows is None else rows
        for start in range(0, len(rows), _BATCH_SIZE):
            stored, lengths, _ = self._pack.rows(rows[start : start + _BATCH_SIZE])
            clips = scale(stored, lengths)
            if self._level != 1 and isinstance(self._pack, AudioPack):
                clips = (np.rint(32_767 * self._level * clips) / np.float32(32_768)).astype(np.float32)
            yield _compute_inputs(clips, self._prepared)


def read_representative_inputs(path: str | os.PathLike[str], prepared: PreparedModel) -> Iterator[np.ndarray]:
    """Read at most a hundred inputs, evenly spaced over the recordings of a folder or the clips of a pack.

    They come in a random order, the same each time: the quantizer's moving average of ranges forgets the first inputs,
    and the files of a folder are sorted by class. Each is a batch of one. Recordings that cannot be read are skipped,
    and named and counted on standard error.

    Raises:
        FileNotFoundError: No such folder or pack.
        ValueError: The folder has no recordings that can be read, or the model takes embeddings.
    """
    path = Path(path)
    if path.is_file():
        clips = PackInputs(path, prepared)
        for batch in clips.batches(_select_evenly(len(clips))):
            yield from (clip[None] for clip in batch)
        return
    if not path.is_dir():
        raise FileNotFoundError(f"`representative`: {path}: no such folder or pack")
    if prepared.input_name == "embedding":
        raise ValueError(f"`representative` must be a pack of embeddings for this model; received: {str(path)!r}")
    files = find_audio_files(path)
    if not files:
        raise ValueError(f"`representative` must be a folder with recordings; received: {str(path)!r}")
    card, rows, errors = prepared.card, _select_evenly(len(files)), []
    for row in rows:
        try:
            waveform = audio.load(path / files[row], card.sample_rate, duration_seconds=card.window_seconds)
        except (ValueError, OSError) as error:
            errors.append(error)
            continue
        yield _compute_inputs(waveform[None], prepared)
    report_skipped(errors, len(rows))
    if len(errors) == len(rows):
        raise ValueError(f"`representative` must be a folder with recordings that can be read: {errors[0]}")


def make_probes(prepared: PreparedModel) -> dict[str, np.ndarray]:
    """Make the inputs on which a file is compared with Keras, by name, each a batch of one, the same each time.

    They are in the steps of stored clips, 16 bits for samples and 8 bits for embeddings. Between 16-bit steps, float
    arithmetic would add rounding errors to a pure tone.
    """
    if prepared.input_name == "embedding":
        embeddings = _make_embeddings(*prepared.input_shape)
        return {name: each[None].astype(np.float32) for name, each in embeddings.items()}
    waveforms = _make_waveforms(prepared.card.sample_rate, prepared.num_samples)
    waveforms = {name: (np.rint(32_767 * each) / 32_768).astype(np.float32) for name, each in waveforms.items()}
    probes = {name: _compute_inputs(each[None], prepared) for name, each in waveforms.items()}
    if prepared.any_length:
        probes |= {f"{name}, short": probe[:, : prepared.num_samples // 3] for name, probe in probes.items()}
    return probes


def _select_evenly(count: int) -> np.ndarray:
    rows = np.unique(np.linspace(0, count - 1, min(count, _MAX_REPRESENTATIVE)).astype(int))
    return np.random.default_rng(0).permutation(rows)


def _compute_inputs(clips: np.ndarray, prepared: PreparedModel) -> np.ndarray:
    """Crop waveforms or embeddings, or pad them with zeros at the end, and compute the input of the model."""
    length = prepared.input_shape[0] if prepared.input_name == "embedding" else prepared.num_samples
    missing = max(0, length - clips.shape[1])
    clips = np.pad(clips[:, :length], [(0, 0), (0, missing), *[(0, 0)] * (clips.ndim - 2)])
    return create_front_end(prepared.card).compute_log_mel(clips) if prepared.input_name == "log_mel" else clips


def _make_waveforms(sample_rate: int, num_samples: int) -> dict[str, np.ndarray]:
    seconds = np.arange(num_samples) / sample_rate
    waveforms = {"silence": np.zeros(num_samples), "sine": 0.5 * np.sin(2 * np.pi * 440 * seconds)}
    noise = np.random.default_rng(0).standard_normal(num_samples)
    for name, waveform in (("noise", noise), ("speech", _make_speech(seconds, sample_rate))):
        for level in _LEVELS:
            waveforms[f"{name} {level:g}"] = level * waveform / np.abs(waveform).max()
    return waveforms


def _make_embeddings(num_segments: int, num_features: int) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(0).normal(0, 40, (num_segments, num_features)).clip(-128, 127).round() / 128
    segments = np.arange(num_segments)[:, None]
    return {
        "noise 1": noise,
        "noise 0.1": (noise * 12.8).round() / 128,
        "padding": np.zeros_like(noise),
        "half padding": np.where(segments < num_segments // 2, noise, 0),
        "one segment": np.where(segments < 1, noise, 0),
        "equal segments": np.repeat(noise[:1], num_segments, axis=0),
    }


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
