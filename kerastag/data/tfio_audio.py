"""Audio files -> waveforms inside the tf.data graph, by tensorflow-io; TensorFlow is imported when first needed.

tensorflow-io 0.37.1, its last release, loads beside TensorFlow 2.16 only (the extra `tfio`). Everywhere else, and for
what it does not read (Ogg Opus, 32-bit integer WAV, m4a, video), `kerastag.audio` gives the same waveforms.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf

_PASS_BAND = 0.913  # of the lower Nyquist frequency, as soxr's high quality has it
_BYTES_A_HEADER = 65_536
_WAVE_FLOAT, _WAVE_EXTENSIBLE = 3, 0xFFFE
_UINT8, _INT16, _INT32, _FLOAT32, _UNKNOWN = range(5)


def is_available() -> bool:
    """Whether tensorflow-io is installed and loads beside the TensorFlow that is installed."""
    if importlib.util.find_spec("tensorflow_io") is None:
        return False
    try:
        _tfio()
    except ImportError:
        return False
    return True


def load(path: tf.Tensor | str, sample_rate: int) -> tf.Tensor:
    """Path of an audio file -> mono waveform (samples,), float32, at `sample_rate`, in graph operations.

    For `tf.data.Dataset.map`. Channels are averaged, as in `kerastag.audio.load`: the same samples to 1e-5 where the
    file has that rate already, the same spectrum to 0.1 dB below 0.9 of the Nyquist frequency where it has not.

    Args:
        path: scalar string: WAV (8, 16, 24 bit, float), FLAC (8, 16, 24 bit), Ogg Vorbis or MP3; content decides.
        sample_rate: of the waveform, in Hz.

    Raises:
        ImportError: tensorflow-io does not load.
        ValueError: `sample_rate` is no positive integer.
        tf.errors.OpError: while iterating: `InvalidArgumentError` for a file of none of these kinds, without samples,
            or with fewer samples than its header says (tensorflow-io also refuses a WAV of an odd number of bytes
            without the padding byte behind them); `NotFoundError` for a path where there is none.
    """
    waveform, rate = decode(path)
    return resample(waveform, rate, sample_rate)


def decode(path: tf.Tensor | str) -> tuple[tf.Tensor, tf.Tensor]:
    """Path of an audio file -> (mono waveform (samples,) float32, its sample rate int64); see `load`."""
    import tensorflow as tf

    tfio = _tfio()
    path = tf.convert_to_tensor(path)
    kind = _sample_kind(tf.strings.substr(tf.io.read_file(path), 0, _BYTES_A_HEADER))
    known = tf.debugging.Assert(kind != _UNKNOWN, ["not a kind of audio that tensorflow-io reads", path])

    def reader(dtype: tf.DType, offset: float, scale: float) -> Any:
        def read() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            audio = tfio.audio.AudioIOTensor(path, dtype=dtype)
            samples = audio.to_tensor()
            samples = tf.ensure_shape(samples, (None, None))
            return (tf.cast(samples, tf.float32) - offset) / scale, audio.shape[0], tf.cast(audio.rate, tf.int64)

        return read

    # Asked for a type that is not the file's own, tensorflow-io ends the process: hence the look at the header.
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
    """Waveform (samples,) at `rate_in` -> waveform (round(samples * rate_out / rate_in),) at `rate_out`.

        y = irfft(taper * rfft(x)),  both of lengths whose ratio is exactly rate_out / rate_in

    The taper is 1 up to 0.913 of the lower Nyquist frequency and falls to 0 at it. tensorflow-io's own resampler is
    2 dB down at 0.9 already. The whole clip is one FFT: for clips, not for hours.

    Args:
        waveform: float32.
        rate_in: in Hz, an integer or a scalar integer tensor.
        rate_out: in Hz.

    Raises:
        ValueError: `rate_out` is no positive integer.
    """
    import tensorflow as tf

    if not isinstance(rate_out, int) or rate_out <= 0:
        raise ValueError(f"`sample_rate` must be a positive integer in Hz. Received: {rate_out!r}")
    rate_in = tf.cast(rate_in, tf.int64)
    rate_out_tensor = tf.constant(rate_out, tf.int64)
    return tf.cond(
        rate_in == rate_out_tensor,
        lambda: tf.identity(waveform),
        lambda: _resample_by_fft(waveform, rate_in, rate_out_tensor),
    )


def _resample_by_fft(waveform: tf.Tensor, rate_in: tf.Tensor, rate_out: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    divisor = _greatest_common_divisor(rate_in, rate_out)
    up, down = rate_out // divisor, rate_in // divisor
    samples = tf.shape(waveform, tf.int64)[0]
    # An even number of periods, a power of two where it is large: FFTs of smooth lengths are the fast ones. The zeros
    # behind the clip keep its end from ringing into its start.
    periods = tf.cast(tf.math.ceil((samples + rate_in // 50) / down), tf.float32)
    periods = tf.cast(2 ** tf.math.ceil(tf.math.log(tf.maximum(periods, 2)) / tf.math.log(2.0)), tf.int64)
    length_in, length_out = periods * down, periods * up
    spectrum = tf.signal.rfft(tf.pad(waveform, [[0, length_in - samples]]))
    kept = tf.minimum(length_in, length_out) // 2 + 1
    position = tf.cast(tf.range(kept), tf.float32) / tf.cast(kept - 1, tf.float32)  # 1 is the lower Nyquist frequency
    fall = tf.clip_by_value((position - _PASS_BAND) / (1 - _PASS_BAND), 0, 1)
    taper = 0.5 + 0.5 * tf.cos(3.141592653589793 * fall)
    spectrum = tf.pad(spectrum[:kept] * tf.cast(taper, tf.complex64), [[0, length_out // 2 + 1 - kept]])
    resampled = tf.signal.irfft(spectrum, [tf.cast(length_out, tf.int32)])
    gain = tf.cast(length_out, tf.float32) / tf.cast(length_in, tf.float32)
    wanted = tf.cast(tf.round(tf.cast(samples * rate_out, tf.float64) / tf.cast(rate_in, tf.float64)), tf.int64)
    return resampled[:wanted] * gain


def _greatest_common_divisor(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    return tf.while_loop(lambda a, b: b > 0, lambda a, b: (b, a % b), [first, second])[0]


def _sample_kind(header: tf.Tensor) -> tf.Tensor:
    """First bytes of a file -> which of the types tensorflow-io decodes it to, scalar int32."""
    import tensorflow as tf

    magic = tf.strings.substr(header, 0, 4)
    # An MP3 begins with a tag or a frame: eleven bits of synchronisation, then layer III.
    frame = (_integer(tf.strings.join([header, b"\0\0"]), 0, 2) & 0xE6FF) == 0xE2FF
    is_mp3 = frame | (tf.strings.substr(header, 0, 3) == b"ID3")
    opus = tf.strings.substr(header, 28, 8) == b"OpusHead"
    floating = is_mp3 | ((magic == b"OggS") & ~opus)
    return tf.case(
        [
            (magic == b"RIFF", lambda: _wav_kind(header)),
            (magic == b"fLaC", lambda: _kind_of_bits(_flac_bits(header))),
            (floating, lambda: tf.constant(_FLOAT32)),
        ],
        default=lambda: tf.constant(_UNKNOWN),
    )


def _wav_kind(header: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    def is_other(at: tf.Tensor) -> tf.Tensor:
        return (at + 8 <= tf.strings.length(header)) & (tf.strings.substr(header, at, 4) != b"fmt ")

    def skip(at: tf.Tensor) -> list[tf.Tensor]:
        size = tf.bitwise.bitwise_and(_integer(header, at + 4, 4), 0x7FFF_FFFF)
        return [at + 8 + tf.minimum(size + size % 2, _BYTES_A_HEADER)]

    at = tf.while_loop(is_other, skip, [tf.constant(12)])[0]

    def kind() -> tf.Tensor:
        coding, bits = _integer(header, at + 8, 2), _integer(header, at + 22, 2)
        coding = tf.cond(
            (coding == _WAVE_EXTENSIBLE) & (at + 34 <= tf.strings.length(header)),
            lambda: _integer(header, at + 32, 2),
            lambda: coding,
        )
        integer = tf.where(bits == 32, _UNKNOWN, _kind_of_bits(bits))  # 32-bit integers come as if they were floats
        floating = tf.where(bits == 32, _FLOAT32, _UNKNOWN)
        return tf.where(coding == _WAVE_FLOAT, floating, tf.where(coding == 1, integer, _UNKNOWN))

    return tf.cond(at + 24 <= tf.strings.length(header), kind, lambda: tf.constant(_UNKNOWN))


def _flac_bits(header: tf.Tensor) -> tf.Tensor:
    """Bits a sample: five bits, less one, of STREAMINFO, across its bytes 12 and 13."""
    import tensorflow as tf

    def bits() -> tf.Tensor:
        return (_integer(header, 20, 1) % 2) * 16 + _integer(header, 21, 1) // 16 + 1

    return tf.cond(tf.strings.length(header) >= 22, bits, lambda: tf.constant(0))


def _kind_of_bits(bits: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    kinds = {8: _UINT8, 16: _INT16, 24: _INT32}
    return functools.reduce(lambda kind, known: tf.where(bits == known, kinds[known], kind), kinds, _UNKNOWN)


def _integer(header: tf.Tensor, at: tf.Tensor | int, size: int) -> tf.Tensor:
    """Little-endian integer of `size` bytes at `at`, int32."""
    import tensorflow as tf

    values = tf.cast(tf.io.decode_raw(tf.strings.substr(header, at, size), tf.uint8), tf.int32)
    return tf.reduce_sum(values * tf.constant([256**power for power in range(size)], tf.int32))


def _tfio() -> Any:
    try:
        import tensorflow_io as tfio

        tfio.audio.AudioIOTensor  # noqa: B018 - loads the shared library, which another TensorFlow refuses
    except (ImportError, NotImplementedError, AttributeError) as error:
        raise ImportError(
            "decoding inside the graph needs tensorflow-io 0.37.1 beside TensorFlow 2.16: pip install kerastag[tfio]"
        ) from error
    return tfio
