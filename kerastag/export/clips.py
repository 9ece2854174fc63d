"""Clips from packs and folders as inputs of a model, for evaluation and for calibration."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kerastag import audio
from kerastag.audio.formats import find_audio_files
from kerastag.data.batches import scale
from kerastag.data.packs import AudioPack, open_pack
from kerastag.export.preparation import PreparedModel

__all__ = ["PackInputs", "open_evaluation_pack", "read_representative_inputs"]

_BATCH_SIZE = 32
_MAX_REPRESENTATIVE = 100


class PackInputs:
    """Clips of a pack as inputs of a model, with their targets.

    Args:
        path: Path of a pack of waveforms or embeddings.
        prepared: Model that takes the inputs.
        level: Factor for the samples of waveforms, above 0; the product is rounded to 16-bit steps, as in a recording.

    Raises:
        FileNotFoundError: No such pack.
        ValueError: The pack does not hold what the model takes, or has another sample rate or number of classes.
    """

    def __init__(self, path: Path, prepared: PreparedModel, level: float = 1.0) -> None:
        self._prepared, self._level = prepared, level
        self._pack = open_pack(path)
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
            if self._prepared.input_name == "embedding":
                yield _fit_length(clips, self._prepared.input_shape[0])
                continue
            if self._level != 1:
                clips = (np.rint(32_767 * self._level * clips) / np.float32(32_768)).astype(np.float32)
            yield _compute_inputs(clips, self._prepared)


def open_evaluation_pack(path: str | os.PathLike[str], prepared: PreparedModel, level: float = 1.0) -> PackInputs:
    """Open an evaluation pack, or the `eval.h5` of a folder, see `PackInputs`."""
    path = Path(path)
    return PackInputs(path / "eval.h5" if path.is_dir() else path, prepared, level)


def read_representative_inputs(path: str | os.PathLike[str], prepared: PreparedModel) -> Iterator[np.ndarray]:
    """Read at most a hundred inputs, evenly spaced over the recordings of a folder or the clips of a pack.

    They come in a random order, the same each time: the quantizer's moving average of ranges forgets the first inputs,
    and the files of a folder are sorted by class.

    Args:
        path: Path of a folder of recordings or of a pack.
        prepared: Model that takes the inputs.

    Yields:
        Inputs of the model, each a batch of one.

    Raises:
        FileNotFoundError: No such folder or pack.
        ValueError: The folder has no recordings, or the model takes embeddings.
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
    card = prepared.card
    for index in _select_evenly(len(files)):
        waveform = audio.load(path / files[index], card.sample_rate, duration_seconds=card.window_seconds)
        yield _compute_inputs(waveform[None], prepared)


def _select_evenly(count: int) -> np.ndarray:
    rows = np.unique(np.linspace(0, count - 1, min(count, _MAX_REPRESENTATIVE)).astype(int))
    return np.random.default_rng(0).permutation(rows)


def _compute_inputs(waveforms: np.ndarray, prepared: PreparedModel) -> np.ndarray:
    waveforms = _fit_length(waveforms, prepared.num_samples)
    return waveforms if prepared.input_name == "waveform" else prepared.front_end.compute_log_mel(waveforms)


def _fit_length(clips: np.ndarray, length: int) -> np.ndarray:
    """Crop the second axis, or pad it with zeros at the end."""
    missing = max(0, length - clips.shape[1])
    return np.pad(clips[:, :length], [(0, 0), (0, missing), *[(0, 0)] * (clips.ndim - 2)])
