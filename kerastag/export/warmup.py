"""Warm-up requests of a SavedModel, which TensorFlow Serving runs before it reports a version as available."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from kerastag.export.preparation import PreparedModel

__all__ = ["write_warmup_requests"]


def write_warmup_requests(prepared: PreparedModel, folder: Path) -> None:
    """Write one request of silence per signature to `assets.extra/tf_serving_warmup_requests`.

    The file is a TFRecord of `tensorflow.serving.PredictionLog`. That message is written here field by field: the
    package with its class, tensorflow-serving-api, requires gRPC and one version of TensorFlow.

    Args:
        prepared: Model of the SavedModel.
        folder: Folder of a SavedModel that has been written.

    Reference:
        https://www.tensorflow.org/tfx/serving/saved_model_warmup
    """
    import tensorflow as tf

    # One value stands for all elements of the shape.
    silence = tf.make_tensor_proto(0.0, tf.float32, shape=(1, *prepared.input_shape))
    requests = [
        _encode_request(name, {prepared.input_name: silence}) for name in ("serving_default", prepared.input_name)
    ]
    if prepared.input_name == "waveform":
        content = _encode_wav(np.zeros(prepared.num_samples // 10, np.float32), prepared.card.sample_rate)
        requests.append(_encode_request("wav_bytes", {"wav_bytes": tf.make_tensor_proto([content])}))
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            writer.write(request)


def _encode_request(signature: str, inputs: Mapping[str, Any]) -> bytes:
    """Encode `PredictionLog(predict_log=PredictLog(request=PredictRequest(model_spec, inputs)))`."""
    spec = _encode_field(3, signature.encode())  # ModelSpec.signature_name
    entries = [_encode_field(1, name.encode()) + _encode_field(2, x.SerializeToString()) for name, x in inputs.items()]
    request = _encode_field(1, spec) + b"".join(_encode_field(2, entry) for entry in entries)
    return _encode_field(6, _encode_field(1, request))


def _encode_field(number: int, content: bytes) -> bytes:
    """Encode a field of strings, bytes or messages in protobuf's wire format."""
    length, size = bytearray(), len(content)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content


def _encode_wav(waveform: np.ndarray, sample_rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform, sample_rate, format="WAV", subtype="PCM_16")
    return file.getvalue()
