"""Scores of a tagger on clips whose events are known: event and segment F1, PSDS and localization."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from kerastag.card import Card
from kerastag.data.packs import AudioPack, FeaturePack, open_pack
from kerastag.events import EventRules
from kerastag.files import write_json
from kerastag.framewise import FramewisePredictions, predict_framewise, read_optional_card
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

__all__ = ["EventScores", "score_events"]


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
    card = read_optional_card(model)
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
