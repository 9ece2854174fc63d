"""What `kerastag when` does: a tagger over scenes with a truth -> how well it says when each class sounds."""

from __future__ import annotations

import json
import sys
import zipfile
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kerastag.card import Card
from kerastag.data.audio_pack import AudioPack, is_audio_pack
from kerastag.data.batches import scale
from kerastag.data.pack import FeaturePack
from kerastag.edge.runtime import is_tflite
from kerastag.events import EventRules, sounding_probabilities
from kerastag.files import write_json
from kerastag.labels import LabelSet
from kerastag.metrics import (
    PSDS_1,
    PSDS_2,
    EventTable,
    Localization,
    event_f1,
    localization,
    peaks,
    psds,
    read_events,
    segment_f1,
    tune_thresholds,
)
from kerastag.tagger import Tagger, model_file

__all__ = ["Heard", "measure_when"]

_SEGMENT_SECONDS = 1.0  # of AudioSet's embeddings, where no card says it
_PREDICTIONS = ("framewise", "seconds_per_frame")


@dataclass(frozen=True)
class Heard:
    """What a model says of the clips of a pack.

    Attributes:
        framewise: probabilities, `(clips, frames, classes)`: where a class is most probable.
        sounding: likewise, whether a class sounds: events are found in them. Of recordings,
            `kerastag.events.sounding_probabilities`, as a tagger and a stream have it; of embeddings, whose systems all
            learn from segments, and of predictions, `framewise` itself.
        seconds_per_frame: from one frame to the next.
        windows: where the sub-clips that it chose begin and whose they are, `(clips, windows)`, and how long they are.
    """

    framewise: np.ndarray
    sounding: np.ndarray
    seconds_per_frame: float
    windows: tuple[np.ndarray, np.ndarray, float] | None = None


def measure_when(arguments: Namespace) -> str:
    """The arguments of the command -> its table, and the JSON file where one was asked for.

    Raises:
        ValueError, FileNotFoundError: a file that is not there or does not fit, named.
    """
    model = _Model(arguments.model, arguments.sub_clip_seconds)
    truth, heard, seconds = _measured(model, arguments.pack, arguments.events)
    rules, origin = _rules(arguments, model)
    found = EventTable.found(heard.sounding, heard.seconds_per_frame, rules)
    f1 = {"segment": segment_f1(truth, found), "event": event_f1(truth, found)}
    smoothing = rules.smoothing_seconds
    scores = {
        name: psds(truth, heard.sounding, heard.seconds_per_frame, seconds, scenario, smoothing_seconds=smoothing)
        for name, scenario in (("psds_1", PSDS_1), ("psds_2", PSDS_2))
    }
    places = {"peaks": localization(truth, *peaks(heard.framewise, heard.seconds_per_frame), 0.0, seconds)}
    if heard.windows is not None:
        start_seconds, classes, sub_clip_seconds = heard.windows
        places["windows"] = localization(truth, start_seconds, classes, sub_clip_seconds, seconds)
    if arguments.json:
        measured = {f"{name}_f1": value.as_dict() for name, value in f1.items()}
        located = {name: value.as_dict() for name, value in places.items()}
        names = list(model.labels_of(arguments.pack).names)
        figures = {**measured, **scores, **located, "rules": asdict(rules), "thresholds": origin, "classes": names}
        write_json(Path(arguments.json), figures)
    head = f"{arguments.pack}: {truth.num_clips:,} clips, {len(truth):,} events; thresholds: {origin}"
    return "\n".join([head, *_lines(f1, scores), *_place_lines(places, heard)])


class _Model:
    """A model file, or predictions that were made before -> what it says of the clips of a pack."""

    def __init__(self, name: str, sub_clip_seconds: float | None) -> None:
        self.name, self._sub_clip_seconds = name, sub_clip_seconds
        self.is_predictions = name.endswith(".npz")
        self.path = Path(name) if self.is_predictions else model_file(name)
        self.card: Card | None = None
        if not self.is_predictions:
            try:
                self.card = Card.read(self.path)
            except ValueError:
                if is_tflite(self.path):
                    raise

    def labels_of(self, pack: str) -> LabelSet:
        """The classes of a pack; an error unless they are the model's."""
        with _open(pack) as opened:
            names = opened.attributes.get("class_names")
            num_classes = opened.num_classes
        labels = None if self.card is None else self.card.labels
        if names is not None:
            own = LabelSet.from_names(json.loads(str(names)))
            if labels is not None and labels.names != own.names:
                raise ValueError(f"{pack}: its classes are not those of {self.name}: {own.names[0]}, ...")
            return own
        if labels is None and num_classes == len(LabelSet.audioset()):
            labels = LabelSet.audioset()
        if labels is None or len(labels) != num_classes:
            raise ValueError(f"{pack}: says no names of its {num_classes} classes, and the model has others")
        return labels

    def hear(self, pack: str) -> Heard:
        """A pack -> what the model says of its clips."""
        if self.is_predictions:
            return self._read()
        with _open(pack) as opened:
            if isinstance(opened, AudioPack):
                return self._hear_waveforms(opened)
            return self._hear_embeddings(opened)

    def _read(self) -> Heard:
        try:
            with np.load(self.path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.path}: no such predictions") from None
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"{self.path}: is no .npz file that can be read ({error})") from None
        if missing := [name for name in _PREDICTIONS if name not in arrays]:
            raise ValueError(f"{self.path}: must hold {' and '.join(_PREDICTIONS)}, has no {missing[0]}")
        framewise, seconds = arrays["framewise"], float(arrays["seconds_per_frame"])
        if not {"start_seconds", "classes"} <= arrays.keys():
            return Heard(framewise, framewise, seconds)
        sub_clip_seconds = self._sub_clip_seconds or float(arrays.get("sub_clip_seconds", 0.0))
        return Heard(framewise, framewise, seconds, (arrays["start_seconds"], arrays["classes"], sub_clip_seconds))

    def _hear_waveforms(self, pack: AudioPack) -> Heard:
        tagger, rate = Tagger.load(self.name), pack.sample_rate
        seconds = tagger.seconds_per_frame
        if "start_seconds" not in tagger.outputs or pack.x_shape[1] / rate > tagger.card.window_seconds + 1e-6:
            lines = [tagger.timeline(waveform, sample_rate=rate) for waveform in _clips(pack)]
            return Heard(
                np.stack([line.framewise for line in lines]), np.stack([line.probabilities for line in lines]), seconds
            )
        names = ("framewise", "clipwise", "start_seconds", "classes")
        said = [
            outputs for clip in _clips(pack) for _, outputs in tagger.windows(clip, *names, sample_rate=rate)
        ]  # one window a clip
        framewise, clipwise, start_seconds, classes = (np.stack([outputs[name] for outputs in said]) for name in names)
        sounding = sounding_probabilities(framewise, clipwise)
        return Heard(framewise, sounding, seconds, (start_seconds, classes, self._window_length()))

    def _hear_embeddings(self, pack: FeaturePack) -> Heard:
        import keras

        from kerastag.models.loading import load_model

        model = load_model(self.path)
        if not isinstance(model.output, dict) or "framewise" not in model.output:
            raise ValueError(f"{self.name}: this model has no probabilities over time")
        model = keras.Model(model.input, model.output["framewise"])
        framewise = []
        for start in range(0, len(pack), 256):
            x, lengths, _ = pack.rows(np.arange(start, min(start + 256, len(pack))))
            said = np.array(model.predict_on_batch(scale(x, lengths)))
            said[np.arange(said.shape[1]) >= np.asarray(lengths)[:, None]] = 0  # nothing sounds in padding
            framewise.append(said)
        seconds = (self.card.seconds_per_frame if self.card else None) or _SEGMENT_SECONDS
        heard = np.concatenate(framewise)
        return Heard(heard, heard, seconds)

    def _window_length(self) -> float:
        found = self._sub_clip_seconds or _clip_seconds_in(self.path)
        if found is None:
            raise ValueError(f"{self.name}: `--sub_clip_seconds` must say how long the sub-clips are that it chooses")
        return found


def _measured(model: _Model, pack: str, events: str | None) -> tuple[EventTable, Heard, float]:
    """A pack -> its true events, what the model says, and the length of a clip in seconds."""
    labels = model.labels_of(pack)
    with _open(pack) as opened:
        truth = read_events(events or Path(pack).with_suffix(".tsv"), list(opened.ids), labels)
        waveforms = opened.x_shape[1] / opened.sample_rate if isinstance(opened, AudioPack) else None
    heard = model.hear(pack)
    if heard.framewise.shape[::2] != (truth.num_clips, truth.num_classes):
        wanted = f"({truth.num_clips}, frames, {truth.num_classes})"
        raise ValueError(f"{model.name}: `framewise` must be {wanted} for {pack}, is {heard.framewise.shape}")
    return truth, heard, waveforms or heard.framewise.shape[1] * heard.seconds_per_frame


def _rules(arguments: Namespace, model: _Model) -> tuple[EventRules, str]:
    """The rules to find events by, and where their thresholds come from."""
    seconds = {name: getattr(arguments, name) for name in ("smoothing_seconds", "min_seconds", "max_gap_seconds")}
    rules = EventRules(**seconds)
    if arguments.threshold is not None:
        return replace(rules, onset_thresholds=arguments.threshold, offset_thresholds=None), f"{arguments.threshold:g}"
    origin = f"{rules.onset_thresholds:g}"
    if model.card is not None and model.card.thresholds:
        rules = replace(rules, onset_thresholds=model.card.thresholds, offset_thresholds=None)
        origin = f"the card's ({model.card.thresholds_origin})"
    if arguments.tune:
        if model.is_predictions:
            raise ValueError("`--tune` needs a model, received predictions; say `--threshold`")
        if Path(arguments.tune).resolve() == Path(arguments.pack).resolve():
            raise ValueError("`--tune` must be another pack than `--pack`: nothing is chosen on what is measured")
        truth, heard, _ = _measured(model, arguments.tune, None)
        tuned = tune_thresholds(truth, heard.sounding, heard.seconds_per_frame, rules, by=arguments.by)
        return tuned, f"tuned on {arguments.tune}"
    return rules, origin


def _lines(f1: dict[str, Any], scores: dict[str, float]) -> Iterator[str]:
    yield f"{'':22}{'macro F1':>9}{'micro F1':>9}{'precision':>10}{'recall':>8}"
    for name, title in (("segment", "segments of 1 s"), ("event", "events, 200 ms collar")):
        f = f1[name]
        yield f"{title:22}{f.macro:9.3f}{f.micro:9.3f}{f.precision:10.3f}{f.recall:8.3f}"
    yield f"PSDS, scenario 1 {scores['psds_1']:.3f}, scenario 2 {scores['psds_2']:.3f}"


def _place_lines(places: dict[str, Localization], heard: Heard) -> Iterator[str]:
    yield "most probable frame of each class that sounds, against its events"
    yield places["peaks"].table()
    if heard.windows is not None:
        yield f"windows of {heard.windows[2]:g} s that were chosen for classes that sound, against their events"
        yield places["windows"].table()


def _open(pack: str) -> AudioPack | FeaturePack:
    return AudioPack(pack) if is_audio_pack(pack) else FeaturePack.open(pack, in_memory=False)


def _clips(pack: AudioPack) -> Iterator[np.ndarray]:
    from tqdm import tqdm

    for row in tqdm(range(len(pack)), unit="clip", dynamic_ncols=True, disable=None, file=sys.stderr):
        x, lengths, _ = pack.rows([row])
        yield scale(x, lengths)[0]


def _clip_seconds_in(path: Path) -> float | None:
    """A `.keras` file -> the length of the sub-clips that its selecting layer cuts."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        if "config.json" not in archive.namelist():
            return None
        layers = json.loads(archive.read("config.json"))["config"].get("layers", [])
    found = [layer["config"] for layer in layers if layer.get("class_name") == "ClassWiseClipSelect"]
    return float(found[0]["sub_clip_seconds"]) if found else None
