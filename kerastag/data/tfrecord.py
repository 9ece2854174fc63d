"""Pack AudioSet's released features: TFRecord files, parsed in batches and in parallel by tf.data."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kerastag.data.feature_pack_writer import FeaturePackWriter, count_clips
from kerastag.data.tfrecord_files import (
    STREAM_ERRORS,
    CorruptRecord,
    FeatureSource,
    compute_crc32c,
    mask_crc,
    read_records,
)
from kerastag.labels import LabelSet

NUM_SEGMENTS = 10
NUM_FEATURES = 128
_BATCH = 1024
_CHECKPOINT_ROWS = 1 << 16
_LICENSE = "CC BY 4.0, Google AudioSet, https://research.google.com/audioset"
_CONTEXT = {"video_id": tf.io.FixedLenFeature([], tf.string), "labels": tf.io.RaggedFeature(tf.int64)}
_SEQUENCE = {"audio_embedding": tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True)}


@dataclass(frozen=True)
class FeaturePackReport:
    """Counts of a pack of embeddings that was written.

    Attributes:
        path: Path of the pack.
        num_clips: Number of clips in it.
        num_short_clips: Number of clips with fewer than ten segments.
        clips_per_class: Number of clips of every class, int `(classes,)`.
        skipped: Error messages of the records and files that cannot be read.
        digest: Digest of the content, as `compute_digest` returns it.
    """

    path: Path
    num_clips: int
    num_short_clips: int
    clips_per_class: np.ndarray = field(repr=False)
    skipped: tuple[str, ...]
    digest: str

    def __str__(self) -> str:
        counts = self.clips_per_class
        return (
            f"{self.path}: {self.num_clips} clips ({self.num_short_clips} short), "
            f"{counts.min()} to {counts.max()} per class, {len(self.skipped)} skipped, SHA-256 {self.digest}"
        )


def pack_features(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    splits: Sequence[str] | None = None,
    skip_corrupt: bool = False,
    progress: bool = True,
) -> dict[str, FeaturePackReport]:
    """Write AudioSet's TFRecord files into one HDF5 pack per split, in constant memory.

    Clips are sorted by the names of their files and, within a file, by record. An interrupted call is resumed by the
    same call.

    Args:
        source: Path of `features.tar.gz`, or of the unpacked folder `audioset_v1_embeddings`, its parent or one split.
        output: Folder for `bal_train.h5`, `unbal_train.h5` and `eval.h5`.
        splits: Names among the three splits; None takes those that exist.
        skip_corrupt: Whether to skip what cannot be read, and to list it in the report, instead of stopping there.
        progress: Whether to show a progress bar.

    Returns:
        Counts of every pack, by split.

    Raises:
        FileNotFoundError: The source does not exist.
        ValueError: A file or record cannot be read, or a split does not exist.
        OSError: The disk is full.

    Reference:
        Gemmeke et al., 2017, Audio Set. Every clip is a `tf.train.SequenceExample` with `video_id`, `labels` and up to
        ten strings `audio_embedding` of 128 bytes.
    """
    feature_source = FeatureSource(source, splits)
    with closing(_Packs(feature_source, Path(output), skip_corrupt)) as packs:
        reader = _Reader(feature_source, packs.count_finished_files, stop_at_damage=not skip_corrupt)
        start, total = time.monotonic(), feature_source.total_bytes
        with tqdm(total=total, unit="B", unit_scale=True, desc="packing", disable=not progress) as bar:
            for batch, parsed in _parse_batches(reader):
                packs.add(batch, parsed)
                rate = packs.num_clips / (time.monotonic() - start)
                bar.set_postfix_str(f"{packs.num_clips} clips, {rate:.0f} clips/s", refresh=False)
                bar.update(batch.bytes_done - bar.n)
        return packs.finish()


@dataclass
class _Batch:
    """Raw records of one split, and the file and number of each."""

    split: str
    records: list[bytes] = field(default_factory=list)
    crcs: list[int] = field(default_factory=list)
    places: list[tuple[str, int]] = field(default_factory=list)
    damaged: list[CorruptRecord] = field(default_factory=list)
    ended_files: list[tuple[str, int]] = field(default_factory=list)  # name, and records of this batch up to its end
    bytes_done: int = 0

    def drop(self, wrong: dict[int, str]) -> list[int]:
        """Move records, by index and reason, to the damaged ones, and return the indices of the others."""
        keep = [i for i in range(len(self.records)) if i not in wrong]
        if wrong:
            self.damaged += [CorruptRecord(*self.places[i], reason) for i, reason in sorted(wrong.items())]
            self.ended_files = [(name, sum(i < end for i in keep)) for name, end in self.ended_files]
            self.records, self.places = [self.records[i] for i in keep], [self.places[i] for i in keep]
        return keep


class _Reader:
    """Generator of batches of raw records with correct checksums, for `tf.data.Dataset.from_generator`.

    It yields the serialized records of a batch; the batch itself is appended to `pending`.
    """

    def __init__(self, source: FeatureSource, count_finished_files: Callable[[str], int], stop_at_damage: bool) -> None:
        self.pending: deque[_Batch] = deque()
        self.error: Exception | None = None
        self._source, self._stop_at_damage = source, stop_at_damage
        self._count_finished_files = count_finished_files

    def __call__(self) -> Iterator[np.ndarray]:
        try:
            for batch in self._batches():
                wrong = np.flatnonzero(mask_crc(compute_crc32c(batch.records)) != np.array(batch.crcs, np.uint32))
                batch.drop({int(i): "damaged: its CRC32C does not match" for i in wrong})
                self.pending.append(batch)
                yield np.array(batch.records, object)
                if batch.damaged and self._stop_at_damage:
                    return
        except Exception as error:  # Raised again by the consumer, because tf.data would wrap it.
            self.error = error

    def _batches(self) -> Iterator[_Batch]:
        batch: _Batch | None = None
        num_files: Counter[str] = Counter()
        try:
            for file in self._source.files():
                num_files[file.split] += 1
                if batch is not None and (batch.split != file.split or len(batch.records) >= _BATCH):
                    yield batch
                    batch = None
                if num_files[file.split] <= self._count_finished_files(file.split):
                    continue  # An interrupted call has packed it.
                batch = batch or _Batch(file.split)
                try:
                    for number, record, crc in read_records(file.stream, file.name):
                        if len(batch.records) >= 2 * _BATCH:  # A large file becomes several batches.
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
        except CorruptRecord as damaged:  # The tar itself is damaged.
            batch = batch or _Batch(next(reversed(num_files)))
            batch.damaged.append(damaged)
        if batch is not None:
            yield batch


@dataclass(frozen=True)
class _Parsed:
    """A parsed batch."""

    x: np.ndarray  # embeddings, uint8 `(clips, 10, 128)`
    widths: np.ndarray  # number of bytes of every segment, `(clips, 10)`
    lengths: np.ndarray  # number of segments of every clip, `(clips,)`
    ids: np.ndarray  # names, `(clips,)`
    labels: np.ndarray  # labels of all clips, one clip after the other
    labels_per_clip: np.ndarray  # `(clips,)`

    @property
    def clip_of_label(self) -> np.ndarray:
        return np.repeat(np.arange(len(self.lengths)), self.labels_per_clip)

    def find_problems(self, num_classes: int) -> dict[int, str]:
        """Return what is wrong with faulty clips, by row."""
        wide = (self.widths != NUM_FEATURES) & (np.arange(NUM_SEGMENTS) < self.lengths[:, None])
        outside = (self.labels < 0) | (self.labels >= num_classes)
        wrong = {int(i): "no feature list `audio_embedding`" for i in np.flatnonzero(self.lengths == 0)}
        for i in np.flatnonzero(self.lengths > NUM_SEGMENTS):
            wrong[int(i)] = f"{self.lengths[i]} segments, at most {NUM_SEGMENTS} are allowed"
        for i in np.flatnonzero(wide.any(axis=1)):
            width = self.widths[i][wide[i]][0]
            wrong[int(i)] = f"a segment of {width} features, {NUM_FEATURES} are expected"
        for i in np.flatnonzero(self.labels_per_clip == 0):
            wrong[int(i)] = "no context feature `labels`"
        for i, label in zip(self.clip_of_label[outside].tolist(), self.labels[outside].tolist(), strict=True):
            wrong[i] = f"label {label} is out of range, 0 to {num_classes - 1} are allowed"
        return wrong

    def select(self, rows: list[int]) -> _Parsed:
        labels = self.labels[np.isin(self.clip_of_label, rows)]
        x, widths, lengths, ids = (array[rows] for array in (self.x, self.widths, self.lengths, self.ids))
        return _Parsed(x, widths, lengths, ids, labels, self.labels_per_clip[rows])

    def make_targets(self, num_classes: int) -> np.ndarray:
        targets = np.zeros((len(self.lengths), num_classes), bool)
        targets[self.clip_of_label, self.labels] = True
        return targets


_NO_CLIPS = _Parsed(
    np.zeros((0, NUM_SEGMENTS, NUM_FEATURES), np.uint8), np.zeros((0, NUM_SEGMENTS)), *np.zeros((4, 0), np.int64)
)


def _parse(serialized: tf.Tensor) -> tuple[tf.Tensor, ...]:
    context, sequence, lengths = tf.io.parse_sequence_example(serialized, _CONTEXT, _SEQUENCE)
    embedding = sequence["audio_embedding"]
    filler = tf.fill([tf.shape(embedding)[0], NUM_SEGMENTS], "")
    embedding = tf.concat([embedding, filler], axis=1)[:, :NUM_SEGMENTS]
    x = tf.io.decode_raw(embedding, tf.uint8, fixed_length=NUM_FEATURES)  # (clips, segments, features)
    labels = context["labels"]
    widths = tf.strings.length(embedding)
    return x, widths, lengths["audio_embedding"], context["video_id"], labels.values, labels.row_lengths()


def _parse_batches(reader: _Reader) -> Iterator[tuple[_Batch, _Parsed]]:
    records = tf.data.Dataset.from_generator(reader, output_signature=tf.TensorSpec([None], tf.string))
    dataset = records.map(_parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(2)
    iterator = iter(dataset)
    while True:
        try:
            arrays = next(iterator)
            batch = reader.pending.popleft()
        except StopIteration:
            break
        except tf.errors.InvalidArgumentError:
            batch = reader.pending.popleft()
            batch.drop({i: reason for i, record in enumerate(batch.records) if (reason := _explain_error(record))})
            if not batch.records:  # TensorFlow's parser refuses an empty batch.
                yield batch, _NO_CLIPS
                continue
            arrays = _parse(tf.constant(batch.records, tf.string))
        yield batch, _Parsed(*(array.numpy() for array in arrays))
    if reader.error is not None:
        raise reader.error


def _explain_error(record: bytes) -> str | None:
    """Return why TensorFlow's parser refuses a record, or None if it accepts it."""
    with suppress(tf.errors.InvalidArgumentError):
        _parse(tf.constant([record]))
        return None
    try:
        context = tf.train.SequenceExample.FromString(record).context.feature
    except Exception:  # The module of protobuf's DecodeError depends on its version.
        return "not a tf.train.SequenceExample"
    if "video_id" not in context:
        return f"no context feature `video_id` (it has: {', '.join(sorted(context)) or 'none'})"
    return "a feature of another type: `video_id` (bytes), `labels` (int64) and `audio_embedding` (bytes) are expected"


class _Packs:
    """Writers of the packs, one per split, opened at the first file of the split."""

    def __init__(self, source: FeatureSource, output: Path, skip_corrupt: bool) -> None:
        self.num_clips = 0
        self._source, self._output, self._skip_corrupt = source, output, skip_corrupt
        self._num_classes = len(LabelSet.audioset())
        self._writers: dict[str, FeaturePackWriter] = {}
        self._unsaved: Counter[str] = Counter()

    def count_finished_files(self, split: str) -> int:
        """Return how many source files of a split an interrupted call has packed."""
        if split not in self._writers:
            self._writers[split] = FeaturePackWriter(
                self._output / f"{split}.h5",
                num_classes=self._num_classes,
                attributes={"source": self._source.path.name, "split": split, "license": _LICENSE},
                fingerprint=f"{self._source.fingerprint} skip_corrupt={self._skip_corrupt}",
            )
        return self._writers[split].resumed_files

    def add(self, batch: _Batch, parsed: _Parsed) -> None:
        """Write a batch, or raise its first error unless corrupt records are skipped."""
        writer = self._writers[batch.split]
        if problems := parsed.find_problems(self._num_classes):
            parsed = parsed.select(batch.drop(problems))
        for damaged in sorted(batch.damaged, key=lambda error: (error.file, error.record or 0)):
            if not self._skip_corrupt:
                raise damaged
            writer.skipped.append(str(damaged))
        start = len(writer)
        writer.append(parsed.x, parsed.lengths, parsed.make_targets(self._num_classes), parsed.ids)
        for name, end in batch.ended_files:
            writer.mark_file_end(name, start + end)
        self.num_clips += len(parsed.ids)
        self._unsaved[batch.split] += len(parsed.ids)
        ends_with_file = bool(batch.ended_files) and batch.ended_files[-1][1] == len(batch.records)
        if self._unsaved[batch.split] >= _CHECKPOINT_ROWS and ends_with_file:
            writer.checkpoint()
            self._unsaved[batch.split] = 0

    def finish(self) -> dict[str, FeaturePackReport]:
        reports = {}
        for split, writer in self._writers.items():
            if len(writer):
                digest = writer.finish()
                clips, short, counts = count_clips(writer.path)
                reports[split] = FeaturePackReport(writer.path, clips, short, counts, tuple(writer.skipped), digest)
        missing = [split for split in self._source.splits if split not in reports]
        if not reports or (self._source.requires_all_splits and missing):
            raise ValueError(f"`source`: {self._source.path}: no readable record of the split {' or '.join(missing)}")
        return reports

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
