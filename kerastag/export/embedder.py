"""The part of a model that embeds one segment, for incremental streaming."""

from __future__ import annotations

import dataclasses
import math

import keras

from kerastag.dsp import FrontEnd
from kerastag.export.source import SourceModel
from kerastag.models.weights import compute_fingerprint

__all__ = ["extract_embedder"]

_AUDIO_INPUTS = ("waveform", "log_mel")


def extract_embedder(source: SourceModel, segment_seconds: float) -> SourceModel:
    """Extract the network from the audio of one segment to its `embedding`, of shape `(batch, features)`.

    The card of the embedder has no classes, and its window is the segment. `versions["embedder"]` holds the fingerprint
    of the weights, with which a head identifies the embedder that it was trained with.

    Args:
        source: Model with an output `embedding`. A model with an output `segments` as well, such as VGGish, divides its
            input into segments itself: the window is then the audio that it needs for one of them.
        segment_seconds: Length of a segment in seconds, above 0.

    Raises:
        ValueError: The model does not take audio, has no embedding or has segments of another length;
            `segment_seconds` is not above 0, or longer than the window of the model.
    """
    if isinstance(segment_seconds, bool) or not 0 < segment_seconds < math.inf:
        raise ValueError(f"`segment_seconds` must be above 0; received: {segment_seconds!r}")
    network, card = source.network, source.card
    outputs = network.output if isinstance(network.output, dict) else {}
    if network.inputs[0].name not in _AUDIO_INPUTS or "embedding" not in outputs:
        received = f"{network.inputs[0].name} to {', '.join(outputs) or 'one unnamed output'}"
        raise ValueError(f"{source.path}: an embedder must map waveform or log_mel to embedding; received: {received}")
    if segment_seconds > card.window_seconds:
        longest = f"at most {card.window_seconds:g}, the window of {source.path}"
        raise ValueError(f"`segment_seconds` must be {longest}; received: {segment_seconds:g}")
    window_seconds = _compute_window(source, segment_seconds) if "segments" in outputs else segment_seconds
    embedder = keras.Model(network.input, {"embedding": outputs["embedding"]}, name=network.name)
    card = dataclasses.replace(
        card,
        labels=None,
        thresholds=None,
        thresholds_origin="default",
        window_seconds=window_seconds,
        seconds_per_frame=None,
        versions={**card.versions, "embedder": compute_fingerprint(embedder)},
    )
    return SourceModel(embedder, card, source.path)


def _compute_window(source: SourceModel, segment_seconds: float) -> float:
    """Compute the length in seconds of the audio from which the model makes exactly one segment."""
    front_end = FrontEnd.from_dict(dict(source.card.front_end))
    model_seconds = source.card.seconds_per_frame or 0.0
    frames = round(model_seconds * front_end.frames_per_second)
    if frames != round(segment_seconds * front_end.frames_per_second):
        raise ValueError(
            f"`segment_seconds` must be {model_seconds:g}, the segment of {source.path}; received: {segment_seconds:g}"
        )
    samples = (frames - 1) * front_end.hop_length + front_end.window_length - 2 * front_end.padding
    return (samples + bool(front_end.preemphasis)) / front_end.sample_rate
