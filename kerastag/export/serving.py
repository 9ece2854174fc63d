"""A network and a target -> the network as the file shall have it: one input of fixed shape, named outputs."""

from __future__ import annotations

import dataclasses
from importlib import metadata
from typing import Any, NamedTuple

import keras

from kerastag import __version__
from kerastag.card import Card
from kerastag.dsp import FrontEnd
from kerastag.edge.runtime import NEEDS
from kerastag.export.source import Source, rebuilt
from kerastag.export.target import Target
from kerastag.layers.log_mel import LogMel

__all__ = ["Served", "serve"]

_ONLY_OUTPUT = "clipwise"


class Served(NamedTuple):
    """What is written, and what it is compared with.

    `network` and `reference` take `input`, `shape` without the batch, and give the same dict of outputs; `reference`
    is the network as it was trained, in float32. `front_ends` are the names of the `LogMel` layers in `network`.
    `split` says whether the file has two signatures, for streams.
    """

    network: keras.Model
    reference: keras.Model
    input: str
    shape: tuple[int, ...]
    card: Card
    front_ends: tuple[str, ...]
    split: bool = False

    @property
    def front_end(self) -> FrontEnd:
        """The front end of the card."""
        return FrontEnd.from_dict(dict(self.card.front_end))

    @property
    def timed_seconds(self) -> float:
        """Seconds of sound in what is timed: a window, or a segment where a stream goes segment by segment."""
        return self.card.seconds_per_frame or 0.0 if self.split else self.card.window_seconds

    @property
    def samples(self) -> int:
        """Samples of a window."""
        return round(self.card.window_seconds * self.card.sample_rate)


def serve(source: Source, target: Target) -> Served:
    """A network and a target -> what the file shall have.

    Raises:
        ValueError: the network cannot take the target's input, or has none of its outputs.
    """
    network, card = source.network, _card(source, target)
    has = network.inputs[0].name
    wanted = _wanted(target.input, has)
    reference = _with_outputs(_taking(network, has, wanted, card, "fft", source), target, source)
    fast = rebuilt(network, transform=target.transform)
    fast = _with_outputs(_taking(fast, has, wanted, card, target.transform, source), target, source)
    return Served(fast, reference, wanted, _shape(network, wanted, card, source), card, _front_ends(fast), target.split)


def _wanted(input: str, has: str) -> str:
    if input == "waveform_or_embedding":
        return "embedding" if has == "embedding" else "waveform"
    return has if input == "as_trained" else input


def _taking(network: keras.Model, has: str, wanted: str, card: Card, transform: str, source: Source) -> keras.Model:
    if has == wanted:
        return network
    if (has, wanted) == ("log_mel", "waveform"):
        waveform = keras.Input((None,), name="waveform")
        front_end = LogMel(FrontEnd.from_dict(dict(card.front_end)), transform, name="front_end")
        return keras.Model(waveform, network(front_end(waveform)), name=network.name)
    layers = [layer for layer in network.layers if isinstance(layer, LogMel)]
    if (has, wanted) == ("waveform", "log_mel") and len(layers) == 1:
        try:
            return keras.Model(layers[0].output, network.output, name=network.name)
        except ValueError:  # something beside the front end reads the waveform
            pass
    raise ValueError(f"`input` of the target must be one that {source.path} can take: it takes {has}, not {wanted}")


def _with_outputs(network: keras.Model, target: Target, source: Source) -> keras.Model:
    outputs = network.output if isinstance(network.output, dict) else {_ONLY_OUTPUT: network.output}
    kept = {name: outputs[name] for name in target.outputs if name in outputs}
    if not kept:
        has = ", ".join(outputs)
        raise ValueError(f"`outputs` must name one of {source.path}: it has {has}, not {', '.join(target.outputs)}")
    return keras.Model(network.input, kept, name=network.name)


def _shape(network: keras.Model, wanted: str, card: Card, source: Source) -> tuple[int, ...]:
    samples = round(card.window_seconds * card.sample_rate)
    if wanted == "waveform":
        return (samples,)
    if wanted == "log_mel":
        front_end = FrontEnd.from_dict(dict(card.front_end))
        return (front_end.num_frames(samples), front_end.num_mel_bins)
    if card.seconds_per_frame is None:
        raise ValueError(f"{source.path}: its card must have `seconds_per_frame`, the length of a segment")
    return (max(1, round(card.window_seconds / card.seconds_per_frame)), int(network.inputs[0].shape[-1]))


def _front_ends(network: Any) -> tuple[str, ...]:
    layers = network._flatten_layers(include_self=False)
    return tuple(layer.name for layer in layers if isinstance(layer, LogMel))


def _card(source: Source, target: Target) -> Card:
    """The card of the file: what trained the model stays in it, what wrote it is added."""
    versions = {**source.card.versions, "kerastag": __version__}
    versions |= {f"export {name}": metadata.version(name) for name in ("keras", "tensorflow")}
    if target.quantization.startswith("int") and target.runtime != "tflite_runtime":
        versions[NEEDS] = "ai_edge_litert"  # the older one loads such files, and its numbers are wrong
    origin = "; ".join(filter(None, [source.card.origin, f"exported as {target.name}"]))
    window = target.window_seconds or source.card.window_seconds
    return dataclasses.replace(source.card, window_seconds=window, origin=origin, versions=versions)
