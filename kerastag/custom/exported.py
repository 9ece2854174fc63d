"""The files of a run that a device runs: embedder and head, in 8 bits where that changes little."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kerastag.card import Card
from kerastag.custom.clips import Clip, read_windows, synthesize_background
from kerastag.custom.embeddings import Kind
from kerastag.custom.parts import read_kind
from kerastag.edge.runtime import AUDIO_INPUTS, LiteRTModel
from kerastag.edge.streaming import StreamingTagger
from kerastag.export import export_model, read_target
from kerastag.export.target import Target
from kerastag.models.loading import load_model
from kerastag.training.run_folder import RunFolder

__all__ = ["ExportedTagger", "export_head", "export_parts", "find_exported"]

_NUM_PARTS = 48
_MAX_WINDOWS = 30  # of a clip, from which its part is drawn
_PARTS_PER_BATCH = 10
_MAX_DIFFERENCE = 0.1  # of the probabilities of a part, largest of the classes, in 95 % of the parts
_QUANTIZATIONS = ("int8_dynamic", "float16")
_HEAD_QUANTIZATIONS = ("int8_dynamic", "float16", "none")
_NUM_THREADS = 2


class ExportedTagger(NamedTuple):
    """Files of an exported tagger, as `StreamingTagger` takes them.

    Attributes:
        embedder: Path of the embedder, or of a whole model.
        head: Path of the head; None for a whole model.
    """

    embedder: Path
    head: Path | None

    def open_stream(self) -> StreamingTagger:
        """Open the files as `kerastag stream` does."""
        return StreamingTagger(self.embedder, self.head)


def export_parts(folder: RunFolder, recordings: Sequence[Clip], channel: str | int = "mean") -> ExportedTagger:
    """Export the tagger of a run to the `.tflite` files that `kerastag stream` takes.

    It becomes `embedder.tflite` and `head.tflite`. The weights of the embedder have 8 bits if the files then predict
    what Keras predicts, up to 0.1, on 95 % of some parts of the recordings and of silence; otherwise they have 16.
    Activations stay float: with 8 bits, mn04_as changes the embedding of silence by two thirds of its length.

    Args:
        folder: Folder of a run with `model.keras` and its two parts.
        recordings: Clips of the run, at least one that can be read; 48 of them are used.
        channel: Channel of recordings with several, as in `kerastag.audio.load`.

    Raises:
        ValueError: The model cannot be exported, or a recording cannot be read.
        ImportError: A package that exports or runs the files is not installed.
    """
    source, output = folder.embedder_path, folder.exported_embedder_path
    card = Card.read(source)
    parts = _read_parts(recordings, card, channel)
    expected = _predict(folder, parts)
    head = export_head(folder, read_kind(folder))
    for target in map(read_target, _QUANTIZATIONS):
        export_model(source, target, output, measures_usage=False)
        if _measure_difference(output, head, parts, expected) <= _MAX_DIFFERENCE:
            break
    return ExportedTagger(output, head)


def find_exported(folder: RunFolder) -> ExportedTagger:
    """Return the files of a run that were exported.

    Raises:
        FileNotFoundError: The run has none.
    """
    if folder.exported_head_path.is_file() and folder.exported_embedder_path.is_file():
        return ExportedTagger(folder.exported_embedder_path, folder.exported_head_path)
    if folder.exported_model_path.is_file():
        return ExportedTagger(folder.exported_model_path, None)
    raise FileNotFoundError(f"{folder.path}: must hold embedder.tflite and head.tflite, or model.tflite; has neither")


def _read_parts(recordings: Sequence[Clip], card: Card, channel: str | int) -> np.ndarray:
    """Read a random part of each of some clips, as long as the window of the model, `(parts, samples)`.

    Silence and noises are among them, since a stream is quiet for most of the time.
    """
    rows = np.unique(np.linspace(0, len(recordings) - 1, min(len(recordings), _NUM_PARTS)).astype(int))
    random, length = np.random.default_rng(0), round(card.window_seconds * card.sample_rate)
    parts = []
    for row in rows:
        windows = read_windows(recordings[row], card.sample_rate, card.window_seconds, channel)
        some = [part for window in itertools.islice(windows, _MAX_WINDOWS) for part in _split(window, length)]
        parts.append(some[random.integers(len(some))])
    parts += [_split(background, length)[0] for background in synthesize_background(card.sample_rate)]
    return np.stack(parts)


def _split(window: np.ndarray, length: int) -> list[np.ndarray]:
    """Split a waveform, which may be synthetic and of any length, into parts of one length."""
    starts = range(0, max(1, len(window) - length + 1), length)
    return [np.pad(part, (0, length - len(part))) for part in (window[start : start + length] for start in starts)]


def _predict(folder: RunFolder, parts: np.ndarray) -> np.ndarray:
    """Predict the probabilities of parts with Keras, `(parts, classes)`."""
    model = load_model(folder.model_path)
    batches = [parts[start : start + _PARTS_PER_BATCH] for start in range(0, len(parts), _PARTS_PER_BATCH)]
    return np.concatenate([np.asarray(model.predict_on_batch(batch)["clipwise"]) for batch in batches])


def export_head(folder: RunFolder, kind: Kind) -> Path:
    """Export the head with as few bits as the tolerances allow.

    That of a tagger of seconds is divided into the layers of a segment and of a bag, if it can be.
    """
    divided, is_divided = read_target("streaming_head"), kind == "seconds"
    for quantization in _HEAD_QUANTIZATIONS:
        if _try_export(folder, dataclasses.replace(divided, quantization=quantization, split=is_divided)):
            return folder.exported_head_path
    export_model(folder.head_path, read_target("float32"), folder.exported_head_path, measures_usage=False)
    return folder.exported_head_path


def _try_export(folder: RunFolder, target: Target) -> bool:
    try:
        export_model(folder.head_path, target, folder.exported_head_path, measures_usage=False)
    except ValueError:  # too far from Keras, or the pooling cannot be divided from the layers of a segment
        return False
    return True


def _measure_difference(embedder_path: Path, head_path: Path, parts: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference to Keras of the probabilities of a part, which 95 % of the parts do not exceed."""
    embedder = LiteRTModel(embedder_path, _NUM_THREADS, AUDIO_INPUTS)
    head = LiteRTModel(head_path, _NUM_THREADS, ("embedding",))
    bag, differences = np.zeros(head.shape, np.float32), []
    for part, probabilities in zip(parts, expected, strict=True):
        embeddings = embedder(part[None])["embedding"].reshape(-1, bag.shape[-1])  # of one second, or of each frame
        bag[0, : len(embeddings)] = embeddings
        differences.append(np.abs(head(bag)["clipwise"][0] - probabilities).max())
    return float(np.quantile(differences, 0.95))
