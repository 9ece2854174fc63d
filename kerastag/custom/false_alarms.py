"""Keep false alarms rare: simulate streams through the exported files, choose thresholds and rules, and measure."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kerastag.audio.channels import parse_channel
from kerastag.card import Card, write_card
from kerastag.custom.ambient import AmbientHalf, split_ambient
from kerastag.custom.calibration import Calibration
from kerastag.custom.clips import BACKGROUND, Clips
from kerastag.custom.config import CustomConfig
from kerastag.custom.embeddings import Kind
from kerastag.custom.exported import ExportedTagger, export_head
from kerastag.custom.head import AttentionHead
from kerastag.custom.operating_point import ClassAlarms, OperatingPoint, choose_operating_point, measure_alarms
from kerastag.custom.progress import show_progress
from kerastag.custom.simulation import EventStream, StreamPredictions, compose_events, render_events, simulate_stream
from kerastag.custom.tagger import TaggerTrainer
from kerastag.data.audio_lists import report_skipped
from kerastag.data.soundscape_mixer import MIX_SAMPLE_RATE
from kerastag.files import temporary_folder
from kerastag.labels import LabelSet
from kerastag.training.run_folder import RunFolder

__all__ = ["AlarmReport", "HeldOutTagger", "simulate_ambient", "split_config_ambient", "tune_alarms"]

_BACKGROUND_SECONDS = 20.0


class HeldOutTagger(NamedTuple):
    """A tagger for the simulation of events: its files, and the rows of clips that it was not trained on."""

    files: ExportedTagger
    rows: Sequence[int]


@dataclass(frozen=True)
class AlarmReport:
    """Thresholds and rules for events, and the alarms that they give in simulated streams of other data.

    Attributes:
        point: Thresholds and rules.
        classes: Alarms of each class except the background.
    """

    point: OperatingPoint
    classes: tuple[ClassAlarms, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "false_alarms_per_day": self.point.false_alarms_per_day,
            "chosen_on_hours": self.point.hours,
            "needed_hours": self.point.needed_hours if self.point.false_alarms_per_day else None,
            "event_rules": dict(self.point.event_rules),
            "classes": [alarms.as_dict() for alarms in self.classes],
        }


def tune_alarms(
    trainer: TaggerTrainer,
    kind: Kind,
    head: AttentionHead,
    folder: RunFolder,
    exported: ExportedTagger,
    calibration: Calibration | None = None,
) -> AlarmReport:
    """Choose thresholds and rules that keep false alarms rare, write them into the cards, and measure them.

    False alarms are counted with the exported tagger in ambient sound, which no part of the training has used. Sounds
    of the classes are mixed into it at three levels. They are clips of two folds, which are predicted by exported
    taggers that were trained without the fold. One fold and one half of the ambient sound choose, the other ones
    measure. A tagger that was fine-tuned or has no folds is measured in ambient sound alone. With a
    `false_alarms_per_day` of 0, the thresholds of the card are measured as they are.

    Args:
        trainer: Trainer of the run.
        kind: What a bag consists of.
        head: Head that `trainer` has trained last; it has the same weights afterwards.
        folder: Folder of the run, with its models.
        exported: Exported files of the run.
        calibration: Calibration of the head, which the heads of the simulation get too.

    Raises:
        FileNotFoundError: There is no such file or folder as `ambient` or `other_sounds`.
        ValueError: A file cannot be used.
    """
    config, clips = trainer.config, trainer.clips
    names = [name for name in clips.class_names if name != BACKGROUND]
    halves = split_config_ambient(config)
    with temporary_folder(folder.path / "simulation") as temporary:
        held_out = _export_held_out_taggers(trainer, kind, head, folder, exported, temporary, calibration)
        with show_progress("simulation of streams", 2, "halves") as progress, ThreadPoolExecutor(2) as executor:

            def simulate(half: AmbientHalf) -> tuple[list[StreamPredictions], EventStream | None]:
                streams = simulate_ambient(half, exported, names)
                events = _simulate_events(half, held_out[half.number], clips, names, config.max_seconds)
                progress.advance()
                return streams, events

            first, second = executor.map(simulate, halves)
    report_skipped(halves[1].errors, len(halves[1].paths))
    thresholds = _read_thresholds(Card.read(exported.head or exported.embedder))
    least_thresholds = tuple(thresholds[name] for name in names)
    with show_progress("choice of thresholds"):
        if config.false_alarms_per_day:
            point = choose_operating_point(*first, least_thresholds, config.false_alarms_per_day)
            _write_operating_point(point, names, folder, exported)
        else:
            point = OperatingPoint(least_thresholds, {}, 0.0, 0.0, (False,) * len(names))
        return AlarmReport(point, tuple(measure_alarms(point, names, *second)))


def split_config_ambient(config: CustomConfig) -> tuple[AmbientHalf, AmbientHalf]:
    """Split the ambient sound of a configuration into a half to choose thresholds on and a half for the report.

    Raises:
        FileNotFoundError: There is no such file or folder as `ambient` or `other_sounds`.
        ValueError: They are too short, or a folder has no recordings.
    """
    paths = [path for path in (config.ambient, config.other_sounds) if path is not None]
    return split_ambient(paths, parse_channel(config.channel))


def simulate_ambient(half: AmbientHalf, tagger: ExportedTagger, names: Sequence[str]) -> list[StreamPredictions]:
    """Tag one half of the ambient sound: a stream of the recordings, if there are any, and one of synthetic sounds.

    Args:
        half: Half of the ambient sound.
        tagger: Exported tagger.
        names: Classes to predict, in this order.
    """
    streams = []
    if half.paths:
        stream = tagger.open_stream()
        blocks = half.read_recordings(stream.sample_rate)
        streams.append(_select(simulate_stream(stream, blocks, stream.sample_rate), stream.labels, names))
    if half.synthetic_hours:
        stream = tagger.open_stream()
        waveforms = (waveform for _, waveform in half.synthesize())
        streams.append(_select(simulate_stream(stream, waveforms, MIX_SAMPLE_RATE), stream.labels, names))
    return streams


def _export_held_out_taggers(
    trainer: TaggerTrainer,
    kind: Kind,
    head: AttentionHead,
    folder: RunFolder,
    exported: ExportedTagger,
    temporary: Path,
    calibration: Calibration | None,
) -> list[HeldOutTagger | None]:
    """Train and export two taggers without a fold each; None where there can be none."""
    clips, config = trainer.clips, trainer.config
    folds = np.unique(clips.folds[clips.recordings])[:2].tolist()
    if not config.folds or config.fine_tune or len(folds) < 2:
        return [None, None]
    weights, taggers = head.model.get_weights(), list[HeldOutTagger | None]()
    with show_progress("training and export without a fold", len(folds), "folds") as progress:
        for fold in folds:
            part = RunFolder(temporary / f"fold_{fold}", folder.system, folder.config)
            files = _export_without_fold(trainer, kind, fold, folder, exported, part, calibration)
            taggers.append(HeldOutTagger(files, np.flatnonzero(clips.folds == fold).tolist()))
            progress.advance()
    head.model.set_weights(weights)
    return taggers


def _export_without_fold(
    trainer: TaggerTrainer,
    kind: Kind,
    fold: int,
    folder: RunFolder,
    exported: ExportedTagger,
    part: RunFolder,
    calibration: Calibration | None,
) -> ExportedTagger:
    """Train a tagger without a fold, and export it to a folder as the tagger of the run is exported."""
    clips, seed = trainer.clips, trainer.config.seeds[0]
    rows = np.flatnonzero(clips.folds != fold)
    labels = LabelSet.from_names(clips.class_names)
    head = trainer.train_head(kind, rows, seed)
    if calibration is not None:
        head.calibrate(calibration)
    part.save_model(head.model, replace(Card.read(folder.head_path), labels=labels, thresholds=None), part.head_path)
    return ExportedTagger(exported.embedder, export_head(part, kind))


def _simulate_events(
    half: AmbientHalf, held_out: HeldOutTagger | None, clips: Clips, names: Sequence[str], max_seconds: float
) -> EventStream | None:
    """Mix held-out clips into backgrounds of one half, and tag them; None if there are none."""
    composed = [] if held_out is None else compose_events(clips, held_out.rows, max_seconds, half.channel)
    if held_out is None or not composed:
        return None
    backgrounds = half.draw_backgrounds(_BACKGROUND_SECONDS)
    stream, events = held_out.files.open_stream(), []

    def render() -> Iterator[np.ndarray]:
        for waveform, event in render_events(clips, composed, backgrounds, half.channel):
            classes = (names.index(clips.class_names[k]) for k in event.classes if clips.class_names[k] in names)
            events.append(replace(event, classes=tuple(classes)))
            yield waveform

    predictions = _select(simulate_stream(stream, render(), MIX_SAMPLE_RATE), stream.labels, names)
    return EventStream(predictions, tuple(events))


def _select(predictions: StreamPredictions, labels: LabelSet, names: Sequence[str]) -> StreamPredictions:
    return predictions.select([labels.names.index(name) for name in names])


def _read_thresholds(card: Card) -> dict[str, float]:
    return dict(zip(card.labels.names if card.labels else (), card.thresholds or (), strict=True))


def _write_operating_point(
    point: OperatingPoint, names: Sequence[str], folder: RunFolder, exported: ExportedTagger
) -> None:
    """Write thresholds and rules into the cards of the models of a run and of its exported files."""
    for path in (folder.model_path, folder.head_path, exported.head or exported.embedder):
        if path.is_file():
            card = Card.read(path)
            thresholds = _read_thresholds(card) | dict(zip(names, point.thresholds, strict=True))
            card = replace(card, thresholds=tuple(thresholds.values()), thresholds_origin=point.origin)
            rules = {}
            if point.event_rules:
                lengths = dict(zip(names, point.event_rules["min_seconds"], strict=True))
                rules["min_seconds"] = [lengths.get(name, 0.0) for name in thresholds]
            write_card(path, replace(card, event_rules=rules))
