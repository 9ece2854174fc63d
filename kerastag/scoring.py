"""Scores of a tagger on clips whose events are known: event and segment F1, PSDS and localization."""

from __future__ import annotations

import functools
import json
import os
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from kerastag.card import Card
from kerastag.data.batches import scale
from kerastag.data.packs import AudioPack, FeaturePack, open_pack
from kerastag.edge.runtime import is_tflite
from kerastag.events import EventRules, limit_framewise
from kerastag.files import read_arrays, write_json
from kerastag.labels import LabelSet
from kerastag.metrics import (
    PSDS_1,
    PSDS_2,
    EventTable,
    F1Scores,
    LocalizationReport,
    compute_event_f1,
    compute_localization,
    compute_psds,
    compute_segment_f1,
    find_peaks,
    read_events,
    tune_thresholds,
)
from kerastag.tagger import Tagger, fetch_model

__all__ = ["EventScores", "FramewisePredictions", "SubClips", "predict_framewise", "score_events"]

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


@dataclass(frozen=True)
class EventScores:
    """Scores of the predictions of a model over time; `str` of it is a table to print.

    Attributes:
        pack: Path of the pack.
        num_clips: Number of clips.
        num_events: Number of true events.
        events_source: Path and format of the table of true events.
        labels: Classes.
        rules: Rules for events in the predictions.
        thresholds_origin: Where the thresholds come from.
        segment_f1: F1 in segments of one second.
        event_f1: F1 of events with a collar of 200 ms.
        psds_1: PSDS of scenario 1.
        psds_2: PSDS of scenario 2.
        peaks: Position of the most probable frame of each class of a clip.
        sub_clips: Position of the sub-clips that the model selects, or None.
        sub_clip_seconds: Length of a sub-clip, seconds, or None.
    """

    pack: str
    num_clips: int
    num_events: int
    events_source: str
    labels: LabelSet
    rules: EventRules
    thresholds_origin: str
    segment_f1: F1Scores
    event_f1: F1Scores
    psds_1: float
    psds_2: float
    peaks: LocalizationReport
    sub_clips: LocalizationReport | None
    sub_clip_seconds: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "segment_f1": self.segment_f1.as_dict(),
            "event_f1": self.event_f1.as_dict(),
            "psds_1": self.psds_1,
            "psds_2": self.psds_2,
            "peaks": self.peaks.as_dict(),
            **({} if self.sub_clips is None else {"sub_clips": self.sub_clips.as_dict()}),
            "rules": asdict(self.rules),
            "thresholds": self.thresholds_origin,
            "classes": list(self.labels.names),
        }

    def __str__(self) -> str:
        lines = [
            f"{self.pack}: {self.num_clips:,} clips, {self.num_events:,} events; thresholds: {self.thresholds_origin}",
            f"events of {self.events_source}",
            f"{'':22}{'macro F1':>9}{'micro F1':>9}{'precision':>10}{'recall':>8}",
        ]
        for title, f1 in (("segments of 1 s", self.segment_f1), ("events, 200 ms collar", self.event_f1)):
            lines.append(f"{title:22}{f1.macro:9.3f}{f1.micro:9.3f}{f1.precision:10.3f}{f1.recall:8.3f}")
        lines.append(f"PSDS, scenario 1 {self.psds_1:.3f}, scenario 2 {self.psds_2:.3f}")
        lines += ["most probable frame of each class that has events, compared with these", self.peaks.format_table()]
        if self.sub_clips is not None:
            title = f"sub-clips of {self.sub_clip_seconds:g} s selected for classes that have events"
            lines += [f"{title}, compared with these", self.sub_clips.format_table()]
        return "\n".join(lines)


def score_events(
    model: str,
    pack: str,
    *,
    events: str | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    separator: str | None = None,
    tune: str | None = None,
    by: Literal["event", "segment"] = "event",
    threshold: float | None = None,
    smoothing_seconds: float = 0.0,
    min_seconds: float = 0.0,
    max_gap_seconds: float = 0.0,
    segment_seconds: float | None = None,
    sub_clip_seconds: float | None = None,
    output: str | None = None,
) -> EventScores:
    """Score how well a model predicts when each class is active.

    Args:
        model: Path of a `.keras` or `.tflite` file, name of published weights, or path of predictions: an `.npz` file
            with `framewise`, `seconds_per_frame` and, for a model that selects sub-clips, `start_seconds`, `classes`
            and `sub_clip_seconds`.
        pack: Path of a pack of waveforms or embeddings.
        events: Path of the ground truth, an event table; by default `SPLIT.tsv` beside `SPLIT.h5`.
        path_column: Name of its column of file names, as in `kerastag.metrics.read_events`.
        label_column: Name of its column of labels, as in `kerastag.metrics.read_events`.
        separator: Text between the labels of a cell, as in `kerastag.metrics.read_events`.
        tune: Path of another pack, with its event table beside it, on which thresholds are tuned.
        by: F1 that the tuned thresholds maximize, `"event"` or `"segment"`.
        threshold: Threshold of all classes, in [0, 1]; by default those of the model's card, or 0.5 without a card.
        smoothing_seconds: Length of the median filter, at least 0.
        min_seconds: Length of the shortest event, at least 0.
        max_gap_seconds: Longest pause within an event, at least 0.
        segment_seconds: Segment length of a model of embeddings without a card, seconds, above 0; 1 for the embeddings
            that AudioSet publishes.
        sub_clip_seconds: Length of the sub-clips of a model that does not contain it, seconds, above 0.
        output: Path of a JSON file for all scores.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: An argument is outside its range, or a file is damaged or does not fit the others.

    >>> score_events("predictions.npz", "eval.h5")
    Traceback (most recent call last):
    ...
    FileNotFoundError: eval.h5: no such file
    """
    rules = EventRules(
        0.5 if threshold is None else threshold,
        smoothing_seconds=smoothing_seconds,
        min_seconds=min_seconds,
        max_gap_seconds=max_gap_seconds,
    )
    if tune is not None and model.endswith(".npz"):
        raise ValueError("`tune` must be None for predictions, for which `threshold` sets the threshold")
    if tune is not None and Path(tune).resolve() == Path(pack).resolve():
        raise ValueError(f"`tune` must be another pack than the one to score; received: {tune!r}")
    card = _read_card(model)
    columns = {"path_column": path_column, "label_column": label_column, "separator": separator}
    lengths = {"segment_seconds": segment_seconds, "sub_clip_seconds": sub_clip_seconds}
    labels, ground_truth, predictions, clip_seconds = _predict(model, card, pack, events, columns, **lengths)
    framewise, limited, seconds_per_frame, sub_clips = predictions
    origin = f"{rules.onset_thresholds:g}"
    if (threshold is None or tune is not None) and card is not None and card.thresholds:
        rules = replace(rules, onset_thresholds=card.thresholds, offset_thresholds=None)
        origin = f"the card's ({card.thresholds_origin})"
    if tune is not None:
        _, tuning_truth, tuning_predictions, _ = _predict(model, card, tune, None, {}, **lengths)
        rules = tune_thresholds(tuning_truth, tuning_predictions.limited, seconds_per_frame, rules, by=by)
        origin = f"tuned on {tune}"
    predicted_events = EventTable.from_framewise(limited, seconds_per_frame, rules)
    score_psds = functools.partial(
        compute_psds, ground_truth, limited, seconds_per_frame, clip_seconds, smoothing_seconds=smoothing_seconds
    )
    scores = EventScores(
        pack=pack,
        num_clips=ground_truth.num_clips,
        num_events=len(ground_truth),
        events_source=ground_truth.source,
        labels=labels,
        rules=rules,
        thresholds_origin=origin,
        segment_f1=compute_segment_f1(ground_truth, predicted_events),
        event_f1=compute_event_f1(ground_truth, predicted_events),
        psds_1=score_psds(scenario=PSDS_1),
        psds_2=score_psds(scenario=PSDS_2),
        peaks=compute_localization(ground_truth, *find_peaks(framewise, seconds_per_frame), 0.0, clip_seconds),
        sub_clips=None if sub_clips is None else compute_localization(ground_truth, *sub_clips, clip_seconds),
        sub_clip_seconds=None if sub_clips is None else sub_clips.seconds,
    )
    if output is not None:
        write_json(output, scores.as_dict())
    return scores


def predict_framewise(
    model: str | os.PathLike[str],
    pack: AudioPack | FeaturePack,
    *,
    segment_seconds: float | None = None,
    sub_clip_seconds: float | None = None,
) -> FramewisePredictions:
    """Predict the probabilities over time of the clips of a pack, with arguments as in `score_events`.

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


def _read_card(model: str) -> Card | None:
    """Read the card of a model; `.keras` files of embeddings and predictions may have none."""
    if model.endswith(".npz"):
        return None
    path = fetch_model(model)
    try:
        return Card.read(path)
    except ValueError:
        if is_tflite(path):
            raise
        return None


def _predict(
    model: str,
    card: Card | None,
    pack_path: str,
    events: str | None,
    columns: Mapping[str, str | None],
    segment_seconds: float | None,
    sub_clip_seconds: float | None,
) -> tuple[LabelSet, EventTable, FramewisePredictions, float]:
    """Return the classes of a pack, its ground truth, the predictions and the length of a clip in seconds."""
    with open_pack(pack_path, in_memory=False) as pack:
        labels = _match_labels(model, card, pack)
        ground_truth = read_events(events or Path(pack_path).with_suffix(".tsv"), list(pack.ids), labels, **columns)
        predictions = predict_framewise(model, pack, segment_seconds=segment_seconds, sub_clip_seconds=sub_clip_seconds)
        num_clips, num_frames, num_classes = predictions.framewise.shape
        if (num_clips, num_classes) != (ground_truth.num_clips, ground_truth.num_classes):
            expected = f"({ground_truth.num_clips}, frames, {ground_truth.num_classes})"
            received = predictions.framewise.shape
            raise ValueError(f"{model}: `framewise` must be {expected} for {pack_path}; received: {received}")
        if isinstance(pack, AudioPack):
            clip_seconds = pack.x_shape[1] / pack.sample_rate
        else:
            clip_seconds = num_frames * predictions.seconds_per_frame
    return labels, ground_truth, predictions, clip_seconds


def _match_labels(model: str, card: Card | None, pack: AudioPack | FeaturePack) -> LabelSet:
    """Return the classes of a pack, after checking that they are those of the model."""
    if card is None or card.labels is None:
        return pack.labels
    has_names = "class_names" in pack.attributes
    if len(card.labels) != pack.num_classes or (has_names and card.labels.names != pack.labels.names):
        raise ValueError(
            f"{pack.path}: its classes must be those of {model}, {_describe(card.labels)}; "
            f"received: {_describe(pack.labels)}"
        )
    return card.labels


def _describe(labels: LabelSet) -> str:
    return f"{', '.join(labels.names[:3])}{', ...' if len(labels) > 3 else ''} ({len(labels)})"


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

    card = _read_card(model)
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
