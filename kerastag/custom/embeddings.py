"""Embeddings of clips, computed by a pretrained backbone and cached on disk."""

import queue
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
from keras import ops

from kerastag._keras import list_ancestors
from kerastag.card import Card
from kerastag.custom.clips import Clips, read_windows
from kerastag.custom.embedding_cache import EmbeddingCache
from kerastag.custom.progress import show_progress
from kerastag.data.audio_lists import report_skipped
from kerastag.files import compute_digest
from kerastag.layers.patchwise import Patchwise
from kerastag.models.loading import load_model

__all__ = [
    "KINDS",
    "MAX_SEGMENTS",
    "Embeddings",
    "Kind",
    "PretrainedBackbone",
    "embed_clips",
    "find_frame_features",
    "load_backbone",
    "make_bag",
]

Kind = Literal["frames", "seconds"]
"""What a bag consists of: the output frames of the backbone, or its embeddings of seconds."""

KINDS: tuple[Kind, ...] = ("frames", "seconds")
MAX_SEGMENTS = 128
"""Number of segments of a bag beyond which neighboring segments are averaged, and are no longer at regular times."""
CACHE_NAME = "embeddings.sqlite"
"""Name of the file of cached embeddings in its folder."""

_CACHE_FORMAT = 4
_BATCH_SECONDS = 40.0
_MAX_QUEUED_WINDOWS = 16


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
        bags: For each kind of segments that was asked for, one array `(segments, features)` per clip.
        clip: Embeddings of the whole clips, float32 `(clips, features)`.
        num_windows: Number of windows in which each clip was read, int `(clips,)`.
        is_readable: Whether each clip could be read, bool `(clips,)`; the embeddings of the others have no meaning.
        errors: Messages of the clips that could not be read.
        quiet_bags: Bags like `bags` of a quiet copy of each clip; None where there are no copies.
    """

    bags: dict[Kind, list[np.ndarray]]
    clip: np.ndarray
    num_windows: np.ndarray
    is_readable: np.ndarray
    errors: tuple[str, ...]
    quiet_bags: dict[Kind, list[np.ndarray]] | None = None

    def select(self, rows: np.ndarray) -> "Embeddings":
        """Select clips by row number."""

        def select(bags: dict[Kind, list[np.ndarray]]) -> dict[Kind, list[np.ndarray]]:
            return {kind: [each[row] for row in rows] for kind, each in bags.items()}

        quiet_bags = None if self.quiet_bags is None else select(self.quiet_bags)
        arrays = self.clip[rows], self.num_windows[rows], self.is_readable[rows]
        return Embeddings(select(self.bags), *arrays, self.errors, quiet_bags)


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
    frame_embedder = keras.Model(model.input, find_frame_features(outputs))
    second_embedder = _embed_seconds(clip_embedder, card.sample_rate)
    return PretrainedBackbone(card, path, {"frames": frame_embedder, "seconds": second_embedder}, clip_embedder)


def find_frame_features(outputs: dict[str, Any]) -> Any:
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
    backbone: PretrainedBackbone,
    clips: Clips,
    max_seconds: float,
    cache_folder: Path,
    channel: str | int = "mean",
    gain_db: float = 0.0,
    kinds: Sequence[Kind] = KINDS,
) -> Embeddings:
    """Compute the embeddings of clips of some kinds, or read them from the cache, which has an entry for each clip.

    A label says that its class is somewhere in the recording. So a recording longer than `max_seconds` is one bag too,
    not several, most of which would have a label without its sound; it is read in windows of this length. A bag of more
    than 128 segments, or those of one window, would take too long to train on: where the embeddings change least from
    one segment to the next, they are averaged, which hardly touches a short sound in a long silence.

    Clips that cannot be read are named on standard error; a class without any that can be read is a ValueError. With
    `gain_db`, each clip is attenuated by a part of it, in dB, which depends on the content of the clip alone.
    """
    settings = f"{_CACHE_FORMAT} {compute_digest(backbone.path)} {max_seconds} {channel} {' '.join(kinds)}"
    settings += f" {gain_db}" if gain_db else ""
    results: dict[int, _ClipEmbedding] = {}
    errors: dict[int, str] = {}
    with EmbeddingCache(cache_folder / CACHE_NAME, settings) as cache:
        with show_progress("looking for embeddings", len(clips), "clips") as progress:
            keys = {}
            for row, clip in enumerate(clips.audio):
                try:
                    keys[row] = cache.compute_key(clip)
                except OSError as error:
                    errors[row] = str(error)
                progress.advance()
            entries = cache.read(list(keys.values()))
            results |= {
                row: _ClipEmbedding.from_arrays(kinds, entries[key]) for row, key in keys.items() if key in entries
            }
        missing = [row for row in keys if row not in results]
        gains = {row: 10 ** (-gain_db / 20 * int(keys[row][:8], 16) / 2**32) for row in missing}
        reader = _read_ahead(clips, gains, backbone.card.sample_rate, max_seconds, channel)
        with show_progress("embedding quiet copies" if gain_db else "embedding", len(missing), "clips") as progress:
            for row, result in _embed_windows(backbone, kinds, reader):
                if isinstance(result, str):
                    errors[row] = result
                else:
                    results[row] = result
                    cache.write(keys[row], result.as_arrays())
                progress.advance()
    return _collect(clips, kinds, results, [errors[row] for row in sorted(errors)])


def make_bag(windows: Sequence[np.ndarray], max_segments: int = MAX_SEGMENTS) -> np.ndarray:
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


class _ClipEmbedding(NamedTuple):
    """Embeddings of one clip: a bag of each kind, that of the whole clip, and the number of its windows."""

    bags: dict[Kind, np.ndarray]
    clip: np.ndarray
    num_windows: int

    def as_arrays(self) -> list[np.ndarray]:
        return [*self.bags.values(), self.clip, np.array(self.num_windows)]

    @classmethod
    def from_arrays(cls, kinds: Sequence[Kind], arrays: Sequence[np.ndarray]) -> "_ClipEmbedding":
        *bags, clip, num_windows = arrays
        return cls(dict(zip(kinds, bags, strict=True)), clip, int(num_windows))


class _Window(NamedTuple):
    """A window of a clip, or the end of the clip: the message of the error that ended it, empty for none."""

    row: int
    waveform: np.ndarray | None
    error: str = ""


def _collect(
    clips: Clips, kinds: Sequence[Kind], results: dict[int, _ClipEmbedding], errors: Sequence[str]
) -> Embeddings:
    """Collect the embeddings of clips by their row, and name those without any."""
    report_skipped(errors, len(clips))
    is_readable = np.array([row in results for row in range(len(clips))])
    lost = np.flatnonzero(clips.targets.any(axis=0) & ~clips.targets[is_readable].any(axis=0))
    if len(lost):
        names = ", ".join(clips.class_names[k] for k in lost[:5]) + (", …" if len(lost) > 5 else "")
        raise ValueError(f"{clips.source}: no recording of {names} can be read: {errors[0]}")
    some = next(iter(results.values()))
    nothing = _ClipEmbedding({kind: bag[:1] * 0 for kind, bag in some.bags.items()}, some.clip * 0, 1)
    rows = [results.get(row, nothing) for row in range(len(clips))]
    return Embeddings(
        bags={kind: [row.bags[kind] for row in rows] for kind in kinds},
        clip=np.stack([row.clip for row in rows]),
        num_windows=np.array([row.num_windows for row in rows]),
        is_readable=is_readable,
        errors=tuple(errors),
    )


def _read_ahead(
    clips: Clips, gains: Mapping[int, float], sample_rate: int, max_seconds: float, channel: str | int
) -> Iterator[_Window]:
    """Read the windows of clips in a thread, a few of them ahead of the model; `gains` are factors by row."""
    windows: queue.Queue[_Window | None] = queue.Queue(_MAX_QUEUED_WINDOWS)
    is_closed = threading.Event()

    def read() -> None:
        for row, gain in gains.items():
            error = ""
            try:
                for waveform in read_windows(clips.audio[row], sample_rate, max_seconds, channel):
                    windows.put(_Window(row, waveform if gain == 1 else np.float32(gain) * waveform))
                    if is_closed.is_set():
                        return
            except (ValueError, OSError) as failure:
                error = str(failure)
            windows.put(_Window(row, None, error))
        windows.put(None)

    threading.Thread(target=read, daemon=True).start()
    try:
        while (window := windows.get()) is not None:
            yield window
    finally:
        is_closed.set()


def _embed_windows(
    backbone: PretrainedBackbone, kinds: Sequence[Kind], reader: Iterable[_Window]
) -> Iterator[tuple[int, _ClipEmbedding | str]]:
    """Embed windows in batches of equal lengths; yield each clip when all of it is embedded, or its error."""
    waveform = backbone.clip_embedder.input
    tensors = {"frames": backbone.embedders["frames"].output}
    if "seconds" in kinds:
        tensors["seconds"] = backbone.embedders["seconds"](waveform)
    model = keras.Model(waveform, [*(tensors[kind] for kind in kinds), backbone.clip_embedder.output])
    batches: dict[int, list[tuple[int, int, np.ndarray]]] = {}  # by the length of the windows
    embedded: dict[int, dict[int, list[np.ndarray]]] = {}  # by the row of the clip and the number of the window
    num_windows: dict[int, int] = {}  # of the clips that are read to their end

    def embed(length: int) -> Iterator[tuple[int, _ClipEmbedding]]:
        batch = batches.pop(length, [])
        outputs = model.predict_on_batch(np.stack([waveform for *_, waveform in batch])) if batch else []
        for i, (row, number, _) in enumerate(batch):
            embedded[row][number] = [np.asarray(output[i], np.float32) for output in outputs]
        for row in dict.fromkeys(row for row, *_ in batch):
            yield from finish(row)

    def finish(row: int) -> Iterator[tuple[int, _ClipEmbedding]]:
        if len(embedded[row]) == num_windows.get(row):
            parts = embedded.pop(row)
            *bags, clip = zip(*(parts[number] for number in range(num_windows.pop(row))), strict=True)
            by_kind = dict(zip(kinds, map(make_bag, bags), strict=True))
            yield row, _ClipEmbedding(by_kind, np.mean(clip, axis=0), len(clip))

    read: Counter[int] = Counter()
    for row, waveform, error in reader:
        if error:
            embedded.pop(row, None)
            for batch in batches.values():
                batch[:] = [each for each in batch if each[0] != row]
            yield row, error
        elif waveform is None:
            num_windows[row] = read[row]
            yield from finish(row)
        else:
            embedded.setdefault(row, {})
            batches.setdefault(len(waveform), []).append((row, read[row], waveform))
            read[row] += 1
            waiting = sum(length * len(batch) for length, batch in batches.items()) / backbone.card.sample_rate
            if waiting >= _BATCH_SECONDS:
                yield from embed(max(batches, key=lambda length: length * len(batches[length])))
    for length in list(batches):
        yield from embed(length)
