"""Models to export: a `.keras` file as a network in float32, with its card."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import keras

from kerastag.card import Card
from kerastag.models.loading import load_model

__all__ = ["SourceModel", "read_source", "rebuild_network"]

_FLOAT_TYPES = ("float32", "bfloat16", "float16", "mixed_bfloat16", "mixed_float16")


class SourceModel(NamedTuple):
    """A network whose layers all compute in float32, its card, and the path of its file."""

    network: keras.Model
    card: Card
    path: Path


def read_source(path: str | os.PathLike[str], card: Card | None = None) -> SourceModel:
    """Read a model to export.

    Args:
        path: Path of a `.keras` file, or of a folder that contains `model.keras`.
        card: Card of the model; None reads the card in the file.

    Raises:
        FileNotFoundError: No such file, or there is no model in the folder.
        ValueError: The file is not a Keras model, has several inputs, or has no card.
    """
    path = Path(path)
    file = path / "model.keras" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"{path}: " + ("no model.keras in this folder" if path.is_dir() else "no such file"))
    if card is None:
        try:
            card = Card.read(file)
        except ValueError as error:
            message = "to export a run whose model has no card, written before version 0.1.0: kerastag export RUN"
            raise ValueError(f"{error}; {message}") from None
    network = load_model(file)
    if len(network.inputs) != 1:
        names = ", ".join(tensor.name for tensor in network.inputs)
        raise ValueError(f"{file}: the model must have one input; received: {names}")
    return SourceModel(rebuild_network(network), card, file)


def rebuild_network(network: keras.Model, dtype: str = "float32", **front_end_options: Any) -> keras.Model:
    """Rebuild a network with the same weights and another precision.

    Args:
        network: Network built with Keras's functional interface.
        dtype: Precision of all layers, `"float32"` or `"float64"`.
        **front_end_options: Arguments of the `LogMel` layers to change, such as `transform`.
    """
    copy = type(network).from_config(_change_config(network.get_config(), dtype, front_end_options))
    copy.set_weights(network.get_weights())
    return copy


def _change_config(config: Any, dtype: str, front_end_options: dict[str, Any]) -> Any:
    if isinstance(config, list | tuple):
        return type(config)(_change_config(item, dtype, front_end_options) for item in config)
    if not isinstance(config, dict):
        return config
    config = {key: _change_config(value, dtype, front_end_options) for key, value in config.items()}
    if config.get("dtype") in _FLOAT_TYPES:  # inputs, and operations that cast
        config["dtype"] = dtype
    if config.get("class_name") == "DTypePolicy":
        config["config"] = {**config["config"], "name": dtype}
    if config.get("class_name") == "LogMel":
        config["config"] = {**config["config"], **front_end_options}
    return config
