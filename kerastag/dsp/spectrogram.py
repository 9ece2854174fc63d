"""Samples -> log-mel frames, each computed by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kerastag.dsp.filterbank import bands_of, hann_window

if TYPE_CHECKING:
    from kerastag.dsp.front_end import FrontEnd

__all__ = ["emphasize", "frames_to_log_mel", "lengthen", "mel_of"]

_FRAMES_A_BLOCK = 128  # one block of spectra stays in a core's cache, and memory does not grow with the length


def lengthen(front_end: FrontEnd, waveform: np.ndarray) -> np.ndarray:
    """Zeros at the end of a waveform that does not fill one frame."""
    missing = front_end.min_samples - len(waveform)
    return np.pad(waveform, (0, missing)) if missing > 0 else waveform


def emphasize(front_end: FrontEnd, waveform: np.ndarray) -> np.ndarray:
    """Waveform -> `x[n + 1] - preemphasis * x[n]`, one sample less; as it is where there is no pre-emphasis."""
    if not front_end.preemphasis:
        return waveform
    emphasized = waveform[:-1] * np.float32(-front_end.preemphasis)
    emphasized += waveform[1:]
    return emphasized


def frames_to_log_mel(front_end: FrontEnd, padded: np.ndarray) -> np.ndarray:
    """Emphasized samples with their padding -> log-mel of every whole frame in them."""
    if len(padded) < front_end.window_length:
        return np.zeros((0, front_end.num_mel_bins), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, front_end.window_length)[:: front_end.hop_length]
    log_mel = np.empty((len(frames), front_end.num_mel_bins), np.float32)
    windowed = np.zeros((min(len(frames), _FRAMES_A_BLOCK), front_end.fft_length), np.float32)
    for start in range(0, len(frames), _FRAMES_A_BLOCK):
        block = frames[start : start + _FRAMES_A_BLOCK]
        # The zeros after the window stand there already, so that the FFT needs no copy.
        np.multiply(block, hann_window(front_end), out=windowed[: len(block), : front_end.window_length])
        spectrum = _spectrum(front_end, windowed[: len(block)])
        log_mel[start : start + len(block)] = _log(front_end, mel_of(front_end, spectrum)).T
    return log_mel


def _spectrum(front_end: FrontEnd, windowed: np.ndarray) -> np.ndarray:
    """Windowed frames (frames, fft_length) -> power or magnitude (bins, frames)."""
    spectrum = np.fft.rfft(windowed)  # complex64, before NumPy 2 complex128
    power = np.square(spectrum.real)
    power += np.square(spectrum.imag)
    if front_end.spectrum == "magnitude":
        np.sqrt(power, out=power)
    return np.ascontiguousarray(power.T, np.float32)


def mel_of(front_end: FrontEnd, spectrum: np.ndarray) -> np.ndarray:
    """`mel_matrix.T @ spectrum`, (bins, frames) -> (mel_bins, frames), without the matrix's zeros.

    Sums of rows, bin after bin: what one frame gets does not change with the library or the frames beside it.
    """
    bands = bands_of(front_end)
    count, frames = len(bands.intervals), spectrum.shape[1]
    heard = np.empty((count, frames), np.float32)
    weighted = np.empty((2, count, frames), np.float32)
    sums = np.zeros((2, count, frames), np.float32)
    for step in bands.steps:
        np.take(spectrum, step.bins, axis=0, out=heard[: step.size], mode="clip")
        np.multiply(heard[: step.size], step.weights, out=weighted[:, : step.size])
        sums[:, : step.size] += weighted[:, : step.size]
    mel = np.zeros((front_end.num_mel_bins + 2, frames), np.float32)  # band b is row b + 1
    mel[bands.intervals + 1] = sums[0]
    mel[bands.intervals] += sums[1]
    return mel[1:-1]


def _log(front_end: FrontEnd, mel: np.ndarray) -> np.ndarray:
    """Mel energies, changed in place -> their logarithm, shifted and scaled."""
    if front_end.log == "natural":
        mel += np.float32(front_end.floor)
        log_mel = np.log(mel, out=mel)
    else:
        log_mel = np.log10(np.maximum(mel, np.float32(front_end.floor), out=mel), out=mel)
        log_mel *= np.float32(10)
    log_mel += np.float32(front_end.shift)
    log_mel /= np.float32(front_end.scale)
    return log_mel
