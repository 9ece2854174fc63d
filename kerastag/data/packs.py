"""Packs: HDF5 files with the clips of a split and their labels, read by row number."""

from __future__ import annotations

import abc
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import h5py
import numpy as np

from kerastag._command import replace_unprintable
from kerastag.data.hdf5_files import TEXT_ROWS, check_texts, explain_damage, open_hdf5, read_attributes
from kerastag.labels import LabelSet

DEFAULT_SAMPLE_RATE = 32_000
SCAN_ROWS = 4096  # rows read at a time where a whole pack is read in constant memory
_MAX_COMPRESSION = 1032  # of deflate; HDF5 files that claim more are damaged or malicious
_MAX_NAME_BYTES = 4096


class Layout(NamedTuple):
    """Keys of the datasets in a pack of one kind, and the types and the dimensions of its clips."""

    kind: str
    x: str
    targets: str
    ids: str
    lengths: str
    dtypes: tuple[str, ...]
    dimensions: tuple[str, ...]


FEATURES = Layout(
    "a pack", "x", "y", "video_id_list", "num_segments", ("uint8", "float32"), ("clip", "segment", "feature")
)
AUDIO = Layout("a pack of waveforms", "waveform", "target", "audio_name", "num_samples", ("int16",), ("clip", "sample"))


def open_pack(
    path: str | os.PathLike[str], *, in_memory: bool = True, skip_corrupt: bool = False
) -> FeaturePack | AudioPack:
    """Open a pack of either kind.

    Args:
        path: Path of the HDF5 file.
        in_memory: Whether to read all embeddings now (1,280 bytes per clip of AudioSet) instead of reading rows on
            demand. Waveforms are always read on demand.
        skip_corrupt: Whether to skip embeddings with NaN or infinity and to list their rows in `skipped`, instead of
            refusing the pack.

    Returns:
        An `AudioPack` if the file holds waveforms, else a `FeaturePack`.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not an HDF5 file, is damaged, empty or not a pack, or has values that are not finite.

    >>> import tempfile
    >>> from kerastag.data import open_pack, write_synthetic_packs
    >>> packs = write_synthetic_packs(tempfile.mkdtemp(), num_train=60, num_eval=20, num_classes=4)
    >>> with open_pack(packs["eval"]) as pack:
    ...     x, lengths, targets = pack.rows([2, 0, 2])
    ...     pack.labels.names[:2], x.shape, targets.shape
    (('Sound 01', 'Sound 02'), (3, 10, 128), (3, 4))
    """
    with open_hdf5(path) as file:
        holds_waveforms = AUDIO.x in file
    return AudioPack(path) if holds_waveforms else FeaturePack(path, in_memory=in_memory, skip_corrupt=skip_corrupt)


class Pack(abc.ABC):
    """What packs of embeddings and of waveforms have in common.

    Attributes:
        path: Path of the file.
        attributes: Attributes of the file: source, license, class names and the like.
        targets: Labels, bool `(clips, classes)`.
        ids: Names of the clips, bytes `(clips,)`.
        lengths: Number of valid segments or samples of every clip, int `(clips,)`.
        skipped: Rows of the file that were skipped because their values are not finite.
        x_shape: Shape of all clips together: `(clips, segments, features)` or `(clips, samples)`.
        dtype: Type of the stored numbers.
    """

    path: Path
    attributes: dict[str, Any]
    targets: np.ndarray
    ids: np.ndarray
    lengths: np.ndarray
    skipped: tuple[int, ...]
    x_shape: tuple[int, ...]
    dtype: np.dtype

    @abc.abstractmethod
    def rows(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read clips by row number.

        Args:
            indices: Row numbers in `[0, len(pack))`, in any order, repeated or not.

        Returns:
            Stored values, lengths and labels of these rows.

        Raises:
            IndexError: A row number is out of range.
        """

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.targets.shape[1]

    @property
    def labels(self) -> LabelSet:
        """Classes of the file's attributes, else AudioSet's if there are 527, else `class 0`, `class 1` and so on."""
        return self._labels

    def close(self) -> None:
        """Close the file. What is in memory stays usable."""
        self._stack.close()

    def __len__(self) -> int:
        return len(self.targets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, {len(self)} clips, {self.num_classes} classes)"

    @contextmanager
    def _open(self, path: str | os.PathLike[str], layout: Layout) -> Iterator[h5py.File]:
        """Open the file, check its layout, and keep it open when the block ends without an error."""
        self.path, self.skipped = Path(path), ()
        with ExitStack() as stack:
            file = stack.enter_context(open_hdf5(path))
            check_layout(file, layout)
            self.attributes = read_attributes(file)
            self._labels = _read_labels(path, self.attributes, file[layout.targets].shape[1])
            yield file
            self._stack = stack.pop_all()


class FeaturePack(Pack):
    """A pack of segment embeddings.

    | dataset | type | content |
    | --- | --- | --- |
    | `x` | uint8 or float32 `(clips, segments, features)` | embeddings; zeros after the last segment of a clip |
    | `y` | bool `(clips, classes)`, gzip | labels |
    | `video_id_list` | bytes `(clips,)` | clip names |
    | `num_segments` | uint8 `(clips,)` | number of valid segments |

    The packs of the papers' authors have no `num_segments`: all their segments are valid. The arguments and the errors
    are those of `open_pack`.

    >>> import tempfile
    >>> from kerastag.data import FeaturePack, FeaturePackWriter
    >>> path = Path(tempfile.mkdtemp()) / "tiny.h5"
    >>> with FeaturePackWriter(path, num_classes=2, num_segments=10, num_features=4) as writer:
    ...     writer.append(np.ones((3, 10, 4), np.uint8), [10, 10, 7], np.eye(3, 2, dtype=bool), [b"a", b"b", b"c"])
    ...     _ = writer.finish()
    >>> with FeaturePack(path, in_memory=False) as pack:
    ...     x, num_segments, targets = pack.rows([2, 0, 2])
    >>> x.shape, num_segments.tolist(), targets[1].tolist()
    ((3, 10, 4), [7, 10, 7], [True, False])
    """

    def __init__(self, path: str | os.PathLike[str], *, in_memory: bool = True, skip_corrupt: bool = False) -> None:
        with self._open(path, FEATURES) as file:
            stored = file["x"]
            self._stored_rows: np.ndarray | None = None  # rows of the file that are used; None for all of them
            if stored.dtype.kind == "f":
                self._skip_rows(stored, skip_corrupt)
            self.targets = self._select(_read_targets(file["y"]))
            self.ids = self._select(read_names(file["video_id_list"]))
            self.lengths = self._select(read_lengths(file, FEATURES))
            self.x_shape, self.dtype = (len(self), *stored.shape[1:]), stored.dtype
            self._x = self._select(stored[:]) if in_memory else stored
            self._direct_reader = None if in_memory else _DirectReader.create(self.path, stored)
        self._stack.callback(setattr, self, "_direct_reader", None)  # releases the memory map

    @property
    def x(self) -> np.ndarray | h5py.Dataset:
        """All embeddings: an array if they are in memory, else the HDF5 dataset, unless rows were skipped."""
        if self._stored_rows is not None and isinstance(self._x, h5py.Dataset):
            raise ValueError(f"{self.path}: rows were skipped, so that `x` cannot be the dataset; use `rows`")
        return self._x

    def rows(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        indices = _check_indices(indices, len(self), f"{self.path}: ")
        stored_rows = indices if self._stored_rows is None else self._stored_rows[indices]
        if isinstance(self._x, np.ndarray):
            x = self._x[indices]
        elif self._direct_reader is not None:
            x = self._direct_reader.read(stored_rows)
        else:
            unique, inverse = np.unique(stored_rows, return_inverse=True)
            with explain_damage(self.path, "key x: "):
                x = self._x[unique][inverse]
        return x, self.lengths[indices], self.targets[indices]

    def _select(self, array: np.ndarray) -> np.ndarray:
        return array if self._stored_rows is None else array[self._stored_rows]

    def _skip_rows(self, x: h5py.Dataset, skip_corrupt: bool) -> None:
        is_finite = [np.isfinite(x[i : i + SCAN_ROWS]).all(axis=(1, 2)) for i in range(0, len(x), SCAN_ROWS)]
        corrupt = np.flatnonzero(~np.concatenate(is_finite))
        if not len(corrupt):
            return
        if not skip_corrupt:
            raise ValueError(
                f"{self.path}: key x, row {corrupt[0]}: NaN or infinity ({len(corrupt)} of {len(x)} rows have one)"
            )
        if len(corrupt) == len(x):
            raise ValueError(f"{self.path}: key x: NaN or infinity in every one of its {len(x)} rows")
        self.skipped = tuple(corrupt.tolist())
        self._stored_rows = np.setdiff1d(np.arange(len(x)), corrupt)


class AudioPack(Pack):
    """A pack of 16-bit waveforms, in the layout of PANNs.

    | dataset | type | content |
    | --- | --- | --- |
    | `audio_name` | bytes `(clips,)` | clip names |
    | `waveform` | int16 `(clips, samples)` | 32,767 times the waveform, clipped; zeros after the end of a clip |
    | `target` | bool `(clips, classes)` | labels |
    | `num_samples` | int32 `(clips,)` | number of valid samples |

    PANNs' own packs have no `num_samples`: all their samples are valid. The errors are those of `open_pack`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        with self._open(path, AUDIO) as file:
            self.targets = _read_targets(file["target"])
            self.ids = read_names(file["audio_name"])
            self._sample_rate = _read_sample_rate(self.path, self.attributes)
            self._waveforms = file["waveform"]
            self.x_shape, self.dtype = self._waveforms.shape, self._waveforms.dtype
            self.lengths = read_lengths(file, AUDIO)

    @property
    def sample_rate(self) -> int:
        """Sample rate, Hz; 32,000 if the file does not have the attribute."""
        return self._sample_rate

    def rows(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        indices = np.asarray(indices, np.int64)
        waveforms = self.crops(indices, np.zeros(len(indices), np.int64), self.x_shape[1])
        return waveforms, self.lengths[indices], self.targets[indices]

    def crops(self, indices: np.ndarray, starts: np.ndarray, samples: int) -> np.ndarray:
        """Read a part of each of several clips.

        Args:
            indices: Row numbers in `[0, len(pack))`, int `(rows,)`.
            starts: First sample of each part, int `(rows,)`.
            samples: Length of the parts, samples.

        Returns:
            Waveforms, int16 `(rows, samples)`, with zeros beyond the end of a clip.
        """
        indices = _check_indices(indices, len(self), f"{self.path}: ")
        waveforms = np.zeros((len(indices), samples), np.int16)
        with explain_damage(self.path, "key waveform: "):
            for waveform, index, start in zip(waveforms, indices.tolist(), starts.tolist(), strict=True):
                stop = min(start + samples, self.x_shape[1])
                self._waveforms.read_direct(waveform, np.s_[index, start:stop], np.s_[: stop - start])
        return waveforms


class ConcatenatedPacks:
    """Several packs of one kind read as one: the rows of the first, followed by those of the next.

    Args:
        packs: Opened packs, at least one.

    Raises:
        ValueError: No pack is given, or packs differ in the shape of a clip, number of classes, number type or sample
            rate.

    >>> from kerastag.data import ConcatenatedPacks
    >>> ConcatenatedPacks([])
    Traceback (most recent call last):
    ...
    ValueError: `packs` must hold at least one pack; received: none
    """

    def __init__(self, packs: Sequence[Pack]) -> None:
        if not packs:
            raise ValueError("`packs` must hold at least one pack; received: none")
        first = packs[0]
        layout = _describe_layout(first)
        for pack in packs[1:]:
            if (other := _describe_layout(pack)) != layout:
                raise ValueError(f"{pack.path}: must hold {layout} as {first.path}; received: {other}")
        self.packs = tuple(packs)
        self.targets = np.concatenate([pack.targets for pack in packs])
        self.lengths = np.concatenate([pack.lengths for pack in packs])
        self.x_shape = (len(self.targets), *first.x_shape[1:])
        self._ends = np.cumsum([len(pack) for pack in packs])

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def labels(self) -> LabelSet:
        """Classes of the first pack."""
        return self.packs[0].labels

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.targets.shape[1]

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read clips by row number, as `Pack.rows` does."""
        if len(self.packs) == 1:
            return self.packs[0].rows(indices)
        indices = np.asarray(indices, np.int64)
        x = np.empty((len(indices), *self.x_shape[1:]), self.packs[0].dtype)
        for pack, positions, rows in self._locate(indices):
            x[positions] = pack.rows(rows)[0]
        return x, self.lengths[indices], self.targets[indices]

    def crops(self, indices: np.ndarray, starts: np.ndarray, samples: int) -> np.ndarray:
        """Read a part of each of several clips, as `AudioPack.crops` does."""
        x = np.empty((len(indices), samples), self.packs[0].dtype)
        for pack, positions, rows in self._locate(np.asarray(indices, np.int64)):
            x[positions] = pack.crops(rows, starts[positions], samples)
        return x

    def _locate(self, indices: np.ndarray) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
        """Yield every pack, the positions of the indices that belong to it, and their row numbers in it."""
        _check_indices(indices, len(self))
        pack_numbers = np.searchsorted(self._ends, indices, side="right")
        for number, pack in enumerate(self.packs):
            positions = np.flatnonzero(pack_numbers == number)
            yield pack, positions, indices[positions] - (self._ends[number] - len(pack))


class _DirectReader:
    """Reads rows of an uncompressed dataset at their offsets in the file, without reading whole chunks."""

    def __init__(self, path: Path, dataset: h5py.Dataset, starts: np.ndarray, chunk_rows: int) -> None:
        self._bytes = np.memmap(path, np.uint8, "r")
        self._dtype, self._shape = dataset.dtype, dataset.shape[1:]
        self._row_bytes = dataset.dtype.itemsize * int(np.prod(self._shape))
        self._starts, self._chunk_rows = starts, chunk_rows
        if starts.min() < 0 or starts.max() + min(chunk_rows, len(dataset)) * self._row_bytes > len(self._bytes):
            raise ValueError(f"{path}: key {dataset.name}: rows are beyond the end of the file")

    @classmethod
    def create(cls, path: Path, dataset: h5py.Dataset) -> _DirectReader | None:
        """Return a reader, or None if the rows of the dataset are not contiguous in the file."""
        if _count_filters(dataset) or dataset.file.userblock_size:
            return None
        if dataset.chunks is None:
            offset = dataset.id.get_offset()
            return None if offset is None else cls(path, dataset, np.array([offset]), dataset.shape[0])
        if dataset.chunks[1:] != dataset.shape[1:] or not hasattr(dataset.id, "chunk_iter"):
            return None
        starts = np.full(-(-dataset.shape[0] // dataset.chunks[0]), -1, np.int64)

        def store_offset(chunk: h5py.h5d.StoreInfo) -> None:
            starts[chunk.chunk_offset[0] // dataset.chunks[0]] = chunk.byte_offset

        dataset.id.chunk_iter(store_offset)
        return None if (starts < 0).any() else cls(path, dataset, starts, dataset.chunks[0])

    def read(self, rows: np.ndarray) -> np.ndarray:
        offsets = self._starts[rows // self._chunk_rows] + rows % self._chunk_rows * self._row_bytes
        content = np.empty((len(rows), self._row_bytes), np.uint8)
        for row, offset in zip(content, offsets.tolist(), strict=True):
            row[:] = self._bytes[offset : offset + self._row_bytes]
        return content.view(self._dtype).reshape(len(rows), *self._shape)


def check_layout(file: h5py.File, layout: Layout) -> None:
    """Raise a ValueError unless the file has the layout, and all that it claims to hold."""
    for key in (layout.x, layout.targets, layout.ids, layout.lengths):
        if key != layout.lengths or key in file:
            with explain_damage(file.filename, f"key {key}: "):
                _check_dataset(file, key, layout)
    x, targets, ids = file[layout.x], file[layout.targets], file[layout.ids]
    if x.ndim != len(layout.dimensions) or x.dtype not in map(np.dtype, layout.dtypes):
        expected = f"{' or '.join(layout.dtypes)} ({', '.join(f'{name}s' for name in layout.dimensions)})"
        raise ValueError(f"{file.filename}: key {layout.x}: must be {expected}; received: {x.dtype} {x.shape}")
    if targets.ndim != 2 or len(targets) != len(x):
        expected = f"({len(x)}, classes) as {layout.x}"
        raise ValueError(f"{file.filename}: key {layout.targets}: must be {expected}; received: {targets.shape}")
    if targets.dtype.kind not in "biuf":
        raise ValueError(f"{file.filename}: key {layout.targets}: must be 0 or 1; received: {targets.dtype}")
    if ids.shape != (len(x),):
        expected = f"shape ({len(x)},) as {layout.x}"
        raise ValueError(f"{file.filename}: key {layout.ids}: must have {expected}; received: {ids.shape}")
    if h5py.check_string_dtype(ids.dtype) is None:
        raise ValueError(f"{file.filename}: key {layout.ids}: must be text; received: {ids.dtype}")
    check_texts(file.filename, layout.ids)
    if 0 in x.shape or targets.shape[1] == 0:
        expected = f"at least one {', '.join(layout.dimensions)} and class"
        raise ValueError(f"{file.filename}: must hold {expected}; received: {x.shape}")


def _check_dataset(file: h5py.File, key: str, layout: Layout) -> None:
    """Raise a ValueError unless a key is a dataset whose values are in the file, before anything is allocated."""
    link = file.get(key, getlink=True)
    if link is not None and not isinstance(link, h5py.HardLink):
        raise ValueError(f"{file.filename}: key {key}: must be stored in the file; received: {type(link).__name__}")
    dataset = file.get(key)
    if dataset is None and link is not None:
        raise ValueError(f"{file.filename}: key {key}: must be an array that HDF5 can read; received: a damaged one")
    if not isinstance(dataset, h5py.Dataset):
        keys = replace_unprintable(", ".join(file)) or "none"
        raise ValueError(f"{file.filename}: key {key} is missing: not {layout.kind} (its keys are: {keys})")
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{file.filename}: key {key}: must be stored in the file; received: a part of other files")
    if dataset.shape is None:
        raise ValueError(f"{file.filename}: key {key}: must be an array; received: an empty dataset")
    if dataset.chunks is not None and len(dataset.chunks) != len(dataset.shape):  # HDF5 would read forever.
        expected = f"chunks of {len(dataset.shape)} dimensions"
        raise ValueError(f"{file.filename}: key {key}: must have {expected}; received: {len(dataset.chunks)}")
    stored = dataset.id.get_storage_size()
    largest = stored * (_MAX_COMPRESSION if _count_filters(dataset) else 1)
    claimed = max(math.prod(dataset.shape), math.prod(dataset.chunks or ())) * dataset.id.get_type().get_size()
    if dataset.size and (claimed > largest or stored > Path(file.filename).stat().st_size):
        raise ValueError(
            f"{file.filename}: key {key}: truncated or damaged: {dataset.dtype} {dataset.shape} does not fit into the "
            f"{stored} bytes that are stored"
        )


def _count_filters(dataset: h5py.Dataset) -> int:
    return dataset.id.get_create_plist().get_nfilters()


def _read_labels(path: str | os.PathLike[str], attributes: Mapping[str, Any], num_classes: int) -> LabelSet:
    """Return the classes of a file's attributes, else AudioSet's if there are 527, else numbered ones."""
    if "class_names" not in attributes:
        if num_classes == len(audioset := LabelSet.audioset()):
            return audioset
        return LabelSet.from_names([f"class {k}" for k in range(num_classes)])
    place = f"{path}: attribute class_names"
    try:
        names = json.loads(str(attributes["class_names"]))
        mids = json.loads(str(attributes.get("class_mids", "null"))) or names
        if not isinstance(names, list) or not isinstance(mids, list):
            raise ValueError("must be a JSON list")
        labels = LabelSet(tuple(mids), tuple(names))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{place}: {error}") from error
    if len(labels) != num_classes:
        raise ValueError(f"{place}: must name {num_classes} classes, as there are labels; received: {len(labels)}")
    return labels


def _read_sample_rate(path: Path, attributes: Mapping[str, Any]) -> int:
    value = attributes.get("sample_rate", DEFAULT_SAMPLE_RATE)
    if np.ndim(value) or np.asarray(value).dtype.kind not in "iu" or not 0 < value < 2**31:
        raise ValueError(f"{path}: attribute sample_rate: must be an integer above 0 Hz; received: {value!r}")
    return int(value)


def _read_targets(targets: h5py.Dataset) -> np.ndarray:
    path, key = targets.file.filename, targets.name.lstrip("/")
    values = np.empty(targets.shape, bool)
    for start in range(0, len(targets), SCAN_ROWS):
        with explain_damage(path, f"key {key}: "):
            block = targets[start : start + SCAN_ROWS]
        stored = block.view(np.uint8) if block.dtype == bool else block  # A damaged boolean can be any byte.
        if not (is_binary := np.isin(stored, (0, 1)).all(axis=1)).all():
            raise ValueError(f"{path}: key {key}, row {start + int(np.argmin(is_binary))}: labels must be 0 or 1")
        values[start : start + SCAN_ROWS] = block
    return values


def read_names(names: h5py.Dataset) -> np.ndarray:
    """Read the names of all clips."""
    path, key = names.file.filename, names.name.lstrip("/")
    rows = len(names) if names.dtype.kind == "S" else TEXT_ROWS
    blocks = []
    for start in range(0, len(names), rows):
        with explain_damage(path, f"key {key}: "):
            blocks.append(to_bytes_array(names[start : start + rows]))
        if blocks[-1].dtype.itemsize > _MAX_NAME_BYTES:
            expected = f"at most {_MAX_NAME_BYTES} bytes"
            raise ValueError(f"{path}: key {key}: names must have {expected}; received: {blocks[-1].dtype.itemsize}")
    return np.concatenate(blocks)


def read_lengths(file: h5py.File, layout: Layout) -> np.ndarray:
    """Read the number of valid segments or samples of every clip: all of them if the file does not have it."""
    key, (clips, longest) = layout.lengths, file[layout.x].shape[:2]
    if key not in file:
        return np.full(clips, longest, np.uint8 if longest < 256 else np.int32)
    dataset = file[key]
    if dataset.shape != (clips,):
        raise ValueError(f"{file.filename}: key {key}: must have shape ({clips},); received: {dataset.shape}")
    if dataset.dtype.kind not in "iu":
        raise ValueError(f"{file.filename}: key {key}: must be integers; received: {dataset.dtype}")
    with explain_damage(file.filename, f"key {key}: "):
        lengths = dataset[:]
    if lengths.min() < 1 or lengths.max() > longest:
        row = int(np.argmax((lengths < 1) | (lengths > longest)))
        expected = f"in [1, {longest}]"
        raise ValueError(f"{file.filename}: key {key}, row {row}: must be {expected}; received: {lengths[row]}")
    return lengths


def to_bytes_array(names: np.ndarray) -> np.ndarray:
    """Convert HDF5 strings of fixed or variable length to an array of bytes of fixed length."""
    if names.dtype.kind == "S":
        return names
    encoded = [name.encode() if isinstance(name, str) else bytes(name) for name in names.tolist()]
    return np.array(encoded, dtype=f"S{max([11, *map(len, encoded)])}")


def _check_indices(indices: Sequence[int] | np.ndarray, num_rows: int, prefix: str = "") -> np.ndarray:
    indices = np.asarray(indices, np.int64)
    if indices.size and (indices.min() < 0 or indices.max() >= num_rows):
        wrong = indices[(indices < 0) | (indices >= num_rows)][0]
        raise IndexError(f"{prefix}`indices` must be in [0, {num_rows}); received: {wrong}")
    return indices


def _describe_layout(pack: Pack) -> str:
    """Describe what packs that are read as one must have in common."""
    if isinstance(pack, AudioPack):
        contents = f"waveforms of {pack.x_shape[1]} samples at {pack.sample_rate} Hz"
    else:
        contents = f"embeddings of {pack.x_shape[1]} segments and {pack.x_shape[2]} features"
    return f"{pack.dtype.name} {contents} with {pack.num_classes} classes"
