"""A model that hears -> the part of it that embeds one segment: what incremental streaming hears with."""

from __future__ import annotations

import dataclasses
import math

import keras

from kerastag.dsp import FrontEnd
from kerastag.export.source import Source
from kerastag.models.fingerprint import fingerprint

__all__ = ["embedder"]

_HEARD = ("waveform", "log_mel")


def embedder(source: Source, segment_seconds: float) -> Source:
    """A model that hears, with its card -> the network from one segment to its `embedding` (batch, features).

    Its card has no classes, the segment as its window, and under `embedder` in `versions` the fingerprint of the
    weights, by which a head knows whose embeddings it has learned.

    Args:
        source: of a model with an output `embedding`. One with `segments` as well, such as VGGish, cuts them itself:
            its window is what it has to hear for one of them.
        segment_seconds: length of a segment, above 0.

    Raises:
        ValueError: the model hears nothing or embeds nothing, or has segments of another length; `segment_seconds` is
            not above 0, or longer than the model's window.
    """
    if isinstance(segment_seconds, bool) or not 0 < segment_seconds < math.inf:
        raise ValueError(f"`segment_seconds` must be above 0, received {segment_seconds!r}")
    network, card = source.network, source.card
    outputs = network.output if isinstance(network.output, dict) else {}
    if network.inputs[0].name not in _HEARD or "embedding" not in outputs:
        has = f"{network.inputs[0].name} -> {', '.join(outputs) or 'no named output'}"
        raise ValueError(f"{source.path}: an embedder must hear and give `embedding`, received {has}")
    if segment_seconds > card.window_seconds:
        longest = f"at most {card.window_seconds:g}, the window of {source.path}"
        raise ValueError(f"`segment_seconds` must be {longest}, received {segment_seconds:g}")
    window = _window_of_one(source, segment_seconds) if "segments" in outputs else segment_seconds
    cut = keras.Model(network.input, {"embedding": outputs["embedding"]}, name=network.name)
    card = dataclasses.replace(
        card,
        labels=None,
        thresholds=None,
        thresholds_origin="default",
        window_seconds=window,
        seconds_per_frame=None,
        versions={**card.versions, "embedder": fingerprint(cut)},
    )
    return Source(cut, card, source.path)


def _window_of_one(source: Source, segment_seconds: float) -> float:
    """Seconds of sound from which a model that cuts its own segments makes exactly one."""
    front_end = FrontEnd.from_dict(dict(source.card.front_end))
    own = source.card.seconds_per_frame or 0.0
    if round(own * front_end.frames_per_second) != round(segment_seconds * front_end.frames_per_second):
        raise ValueError(f"`segment_seconds` of {source.path} must be {own:g}, its own, received {segment_seconds:g}")
    frames = round(own * front_end.frames_per_second)
    last = (frames - 1) * front_end.hop_length + front_end.window_length - 2 * front_end.padding
    return (last + bool(front_end.preemphasis)) / front_end.sample_rate
