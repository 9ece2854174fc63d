"""The Hann window and the mel bands of a front end."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from kerastag.dsp.front_end import FrontEnd

__all__ = ["Bands", "Step", "bands_of", "hann_window", "mel_matrix"]


@functools.lru_cache(maxsize=32)
def hann_window(front_end: FrontEnd) -> np.ndarray:
    """The Hann window, (window_length,) float32."""
    period = front_end.window_length - (0 if front_end.periodic_window else 1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(front_end.window_length) / max(period, 1))
    return _frozen(window.astype(np.float32))


def _hz_to_mel(hz: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 1127 * np.log1p(hz / 700)
    return np.where(hz < 1000, hz * 3 / 200, 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4))


def _mel_to_hz(mel: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 700 * np.expm1(mel / 1127)
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((np.maximum(mel, 15) - 15) * np.log(6.4) / 27))


@functools.lru_cache(maxsize=32)
def _slopes(front_end: FrontEnd) -> tuple[np.ndarray, np.ndarray]:
    """Rising and falling weight of every FFT bin in every band, (bins, mel_bins) float64, peaks scaled by the norm."""
    scale = front_end.mel_scale
    low, high = _hz_to_mel(np.array([front_end.min_hz, front_end.max_hz]), scale)
    edges_mel = np.linspace(low, high, front_end.num_mel_bins + 2)
    edges_hz = _mel_to_hz(edges_mel, scale)
    bins_hz = np.arange(front_end.fft_length // 2 + 1) * front_end.sample_rate / front_end.fft_length
    in_mel = front_end.mel_triangles == "mel"
    edges, bins = (edges_mel, _hz_to_mel(bins_hz, scale)) if in_mel else (edges_hz, bins_hz)
    position = bins[:, None]
    rising = (position - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - position) / (edges[2:] - edges[1:-1])
    peak = 2 / (edges_hz[2:] - edges_hz[:-2]) if front_end.mel_norm == "slaney" else np.ones(front_end.num_mel_bins)
    rises = (position > edges[:-2]) & (position <= edges[1:-1])
    falls = (position > edges[1:-1]) & (position < edges[2:])
    return np.where(rises, rising, 0) * peak, np.where(falls, falling, 0) * peak


@functools.lru_cache(maxsize=32)
def mel_matrix(front_end: FrontEnd) -> np.ndarray:
    """Weight of every FFT bin in every band, (bins, mel_bins) float32."""
    return _frozen(np.add(*_slopes(front_end)).astype(np.float32))


class Step(NamedTuple):
    """Of the first `size` intervals one bin each, and its weight in the band that rises there and the one that falls.

    `bins` (size,) are their numbers, `weights` (2, size, 1) float32.
    """

    size: int
    bins: np.ndarray
    weights: np.ndarray


class Bands(NamedTuple):
    """The mel matrix without its zeros: the bins, cut into intervals between neighboring band edges.

    Interval i has the rising half of band i and the falling half of band i - 1. `intervals` are those with a bin in
    them, the widest first, so that step j adds bin j of every interval that has so many.
    """

    intervals: np.ndarray
    steps: tuple[Step, ...]


@functools.lru_cache(maxsize=32)
def bands_of(front_end: FrontEnd) -> Bands:
    """The front end's bands, bin by bin."""
    rising, falling = _slopes(front_end)
    bins = np.flatnonzero((rising + falling).any(axis=1))
    if not len(bins):
        raise ValueError(f"`fft_length` must be larger: no bin lies in any mel band. Received: {front_end.fft_length}")
    rises = rising[bins].any(axis=1)
    interval = np.where(rises, rising[bins].argmax(axis=1), falling[bins].argmax(axis=1) + 1)
    intervals, starts, widths = np.unique(interval, return_index=True, return_counts=True)
    order = np.argsort(-widths, kind="stable")
    weights = np.stack([rising.sum(axis=1), falling.sum(axis=1)]).astype(np.float32)
    steps = []
    for place in range(widths.max()):
        count = int((widths > place).sum())
        there = bins[starts[order[:count]] + place]
        steps.append(Step(count, there, _frozen(weights[:, there, None])))
    return Bands(intervals[order], tuple(steps))


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
