"""Embeddings of clips, computed by a pretrained backbone and cached on disk."""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kerastag._keras import list_ancestors
from kerastag.card import Card
from kerastag.custom.clips import Clips, read_windows
from kerastag.data.audio_lists import report_skipped
from kerastag.files import write_atomically
from kerastag.layers.patchwise import Patchwise
from kerastag.models.loading import load_model

__all__ = ["KINDS", "Embeddings", "Kind", "PretrainedBackbone", "embed_clips", "load_backbone", "make_bag"]

Kind = Literal["frames", "seconds"]
"""What a bag consists of: the output frames of the backbone, or its embeddings of seconds."""

KINDS: tuple[Kind, ...] = ("frames", "seconds")
_CACHE_FORMAT = 2
_MAX_SEGMENTS = 128


@dataclass(frozen=True, eq=False)
class PretrainedBackbone:
    """A pretrained tagger without its classifier.

    Attributes:
        card: Card of the tagger.
        path: Path of its file.
        embedders: For each kind of segments, a model that takes waveforms `(batch, samples)` and predicts embeddings
            `(batch, segments, features)`.
        clip_embedder: Model that predicts the embedding of the whole clip, `(batch, features)`.
    """

    card: Card
    path: Path
    embedders: dict[Kind, keras.Model]
    clip_embedder: keras.Model


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Embeddings of clips.

    Attributes:
        bags: For each kind of segments, one array `(segments, features)` per clip.
        clip: Embeddings of the whole clips, float32 `(clips, features)`.
        num_windows: Number of windows in which each clip was read, int `(clips,)`.
        is_readable: Whether each clip could be read, bool `(clips,)`; the embeddings of the others have no meaning.
        errors: Messages of the clips that could not be read.
    """

    bags: dict[Kind, list[np.ndarray]]
    clip: np.ndarray
    num_windows: np.ndarray
    is_readable: np.ndarray
    errors: tuple[str, ...]

    def select(self, rows: np.ndarray) -> "Embeddings":
        """Select clips by row number."""
        bags = {kind: [bags[row] for row in rows] for kind, bags in self.bags.items()}
        return Embeddings(bags, self.clip[rows], self.num_windows[rows], self.is_readable[rows], self.errors)


def load_backbone(path: Path) -> PretrainedBackbone:
    """Load a tagger, a `.keras` file with a card, as a backbone.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The model has no card, does not take waveforms, or does not predict embeddings.
    """
    card, model = Card.read(path), load_model(path)
    outputs = getattr(model, "output", None)  # a Sequential that was loaded has none
    if (
        not isinstance(outputs, dict)
        or not {"framewise", "embedding"} <= outputs.keys()
        or [len(tensor.shape) for tensor in model.inputs] != [2]
    ):
        names = ", ".join(sorted(outputs)) if isinstance(outputs, dict) else "one tensor"
        raise ValueError(
            f"{path}: must take waveforms and predict `framewise` and `embedding`; received: a model that takes "
            f"{model.input_shape} and predicts {names}"
        )
    clip_embedder = keras.Model(model.input, outputs["embedding"])
    frame_embedder = keras.Model(model.input, _find_frame_features(outputs))
    second_embedder = _embed_seconds(clip_embedder, card.sample_rate)
    return PretrainedBackbone(card, path, {"frames": frame_embedder, "seconds": second_embedder}, clip_embedder)


def _find_frame_features(outputs: dict[str, Any]) -> Any:
    """Find the last tensor `(batch, frames, features)` that both outputs of a tagger are computed from."""
    framewise, embedding = list_ancestors(outputs["framewise"]), list_ancestors(outputs["embedding"])
    common = [tensor for key, tensor in framewise.items() if key in embedding and len(tensor.shape) == 3]
    if not common:
        raise ValueError("`model` must compute `framewise` and `embedding` from the same frame features")
    return common[-1]


def _embed_seconds(clip_embedder: keras.Model, sample_rate: int) -> keras.Model:
    """Build a model of the embedding of each second; a remainder of at least half a second is padded with zeros."""
    second = keras.Input((sample_rate, 1), name="second")
    network = keras.Model(second, clip_embedder(ops.squeeze(second, -1)))
    waveform = keras.Input((None,), name="waveform")
    padded = ops.pad(waveform, [[0, 0], [0, sample_rate // 2]])
    return keras.Model(waveform, Patchwise(network, sample_rate, name="seconds")(ops.expand_dims(padded, -1)))


def embed_clips(
    backbone: PretrainedBackbone, clips: Clips, max_seconds: float, cache_folder: Path, channel: str | int = "mean"
) -> Embeddings:
    """Compute the embeddings of clips, or read them from the cache, which has one file per set of clips.

    A label says that its class is somewhere in the recording. So a recording longer than `max_seconds` is one bag too,
    not several, most of which would have a label without its sound; it is read in windows of this length. A bag of more
    than 128 segments, or those of one window, would take too long to train on: where the embeddings change least from
    one segment to the next, they are averaged, which hardly touches a short sound in a long silence.

    Clips that cannot be read are named on standard error; a class without any that can be read is a ValueError.
    """
    cache_file = cache_folder / f"{_compute_key(backbone, clips, max_seconds, channel)}.npz"
    embeddings = _read_cache(cache_file)
    if embeddings is None or len(embeddings.num_windows) != len(clips):
        embeddings = _compute_embeddings(backbone, clips, max_seconds, channel)
        _write_cache(cache_file, embeddings)
    report_skipped(embeddings.errors, len(clips))
    lost = np.flatnonzero(clips.targets.any(axis=0) & ~clips.targets[embeddings.is_readable].any(axis=0))
    if len(lost):
        names = ", ".join(clips.class_names[k] for k in lost[:5]) + (", …" if len(lost) > 5 else "")
        raise ValueError(f"{clips.source}: no recording of {names} can be read: {embeddings.errors[0]}")
    return embeddings


def make_bag(windows: Sequence[np.ndarray], max_segments: int = _MAX_SEGMENTS) -> np.ndarray:
    """Join the embeddings of the windows of a clip, each `(segments, features)`, to one bag.

    Where neighboring segments differ least, they are averaged, until there are at most `max_segments`, or as many as in
    the first window.

    >>> make_bag([np.array([[0.0], [0.0], [9.0]]), np.array([[0.0], [1.0]])], max_segments=3).ravel().tolist()
    [0.0, 9.0, 0.5]
    """
    bag, max_segments = np.concatenate(windows), max(max_segments, len(windows[0]))
    if len(bag) <= max_segments:
        return bag
    changes = np.linalg.norm(np.diff(bag, axis=0), axis=1)
    starts = np.concatenate([[0], np.sort(np.argsort(-changes, kind="stable")[: max_segments - 1]) + 1])
    return np.add.reduceat(bag, starts, axis=0) / np.diff([*starts, len(bag)])[:, None].astype(bag.dtype)


def _compute_embeddings(
    backbone: PretrainedBackbone, clips: Clips, max_seconds: float, channel: str | int
) -> Embeddings:
    from tqdm import tqdm

    frames, seconds = backbone.embedders["frames"], backbone.embedders["seconds"]
    frames_and_clip = keras.Model(frames.input, [frames.output, backbone.clip_embedder.output])
    bags: dict[Kind, list[np.ndarray]] = {kind: [] for kind in KINDS}
    clip_embeddings, num_windows, is_readable, errors = [], [], [], []

    def embed(waveform: np.ndarray) -> list[np.ndarray]:
        outputs = [*frames_and_clip.predict_on_batch(waveform[None]), seconds.predict_on_batch(waveform[None])]
        return [np.asarray(output[0], np.float32) for output in outputs]

    for clip in tqdm(clips.audio, unit="clip", dynamic_ncols=True, disable=None, file=sys.stderr):
        try:
            windows = [embed(window) for window in read_windows(clip, backbone.card.sample_rate, max_seconds, channel)]
            is_readable.append(True)
        except (ValueError, OSError) as error:
            windows = [embed(np.zeros(backbone.card.sample_rate, np.float32))]
            is_readable.append(False)
            errors.append(str(error))
        frame_bags, window_embeddings, second_bags = zip(*windows, strict=True)
        for kind, parts in zip(KINDS, (frame_bags, second_bags), strict=True):
            bags[kind].append(make_bag(parts))
        clip_embeddings.append(np.mean(window_embeddings, axis=0))
        num_windows.append(len(windows))
    return Embeddings(bags, np.stack(clip_embeddings), np.array(num_windows), np.array(is_readable), tuple(errors))


def _compute_key(backbone: PretrainedBackbone, clips: Clips, max_seconds: float, channel: str | int) -> str:
    """Compute the hash of everything that embeddings depend on."""
    digest = hashlib.sha256(f"{_CACHE_FORMAT} {max_seconds} {channel}".encode())
    digest.update(backbone.path.read_bytes())
    for clip in clips.audio:
        if isinstance(clip, np.ndarray):
            digest.update(clip.tobytes())
        else:
            status = clip.path.stat()
            part = clip.start_seconds, clip.end_seconds, clip.labeled_parts
            digest.update(f"{clip.path} {part} {status.st_size} {status.st_mtime_ns}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def _read_cache(file: Path) -> Embeddings | None:
    """Read cached embeddings, or return None where there are none or the file is damaged."""
    try:
        # Opened here, since np.load leaves a damaged file open.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            bags = {kind: np.split(arrays[kind], arrays[f"{kind}_ends"][:-1]) for kind in KINDS}
            errors = tuple(arrays["errors"].tolist())
            return Embeddings(bags, arrays["clip"], arrays["num_windows"], arrays["readable"], errors)
    except Exception:  # Whatever the damage, embeddings can be computed again.
        return None


def _write_cache(file: Path, embeddings: Embeddings) -> None:
    arrays: dict[str, Any] = {"clip": embeddings.clip, "readable": embeddings.is_readable}
    arrays["num_windows"] = embeddings.num_windows
    for kind, bags in embeddings.bags.items():
        arrays |= {kind: np.concatenate(bags), f"{kind}_ends": np.cumsum([len(bag) for bag in bags])}
    arrays["errors"] = np.array(embeddings.errors, dtype=str)
    write_atomically(file, lambda path: np.savez(path, **arrays))
