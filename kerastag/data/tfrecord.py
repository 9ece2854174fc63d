"""AudioSet's released features -> packs: TFRecords parsed in batches and in parallel through tf.data."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kerastag.data.framing import CorruptRecord, crc32c, masked, read_frames
from kerastag.data.feature_pack_writer import FeaturePackWriter, count_clips
from kerastag.data.source import STREAM_ERRORS, FeatureSource
from kerastag.labels import LabelSet

__all__ = ["NUM_FEATURES", "NUM_SEGMENTS", "PackReport", "pack_features"]

NUM_SEGMENTS = 10
NUM_FEATURES = 128
_BATCH = 1024
_CHECKPOINT_ROWS = 1 << 16
_LICENSE = "CC BY 4.0, Google AudioSet, https://research.google.com/audioset"
_CONTEXT = {"video_id": tf.io.FixedLenFeature([], tf.string), "labels": tf.io.RaggedFeature(tf.int64)}
_SEQUENCE = {"audio_embedding": tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True)}


@dataclass(frozen=True)
class PackReport:
    """What packing one split gave: the file, its counts, what was left out, and its digest."""

    path: Path
    clips: int
    short_clips: int
    clips_per_class: np.ndarray = field(repr=False)
    skipped: tuple[str, ...]
    digest: str

    def __str__(self) -> str:
        counts = self.clips_per_class
        return (
            f"{self.path}: {self.clips} clips ({self.short_clips} short), {counts.min()} to {counts.max()} a class, "
            f"{len(self.skipped)} left out, SHA-256 {self.digest}"
        )


def pack_features(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    splits: list[str] | tuple[str, ...] | None = None,
    skip_corrupt: bool = False,
    progress: bool = True,
    workers: int | None = None,
) -> dict[str, PackReport]:
    """AudioSet's TFRecords (the tar as downloaded, or unpacked) -> one HDF5 pack a split.

    Clips stand in the order of their files' names and, within a file, of its records. Memory is
    constant. A run that was stopped goes on where it was when it is started again.

    Args:
        source: `features.tar.gz`, or a folder `audioset_v1_embeddings`, the one above it, or one split.
        output: folder for `bal_train.h5`, `unbal_train.h5`, `eval.h5`.
        splits: which of the three; None takes those that are there.
        skip_corrupt: leave out what cannot be read, and name it in the report, instead of stopping there.
        progress: show a bar with the rate and the time left.
        workers: batches parsed in parallel, 1 or more; None lets tf.data choose.

    Returns:
        split name -> what was packed.

    Raises:
        FileNotFoundError: nothing at `source`.
        ValueError: a file or a record that cannot be read (its name says which), or a split that is not there.
        OSError: the disk is full.

    Reference:
        Gemmeke et al. 2017, Audio Set; the format is a `tf.train.SequenceExample` a clip with
        `video_id`, `labels` and up to ten 128-byte strings `audio_embedding`.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"`workers` must be 1 or more, received {workers}")
    found = FeatureSource(source, splits)
    with _Packs(found, Path(output), skip_corrupt) as packs:
        reader = _Reader(found, packs.finished_files, stop_at_damage=not skip_corrupt)
        with tqdm(total=found.total_bytes, unit="B", unit_scale=True, desc="packing", disable=not progress) as bar:
            start = time.monotonic()
            for batch, parsed in _parse_batches(reader, workers):
                packs.add(batch, parsed)
                rate = packs.clips / (time.monotonic() - start)
                bar.set_postfix_str(f"{packs.clips} clips, {rate:.0f} clips/s", refresh=False)
                bar.update(batch.bytes_done - bar.n)
        return packs.finish()


@dataclass
class _Batch:
    """Raw records of one split, and where each came from."""

    split: str
    records: list[bytes] = field(default_factory=list)
    crcs: list[int] = field(default_factory=list)
    places: list[tuple[str, int]] = field(default_factory=list)
    damaged: list[CorruptRecord] = field(default_factory=list)
    ended_files: list[tuple[str, int]] = field(default_factory=list)  # name, records in this batch up to its end
    bytes_done: int = 0

    @property
    def ends_with_file(self) -> bool:
        return bool(self.ended_files) and self.ended_files[-1][1] == len(self.records)

    def check_crcs(self) -> None:
        wrong = np.flatnonzero(masked(crc32c(self.records)) != np.array(self.crcs, np.uint32))
        self.drop({int(i): "damaged: its CRC32C does not match" for i in wrong})

    def drop(self, wrong: dict[int, str]) -> list[int]:
        """Moves records, given as index -> reason, to the damaged ones -> the indices that stay."""
        keep = [i for i in range(len(self.records)) if i not in wrong]
        if wrong:
            self.damaged += [CorruptRecord(*self.places[i], reason) for i, reason in sorted(wrong.items())]
            self.ended_files = [(name, sum(i < end for i in keep)) for name, end in self.ended_files]
            self.records, self.places = [self.records[i] for i in keep], [self.places[i] for i in keep]
        return keep


class _Reader:
    """A source -> batches of raw records with good checksums, for `from_generator`.

    An element is the serialized records; the batch that it belongs to waits in `pending`.
    """

    def __init__(self, source: FeatureSource, finished_files: Callable[[str], int], stop_at_damage: bool) -> None:
        self.pending: deque[_Batch] = deque()
        self.error: Exception | None = None
        self._source, self._finished_files, self._stop_at_damage = source, finished_files, stop_at_damage

    def __call__(self) -> Iterator[np.ndarray]:
        try:
            for batch in self._batches():
                batch.check_crcs()
                self.pending.append(batch)
                yield np.array(batch.records, object)
                if batch.damaged and self._stop_at_damage:
                    return
        except Exception as error:  # raised again where the batches are used: tf.data would bury it
            self.error = error

    def _batches(self) -> Iterator[_Batch]:
        batch: _Batch | None = None
        seen: Counter[str] = Counter()
        try:
            for file in self._source.files():
                seen[file.split] += 1
                if batch is not None and (batch.split != file.split or len(batch.records) >= _BATCH):
                    yield batch
                    batch = None
                if seen[file.split] <= self._finished_files(file.split):
                    continue  # packed before an earlier run was stopped
                batch = batch or _Batch(file.split)
                try:
                    for number, record, crc in read_frames(file.stream, file.name):
                        if len(batch.records) >= 2 * _BATCH:  # a large file is cut
                            batch.bytes_done = file.bytes_done()
                            yield batch
                            batch = _Batch(file.split)
                        batch.records.append(record)
                        batch.crcs.append(crc)
                        batch.places.append((file.name, number))
                except CorruptRecord as damaged:
                    batch.damaged.append(damaged)
                except STREAM_ERRORS as error:
                    batch.damaged.append(CorruptRecord(file.name, None, f"cannot be read ({error})", rest_lost=True))
                batch.ended_files.append((file.name, len(batch.records)))
                batch.bytes_done = file.bytes_done()
        except CorruptRecord as damaged:  # the tar itself
            batch = batch or _Batch(next(reversed(seen)))
            batch.damaged.append(damaged)
        if batch is not None:
            yield batch


@dataclass(frozen=True)
class _Parsed:
    """A batch as arrays: `(clips, 10, 128)` features, bytes a segment, segments and names a clip, ragged labels."""

    x: np.ndarray
    widths: np.ndarray
    lengths: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    labels_a_clip: np.ndarray

    @classmethod
    def empty(cls) -> _Parsed:
        x = np.zeros((0, NUM_SEGMENTS, NUM_FEATURES), np.uint8)
        none = np.zeros(0, np.int64)
        return cls(x, np.zeros((0, NUM_SEGMENTS), np.int64), none, np.zeros(0, "S11"), none, none)

    def problems(self, num_classes: int) -> dict[int, str]:
        """Clip -> what is wrong with it; clips that are as they should be are absent."""
        clips = np.arange(len(self.lengths))
        wide = (self.widths != NUM_FEATURES) & (np.arange(NUM_SEGMENTS) < self.lengths[:, None])
        of_label = np.repeat(clips, self.labels_a_clip)
        outside = (self.labels < 0) | (self.labels >= num_classes)
        wrong = {int(i): "no feature list `audio_embedding`" for i in np.flatnonzero(self.lengths == 0)}
        for i in np.flatnonzero(self.lengths > NUM_SEGMENTS):
            wrong[int(i)] = f"{self.lengths[i]} segments, at most {NUM_SEGMENTS} are allowed"
        for i in np.flatnonzero(wide.any(axis=1)):
            width = self.widths[i][wide[i]][0]
            wrong[int(i)] = f"a segment of {width} features, {NUM_FEATURES} are expected"
        for i in np.flatnonzero(self.labels_a_clip == 0):
            wrong[int(i)] = "no context feature `labels`"
        for i, label in zip(of_label[outside].tolist(), self.labels[outside].tolist(), strict=True):
            wrong[i] = f"label {label} is out of range, 0 to {num_classes - 1} are allowed"
        return wrong

    def take(self, keep: list[int]) -> _Parsed:
        of_label = np.repeat(np.arange(len(self.lengths)), self.labels_a_clip)
        labels = self.labels[np.isin(of_label, keep)]
        x, widths, lengths, ids = (array[keep] for array in (self.x, self.widths, self.lengths, self.ids))
        return _Parsed(x, widths, lengths, ids, labels, self.labels_a_clip[keep])

    def targets(self, num_classes: int) -> np.ndarray:
        targets = np.zeros((len(self.lengths), num_classes), bool)
        targets[np.repeat(np.arange(len(targets)), self.labels_a_clip), self.labels] = True
        return targets


def _parse(serialized: tf.Tensor) -> tuple[tf.Tensor, ...]:
    context, sequence, lengths = tf.io.parse_sequence_example(serialized, _CONTEXT, _SEQUENCE)
    embedding = sequence["audio_embedding"]
    filler = tf.fill([tf.shape(embedding)[0], NUM_SEGMENTS], "")
    embedding = tf.concat([embedding, filler], axis=1)[:, :NUM_SEGMENTS]
    x = tf.io.decode_raw(embedding, tf.uint8, fixed_length=NUM_FEATURES)  # (clips, segments, features)
    labels = context["labels"]
    widths = tf.strings.length(embedding)
    return x, widths, lengths["audio_embedding"], context["video_id"], labels.values, labels.row_lengths()


def _parse_batches(reader: _Reader, workers: int | None) -> Iterator[tuple[_Batch, _Parsed]]:
    records = tf.data.Dataset.from_generator(reader, output_signature=tf.TensorSpec([None], tf.string))
    dataset = records.map(_parse, num_parallel_calls=workers or tf.data.AUTOTUNE, deterministic=True).prefetch(2)
    iterator = iter(dataset)
    while True:
        try:
            arrays = next(iterator)
            batch = reader.pending.popleft()
        except StopIteration:
            break
        except tf.errors.InvalidArgumentError:
            batch = reader.pending.popleft()
            batch.drop({i: why for i, record in enumerate(batch.records) if (why := _why_unreadable(record))})
            if not batch.records:  # TensorFlow's parser refuses an empty batch
                yield batch, _Parsed.empty()
                continue
            arrays = _parse(tf.constant(batch.records, tf.string))
        yield batch, _Parsed(*(array.numpy() for array in arrays))
    if reader.error is not None:
        raise reader.error


def _why_unreadable(record: bytes) -> str | None:
    """A record alone -> what TensorFlow's parser has against it, None when it accepts it."""
    try:
        _parse(tf.constant([record]))
        return None
    except tf.errors.InvalidArgumentError:
        pass
    try:
        context = tf.train.SequenceExample.FromString(record).context.feature
    except Exception:  # protobuf's DecodeError has moved between its versions
        return "not a tf.train.SequenceExample"
    if "video_id" not in context:
        return f"no context feature `video_id` (it has: {', '.join(sorted(context)) or 'none'})"
    return "a feature of another type: `video_id` (bytes), `labels` (int64) and `audio_embedding` (bytes) are expected"


class _Packs:
    """The packs that are being written, one a split, each opened when the source first names its split."""

    def __init__(self, source: FeatureSource, output: Path, skip_corrupt: bool) -> None:
        self.clips = 0
        self._source, self._output, self._skip_corrupt = source, output, skip_corrupt
        self._num_classes = len(LabelSet.audioset())
        self._writers: dict[str, FeaturePackWriter] = {}
        self._unsaved: Counter[str] = Counter()
        self._lock = threading.Lock()  # the reader runs in a thread of tf.data

    def finished_files(self, split: str) -> int:
        """How many source files of a split an earlier run has packed."""
        with self._lock:
            if split not in self._writers:
                self._writers[split] = FeaturePackWriter(
                    self._output / f"{split}.h5",
                    num_classes=self._num_classes,
                    num_segments=NUM_SEGMENTS,
                    num_features=NUM_FEATURES,
                    attributes={"source": self._source.path.name, "split": split, "license": _LICENSE},
                    fingerprint=f"{self._source.fingerprint} skip_corrupt={self._skip_corrupt}",
                )
            return self._writers[split].resumed_files

    def add(self, batch: _Batch, parsed: _Parsed) -> None:
        """Writes a batch, or stops at its first problem."""
        writer = self._writers[batch.split]
        if problems := parsed.problems(self._num_classes):
            parsed = parsed.take(batch.drop(problems))
        for damaged in sorted(batch.damaged, key=lambda one: (one.file, one.record or 0)):
            if not self._skip_corrupt:
                raise damaged
            writer.skipped.append(str(damaged))
        start = len(writer)
        writer.append(parsed.x, parsed.lengths, parsed.targets(self._num_classes), parsed.ids)
        for name, end in batch.ended_files:
            writer.mark_file_end(name, start + end)
        self.clips += len(parsed.ids)
        self._unsaved[batch.split] += len(parsed.ids)
        if self._unsaved[batch.split] >= _CHECKPOINT_ROWS and batch.ends_with_file:
            writer.checkpoint()
            self._unsaved[batch.split] = 0

    def finish(self) -> dict[str, PackReport]:
        reports = {}
        for split, writer in self._writers.items():
            if len(writer):
                digest = writer.finish()
                clips, short, counts = count_clips(writer.path)
                reports[split] = PackReport(writer.path, clips, short, counts, tuple(writer.skipped), digest)
        missing = [split for split in self._source.splits if split not in reports]
        if not reports or (self._source.splits_asked and missing):
            raise ValueError(f"`source`: {self._source.path}: no readable record of the split {' or '.join(missing)}")
        return reports

    def __enter__(self) -> _Packs:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers.values():
            writer.close()
