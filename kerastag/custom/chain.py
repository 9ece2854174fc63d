"""Comparison of the deployed chain with training, from the file of a recording to the decision.

A detector that was good on held-out clips and fails on a device was often given other sounds than in training: another
level, rate or channel, segments that begin elsewhere, features of another front end, a head of another embedder, labels
in another order, thresholds of another run. `check_chain` streams some of the training clips from their files through
the exported ones, as `kerastag stream` does, and compares each stage with what training used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kerastag.audio.channels import parse_channel
from kerastag.card import Card
from kerastag.custom.chain_reference import Reference, TrainingChain, select_clips
from kerastag.custom.chain_stream import DeployedChain, Streamed
from kerastag.custom.chain_waveforms import STAGES, Difference, compare_channels, compare_waveforms
from kerastag.custom.clips import Clips, load_clips
from kerastag.custom.config import CustomConfig
from kerastag.custom.embeddings import Embeddings, Kind
from kerastag.custom.exported import ExportedTagger
from kerastag.edge.runtime import LiteRTModel
from kerastag.events import EventRules, create_event_rules
from kerastag.training.run_folder import RunFolder

__all__ = ["ChainError", "ChainReport", "check_chain", "check_export", "check_run"]

# Above what intact chains showed on ESC-10, where silence after a clip changes embeddings by up to 0.2 (docs/learn.md).
_MAX_EMBEDDING_DISTANCE = 0.5  # median over the segments of a clip, relative to the embedding of training
_MAX_LOG_MEL_DIFFERENCE = 0.02  # median over a segment, relative to its standard deviation
_MIN_DEVIATION = 0.1  # of log-mel; a silent segment has none, but for rounding
_DECISION_MARGIN = 0.2  # A probability of training so close to its threshold may fall on either side of it.
_MAX_OTHER_DECISIONS = 0.125  # share of the clips
_THRESHOLD_TOLERANCE = 1e-6


class ChainError(ValueError):
    """The deployed chain differs from training.

    Attributes:
        stage: First stage that differs, one of `STAGES`.
    """

    def __init__(self, difference: Difference, clip: str, num_clips: int = 1, total: int = 1) -> None:
        self.stage = difference.stage
        count = f" ({num_clips} of {total} clips)" if num_clips > 1 else ""
        super().__init__(
            f"the exported files do not compute what training did; the first difference is in the {difference.stage}: "
            f"{clip}: {difference.detail}{count}"
        )


@dataclass(frozen=True)
class ChainReport:
    """How closely the deployed chain follows training.

    Attributes:
        num_clips: Number of clips that were compared.
        embedding_distance: Largest distance of the embeddings of a clip, relative to those of training, median over its
            segments.
        head_difference: Largest difference of a probability between the exported head and Keras for equal embeddings.
        probability_difference: Largest difference of a probability of a clip between the stream and training.
    """

    num_clips: int
    embedding_distance: float
    head_difference: float
    probability_difference: float

    def __str__(self) -> str:
        return (
            f"the exported files compute what training did: {self.num_clips} clips, embeddings within "
            f"{100 * self.embedding_distance:.1f} %, probabilities within {self.probability_difference:.3f}"
        )


def check_chain(
    folder: RunFolder,
    exported: ExportedTagger,
    clips: Clips,
    *,
    channel: str | int = "mean",
    embeddings: Embeddings | None = None,
    num_clips: int = 24,
) -> ChainReport:
    """Compare what the exported files predict on training clips with what training saw and predicted.

    The clips are spread evenly over the list. Of each, the first window of the model, such as ten seconds, is read from
    its file as `kerastag stream` reads it. Silenced recordings (`excerpts` is `mask`) and synthetic background are not
    compared.

    Args:
        folder: Folder of the run, with `model.keras` and its parts.
        exported: Files to check.
        clips: Clips of the run.
        channel: Channel of recordings with several, as in `kerastag.audio.load`.
        embeddings: Embeddings of the clips, which the head was trained on; None computes them with Keras, as for a
            backbone that was trained too.
        num_clips: Largest number of clips to compare, at least 1.

    Raises:
        ChainError: A stage differs; names the first one, the clip and both values.
        ValueError: A file is not a model, or a recording is damaged.
        OSError: A file does not exist or cannot be read.
    """
    training = TrainingChain(folder, channel, has_parts=exported.head is not None)
    kind: Kind = "frames" if training.is_window else "seconds"
    try:
        deployed = DeployedChain(exported, channel)
    except ValueError as error:  # The files do not match each other.
        raise ChainError(Difference("embedder", str(error)), exported.embedder.name) from None
    selected = select_clips(clips, num_clips)
    differences: list[tuple[Difference, str]] = []
    measurements: list[_Measurement] = []
    for row, recording in selected:
        reference = training.compute(recording, _get_cached(embeddings, kind, row))
        streamed = deployed.run(reference)
        difference = _compare_clip(training, reference, streamed, measurements)
        if difference is not None:
            differences.append((difference, reference.name))
    if not differences and (difference := _compare_cards(training.card, deployed)) is not None:
        differences.append((difference, (exported.head or exported.embedder).name))
    if not differences:
        differences = _compare_decisions(training, deployed.rules, measurements)
    if differences:
        first, clip = min(differences, key=lambda each: STAGES.index(each[0].stage))
        same_stage = sum(each.stage == first.stage for each, _ in differences)
        raise ChainError(first, clip, same_stage, len(selected))
    largest = np.max([[*each.distances] for each in measurements], axis=0) if measurements else np.zeros(3)
    return ChainReport(len(selected), *(float(value) for value in largest))


def _get_cached(embeddings: Embeddings | None, kind: Kind, row: int) -> np.ndarray | None:
    """Return the embeddings of the segments of a clip; those of several windows may begin at other places."""
    if embeddings is None or embeddings.num_windows[row] > 1:
        return None
    return embeddings.bags[kind][row]


@dataclass(frozen=True)
class _Measurement:
    """Comparison of one clip whose stages agree."""

    reference: Reference
    streamed: Streamed
    distances: tuple[float, float, float]


def _compare_clip(
    training: TrainingChain, reference: Reference, streamed: Streamed, measurements: list[_Measurement]
) -> Difference | None:
    """Return the first stage of a clip that differs, or None and append what was measured."""
    recording, rate = reference.recording, training.card.sample_rate
    if (difference := compare_waveforms(reference.waveform, streamed.waveform, rate)) is not None:
        waveforms = reference.waveform, streamed.waveform
        return compare_channels(recording, *waveforms, rate, training.channel) or difference
    if (difference := _compare_segments(reference, streamed, rate)) is not None:
        return difference
    if (difference := _compare_front_ends(training, reference, streamed)) is not None:
        return difference
    if len(reference.embeddings) != len(streamed.embeddings):
        detail = f"{len(reference.embeddings)} embeddings in training, {len(streamed.embeddings)} in the stream"
        return Difference("segment position", detail)
    distances = np.linalg.norm(streamed.embeddings - reference.embeddings, axis=1)
    distances /= np.maximum(np.linalg.norm(reference.embeddings, axis=1), 1e-6)
    distance = float(np.median(distances))
    if not distance <= _MAX_EMBEDDING_DISTANCE:
        return _explain_embeddings(reference.embeddings, streamed.embeddings, distance)
    if reference.is_window and streamed.seam_seconds is not None:
        return Difference("segment position", f"output frames have a seam at {streamed.seam_seconds:.3f} s")
    clipwise, framewise = training.predict(streamed.embeddings, reference)
    expected = np.concatenate([clipwise, framewise[streamed.first_frame :][: len(streamed.framewise)]])
    received = np.concatenate([streamed.clipwise, streamed.framewise])
    if expected.shape != received.shape:
        return Difference("labels", f"{expected.shape[1]} classes in training, {received.shape[1]} in the stream")
    head_difference = float(np.abs(expected - received).max())
    if not head_difference <= training.max_difference:
        is_permuted = np.abs(np.sort(expected) - np.sort(received)).max() <= training.max_difference
        k, name = int(np.abs(expected - received).max(axis=0).argmax()), "labels" if is_permuted else "head"
        row = int(np.abs(expected - received)[:, k].argmax())
        detail = f"probability {expected[row, k]:.3f} in training, {received[row, k]:.3f} in the stream"
        return Difference(name, f"{training.class_names[k]}: {detail}")
    probability_difference = float(np.abs(reference.clipwise[-1] - streamed.clipwise[-1]).max())
    measurements.append(_Measurement(reference, streamed, (distance, head_difference, probability_difference)))
    return None


def _compare_segments(reference: Reference, streamed: Streamed, sample_rate: int) -> Difference | None:
    """Compare the segments that the model took with those of training."""
    if len(streamed.segments) != len(reference.segments):
        detail = f"{len(reference.segments)} segments in training, {len(streamed.segments)} in the stream"
        return Difference("segment position", detail)
    for number, (expected, received) in enumerate(zip(reference.segments, streamed.segments, strict=True)):
        difference = compare_waveforms(expected, received, sample_rate)
        if difference is not None:
            stage = "segment position" if difference.stage == "decoder" else difference.stage
            return Difference(stage, f"segment {number}: {difference.detail}")
    return None


def _compare_front_ends(training: TrainingChain, reference: Reference, streamed: Streamed) -> Difference | None:
    """Compare the log-mel spectrogram of training with that of the front end in the card of the exported file."""
    expected, received = training.compute_log_mel(reference.segments[0]), streamed.log_mel
    if expected is None or received is None:
        return None
    if expected.shape != received.shape:
        detail = f"log-mel of {expected.shape[0]} frames and {expected.shape[1]} bands in training, "
        return Difference("front end", detail + f"{received.shape[0]} and {received.shape[1]} in the stream")
    distance = float(np.median(np.abs(expected - received))) / max(float(expected.std()), _MIN_DEVIATION)
    if not distance <= _MAX_LOG_MEL_DIFFERENCE:
        detail = f"log-mel of mean {expected.mean():.3f} in training, {received.mean():.3f} in the stream"
        return Difference("front end", f"{detail}, {100 * distance:.1f} % of its deviation apart")
    return None


def _explain_embeddings(expected: np.ndarray, received: np.ndarray, distance: float) -> Difference:
    """Describe a difference of embeddings: other segments, or another embedder."""
    if np.isfinite(received).all():
        pairs = np.linalg.norm(received[:, None] - expected[None], axis=2)
        nearest = pairs.argmin(axis=1)
        moved = np.flatnonzero(nearest != np.arange(len(nearest)))
        is_near = pairs.min(axis=1) <= _MAX_EMBEDDING_DISTANCE * np.linalg.norm(expected[nearest], axis=1)
        if 2 * len(moved) >= len(nearest) > 1 and is_near.all():
            detail = f"the embedding of segment {nearest[moved[0]]} of training is that of segment {moved[0]}"
            return Difference("segment position", f"{detail} in the stream")
    norms = [float(np.median(np.linalg.norm(each, axis=1))) for each in (expected, received)]
    detail = f"embeddings of length {norms[0]:.3g} in training, {norms[1]:.3g} in the stream"
    return Difference("embedder", f"{detail}, {100 * distance:.0f} % apart")


def _compare_cards(card: Card, deployed: DeployedChain) -> Difference | None:
    """Compare labels, thresholds and rules of training with those that the stream uses."""
    names = card.labels.names if card.labels else ()
    received_names = deployed.tagger.labels.names
    for number, (expected, received) in enumerate(zip(names, received_names, strict=False)):
        if expected != received:
            return Difference("labels", f"class {number} is {expected!r} in training, {received!r} in the stream")
    rules = create_event_rules(card.event_rules, card.thresholds or ())
    for field in ("onset_thresholds", "offset_thresholds"):
        for name, *values in zip(names, getattr(rules, field), getattr(deployed.rules, field), strict=True):
            if abs(values[0] - values[1]) > _THRESHOLD_TOLERANCE:
                detail = f"{field.replace('_thresholds', ' threshold')} of {name!r}"
                return Difference("threshold", f"{detail} {values[0]:g} in training, {values[1]:g} in the stream")
    for field in ("smoothing_seconds", "min_seconds", "max_gap_seconds", "refractory_seconds"):
        expected, received = getattr(rules, field), getattr(deployed.rules, field)
        if expected != received:
            return Difference("threshold", f"`{field}` {expected} in training, {received} in the stream")
    return None


def _compare_decisions(
    training: TrainingChain, rules: EventRules, measurements: Sequence[_Measurement]
) -> list[tuple[Difference, str]]:
    """Find clips in which the stream detects other classes than training, whatever side of a threshold is close."""
    stricter, looser = (_shift_thresholds(rules, shift) for shift in (_DECISION_MARGIN, -_DECISION_MARGIN))
    differences = []
    for each in measurements:
        reference, streamed = each.reference, each.streamed
        required, allowed = reference.find_classes(stricter), reference.find_classes(looser)
        for k in sorted((required - streamed.classes) | (streamed.classes - allowed)):
            peaks = [float(side.limited.max(axis=0)[k]) for side in (reference, streamed)]
            detail = f"{training.class_names[k]}: probability {peaks[0]:.3f} in training, {peaks[1]:.3f} in the stream"
            threshold = np.broadcast_to(rules.onset_thresholds, len(training.class_names))[k]
            differences.append((Difference("embedder", f"{detail}, with the threshold {threshold:g}"), reference.name))
            break
    return differences if len(differences) > _MAX_OTHER_DECISIONS * len(measurements) else []


def _shift_thresholds(rules: EventRules, shift: float) -> EventRules:
    thresholds = [np.asarray(each, float) for each in (rules.onset_thresholds, rules.offset_thresholds)]
    onset, offset = (np.clip(each + shift, 0, 1).tolist() for each in thresholds)
    return replace(rules, onset_thresholds=onset, offset_thresholds=offset)


def check_run(folder: RunFolder, exported: ExportedTagger) -> ChainReport | None:
    """Check exported files of a finished run like `check_chain`; None where its recordings are not there any more."""
    config = folder.read_config(CustomConfig)
    try:
        clips = load_clips(replace(config, folds=0), Card.read(folder.model_path).sample_rate)
    except FileNotFoundError:
        return None
    return check_chain(folder, exported, clips, channel=parse_channel(config.channel))


def check_export(folder: RunFolder, source: Path, output: Path) -> ChainReport | None:
    """Check a file that `kerastag export` wrote from a model of a run of `kerastag learn`, like `check_chain`.

    A part is checked together with the other one in the run folder. A file that differs is removed.

    Args:
        folder: Folder of the run.
        source: Path of the model that was exported, or of the run folder.
        output: Path of the exported file.

    Returns:
        The report; None where the recordings or the other part are not there, or where the file is not one that
        `kerastag stream` runs on the windows of training.
    """
    pairs = {
        folder.embedder_path: ExportedTagger(output, folder.exported_head_path),
        folder.head_path: ExportedTagger(folder.exported_embedder_path, output),
    }
    exported = pairs.get(source, ExportedTagger(output, None))
    if output.suffix != ".tflite" or not all(path.is_file() for path in exported if path):
        return None
    model, window_seconds = LiteRTModel(exported.embedder), Card.read(folder.model_path).window_seconds
    has_window = exported.head is not None or model.card.window_seconds == window_seconds
    if model.input != "waveform" or "embedding" not in model.outputs or not has_window:
        return None
    try:
        return check_run(folder, exported)
    except ChainError:
        output.unlink()
        raise
