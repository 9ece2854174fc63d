"""Whitening and quantization of the embeddings of VGGish."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kerastag")
class VGGishPostprocessor(keras.layers.Layer):
    """Whitening by PCA, clipping to [-2, 2] and quantization to integers from 0 to 255, as in AudioSet's features.

    `y = clip(E (x - m), -2, 2)` and, with `quantize`, `floor((y + 2) * 255 / 4)`. `E`, initially the identity, and `m`,
    initially zero, are not trainable. The result is computed in float32 under every dtype policy.

    Args:
        quantize: Whether to quantize, which stops the gradient.

    Input shape: `(..., features)`.
    Output shape: that of the input, float32. Quantized values are integers.

    >>> ops.convert_to_numpy(VGGishPostprocessor()(ops.array([[-3.0, 0.0, 2.0]]))).tolist()
    [[0.0, 127.0, 255.0]]

    Reference: Hershey et al., CNN architectures for large-scale audio classification, 2017, and the description of the
    released AudioSet features.
    """

    def __init__(self, quantize: bool = True, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.quantize = quantize
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        size = input_shape[-1:]
        self.means = self.add_weight(name="means", shape=size, initializer="zeros", trainable=False)
        self.eigen_vectors = self.add_weight(
            name="eigen_vectors", shape=size * 2, initializer="identity", trainable=False
        )

    def call(self, inputs: Any) -> Any:
        whitened = ops.matmul(inputs - self.means, ops.transpose(self.eigen_vectors))
        whitened = ops.clip(whitened, -2.0, 2.0)
        return ops.floor((whitened + 2.0) * (255 / 4)) if self.quantize else whitened

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "quantize": self.quantize}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "VGGishPostprocessor":
        former_names = {"quantise": "quantize"}  # before version 0.1.0
        return cls(**{former_names.get(name, name): value for name, value in config.items()})
