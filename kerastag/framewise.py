"""Probabilities over time of the clips of a pack, from a model or from a file."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kerastag.card import Card
from kerastag.data.batches import scale
from kerastag.data.packs import AudioPack, FeaturePack
from kerastag.edge.runtime import is_tflite
from kerastag.events import limit_framewise
from kerastag.files import read_arrays
from kerastag.tagger import Tagger, fetch_model

__all__ = ["FramewisePredictions", "SubClips", "predict_framewise", "read_optional_card"]

_BATCH_SIZE = 256


class SubClips(NamedTuple):
    """Sub-clips of one length that a model selects.

    `start_seconds` and `classes` are `(clips, sub_clips)`: where in its clip each sub-clip begins, and the index of the
    class for which it was selected.
    """

    start_seconds: np.ndarray
    classes: np.ndarray
    seconds: float


class FramewisePredictions(NamedTuple):
    """Predictions of a model over time for the clips of a pack.

    `framewise` are the probabilities of each output frame, `(clips, frames, classes)`. `limited` are those in which
    events are found: for waveforms, `framewise` limited by the probability of the whole clip
    (`kerastag.events.limit_framewise`), and otherwise `framewise` itself. `seconds_per_frame` is the hop of the output
    frames, and `sub_clips` are those that the model selects, if it does.
    """

    framewise: np.ndarray
    limited: np.ndarray
    seconds_per_frame: float
    sub_clips: SubClips | None = None


def predict_framewise(
    model: str | os.PathLike[str],
    pack: AudioPack | FeaturePack,
    *,
    segment_seconds: float | None = None,
    sub_clip_seconds: float | None = None,
) -> FramewisePredictions:
    """Predict the probabilities over time of the clips of a pack.

    Args:
        model: Path of a `.keras` or `.tflite` file, name of published weights, or path of predictions: an `.npz` file
            with `framewise`, `seconds_per_frame` and, for a model that selects sub-clips, `start_seconds`, `classes`
            and `sub_clip_seconds`.
        pack: Clips of waveforms or embeddings.
        segment_seconds: Segment length of a model of embeddings without a card, seconds, above 0.
        sub_clip_seconds: Length of the sub-clips of a model that does not contain it, seconds, above 0.

    Raises:
        FileNotFoundError: The model does not exist.
        ValueError: The model has no probabilities over time, or a length is missing or contradicts that in the model.
    """
    name = os.fspath(model)
    if name.endswith(".npz"):
        return _read_predictions(Path(name), sub_clip_seconds)
    if isinstance(pack, AudioPack):
        return _predict_waveforms(name, pack, sub_clip_seconds)
    return _predict_embeddings(name, pack, segment_seconds)


def read_optional_card(model: str) -> Card | None:
    """Read the card of a model; a `.keras` file of embeddings and predictions may have none.

    Raises:
        FileNotFoundError: The model does not exist.
        ValueError: A TFLite file has no card.
    """
    if model.endswith(".npz"):
        return None
    path = fetch_model(model)
    try:
        return Card.read(path)
    except ValueError:
        if is_tflite(path):
            raise
        return None


def _read_predictions(path: Path, sub_clip_seconds: float | None) -> FramewisePredictions:
    arrays = read_arrays(path)
    if not {"framewise", "seconds_per_frame"} <= arrays.keys():
        received = ", ".join(arrays) or "nothing"
        raise ValueError(f"{path}: must have framewise and seconds_per_frame; received: {received}")
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise ValueError(f"{path}: `{name}` must be numbers; received: {array.dtype}")
        is_length = name in ("seconds_per_frame", "sub_clip_seconds")
        if is_length and (array.size != 1 or not 0 < array.item() < np.inf):
            raise ValueError(f"{path}: `{name}` must be a number above 0; received: {str(array)[:80]}")
    framewise, sub_clips = arrays["framewise"], None
    if framewise.ndim != 3:
        raise ValueError(f"{path}: `framewise` must be (clips, frames, classes); received: {framewise.shape}")
    if {"start_seconds", "classes"} <= arrays.keys():
        recorded = float(arrays["sub_clip_seconds"]) if "sub_clip_seconds" in arrays else None
        seconds = _resolve_seconds("sub_clip_seconds", sub_clip_seconds, recorded, str(path))
        sub_clips = SubClips(arrays["start_seconds"], arrays["classes"], seconds)
    return FramewisePredictions(framewise, framewise, float(arrays["seconds_per_frame"]), sub_clips)


def _predict_waveforms(model: str, pack: AudioPack, sub_clip_seconds: float | None) -> FramewisePredictions:
    tagger = Tagger.load(model)
    is_one_window = pack.x_shape[1] / pack.sample_rate <= tagger.card.window_seconds + 1e-6
    if "start_seconds" not in tagger.outputs or not is_one_window:
        timelines = [tagger.predict_timeline(clip, sample_rate=pack.sample_rate) for clip in _read_clips(pack)]
        framewise = np.stack([timeline.framewise for timeline in timelines])
        limited = np.stack([timeline.probabilities for timeline in timelines])
        return FramewisePredictions(framewise, limited, tagger.seconds_per_frame)
    seconds = _resolve_seconds("sub_clip_seconds", sub_clip_seconds, _read_sub_clip_seconds(fetch_model(model)), model)
    names = ("framewise", "clipwise", "start_seconds", "classes")
    outputs = [
        window_outputs
        for clip in _read_clips(pack)
        for _, window_outputs in tagger.predict_windows(clip, *names, sample_rate=pack.sample_rate)
    ]
    framewise, clipwise, start_seconds, classes = (np.stack([output[name] for output in outputs]) for name in names)
    sub_clips = SubClips(start_seconds, classes, seconds)
    return FramewisePredictions(framewise, limit_framewise(framewise, clipwise), tagger.seconds_per_frame, sub_clips)


def _predict_embeddings(model: str, pack: FeaturePack, segment_seconds: float | None) -> FramewisePredictions:
    import keras

    from kerastag.models.loading import load_model

    card = read_optional_card(model)
    recorded = None if card is None else card.seconds_per_frame
    seconds = _resolve_seconds("segment_seconds", segment_seconds, recorded, model)
    network = load_model(fetch_model(model))
    if not isinstance(network.output, dict) or "framewise" not in network.output:
        raise ValueError(f"{model}: must have the output `framewise`, probabilities over time")
    network = keras.Model(network.input, network.output["framewise"])
    batches = []
    for start in range(0, len(pack), _BATCH_SIZE):
        x, lengths, _ = pack.rows(np.arange(start, min(start + _BATCH_SIZE, len(pack))))
        framewise = np.array(network.predict_on_batch(scale(x, lengths)))
        framewise[np.arange(framewise.shape[1]) >= np.asarray(lengths)[:, None]] = 0  # padding has no events
        batches.append(framewise)
    framewise = np.concatenate(batches)
    return FramewisePredictions(framewise, framewise, seconds)


def _resolve_seconds(name: str, value: float | None, recorded: float | None, model: str) -> float:
    """Return the length that a model contains, or else that of the argument."""
    if value is None:
        if recorded is None:
            raise ValueError(f"`{name}` must be the length in seconds, which {model} does not contain; received: None")
        return recorded
    if not value > 0:
        raise ValueError(f"`{name}` must be above 0; received: {value:g}")
    if recorded is not None and abs(value - recorded) > 1e-6:
        raise ValueError(f"`{name}` must be {recorded:g} as in {model}; received: {value:g}")
    return value if recorded is None else recorded


def _read_clips(pack: AudioPack) -> Iterator[np.ndarray]:
    from tqdm import tqdm

    for row in tqdm(range(len(pack)), unit="clip", dynamic_ncols=True, disable=None, file=sys.stderr):
        x, lengths, _ = pack.rows([row])
        yield scale(x, lengths)[0]


def _read_sub_clip_seconds(path: Path) -> float | None:
    """Read the length of sub-clips from the configuration of the selecting layer of a `.keras` file."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        if "config.json" not in archive.namelist():
            return None
        layers = json.loads(archive.read("config.json"))["config"].get("layers", [])
    for layer in layers:
        if layer.get("class_name") == "ClassWiseClipSelect":
            config = layer["config"]
            return float(config["sub_clip_seconds"] if "sub_clip_seconds" in config else config["clip_seconds"])
    return None
