"""The overview of a recording for a picture: its waveform and its log-mel, in columns, in constant memory."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from kerastag.card import Card
from kerastag.dsp import FRONT_ENDS, FrontEnd, StreamingLogMel

__all__ = ["OverviewBuilder"]

_DYNAMIC_RANGE_DB = 80.0


class OverviewBuilder:
    """A builder of the overview of a recording whose length is unknown until its end.

    A column begins as one frame of the log-mel. Whenever there are more than `max_columns`, neighboring columns become
    one, so that at the end there are at least half as many, unless the recording is shorter.

    Args:
        card: Card of the model, whose front end and sample rate count.
        max_columns: Largest number of columns, at least 1.

    >>> from kerastag.serving.overview import OverviewBuilder
    >>> card = Card(None, 16_000, 1.0)
    >>> builder = OverviewBuilder(card, max_columns=100)
    >>> _ = list(builder.tap([np.zeros(160_000, np.float32)]))
    >>> builder.build()["columns"]
    63
    """

    def __init__(self, card: Card, max_columns: int) -> None:
        self._front_end = _choose_front_end(card)
        self._max_columns, self._frames_per_column = max_columns, 1
        self._stream = StreamingLogMel(self._front_end)
        self._samples, self._frames = np.zeros(0, np.float32), np.zeros((0, self._front_end.num_mel_bins), np.float32)
        self._peaks, self._log_mel = np.zeros((0, 2), np.float32), self._frames

    def tap(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the blocks of a recording, and add each to the overview."""
        for block in blocks:
            self._add(block, self._stream.feed(block))
            yield block

    def build(self) -> dict[str, Any]:
        """Build the overview of what has been added, as JSON values; call this once."""
        self._add(np.zeros(0, np.float32), self._stream.flush())
        if len(self._samples):
            self._peaks = np.concatenate([self._peaks, [[self._samples.min(), self._samples.max()]]])
        if len(self._frames):
            self._log_mel = np.concatenate([self._log_mel, self._frames.mean(axis=0, keepdims=True)])
        self._merge_columns()
        # Frames may end a little before or after the samples.
        columns = len(self._peaks)
        last = np.repeat(self._log_mel[-1:], max(0, columns - len(self._log_mel)), axis=0)
        decibels = _convert_to_decibels(self._front_end, np.concatenate([self._log_mel[:columns], last]))
        high = float(decibels.max()) if columns else 0.0
        low = max(high - _DYNAMIC_RANGE_DB, float(decibels.min()) if columns else -_DYNAMIC_RANGE_DB)
        levels = np.clip((decibels - low) * (255 / max(high - low, 1e-6)), 0, 255).round().astype(np.uint8)
        return {
            "columns": columns,
            "seconds_per_column": self._frames_per_column * self._front_end.hop_length / self._front_end.sample_rate,
            "peaks": [[round(value, 4) for value in pair] for pair in self._peaks.tolist()],
            "log_mel": {
                "mel_bins": self._front_end.num_mel_bins,
                "min_hz": self._front_end.min_hz,
                "max_hz": self._front_end.max_hz,
                "mel_scale": self._front_end.mel_scale,
                "data": base64.b64encode(levels.tobytes()).decode(),
                "low_db": round(low, 2),
                "high_db": round(high, 2),
            },
        }

    def _add(self, samples: np.ndarray, frames: np.ndarray) -> None:
        size = self._frames_per_column * self._front_end.hop_length
        self._samples = np.concatenate([self._samples, samples])
        whole = self._samples[: len(self._samples) - len(self._samples) % size].reshape(-1, size)
        self._samples = self._samples[whole.size :].copy()
        self._peaks = np.concatenate([self._peaks, np.stack([whole.min(axis=1), whole.max(axis=1)], axis=1)])
        self._frames = np.concatenate([self._frames, frames])
        count = len(self._frames) // self._frames_per_column
        grouped = self._frames[: count * self._frames_per_column]
        self._frames = self._frames[len(grouped) :].copy()
        means = grouped.reshape(count, self._frames_per_column, grouped.shape[1]).mean(axis=1)
        self._log_mel = np.concatenate([self._log_mel, means])
        self._merge_columns()

    def _merge_columns(self) -> None:
        """Halve the resolution until there are few enough columns; a last one without a neighbor waits for the next."""
        while len(self._peaks) > self._max_columns:
            size = self._frames_per_column
            peaks, log_mel = self._peaks, self._log_mel
            if len(peaks) % 2:  # the last column becomes samples again, of which only the extrema count
                extrema = np.zeros(size * self._front_end.hop_length, np.float32)
                extrema[0], extrema[-1] = peaks[-1]
                self._samples, peaks = np.concatenate([extrema, self._samples]), peaks[:-1]
            if len(log_mel) % 2:
                self._frames = np.concatenate([np.repeat(log_mel[-1:], size, axis=0), self._frames])
                log_mel = log_mel[:-1]
            pairs = peaks.reshape(-1, 2, 2)
            self._peaks = np.stack([pairs[:, :, 0].min(axis=1), pairs[:, :, 1].max(axis=1)], axis=1)
            self._log_mel = log_mel.reshape(-1, 2, log_mel.shape[1]).mean(axis=1)
            self._frames_per_column = 2 * size


def _choose_front_end(card: Card) -> FrontEnd:
    """Return the front end of a model, or one for its sample rate."""
    if card.front_end:
        return FrontEnd.from_dict(dict(card.front_end))
    seconds = card.sample_rate / 1000
    fft_length = 2 ** math.ceil(math.log2(32 * seconds))
    return dataclasses.replace(
        FRONT_ENDS["panns"],
        sample_rate=card.sample_rate,
        window_length=round(25 * seconds),
        hop_length=max(1, round(10 * seconds)),
        fft_length=fft_length,
        padding=0,
        max_hz=card.sample_rate / 2,
        min_hz=0.0,
    )


def _convert_to_decibels(front_end: FrontEnd, log_mel: np.ndarray) -> np.ndarray:
    """Convert a log-mel to decibels of power."""
    values = log_mel * front_end.scale - front_end.shift
    per_unit = 10 / math.log(10) if front_end.log == "natural" else 1.0
    return values * per_unit * (2 if front_end.spectrum == "magnitude" else 1)
