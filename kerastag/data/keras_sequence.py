"""The same batches as a `keras.utils.PyDataset`, for backends without TensorFlow."""

import keras
import numpy as np

from kerastag.data.batches import Batches


class KerasBatches(keras.utils.PyDataset):
    """Batches -> batches `start` to `stop - 1` for `model.fit` on any Keras backend.

    Args:
        batches: what makes batch i.
        start: first batch.
        stop: one past the last.
    """

    def __init__(self, batches: Batches, start: int, stop: int) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self.batches, self.start, self.stop = batches, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.batches.batch(self.start + index)
