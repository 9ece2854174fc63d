"""Application of a network to patches of a spectrogram."""

from typing import Any

import keras
from keras import ops

from kerastag.layers._arguments import check_integer


@keras.saving.register_keras_serializable(package="kerastag")
class Patchwise(keras.layers.Layer):
    """Application of a network to every patch of a spectrogram: `y_n = network(x[n * P : (n + 1) * P])`.

    Patches have `P = patch_frames` frames and do not overlap. Frames after the last whole patch are ignored.

    Args:
        network: Keras model from `(batch, patch_frames, mel_bins)` to `(batch, features)`.
        patch_frames: Number of frames in a patch, at least 1.

    Input shape: `(batch, frames, mel_bins)`.
    Output shape: `(batch, frames // patch_frames, features)`.

    Raises:
        ValueError: `patch_frames` is outside its range.

    >>> mean = keras.Sequential([keras.Input((96, 64)), keras.layers.GlobalAveragePooling1D()])
    >>> tuple(Patchwise(mean, 96)(ops.ones((2, 200, 64))).shape)
    (2, 2, 64)
    """

    def __init__(self, network: keras.Model, patch_frames: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.network = network
        self.patch_frames = check_integer("patch_frames", patch_frames)

    def build(self, input_shape: Any) -> None:
        if len(input_shape) != 3:
            raise ValueError(f"`inputs` must have shape (batch, frames, mel_bins); received: {tuple(input_shape)}")
        if not self.network.built:
            self.network.build((None, self.patch_frames, input_shape[-1]))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        shape = ops.shape(inputs)
        patches = shape[1] // self.patch_frames
        whole = inputs[:, : patches * self.patch_frames]
        folded = ops.reshape(whole, (-1, self.patch_frames, inputs.shape[-1]))  # (batch * patches, frames, bins)
        outputs = self.network(folded, training=training)
        return ops.reshape(outputs, (shape[0], patches, outputs.shape[-1]))

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, frames, bins = input_shape
        features = self.network.compute_output_shape((None, self.patch_frames, bins))[-1]
        return batch, None if frames is None else frames // self.patch_frames, features

    def get_config(self) -> dict[str, Any]:
        network = keras.saving.serialize_keras_object(self.network)
        return {**super().get_config(), "network": network, "patch_frames": self.patch_frames}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Patchwise":
        return cls(keras.saving.deserialize_keras_object(config.pop("network")), **config)
