"""Feed batches to `model.fit`: a tf.data pipeline, and a `keras.utils.PyDataset` for backends without TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np

from kerastag.data.batches import AudioFileBatches, Batches

if TYPE_CHECKING:
    import tensorflow as tf


def make_training_dataset(batches: Batches, start: int, stop: int) -> tf.data.Dataset:
    """Make a tf.data pipeline that prepares the next batches while the model trains.

    Args:
        batches: Source of the batches.
        start: Number of the first batch; a resumed run starts with the one that would have come next.
        stop: Number of the last batch, plus one.

    Returns:
        Dataset of pairs of inputs and targets, float32.
    """
    import tensorflow as tf

    if isinstance(batches, AudioFileBatches):
        from kerastag.data.tfio_audio import make_file_dataset

        return make_file_dataset(batches, start, stop)
    # With from_generator, TensorFlow would return freed memory to the system at every step: 20 % slower.
    shapes = [array.shape for array in batches.batch(start)]

    def load_batch(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
        arrays = tf.numpy_function(batches.batch, [index], [tf.float32] * len(shapes))
        return tuple(tf.ensure_shape(array, shape) for array, shape in zip(arrays, shapes, strict=True))

    return tf.data.Dataset.range(start, stop).map(load_batch).prefetch(4)


class KerasBatches(keras.utils.PyDataset):
    """Batches `start` to `stop - 1` for `model.fit` on any Keras backend."""

    def __init__(self, batches: Batches, start: int, stop: int) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self.batches, self.start, self.stop = batches, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.batches.batch(self.start + index)
