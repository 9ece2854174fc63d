"""What is served -> a SavedModel with a signature for each way of asking, for TensorFlow Serving and others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastag.export.serving import Served

__all__ = ["next_version", "runner", "write_saved_model"]

_SHORTEST_TAIL = 1_024


def write_saved_model(served: Served, folder: Path) -> None:
    """What is served -> a SavedModel with the signatures `serving_default`, the input's name, and `wav_bytes`.

    Each takes a batch of any size and gives a dict of the model's outputs. `serving_default` and the signature that
    is called as the input (`waveform` or `embedding`) take clips of any length. `wav_bytes` takes the content of WAV
    files (batch,), mixes channels to one, resamples, and fills up with zeros to the window of the card; what is longer
    than a window is refused.

    Args:
        served: what to write.
        folder: to write it into; it is made.
    """
    import tensorflow as tf

    network = served.network
    spec = tf.TensorSpec((None, *network.inputs[0].shape[1:]), tf.float32, name=served.input)
    archive = keras.export.ExportArchive()
    # Traced once: the signatures share it.
    function = tf.function(lambda x: network(x, training=False), input_signature=[spec])
    function.get_concrete_function()
    for name in ("serving_default", served.input):
        archive.add_endpoint(name, function)
    if served.input == "waveform":
        decode = _decoder(served.card.sample_rate, served.samples)
        archive.add_endpoint(
            "wav_bytes",
            lambda x: function(tf.map_fn(decode, x, fn_output_signature=tf.float32)),
            input_signature=[tf.TensorSpec((None,), tf.string, name="wav_bytes")],
        )
    archive.write_out(str(folder), verbose=False)


def runner(folder: Path, served: Served) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """A SavedModel's folder -> inputs (batch, ...) to outputs by name, as a server would call it."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    function = loaded.signatures["serving_default"]

    def run(given: np.ndarray) -> dict[str, np.ndarray]:
        _ = loaded  # its variables live as long as it does
        return {name: value.numpy() for name, value in function(**{served.input: tf.constant(given)}).items()}

    return run


def next_version(output: Path) -> int:
    """A model's folder -> the number of its next version, 1 where there is none.

    Raises:
        ValueError: something else stands there.
    """
    if not output.exists():
        return 1
    if not output.is_dir() or any(not (child.is_dir() and child.name.isdigit()) for child in output.iterdir()):
        raise ValueError(f"`output` must be a new folder, or one of numeric versions, received {output}")
    return 1 + max((int(child.name) for child in output.iterdir()), default=0)


def _decoder(sample_rate: int, samples: int) -> Callable[[Any], Any]:
    """The content of a WAV file -> (samples,) at the sample rate."""
    import tensorflow as tf

    def decode(content: Any) -> Any:
        channels, rate = tf.audio.decode_wav(content)
        sound = tf.reduce_mean(channels, axis=1)
        longest = tf.cast(samples, tf.float32) / sample_rate
        seconds = tf.cast(tf.shape(sound)[0], tf.float32) / tf.cast(rate, tf.float32)
        fits = tf.debugging.Assert(
            seconds <= longest + 0.01,
            ["`wav_bytes` must be windows of at most", longest, "seconds, received", seconds],
        )
        with tf.control_dependencies([fits]):
            sound = tf.cond(tf.equal(rate, sample_rate), lambda: sound, lambda: _resampled(sound, rate, sample_rate))
        sound = sound[:samples]
        return tf.ensure_shape(tf.pad(sound, [[0, samples - tf.shape(sound)[0]]]), (samples,))

    return decode


def _resampled(sound: Any, rate: Any, wanted: int) -> Any:
    """Samples at one rate -> at another: the spectrum is cut, or filled with zeros.

    Silence as long as a tenth of the sound stands behind it, so that its end does not ring into its beginning.
    """
    import tensorflow as tf

    length = tf.shape(sound)[0]
    # A length that both rates divide keeps time exact: whole seconds.
    seconds = (length + tf.maximum(length // 10, _SHORTEST_TAIL)) // rate + 1
    spectrum = tf.signal.rfft(tf.pad(sound, [[0, seconds * rate - length]]))
    bins = seconds * wanted // 2 + 1
    kept = tf.minimum(bins, tf.shape(spectrum)[0])
    spectrum = tf.pad(spectrum[:kept], [[0, bins - kept]])
    scale = tf.cast(wanted, tf.float32) / tf.cast(rate, tf.float32)
    heard = tf.cast(tf.math.ceil(tf.cast(length, tf.float32) * scale), tf.int32)
    return (scale * tf.signal.irfft(spectrum, [seconds * wanted]))[:heard]
