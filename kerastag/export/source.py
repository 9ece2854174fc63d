"""Models to export: a `.keras` file in float32 with its card, and the part of it that embeds one segment."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import keras

from kerastag.card import Card
from kerastag.dsp import FrontEnd
from kerastag.edge.runtime import AUDIO_INPUTS
from kerastag.models.loading import load_model
from kerastag.models.weights import compute_fingerprint

__all__ = ["SourceModel", "create_front_end", "extract_embedder", "read_source", "rebuild_network"]

_FLOAT_TYPES = ("float32", "bfloat16", "float16", "mixed_bfloat16", "mixed_float16")


class SourceModel(NamedTuple):
    """A network whose layers all compute in float32, its card, and the path of its file."""

    network: keras.Model
    card: Card
    path: Path


def read_source(path: str | os.PathLike[str], card: Card | None = None) -> SourceModel:
    """Read a `.keras` file, or the `model.keras` of a folder, with the given card or else the one in the file.

    Raises:
        FileNotFoundError: There is no such file, or no model in the folder.
        ValueError: The file is not a Keras model, has several inputs, or has no card.
    """
    path = Path(path)
    file = path / "model.keras" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"{path}: " + ("no model.keras in this folder" if path.is_dir() else "no such file"))
    if file.suffix != ".keras":
        raise ValueError(f"{file}: must be a .keras file, which `kerastag train` and `kerastag import` write")
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


def extract_embedder(source: SourceModel, segment_seconds: float) -> SourceModel:
    """Extract the network from the audio of one segment to its `embedding`, `(batch, features)`.

    The card of the embedder has no classes, and its window is the segment. `versions["embedder"]` holds the fingerprint
    of the weights, with which a head identifies the embedder that it was trained with. A model with an output
    `segments`, such as VGGish, divides its input into segments of its own. Its window is then the audio of the log-mel
    frames in `segment_seconds`, and what exceeds the first of its own segments is not used.

    Raises:
        ValueError: The model does not take audio or has no embedding; or `segment_seconds` is not above 0, longer than
            the window of the model, or not the length of one of its own segments.
    """
    if isinstance(segment_seconds, bool) or not 0 < segment_seconds < math.inf:
        raise ValueError(f"`segment_seconds` must be above 0; received: {segment_seconds!r}")
    network, card = source.network, source.card
    outputs = network.output if isinstance(network.output, dict) else {}
    if network.inputs[0].name not in AUDIO_INPUTS or "embedding" not in outputs:
        received = f"{network.inputs[0].name} to {', '.join(outputs) or 'one unnamed output'}"
        raise ValueError(f"{source.path}: an embedder must map waveform or log_mel to embedding; received: {received}")
    if segment_seconds > card.window_seconds:
        longest = f"at most {card.window_seconds:g}, the window of {source.path}"
        raise ValueError(f"`segment_seconds` must be {longest}; received: {segment_seconds:g}")
    embedder = keras.Model(network.input, {"embedding": outputs["embedding"]}, name=network.name)
    card = dataclasses.replace(
        card,
        labels=None,
        thresholds=None,
        thresholds_origin="default",
        window_seconds=_compute_window(source, segment_seconds) if "segments" in outputs else segment_seconds,
        seconds_per_frame=None,
        versions={**card.versions, "embedder": compute_fingerprint(embedder)},
    )
    return SourceModel(embedder, card, source.path)


def create_front_end(card: Card) -> FrontEnd:
    """Create the front end of a card."""
    return FrontEnd.from_dict(dict(card.front_end))


def rebuild_network(network: keras.Model, dtype: str = "float32", **front_end_options: Any) -> keras.Model:
    """Rebuild a functional model with the same weights, in another precision and with other options of `LogMel`."""
    copy = type(network).from_config(_change_config(network.get_config(), dtype, front_end_options))
    copy.set_weights(network.get_weights())
    return copy


def _compute_window(source: SourceModel, segment_seconds: float) -> float:
    """Compute the length in seconds of the audio of a segment, from which the model makes exactly one embedding."""
    front_end, model_seconds = create_front_end(source.card), source.card.seconds_per_frame or 0.0
    frames, model_frames = (round(each * front_end.frames_per_second) for each in (segment_seconds, model_seconds))
    if not model_frames <= frames < 2 * model_frames:
        allowed = f"at least {model_seconds:g}, the segment of {source.path}, and less than twice as long"
        raise ValueError(f"`segment_seconds` must be {allowed}; received: {segment_seconds:g}")
    samples = (frames - 1) * front_end.hop_length + front_end.window_length - 2 * front_end.padding
    return (samples + bool(front_end.preemphasis)) / front_end.sample_rate


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
