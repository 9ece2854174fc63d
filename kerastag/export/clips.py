"""Packs and folders of recordings -> inputs of a model, to measure it on or to find its ranges."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kerastag import audio
from kerastag.data.audio_pack import AudioPack, is_audio_pack
from kerastag.data.batches import scale
from kerastag.data.pack import FeaturePack
from kerastag.export.serving import Served

__all__ = ["Clips", "evaluation_clips", "representative"]

_AUDIO = (".wav", ".flac", ".ogg", ".mp3", ".m4a", ".opus")
_AT_ONCE = 32
_MOST_REPRESENTATIVE = 100


class Clips:
    """A pack -> batches of inputs of the shape that is served, and the targets.

    Args:
        path: of the pack, waveforms or embeddings.
        served: what they are for.
        level: factor on the samples of recordings, above 0; what is left is in 16-bit steps, as a microphone gives it.

    Raises:
        FileNotFoundError: there is no such pack.
        ValueError: the pack holds something else than the model takes, or other classes.
    """

    def __init__(self, path: Path, served: Served, level: float = 1.0) -> None:
        self._served, self._level = served, level
        self._pack: Any
        if is_audio_pack(path):
            self._pack = AudioPack(path)
            if served.input == "embedding":
                raise ValueError(f"{path}: holds waveforms, the model takes embeddings")
            if self._pack.sample_rate != served.card.sample_rate:
                raise ValueError(
                    f"{path}: must hold waveforms of {served.card.sample_rate} Hz, has {self._pack.sample_rate} Hz"
                )
        else:
            self._pack = FeaturePack.open(path)
            if served.input != "embedding":
                raise ValueError(f"{path}: holds embeddings, the model takes {served.input}")
        self.targets: np.ndarray = self._pack.targets
        labels = served.card.labels
        if labels is not None and self.targets.shape[1] != len(labels):
            raise ValueError(f"{path}: has {self.targets.shape[1]} classes, the model {len(labels)}")

    def __len__(self) -> int:
        return len(self.targets)

    def batches(self, rows: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Row numbers, None for all -> inputs (batch, ...), some at a time."""
        rows = np.arange(len(self)) if rows is None else rows
        for start in range(0, len(rows), _AT_ONCE):
            stored, lengths, _ = self._pack.rows(rows[start : start + _AT_ONCE])
            given = scale(stored, lengths)
            if self._served.input == "embedding":
                yield _fitted(given, self._served.shape[0])
            elif self._level == 1:
                yield _heard(given, self._served)
            else:
                quiet = np.rint(32_767 * self._level * given) / np.float32(32_768)
                yield _heard(quiet.astype(np.float32), self._served)


def evaluation_clips(path: str | os.PathLike[str], served: Served, level: float = 1.0) -> Clips:
    """An evaluation pack, or a folder with `eval.h5` in it -> its clips, at a level."""
    path = Path(path)
    return Clips(path / "eval.h5" if path.is_dir() else path, served, level)


def representative(path: str | os.PathLike[str], served: Served) -> Iterator[np.ndarray]:
    """A folder of recordings or a pack -> inputs (1, ...), a hundred at most, spread evenly over what is there.

    They come in a random order, the same each time: the quantizer's moving average of ranges forgets the first ones,
    and a folder's files lie class by class.

    Raises:
        FileNotFoundError: there is nothing of the name.
        ValueError: there is no recording in the folder, or the model takes embeddings.
    """
    path = Path(path)
    if path.is_file():
        clips = Clips(path, served)
        for batch in clips.batches(_spread(len(clips))):
            yield from (given[None] for given in batch)
        return
    if not path.is_dir():
        raise FileNotFoundError(f"`representative`: {path}: no such folder or pack")
    if served.input == "embedding":
        raise ValueError("`representative` must be a pack of embeddings for a model that takes them")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _AUDIO)
    if not files:
        raise ValueError(f"`representative`: {path}: no recording in it ({', '.join(_AUDIO)})")
    for index in _spread(len(files)):
        seconds = served.card.window_seconds
        sound = audio.load(files[index], served.card.sample_rate, duration_seconds=seconds)
        yield _heard(sound[None], served)


def _spread(count: int) -> np.ndarray:
    rows = np.unique(np.linspace(0, count - 1, min(count, _MOST_REPRESENTATIVE)).astype(int))
    return np.random.default_rng(0).permutation(rows)


def _heard(waveforms: np.ndarray, served: Served) -> np.ndarray:
    fitted = _fitted(waveforms, served.samples)
    return fitted if served.input == "waveform" else served.front_end.log_mel(fitted)


def _fitted(given: np.ndarray, length: int) -> np.ndarray:
    """(batch, n, ...) -> (batch, length, ...): zeros after the end, or the beginning."""
    missing = max(0, length - given.shape[1])
    return np.pad(given[:, :length], [(0, 0), (0, missing), *[(0, 0)] * (given.ndim - 2)])
