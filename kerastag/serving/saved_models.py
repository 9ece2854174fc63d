"""SavedModel folders, run by TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kerastag.edge.runtime import AUDIO_INPUTS, get_single_input

__all__ = ["SavedModelRuntime", "find_version"]

_FILE = "saved_model.pb"
_SIGNATURE = "serving_default"


def find_version(folder: Path) -> tuple[Path, int]:
    """Return the path and the number of the newest version in a folder, or of a folder that is itself a version.

    Raises:
        ValueError: There is no SavedModel.
    """
    if (folder / _FILE).is_file():
        return folder, int(folder.name) if folder.name.isdecimal() and int(folder.name) else 1
    numbers = [int(path.name) for path in folder.iterdir() if path.name.isdecimal() and (path / _FILE).is_file()]
    if not any(numbers):
        raise ValueError(
            f"{os.fspath(folder)}: must be a SavedModel, or have numbered versions of one; received: neither"
        )
    return folder / str(max(numbers)), max(numbers)


class SavedModelRuntime:
    """A SavedModel with the signature `serving_default`; implements `kerastag.edge.runtime.Runtime`.

    Args:
        path: Folder of the SavedModel, written by `kerastag export --target saved_model`.

    Raises:
        ValueError: The folder is not a SavedModel that takes audio.
        ImportError: TensorFlow is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import tensorflow as tf
        except ImportError as error:
            raise ImportError(f"{path}: running it needs TensorFlow: pip install 'kerastag[train]'") from error
        self._convert = tf.constant
        self._model = tf.saved_model.load(os.fspath(path))
        self._function = self._model.signatures[_SIGNATURE]
        inputs = self._function.structured_input_signature[1]
        self.input = get_single_input(path, list(inputs), AUDIO_INPUTS)
        self.length: int | None = inputs[self.input].shape[1]
        self.outputs = tuple(self._function.structured_outputs)

    def __call__(self, batch: np.ndarray) -> Mapping[str, np.ndarray]:
        return {name: values.numpy() for name, values in self._function(**{self.input: self._convert(batch)}).items()}
