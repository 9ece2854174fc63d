"""A `.keras` file -> arrays in, arrays out, on whichever backend Keras has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kerastag.edge.runtime import HEARD, only_input

__all__ = ["KerasModel"]

_ONLY_OUTPUT = "clipwise"


class KerasModel:
    """A `.keras` file on whichever backend Keras has."""

    def __init__(self, path: Path) -> None:
        try:
            import keras

            from kerastag.models.loading import load_model
        except ImportError as error:
            raise ImportError(f"{path}: running it needs Keras: pip install 'kerastag[train]'") from error
        self._model = load_model(path)
        # TensorFlow's graph takes any length; XLA compiles anew for each, and is slower on the CPU.
        self._model.jit_compile = keras.backend.backend() != "tensorflow"
        self.input = only_input(path, [tensor.name for tensor in self._model.inputs], HEARD)
        self.length = self._model.inputs[0].shape[1]
        outputs = self._model.output
        self.outputs = tuple(outputs) if isinstance(outputs, dict) else (_ONLY_OUTPUT,)

    def __call__(self, batch: np.ndarray) -> Mapping[str, np.ndarray]:
        outputs = self._model.predict_on_batch(batch)
        return outputs if isinstance(outputs, dict) else {self.outputs[0]: outputs}
