"""Decode audio files inside the tf.data graph with tensorflow-io.

The last release of tensorflow-io, 0.37.1, works with TensorFlow 2.16 only (the extra `tfio`). `kerastag.audio` returns
the same waveforms everywhere, and reads more: Ogg Opus, WAV of 32-bit integers, m4a, video.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import tensorflow as tf

from kerastag.data.batches import AudioFileBatches, draw_mixup

__all__ = ["decode", "is_available", "load", "make_file_dataset", "resample"]

_PASS_BAND = 0.913  # share of the lower Nyquist frequency, as in soxr's high quality
_HEADER_BYTES = 65_536
_WAVE_FLOAT, _WAVE_EXTENSIBLE = 3, 0xFFFE
_UINT8, _INT16, _INT32, _FLOAT32, _UNKNOWN = range(5)


def is_available() -> bool:
    """Return whether tensorflow-io is installed and works with the installed TensorFlow."""
    try:
        _import_tfio()
    except ImportError:
        return False
    return True


def load(path: tf.Tensor | str, sample_rate: int) -> tf.Tensor:
    """Load an audio file as a mono waveform in graph operations, for `tf.data.Dataset.map` without parallel calls.

    Channels are averaged. Compared with `kerastag.audio.load`, samples are the same to 1e-5 if the file has the sample
    rate already; otherwise the spectrum is the same to 0.1 dB below 0.9 of the Nyquist frequency.

    Args:
        path: Path of a WAV (8, 16, 24 bit, float), FLAC (8, 16, 24 bit), Ogg Vorbis or MP3 file, a scalar string. The
            content decides, not the extension.
        sample_rate: Sample rate of the waveform, Hz.

    Returns:
        Waveform, float32 `(samples,)`.

    Raises:
        ImportError: tensorflow-io does not work with the installed TensorFlow.
        ValueError: `sample_rate` is not a positive integer.
        tf.errors.OpError: While iterating: `InvalidArgumentError` for a file of another kind, without samples, or with
            fewer samples than its header states (tensorflow-io also refuses a WAV with an odd number of bytes and no
            padding byte); `NotFoundError` for a file that does not exist.
    """
    waveform, rate = decode(path)
    return resample(waveform, rate, sample_rate)


def make_file_dataset(batches: AudioFileBatches, start: int, stop: int) -> tf.data.Dataset:
    """Make a tf.data pipeline that decodes, resamples, crops, batches and mixes the recordings of clips.

    The clips, crops and shares of a batch are those of `batches.batch`, and its waveforms differ only as `load` does
    from `kerastag.audio.load`, and by the 16 bits of a pack.

    Args:
        batches: Source of the batches.
        start: Number of the first batch.
        stop: Number of the last batch, plus one.

    Raises:
        ImportError: tensorflow-io does not work with the installed TensorFlow.
    """
    _import_tfio()
    size, num_samples, num_classes = batches.sampler.batch_size, batches.num_samples, batches.sampler.num_classes

    def draw(index: np.int64) -> tuple[np.ndarray, ...]:
        clips, starts, random = batches.draw(int(index))
        share, other = np.ones(size, np.float32), np.arange(size)
        if batches.mixup:
            share, other = draw_mixup(batches.mixup, size, random)
        stops = np.minimum(starts + num_samples, batches.pack.lengths[clips])
        target = batches.pack.targets[clips].astype(np.float32)
        return (
            batches.paths[clips],
            starts,
            stops.astype(np.int64),
            target,
            share,
            other,
            batches.draw_gains(int(index)),
        )

    def draw_batch(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
        types = (tf.string, tf.int64, tf.int64, tf.float32, tf.float32, tf.int64, tf.float32)
        shapes = ((size,), (size,), (size,), (size, num_classes), (size,), (size,), (size,))
        tensors = tf.numpy_function(draw, [index], types)
        return tuple(tf.ensure_shape(tensor, shape) for tensor, shape in zip(tensors, shapes, strict=True))

    def load_crop(clip: tuple[tf.Tensor, ...]) -> tf.Tensor:
        path, first, stop = clip
        crop = load(path, batches.sample_rate)[first:stop]
        return tf.ensure_shape(tf.pad(crop, [[0, num_samples - tf.shape(crop)[0]]]), (num_samples,))

    def load_batch(*drawn: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        *clips, target, share, other, gains = drawn
        signature = tf.TensorSpec((num_samples,), tf.float32)
        waveform = tf.map_fn(load_crop, tuple(clips), fn_output_signature=signature, parallel_iterations=1)
        share = share[:, None]
        waveform, target = (share * x + (1 - share) * tf.gather(x, other) for x in (waveform, target))
        return gains[:, None] * waveform, target

    # One recording after the other, while the model trains: an operation of tensorflow-io has one decoder, which
    # parallel calls would point at each other's files.
    return tf.data.Dataset.range(start, stop).map(lambda index: load_batch(*draw_batch(index))).prefetch(2)


def decode(path: tf.Tensor | str) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode an audio file to a mono waveform, float32 `(samples,)`, and its sample rate, int64. See `load`."""
    tfio = _import_tfio()
    path = tf.convert_to_tensor(path)
    kind = _find_kind(tf.strings.substr(tf.io.read_file(path), 0, _HEADER_BYTES))
    known = tf.debugging.Assert(kind != _UNKNOWN, ["not a kind of audio that tensorflow-io reads", path])

    def reader(dtype: tf.DType, offset: float, scale: float) -> Any:
        def read() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            audio = tfio.audio.AudioIOTensor(path, dtype=dtype)
            samples = audio.to_tensor()
            samples = tf.ensure_shape(samples, (None, None))
            return (tf.cast(samples, tf.float32) - offset) / scale, audio.shape[0], tf.cast(audio.rate, tf.int64)

        return read

    # tensorflow-io ends the process if the type is not that of the file: hence the header is read first.
    readers = [reader(tf.uint8, 128, 128), reader(tf.int16, 0, 2**15), reader(tf.int32, 0, 2**31)]
    with tf.control_dependencies([known]):
        samples, promised, rate = tf.switch_case(tf.minimum(kind, _FLOAT32), [*readers, reader(tf.float32, 0, 1)])
    decoded = tf.shape(samples, tf.int64)[0]
    complete = tf.debugging.Assert(
        (decoded == promised) & (decoded > 0), ["samples decoded, samples in the header", decoded, promised, path]
    )
    with tf.control_dependencies([complete]):
        return tf.reduce_mean(samples, axis=1), rate


def resample(waveform: tf.Tensor, rate_in: tf.Tensor | int, rate_out: int) -> tf.Tensor:
    """Resample a waveform, float32 `(samples,)`, with one FFT over all of it: for clips, not for hours.

        y = irfft(taper * rfft(x)),  both of lengths whose ratio is exactly rate_out / rate_in

    The taper is 1 up to 0.913 of the lower Nyquist frequency and falls to 0 at it. tensorflow-io's own resampler
    attenuates by 2 dB at 0.9 already. The result has `round(samples * rate_out / rate_in)` samples.
    """
    if not isinstance(rate_out, int) or rate_out <= 0:
        raise ValueError(f"`sample_rate` must be a positive integer, Hz; received: {rate_out!r}")
    rate_in = tf.cast(rate_in, tf.int64)
    rate_out_tensor = tf.constant(rate_out, tf.int64)
    return tf.cond(
        rate_in == rate_out_tensor,
        lambda: tf.identity(waveform),
        lambda: _resample_by_fft(waveform, rate_in, rate_out_tensor),
    )


def _resample_by_fft(waveform: tf.Tensor, rate_in: tf.Tensor, rate_out: tf.Tensor) -> tf.Tensor:
    divisor = tf.while_loop(lambda a, b: b > 0, lambda a, b: (b, a % b), [rate_in, rate_out])[0]
    up, down = rate_out // divisor, rate_in // divisor
    samples = tf.shape(waveform, tf.int64)[0]
    # A power of two as number of periods makes FFTs fast. The zeros after the clip keep its end from ringing into its
    # start.
    periods = tf.cast(tf.math.ceil((samples + rate_in // 50) / down), tf.float32)
    periods = tf.cast(2 ** tf.math.ceil(tf.math.log(tf.maximum(periods, 2)) / tf.math.log(2.0)), tf.int64)
    length_in, length_out = periods * down, periods * up
    spectrum = tf.signal.rfft(tf.pad(waveform, [[0, length_in - samples]]))
    bins = tf.minimum(length_in, length_out) // 2 + 1
    position = tf.cast(tf.range(bins), tf.float32) / tf.cast(bins - 1, tf.float32)  # 1 at the lower Nyquist frequency
    fall = tf.clip_by_value((position - _PASS_BAND) / (1 - _PASS_BAND), 0, 1)
    taper = 0.5 + 0.5 * tf.cos(3.141592653589793 * fall)
    spectrum = tf.pad(spectrum[:bins] * tf.cast(taper, tf.complex64), [[0, length_out // 2 + 1 - bins]])
    resampled = tf.signal.irfft(spectrum, [tf.cast(length_out, tf.int32)])
    gain = tf.cast(length_out, tf.float32) / tf.cast(length_in, tf.float32)
    samples_out = tf.cast(tf.round(tf.cast(samples * rate_out, tf.float64) / tf.cast(rate_in, tf.float64)), tf.int64)
    return resampled[:samples_out] * gain


def _find_kind(header: tf.Tensor) -> tf.Tensor:
    """Return the type that tensorflow-io decodes a file to, given its first bytes, scalar int32."""
    header = tf.strings.join([header, b"\0" * 36])  # a file may be shorter than what is read of it
    magic = tf.strings.substr(header, 0, 4)
    # An MP3 begins with a tag or a frame: eleven bits of synchronization, then layer III.
    frame = (_read_integer(header, 0, 2) & 0xE6FF) == 0xE2FF
    is_mp3 = frame | (tf.strings.substr(header, 0, 3) == b"ID3")
    opus = tf.strings.substr(header, 28, 8) == b"OpusHead"
    floating = is_mp3 | ((magic == b"OggS") & ~opus)
    return tf.case(
        [
            (magic == b"RIFF", lambda: _find_wav_kind(header)),
            (magic == b"fLaC", lambda: _find_kind_of_bits(_read_flac_bits(header))),
            (floating, lambda: tf.constant(_FLOAT32)),
        ],
        default=lambda: tf.constant(_UNKNOWN),
    )


def _find_wav_kind(header: tf.Tensor) -> tf.Tensor:
    def is_other(at: tf.Tensor) -> tf.Tensor:
        return (at + 8 <= tf.strings.length(header)) & (tf.strings.substr(header, at, 4) != b"fmt ")

    def skip(at: tf.Tensor) -> list[tf.Tensor]:
        size = tf.bitwise.bitwise_and(_read_integer(header, at + 4, 4), 0x7FFF_FFFF)
        return [at + 8 + tf.minimum(size + size % 2, _HEADER_BYTES)]

    at = tf.while_loop(is_other, skip, [tf.constant(12)])[0]

    def kind() -> tf.Tensor:
        coding, bits = _read_integer(header, at + 8, 2), _read_integer(header, at + 22, 2)
        coding = tf.cond(
            (coding == _WAVE_EXTENSIBLE) & (at + 34 <= tf.strings.length(header)),
            lambda: _read_integer(header, at + 32, 2),
            lambda: coding,
        )
        # tensorflow-io decodes 32-bit integers as floats.
        integer = tf.where(bits == 32, _UNKNOWN, _find_kind_of_bits(bits))
        floating = tf.where(bits == 32, _FLOAT32, _UNKNOWN)
        return tf.where(coding == _WAVE_FLOAT, floating, tf.where(coding == 1, integer, _UNKNOWN))

    return tf.cond(at + 24 <= tf.strings.length(header), kind, lambda: tf.constant(_UNKNOWN))


def _read_flac_bits(header: tf.Tensor) -> tf.Tensor:
    """Read the bits per sample, less one, from five bits across bytes 12 and 13 of STREAMINFO."""
    return tf.cond(
        tf.strings.length(header) >= 22,
        lambda: (_read_integer(header, 20, 1) % 2) * 16 + _read_integer(header, 21, 1) // 16 + 1,
        lambda: tf.constant(0),
    )


def _find_kind_of_bits(bits: tf.Tensor) -> tf.Tensor:
    kinds = {8: _UINT8, 16: _INT16, 24: _INT32}
    return functools.reduce(lambda kind, known: tf.where(bits == known, kinds[known], kind), kinds, _UNKNOWN)


def _read_integer(header: tf.Tensor, at: tf.Tensor | int, size: int) -> tf.Tensor:
    """Read a little-endian integer of `size` bytes at offset `at`, int32."""
    values = tf.cast(tf.io.decode_raw(tf.strings.substr(header, at, size), tf.uint8), tf.int32)
    return tf.reduce_sum(values * tf.constant([256**power for power in range(size)], tf.int32))


def _import_tfio() -> Any:
    try:
        import tensorflow_io as tfio

        tfio.audio.AudioIOTensor  # noqa: B018 - loads the shared library, which fails with another TensorFlow
    except (ImportError, NotImplementedError, AttributeError) as error:
        raise ImportError(
            "decoding inside the graph needs tensorflow-io 0.37.1 and TensorFlow 2.16: pip install kerastag[tfio]"
        ) from error
    return tfio
