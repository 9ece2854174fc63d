"""Mel filterbanks."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

__all__ = ["MelFilterbank", "make_read_only"]


class _Step(NamedTuple):
    """One bin of each of the first `size` intervals, with its weights in the two bands of the interval."""

    size: int
    bins: np.ndarray  # (size,)
    weights: np.ndarray  # (2, size, 1): rising band, falling band


class _Bands(NamedTuple):
    """A mel matrix without its zeros: the bins, grouped into the intervals between neighboring band edges.

    Interval i holds the rising half of band i and the falling half of band i - 1. `intervals` are those with a bin, the
    widest first, so that step j adds bin j of every interval that has more than j bins.
    """

    intervals: np.ndarray
    steps: tuple[_Step, ...]


class MelFilterbank:
    """Triangular mel bands over the bins of a Fourier transform.

    The arguments are those of `FrontEnd`.

    Attributes:
        matrix: Weight of every FFT bin in every band, `(bins, mel_bins)`, float32.
    """

    def __init__(
        self,
        *,
        sample_rate: int,
        fft_length: int,
        num_mel_bins: int,
        min_hz: float,
        max_hz: float,
        mel_scale: str,
        mel_triangles: str,
        mel_norm: str,
    ) -> None:
        self._fft_length, self._num_mel_bins = fft_length, num_mel_bins
        low, high = _hz_to_mel(np.array([min_hz, max_hz]), mel_scale)
        edges_mel = np.linspace(low, high, num_mel_bins + 2)
        edges_hz = _mel_to_hz(edges_mel, mel_scale)
        bins_hz = np.arange(fft_length // 2 + 1) * sample_rate / fft_length
        in_mel = mel_triangles == "mel"
        edges, bins = (edges_mel, _hz_to_mel(bins_hz, mel_scale)) if in_mel else (edges_hz, bins_hz)
        position = bins[:, None]
        rising = (position - edges[:-2]) / (edges[1:-1] - edges[:-2])
        falling = (edges[2:] - position) / (edges[2:] - edges[1:-1])
        peak = 2 / (edges_hz[2:] - edges_hz[:-2]) if mel_norm == "slaney" else np.ones(num_mel_bins)
        rises = (position > edges[:-2]) & (position <= edges[1:-1])
        falls = (position > edges[1:-1]) & (position < edges[2:])
        # The rising and the falling half of every band, (bins, mel_bins), float64.
        self._rising = np.where(rises, rising, 0) * peak
        self._falling = np.where(falls, falling, 0) * peak
        self.matrix = make_read_only((self._rising + self._falling).astype(np.float32))

    def apply(self, spectrum: np.ndarray) -> np.ndarray:
        """Compute `matrix.T @ spectrum` without the zeros of the matrix.

        Rows are added bin after bin, so the result of a frame does not depend on the linear algebra library or on the
        other frames.

        Args:
            spectrum: Power or magnitude, `(bins, frames)`, float32.

        Returns:
            Energy in each band, `(mel_bins, frames)`, float32.
        """
        bands = self._bands
        count, frames = len(bands.intervals), spectrum.shape[1]
        selected = np.empty((count, frames), np.float32)
        weighted = np.empty((2, count, frames), np.float32)
        sums = np.zeros((2, count, frames), np.float32)
        for step in bands.steps:
            np.take(spectrum, step.bins, axis=0, out=selected[: step.size], mode="clip")
            np.multiply(selected[: step.size], step.weights, out=weighted[:, : step.size])
            sums[:, : step.size] += weighted[:, : step.size]
        mel = np.zeros((self._num_mel_bins + 2, frames), np.float32)  # band b is row b + 1
        mel[bands.intervals + 1] = sums[0]
        mel[bands.intervals] += sums[1]
        return mel[1:-1]

    @functools.cached_property
    def _bands(self) -> _Bands:
        rising, falling = self._rising, self._falling
        bins = np.flatnonzero((rising + falling).any(axis=1))
        if not len(bins):
            raise ValueError(f"`fft_length` must be so large that a mel band has a bin; received: {self._fft_length}")
        rises = rising[bins].any(axis=1)
        interval = np.where(rises, rising[bins].argmax(axis=1), falling[bins].argmax(axis=1) + 1)
        intervals, starts, widths = np.unique(interval, return_index=True, return_counts=True)
        order = np.argsort(-widths, kind="stable")
        weights = np.stack([rising.sum(axis=1), falling.sum(axis=1)]).astype(np.float32)
        steps = []
        for step in range(widths.max()):
            size = int((widths > step).sum())
            step_bins = bins[starts[order[:size]] + step]
            steps.append(_Step(size, step_bins, make_read_only(weights[:, step_bins, None])))
        return _Bands(intervals[order], tuple(steps))


def make_read_only(array: np.ndarray) -> np.ndarray:
    """Mark an array as read-only and return it."""
    array.flags.writeable = False
    return array


def _hz_to_mel(hz: np.ndarray, mel_scale: str) -> np.ndarray:
    if mel_scale == "htk":
        return 1127 * np.log1p(hz / 700)
    return np.where(hz < 1000, hz * 3 / 200, 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4))


def _mel_to_hz(mel: np.ndarray, mel_scale: str) -> np.ndarray:
    if mel_scale == "htk":
        return 700 * np.expm1(mel / 1127)
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((np.maximum(mel, 15) - 15) * np.log(6.4) / 27))
