"""Log-mel spectrogram as a layer of a Keras model."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kerastag.dsp import FRONT_ENDS, FrontEnd
from kerastag.layers import _two_step
from kerastag.layers._arguments import check_choice
from kerastag.layers._slices import take_steps

TRANSFORMS = ("fft", "two_step")


@keras.saving.register_keras_serializable(package="kerastag")
class LogMel(keras.layers.Layer):
    """Log-mel spectrogram of a waveform, `kerastag.dsp.FrontEnd` as a layer.

        log_mel = log(|rfft(hann * frames(waveform), fft_length)| ** p @ mel_matrix)

    with the constants of the front end. Clips are independent: no floor is derived from the loudest clip of the batch.
    The layer computes in float32 under every dtype policy. It agrees with `FrontEnd` to 1e-4 (natural logarithm) or
    1e-3 dB on recordings, noise and silence; more than 70 dB below the loudest band of a frame, the rounding errors of
    a float32 FFT dominate. With a static batch of 1 it converts to TFLite with builtin operations only.

    Args:
        front_end: `FrontEnd`, its name in `kerastag.dsp.FRONT_ENDS` (`panns`, `efficientat`, `talnet`, `vggish`), or
            the dict of its constants.
        transform: Computation of the spectrum: `fft`, one FFT per frame, or `two_step`, a strided convolution and a
            matrix product, which a LiteRT interpreter runs several times faster; exported models use it.

    Input shape: `(batch, samples)`, float in [-1, 1], with at least one sample. A waveform shorter than
        `front_end.min_samples` is padded with zeros at its end. Masks are ignored: zero padding is silence.
    Output shape: `(batch, front_end.count_frames(samples), front_end.num_mel_bins)`, float32.

    Raises:
        ValueError: `front_end` is an unknown name or has unknown or missing fields, `transform` is unknown, or the
            input does not have two axes.

    >>> LogMel("vggish")(np.zeros((2, 16_000), "float32")).shape[1:] == (98, 64)
    True
    """

    def __init__(self, front_end: FrontEnd | str | dict[str, Any], transform: str = "fft", **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.transform = check_choice("transform", transform, TRANSFORMS)
        self.front_end = _parse_front_end(front_end)

    def build(self, input_shape):
        if len(input_shape) != 2:
            raise ValueError(f"`waveform` must have the axes (batch, samples); received: shape {tuple(input_shape)}")
        self.built = True

    def call(self, waveform):
        front_end = self.front_end
        waveform = pad_to(ops.cast(waveform, "float32"), front_end.min_samples)
        if front_end.preemphasis:
            samples = ops.shape(waveform)[1] - 1
            waveform = take_steps(waveform, 1, samples) - front_end.preemphasis * take_steps(waveform, 0, samples)
        if front_end.padding:
            waveform = _reflect(waveform, front_end.padding)
        if self.transform == "fft":
            spectrum, mel_matrix = _compute_power(front_end, waveform), front_end.mel_matrix
        else:
            spectrum, mel_matrix = _two_step.compute_power(front_end, waveform), _two_step.reorder_mel_matrix(front_end)
        if front_end.spectrum == "magnitude":
            spectrum = ops.sqrt(spectrum)
        return _compute_log(front_end, ops.matmul(spectrum, mel_matrix))

    def compute_output_shape(self, input_shape):
        frames = None if input_shape[1] is None else self.front_end.count_frames(input_shape[1])
        return (input_shape[0], frames, self.front_end.num_mel_bins)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "front_end": self.front_end.as_dict(), "transform": self.transform}


def _parse_front_end(front_end: FrontEnd | str | dict[str, Any]) -> FrontEnd:
    if isinstance(front_end, FrontEnd):
        return front_end
    if isinstance(front_end, dict):
        return FrontEnd.from_dict(front_end)
    return FRONT_ENDS[check_choice("front_end", front_end, FRONT_ENDS)]


def pad_to(signal: Any, length: int) -> Any:
    """Pad a signal, `(batch, steps, ...)`, with zeros at its end to at least `length` steps."""
    steps = signal.shape[1]
    if steps is not None and steps >= length:
        return signal
    padded = ops.pad(signal, [[0, 0], [0, length - (steps or 0)], *[[0, 0]] * (len(signal.shape) - 2)])
    return padded if steps is not None else take_steps(padded, 0, ops.maximum(ops.shape(signal)[1], length))


def _reflect(waveform, padding: int):
    """Reflect both ends of a waveform; TFLite's own reflection takes a third of the time of the transform."""
    left, right = waveform[:, 1 : padding + 1], waveform[:, -padding - 1 : -1]
    return ops.concatenate([ops.flip(left, 1), waveform, ops.flip(right, 1)], axis=1)


def _compute_power(front_end: FrontEnd, waveform):
    """Compute the power spectrum of every frame, `(batch, frames, fft_length // 2 + 1)`, of a padded waveform."""
    frames = ops.extract_sequences(waveform, front_end.window_length, front_end.hop_length)
    real, imaginary = ops.rfft(frames * front_end.window, front_end.fft_length)
    return ops.square(real) + ops.square(imaginary)


def _compute_log(front_end: FrontEnd, mel):
    if front_end.log == "natural":
        log_mel = ops.log(mel + front_end.floor)
    else:
        log_mel = (10 / np.log(10)) * ops.log(ops.maximum(mel, front_end.floor))  # TFLite has no log10
    return (log_mel + front_end.shift) / front_end.scale
