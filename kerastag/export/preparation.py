"""Preparation of a network for export: one input of a fixed shape and named outputs."""

from __future__ import annotations

import dataclasses
from importlib import metadata
from typing import NamedTuple

import keras

from kerastag._keras import flatten_layers
from kerastag._version import __version__
from kerastag.card import Card
from kerastag.edge.runtime import INTERPRETER_KEY
from kerastag.export.source import SourceModel, create_front_end, rebuild_network
from kerastag.export.target import Target
from kerastag.layers.log_mel import LogMel

__all__ = ["PreparedModel", "prepare_model"]


class PreparedModel(NamedTuple):
    """A network to write to a file, and the network to compare the file with.

    Both take the same input and give the same dictionary of outputs.

    Args:
        network: Network to write.
        reference: Network as it was trained, in float32.
        input_name: Name of the input: `"waveform"`, `"log_mel"` or `"embedding"`.
        input_shape: Shape of the input for one window, without the batch axis.
        card: Card of the file.
        front_end_layers: Names of the `LogMel` layers in `network`.
        split: Whether the file has two signatures, for streaming.
        any_length: Whether the file takes a waveform of any length.
    """

    network: keras.Model
    reference: keras.Model
    input_name: str
    input_shape: tuple[int, ...]
    card: Card
    front_end_layers: tuple[str, ...]
    split: bool
    any_length: bool = False

    @property
    def num_samples(self) -> int:
        """Number of samples of a window."""
        return round(self.card.window_seconds * self.card.sample_rate)


def prepare_model(source: SourceModel, target: Target) -> PreparedModel:
    """Prepare a network for an export target.

    Raises:
        ValueError: The network cannot take the input of the target, or has none of its outputs.
    """
    card, input_name = _update_card(source, target), target.input
    if input_name == "waveform_or_embedding":
        input_name = "embedding" if source.network.inputs[0].name == "embedding" else "waveform"
    elif input_name == "as_trained":
        input_name = source.network.inputs[0].name
    rebuilt = rebuild_network(source.network, transform=target.transform)
    reference = _replace_input(source.network, input_name, "fft", source)
    network = _replace_input(rebuilt, input_name, target.transform, source)
    reference, network = (_select_outputs(each, target, source) for each in (reference, network))
    front_end_layers = tuple(layer.name for layer in flatten_layers(network) if isinstance(layer, LogMel))
    shape = _compute_input_shape(source, input_name, card)
    return PreparedModel(network, reference, input_name, shape, card, front_end_layers, target.split, target.any_length)


def _replace_input(network: keras.Model, input_name: str, transform: str, source: SourceModel) -> keras.Model:
    """Add or remove the front end, so that the network takes `input_name`."""
    model_input = network.inputs[0].name
    if model_input == input_name:
        return network
    if (model_input, input_name) == ("log_mel", "waveform"):
        waveform = keras.Input((None,), name="waveform")
        front_end = LogMel(create_front_end(source.card), transform, name="front_end")
        return keras.Model(waveform, network(front_end(waveform)), name=network.name)
    layers = [layer for layer in network.layers if isinstance(layer, LogMel)]
    if (model_input, input_name) == ("waveform", "log_mel") and len(layers) == 1:
        try:
            return keras.Model(layers[0].output, network.output, name=network.name)
        except ValueError:  # the waveform goes to other layers than the front end, too
            pass
    raise ValueError(f"`input` of the target must be {model_input} for {source.path}; received: {input_name!r}")


def _select_outputs(network: keras.Model, target: Target, source: SourceModel) -> keras.Model:
    outputs = network.output if isinstance(network.output, dict) else {"clipwise": network.output}
    selected = {name: outputs[name] for name in target.outputs if name in outputs}
    if not selected:
        names, received = ", ".join(outputs), ", ".join(target.outputs)
        raise ValueError(f"`outputs` of the target must be among {names} for {source.path}; received: {received}")
    return keras.Model(network.input, selected, name=network.name)


def _compute_input_shape(source: SourceModel, input_name: str, card: Card) -> tuple[int, ...]:
    samples = round(card.window_seconds * card.sample_rate)
    if input_name == "waveform":
        return (samples,)
    if input_name == "log_mel":
        front_end = create_front_end(card)
        return (front_end.count_frames(samples), front_end.num_mel_bins)
    if card.seconds_per_frame is None:
        raise ValueError(f"{source.path}: `seconds_per_frame` of the card must be a number of seconds; received: None")
    return (max(1, round(card.window_seconds / card.seconds_per_frame)), int(source.network.inputs[0].shape[-1]))


def _update_card(source: SourceModel, target: Target) -> Card:
    """Add to the card of the model the versions of the packages that export it."""
    versions = {**source.card.versions, "kerastag": __version__}
    versions |= {f"export {name}": metadata.version(name) for name in ("keras", "tensorflow")}
    if target.quantization.startswith("int") and target.runtime != "tflite_runtime":
        versions[INTERPRETER_KEY] = "ai_edge_litert"  # tflite-runtime loads such files, but computes wrong results
    origin = "; ".join(filter(None, [source.card.origin, f"exported as {target.name}"]))
    window = target.window_seconds or source.card.window_seconds
    return dataclasses.replace(source.card, window_seconds=window, origin=origin, versions=versions)
