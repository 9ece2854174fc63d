"""Keras models with NumPy arrays as inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kerastag.edge.runtime import AUDIO_INPUTS, get_single_input

__all__ = ["KerasModel"]


class KerasModel:
    """A `.keras` file on the backend that Keras uses; implements `kerastag.edge.runtime.Runtime`."""

    def __init__(self, path: Path) -> None:
        try:
            import keras

            from kerastag.models.loading import load_model
        except ImportError as error:
            raise ImportError(f"{path}: running it needs Keras: pip install 'kerastag[train]'") from error
        self._model = load_model(path)
        # A graph of TensorFlow takes any length; XLA compiles again for each, and is slower on the CPU.
        self._model.jit_compile = keras.backend.backend() != "tensorflow"
        self.input = get_single_input(path, [tensor.name for tensor in self._model.inputs], AUDIO_INPUTS)
        self.length = self._model.inputs[0].shape[1]
        outputs = self._model.output
        self.outputs = tuple(outputs) if isinstance(outputs, dict) else ("clipwise",)

    def __call__(self, batch: np.ndarray) -> Mapping[str, np.ndarray]:
        outputs = self._model.predict_on_batch(batch)
        return outputs if isinstance(outputs, dict) else {self.outputs[0]: outputs}
