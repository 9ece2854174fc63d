"""A `.keras` file -> the network in it."""

import os
from pathlib import Path
from typing import Any

import keras

from kerastag.layers import register_layers


def load_model(path: str | os.PathLike[str]) -> Any:
    """A `.keras` file of any of our models -> the network, not compiled.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no Keras model that can be loaded; the line names the file and the reason.

    >>> load_model("no.keras")
    Traceback (most recent call last):
    FileNotFoundError: no.keras: no such file
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{os.fspath(path)}: no such file")
    register_layers()
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # a damaged file can end in any error of zipfile, json, h5py or Keras
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{os.fspath(path)}: is no Keras model that can be loaded ({reason})") from error
