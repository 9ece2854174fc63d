"""Waveform -> log-mel spectrogram inside a Keras model."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from kerastag.dsp import FRONT_ENDS, FrontEnd
from kerastag.layers import _two_step

TRANSFORMS = ("fft", "two_step")


@keras.saving.register_keras_serializable(package="kerastag")
class LogMel(keras.layers.Layer):
    """Waveform (batch, samples) -> log-mel (batch, frames, mel_bins): `FrontEnd.log_mel` as a layer.

        log_mel = log(|rfft(hann * frames(waveform), fft_length)| ** p @ mel_matrix)

    with the constants of the front end, see `kerastag.dsp.FrontEnd`. Each clip is computed by itself: no floor is
    taken from the loudest clip of the batch. Computed in float32 whatever the dtype policy, and without gradient to
    any weight: the layer has none. It agrees with `FrontEnd.log_mel` to 1e-4 (natural logarithm) or 1e-3 dB on real
    recordings, noise and silence; bands more than 70 dB below the loudest of a pure tone's frame hold the rounding of a
    float32 FFT, where NumPy's is more exact. A model with a static batch of 1
    converts to TFLite with builtin operations only.

    Args:
        front_end: a `FrontEnd`, its name in `FRONT_ENDS` (`"panns"`, `"efficientat"`, `"talnet"`, `"vggish"`), or
            what `FrontEnd.as_dict` gave.
        transform: how the same spectrum is computed. `"fft"` is one FFT a frame. `"two_step"` is a strided convolution
            and a matrix product, without an FFT and without cutting frames: what exported models use, because a LiteRT
            interpreter does it several times faster.

    Input shape:
        (batch, samples), float in [-1, 1], at least one sample; fewer than `front_end.min_samples` are padded with
        zeros at the end. The layer takes no mask: zero padding is silence.

    Output shape:
        (batch, front_end.count_frames(samples), front_end.num_mel_bins), float32.

    Raises:
        ValueError: `front_end` is an unknown name, or holds unknown or missing fields; `transform` is none of the two;
            the input has not two axes.

    >>> LogMel("vggish")(np.zeros((2, 16_000), "float32")).shape[1:] == (98, 64)
    True
    """

    def __init__(
        self, front_end: FrontEnd | str | dict[str, Any], transform: str = TRANSFORMS[0], **kwargs: Any
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        if transform not in TRANSFORMS:
            raise ValueError(f"`transform` must be one of {', '.join(TRANSFORMS)}. Received: {transform!r}")
        self.front_end = _front_end(front_end)
        self.transform = transform

    def build(self, input_shape):
        if len(input_shape) != 2:
            raise ValueError(f"`waveform` must have the axes (batch, samples). Received: shape {tuple(input_shape)}")
        self.built = True

    def call(self, waveform):
        front_end = self.front_end
        waveform = _lengthen(ops.cast(waveform, "float32"), front_end.min_samples)
        if front_end.preemphasis:
            waveform = waveform[:, 1:] - front_end.preemphasis * waveform[:, :-1]
        if front_end.padding:
            waveform = _reflect(waveform, front_end.padding)
        if self.transform == "fft":
            spectrum, mel_matrix = _power(front_end, waveform), front_end.mel_matrix
        else:
            spectrum, mel_matrix = _two_step.spectrum(front_end, waveform), _two_step.mel_matrix(front_end)
        if front_end.spectrum == "magnitude":
            spectrum = ops.sqrt(spectrum)
        return _log(front_end, ops.matmul(spectrum, mel_matrix))

    def compute_output_shape(self, input_shape):
        batch, samples = input_shape
        frames = None if samples is None else self.front_end.count_frames(samples)
        return (batch, frames, self.front_end.num_mel_bins)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "front_end": self.front_end.as_dict(), "transform": self.transform}


def _front_end(front_end: FrontEnd | str | dict[str, Any]) -> FrontEnd:
    if isinstance(front_end, FrontEnd):
        return front_end
    if isinstance(front_end, dict):
        return FrontEnd.from_dict(front_end)
    if front_end not in FRONT_ENDS:
        raise ValueError(f"`front_end` must be one of {', '.join(FRONT_ENDS)}. Received: {front_end!r}")
    return FRONT_ENDS[front_end]


def _lengthen(waveform, min_samples: int):
    """Zeros at the end of a waveform that does not fill one frame."""
    samples = waveform.shape[1]
    if samples is not None:
        missing = max(0, min_samples - samples)
        return ops.pad(waveform, [[0, 0], [0, missing]]) if missing else waveform
    longer = ops.pad(waveform, [[0, 0], [0, min_samples]])
    return longer[:, : ops.maximum(ops.shape(waveform)[1], min_samples)]


def _reflect(waveform, padding: int):
    """Both ends of a waveform reflected: TFLite's own reflection takes as long as a third of the transform."""
    left, right = waveform[:, 1 : padding + 1], waveform[:, -padding - 1 : -1]
    return ops.concatenate([ops.flip(left, 1), waveform, ops.flip(right, 1)], axis=1)


def _power(front_end: FrontEnd, waveform):
    """Padded waveform -> power of every bin of every frame, (batch, frames, fft_length // 2 + 1)."""
    frames = ops.extract_sequences(waveform, front_end.window_length, front_end.hop_length)
    real, imaginary = ops.rfft(frames * front_end.window, front_end.fft_length)
    return ops.square(real) + ops.square(imaginary)


def _log(front_end: FrontEnd, mel):
    if front_end.log == "natural":
        log_mel = ops.log(mel + front_end.floor)
    else:
        log_mel = (10 / np.log(10)) * ops.log(ops.maximum(mel, front_end.floor))  # TFLite has no log10
    return (log_mel + front_end.shift) / front_end.scale
