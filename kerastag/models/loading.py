"""Loading of models from `.keras` files."""

import os
from pathlib import Path
from typing import Any

import keras

from kerastag.layers import register_layers
from kerastag.models.saved_files import check_saved_model, limit_weights

__all__ = ["load_model"]


def load_model(path: str | os.PathLike[str]) -> Any:
    """Load a model from a `.keras` file, which may be from a stranger.

    Before anything is built, the file is checked: it may hold only layers of kerastag and simple ones of Keras, with
    plain arguments, and no more numbers than its size allows.

    Args:
        path: Path of a file that kerastag has written.

    Returns:
        `keras.Model`, not compiled.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not a Keras model that can be loaded.

    >>> import kerastag
    >>> kerastag.load_model("mn04_as")
    Traceback (most recent call last):
    FileNotFoundError: mn04_as: no such file; `kerastag.Tagger.load` takes presets, such as esc10 and mn04_as
    """
    if not Path(path).is_file():
        hint = "" if Path(path).suffix else "; `kerastag.Tagger.load` takes presets, such as esc10 and mn04_as"
        raise FileNotFoundError(f"{os.fspath(path)}: no such file{hint}")
    register_layers()
    try:
        with limit_weights(check_saved_model(Path(path))):
            return keras.saving.load_model(path, compile=False)
    except Exception as error:  # A damaged file raises any error of zipfile, json, h5py or Keras.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{os.fspath(path)}: must be a Keras model; received: {reason}") from error
