"""Power spectrum of overlapping frames by a convolution and a matrix product, which devices compute fast."""

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from kerastag.dsp import FrontEnd
from kerastag.layers._slices import take_steps

_MAX_COLUMNS = 32


class _Plan(NamedTuple):
    """Constants of `compute_power`.

    With `fft_length = inner * columns`, sample `n = columns * n1 + n2` and bin `k = k1 + inner * k2`:

        u[n2, k1] = sum over n1 of hann[n] * x[n] * e^(-2πi n k1 / fft_length)         (a depthwise convolution)
        X[k]      = sum over n2 of u[n2, k1] * e^(-2πi n2 k2 / columns)                (a matrix product)

    of which `k1 <= inner / 2` suffices, because x is real.
    """

    columns: int  # samples in a row of the waveform, which is reshaped to an image
    inner: int  # length of the transform of the first step
    kernel: np.ndarray  # of the convolution over rows, (taps, 1, columns, 2 * (inner // 2 + 1))
    product: np.ndarray  # from the real and imaginary parts of all n2 to those of all k2, (2 * columns, 2 * columns)
    bins: np.ndarray  # bin of `rfft` at each place of the result, -1 for a repeated bin


@functools.lru_cache(maxsize=32)
def _make_plan(front_end: FrontEnd) -> _Plan:
    """Compute the constants for a front end, with rows as long as the hop and the transform allow."""
    common = math.gcd(front_end.hop_length, front_end.fft_length)
    columns = min(_MAX_COLUMNS, common & -common)
    length, inner = front_end.fft_length, front_end.fft_length // columns
    taps = -(-front_end.window_length // columns)
    samples, low = np.arange(taps * columns), np.arange(inner // 2 + 1)
    window = np.pad(front_end.window.astype(np.float64), (0, len(samples) - front_end.window_length))
    first = (window[:, None] * _compute_phases(samples, low, length)).reshape(taps, 1, columns, len(low))
    second = _compute_phases(np.arange(columns), np.arange(columns), columns)
    product = np.block([[second.real, second.imag], [-second.imag, second.real]])
    kernel = np.concatenate([first.real, first.imag], axis=-1)
    return _Plan(columns, inner, kernel.astype(np.float32), product.astype(np.float32), _compute_bins(length, columns))


def compute_power(front_end: FrontEnd, waveform: Any) -> Any:
    """Compute the power of every frame, `(batch, frames, places)` in the order of `bins`, of a padded waveform."""
    plan = _make_plan(front_end)
    stride, low = front_end.hop_length // plan.columns, plan.inner // 2 + 1
    image = _split_rows(waveform, plan, front_end)
    parts = ops.depthwise_conv(image, plan.kernel, strides=stride, padding="valid", data_format="channels_last")
    frames = ops.shape(parts)[1]
    # The low bins of the first step are stacked, so that one product suffices: (low * batch * frames, 2 * columns).
    parts = ops.reshape(parts, (-1, plan.columns, 2, low))
    parts = ops.reshape(ops.transpose(parts, (3, 0, 2, 1)), (-1, 2 * plan.columns))
    parts = ops.square(ops.matmul(parts, plan.product))
    power = take_steps(parts, 0, plan.columns) + take_steps(parts, plan.columns, plan.columns)
    power = ops.transpose(ops.reshape(power, (low, -1, plan.columns)), (1, 0, 2))
    return ops.reshape(power, (-1, frames, low * plan.columns))


def reorder_mel_matrix(front_end: FrontEnd) -> np.ndarray:
    """Return the mel matrix with its rows in the order of `bins`, and zeros for repeated bins."""
    bins = _make_plan(front_end).bins
    return np.where(bins[:, None] >= 0, front_end.mel_matrix[bins], np.float32(0))


def _split_rows(waveform: Any, plan: _Plan, front_end: FrontEnd) -> Any:
    """Split `(batch, samples)` into the rows that whole frames cover, `(batch, rows, 1, columns)`."""
    missing = len(plan.kernel) * plan.columns - front_end.window_length
    if missing:
        waveform = ops.pad(waveform, [[0, 0], [0, missing]])
    frames = 1 + (ops.shape(waveform)[1] - missing - front_end.window_length) // front_end.hop_length
    covered = (frames - 1) * front_end.hop_length + front_end.window_length + missing
    return ops.reshape(take_steps(waveform, 0, covered), (-1, covered // plan.columns, 1, plan.columns))


def _compute_phases(left: np.ndarray, right: np.ndarray, length: int) -> np.ndarray:
    """Compute `e^(-2πi left right / length)`, exactly for whole turns."""
    return np.exp(-2j * np.pi * (np.outer(left, right) % length) / length)


def _compute_bins(length: int, columns: int) -> np.ndarray:
    inner = length // columns
    bins = (np.arange(inner // 2 + 1)[:, None] + inner * np.arange(columns)).ravel()
    bins = np.minimum(bins, length - bins)
    first = np.unique(bins, return_index=True)[1]
    return np.where(np.isin(np.arange(len(bins)), first), bins, -1)
