"""SavedModel folders for TensorFlow Serving."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastag.export.preparation import PreparedModel
from kerastag.export.warmup import write_warmup_requests

__all__ = ["find_next_version", "load_saved_model", "write_saved_model"]

_MIN_PADDING = 1_024


def write_saved_model(prepared: PreparedModel, folder: Path) -> None:
    """Write a SavedModel with the signatures `serving_default`, the name of the input, and `wav_bytes`.

    Each signature takes a batch of any size and returns a dictionary of the outputs of the model. `serving_default` and
    the signature with the name of the input (`waveform` or `embedding`) take clips of any length. `wav_bytes` takes the
    contents of WAV files `(batch,)`, averages their channels, resamples them, and pads them with zeros to the window of
    the card; longer files are an error. Models of embeddings have no `wav_bytes`. TensorFlow Serving runs the warm-up
    requests in the folder when it loads the model.
    """
    import tensorflow as tf

    network = prepared.network
    spec = tf.TensorSpec((None, *network.inputs[0].shape[1:]), tf.float32, name=prepared.input_name)
    archive = keras.export.ExportArchive()
    function = tf.function(lambda x: network(x, training=False), input_signature=[spec])
    function.get_concrete_function()  # traced once for all signatures
    for name in ("serving_default", prepared.input_name):
        archive.add_endpoint(name, function)
    if prepared.input_name == "waveform":
        decode = _make_decoder(prepared.card.sample_rate, prepared.num_samples)
        archive.add_endpoint(
            "wav_bytes",
            lambda x: function(tf.map_fn(decode, x, fn_output_signature=tf.float32)),
            input_signature=[tf.TensorSpec((None,), tf.string, name="wav_bytes")],
        )
    archive.write_out(str(folder), verbose=False)
    write_warmup_requests(prepared, folder)


def load_saved_model(folder: Path, input_name: str) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Load a SavedModel as a function from a batch of inputs to outputs by name."""
    import tensorflow as tf

    model = tf.saved_model.load(str(folder))
    function = model.signatures["serving_default"]

    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        _ = model  # The function does not keep the variables of the model alive.
        return {name: value.numpy() for name, value in function(**{input_name: tf.constant(batch)}).items()}

    return run


def find_next_version(folder: Path) -> int:
    """Find the number of the next version of a model, 1 if there is none.

    Raises:
        ValueError: The folder contains anything else than numbered folders.
    """
    if not folder.exists():
        return 1
    children = [child for child in folder.iterdir() if not child.name.startswith(".")] if folder.is_dir() else None
    if children is None or any(not (child.is_dir() and child.name.isdigit()) for child in children):
        raise ValueError(f"`output` must be a new folder, or a folder of numbered versions; received: {str(folder)!r}")
    return 1 + max((int(child.name) for child in children), default=0)


def _make_decoder(sample_rate: int, num_samples: int) -> Callable[[Any], Any]:
    """Make a function from the content of a WAV file to a waveform of `num_samples`."""
    import tensorflow as tf

    def decode(content: Any) -> Any:
        channels, rate = tf.audio.decode_wav(content)
        waveform = tf.reduce_mean(channels, axis=1)
        max_seconds = tf.cast(num_samples, tf.float32) / sample_rate
        seconds = tf.cast(tf.shape(waveform)[0], tf.float32) / tf.cast(rate, tf.float32)
        check = tf.debugging.Assert(
            seconds <= max_seconds + 0.01,
            ["`wav_bytes` must be windows of at most", max_seconds, "seconds; received:", seconds],
        )
        with tf.control_dependencies([check]):
            is_equal = tf.equal(rate, sample_rate)
            waveform = tf.cond(is_equal, lambda: waveform, lambda: _resample(waveform, rate, sample_rate))
        waveform = waveform[:num_samples]
        return tf.ensure_shape(tf.pad(waveform, [[0, num_samples - tf.shape(waveform)[0]]]), (num_samples,))

    return decode


def _resample(waveform: Any, rate: Any, target_rate: int) -> Any:
    """Resample a waveform in the frequency domain.

    Zeros, at least a tenth of the waveform, are appended first, so that its end does not ring into its beginning.
    """
    import tensorflow as tf

    length = tf.shape(waveform)[0]
    # Whole seconds, a length that both rates divide, keep the timing exact.
    seconds = (length + tf.maximum(length // 10, _MIN_PADDING)) // rate + 1
    spectrum = tf.signal.rfft(tf.pad(waveform, [[0, seconds * rate - length]]))
    num_bins = seconds * target_rate // 2 + 1
    shared_bins = tf.minimum(num_bins, tf.shape(spectrum)[0])
    spectrum = tf.pad(spectrum[:shared_bins], [[0, num_bins - shared_bins]])
    scale = tf.cast(target_rate, tf.float32) / tf.cast(rate, tf.float32)
    target_length = tf.cast(tf.math.ceil(tf.cast(length, tf.float32) * scale), tf.int32)
    return (scale * tf.signal.irfft(spectrum, [seconds * target_rate]))[:target_length]
