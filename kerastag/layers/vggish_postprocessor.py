"""Whitening and quantization of the embeddings of VGGish."""

from typing import Any

import keras
from keras import ops

SMALLEST = -2.0
LARGEST = 2.0
STEPS = 255


@keras.saving.register_keras_serializable(package="kerastag")
class VGGishPostprocessor(keras.layers.Layer):
    """Whitening by PCA, clipping to [-2, 2] and quantization to integers from 0 to 255, as in AudioSet's features.

    `y = clip(E (x - m), -2, 2)` and, with `quantize`, `floor((y + 2) * 255 / 4)`. `E`, initially the identity, and `m`,
    initially zero, are not trainable. The result is computed in float32 under every dtype policy.

    Args:
        quantize: Whether to quantize, which stops the gradient.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(..., features)`.
    Output shape: that of the input, float32. Quantized values are integers.

    >>> ops.convert_to_numpy(VGGishPostprocessor()(ops.array([[-3.0, 0.0, 2.0]]))).tolist()
    [[0.0, 127.0, 255.0]]

    Reference: Hershey et al., CNN architectures for large-scale audio classification, 2017, and the description of the
    released AudioSet features.
    """

    def __init__(self, quantize: bool = True, **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.quantize = quantize
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        features = input_shape[-1]
        fixed = {"trainable": False, "dtype": "float32"}
        self.means = self.add_weight(name="means", shape=(features,), initializer="zeros", **fixed)
        self.eigen_vectors = self.add_weight(
            name="eigen_vectors", shape=(features, features), initializer="identity", **fixed
        )

    def call(self, inputs: Any) -> Any:
        centered = ops.cast(inputs, "float32") - self.means
        whitened = ops.clip(ops.matmul(centered, ops.transpose(self.eigen_vectors)), SMALLEST, LARGEST)
        return ops.floor((whitened - SMALLEST) * (STEPS / (LARGEST - SMALLEST))) if self.quantize else whitened

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        return keras.KerasTensor(inputs.shape, dtype="float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "quantize": self.quantize}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "VGGishPostprocessor":
        config = dict(config)
        if "quantise" in config:  # the spelling of files written before version 0.1.0
            config["quantize"] = config.pop("quantise")
        return cls(**config)
