"""A model file or a run's folder -> the network in float32, and its card."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import keras

from kerastag.card import Card
from kerastag.dsp import FRONT_ENDS
from kerastag.labels import LabelSet
from kerastag.models import MODELS
from kerastag.models.loading import load_model

__all__ = ["Source", "read_source", "rebuilt"]

# AudioSet's embeddings, which the systems of paper 1 take: 10 patches of 96 frames of the VGGish front end.
_SEGMENT_SECONDS = 0.96
_SEGMENTS = 10
_FLOATS = ("float32", "bfloat16", "float16", "mixed_bfloat16", "mixed_float16")


class Source(NamedTuple):
    """A network whose every layer computes in float32, its card, and where they were read."""

    network: keras.Model
    card: Card
    path: Path


def read_source(path: str | os.PathLike[str]) -> Source:
    """A `.keras` file with its card, or the folder of a run -> what is exported.

    A run of paper 1 has a model without a card: its classes are those of the run's `classes.csv`.

    Args:
        path: the file, or the folder with `model.keras` in it.

    Raises:
        FileNotFoundError: there is no such file, or no model in the folder.
        ValueError: it is no Keras model, or one without a card.
    """
    path = Path(path)
    file = path / "model.keras" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"{path}: " + ("no model.keras in it" if path.is_dir() else "there is no such model"))
    card = _run_card(path) if path.is_dir() else None
    card = Card.read(file) if card is None else card
    return Source(rebuilt(_load(file)), card, file)


def rebuilt(network: keras.Model, dtype: str = "float32", **of_front_ends: Any) -> keras.Model:
    """A network -> the same with the same weights, every layer in one precision, and its `LogMel` layers set so.

    Args:
        network: built with Keras's functional interface.
        dtype: `"float32"` or `"float64"`.
        of_front_ends: arguments of `LogMel`, such as `transform`.
    """
    copy = type(network).from_config(_changed(network.get_config(), dtype, of_front_ends))
    copy.set_weights(network.get_weights())
    return copy


def _changed(config: Any, dtype: str, of_front_ends: dict[str, Any]) -> Any:
    if isinstance(config, list | tuple):
        return type(config)(_changed(item, dtype, of_front_ends) for item in config)
    if not isinstance(config, dict):
        return config
    config = {key: _changed(value, dtype, of_front_ends) for key, value in config.items()}
    if config.get("dtype") in _FLOATS:  # inputs, and operations that cast
        config["dtype"] = dtype
    if config.get("class_name") == "DTypePolicy":
        config["config"] = {**config["config"], "name": dtype}
    if config.get("class_name") == "LogMel":
        config["config"] = {**config["config"], **of_front_ends}
    return config


def _load(path: Path) -> keras.Model:
    network = load_model(path)
    if len(network.inputs) != 1:
        names = ", ".join(tensor.name for tensor in network.inputs)
        raise ValueError(f"{path}: must have one input, received {names}")
    return network


def _run_card(folder: Path) -> Card | None:
    """The card of a run of paper 1; None for a run whose model has its own."""
    try:
        settings = json.loads((folder / "settings.json").read_text())
    except FileNotFoundError:
        raise ValueError(f"{folder}: no settings.json: not the folder of a run") from None
    except ValueError as error:
        raise ValueError(f"{folder}/settings.json: {error}") from None
    entry = MODELS.get(settings.get("system"))
    if entry is None or entry.front_end is not None:
        return None
    front_end = FRONT_ENDS["vggish"]
    return Card(
        labels=_run_labels(folder / "classes.csv"),
        sample_rate=front_end.sample_rate,
        window_seconds=_SEGMENTS * _SEGMENT_SECONDS,
        seconds_per_frame=_SEGMENT_SECONDS,
        front_end=front_end.as_dict(),
        origin=f"{settings['system']}, trained by kerastag on {', '.join(settings.get('train_packs', ()))}",
        versions=_run_versions(folder / "versions.json"),
    )


def _run_labels(path: Path) -> LabelSet:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file: not the folder of a finished run")
    with path.open(newline="", encoding="utf-8") as file:
        names = [row.get("display_name", "") for row in csv.DictReader(file)]
    audioset = LabelSet.audioset()
    try:
        return audioset if tuple(names) == audioset.names else LabelSet.from_names(names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _run_versions(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text()))
    except (FileNotFoundError, ValueError):
        return {}
