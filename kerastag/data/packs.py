"""Packs: HDF5 files with the clips of a split and their labels, read by row number.

A pack of embeddings is a `FeaturePack`, one of waveforms an `AudioPack`; `open_pack` opens either.
"""

from __future__ import annotations

import abc
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from kerastag.labels import LabelSet

__all__ = [
    "DEFAULT_SAMPLE_RATE",
    "AudioPack",
    "ConcatenatedPacks",
    "FeaturePack",
    "Pack",
    "open_pack",
]

DEFAULT_SAMPLE_RATE = 32_000
SCAN_ROWS = 4096  # rows read at a time where a whole pack is read in constant memory
AUDIO_KEYS = ("audio_name", "waveform", "target", "num_samples")
FEATURE_KEYS = ("x", "num_segments", "y", "video_id_list")


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
        ValueError: The file is not an HDF5 file, is damaged, empty or not a pack.

    >>> import tempfile
    >>> from kerastag.data import open_pack, write_synthetic_packs
    >>> packs = write_synthetic_packs(tempfile.mkdtemp(), num_train=60, num_eval=20, num_classes=4)
    >>> with open_pack(packs["eval"]) as pack:
    ...     x, lengths, targets = pack.rows([2, 0, 2])
    ...     pack.labels.names[:2], x.shape, targets.shape
    (('Sound 01', 'Sound 02'), (3, 10, 128), (3, 4))
    """
    with open_hdf5(Path(path)) as file:
        holds_waveforms = "waveform" in file
    if holds_waveforms:
        return AudioPack(path)
    return FeaturePack(path, in_memory=in_memory, skip_corrupt=skip_corrupt)


class Pack(abc.ABC):
    """What packs of embeddings and of waveforms have in common.

    Attributes:
        path: Path of the file.
        attributes: Attributes of the file: source, license, class names and the like.
        targets: Labels, bool `(clips, classes)`.
        ids: Names of the clips, bytes `(clips,)`.
        lengths: Number of valid segments or samples of every clip, int `(clips,)`.
        skipped: Rows of the file that were skipped because their values are not finite.
    """

    path: Path
    attributes: dict[str, Any]
    targets: np.ndarray
    ids: np.ndarray
    lengths: np.ndarray
    skipped: tuple[int, ...]

    @property
    @abc.abstractmethod
    def x_shape(self) -> tuple[int, ...]:
        """Shape of all clips together: `(clips, segments, features)` or `(clips, samples)`."""

    @property
    @abc.abstractmethod
    def dtype(self) -> np.dtype:
        """Type of the stored numbers."""

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
        """Classes of the pack.

        They are the attributes `class_names` and `class_mids` if the file has them, else AudioSet's 527 classes if
        there are as many, else `class 0`, `class 1` and so on.
        """
        if "class_names" in self.attributes:
            names = json.loads(str(self.attributes["class_names"]))
            mids = json.loads(str(self.attributes.get("class_mids", "null")))
            return LabelSet(mids or names, names)
        audioset = LabelSet.audioset()
        if self.num_classes == len(audioset):
            return audioset
        return LabelSet.from_names([f"class {k}" for k in range(self.num_classes)])

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
    def _open(self, path: str | os.PathLike[str]) -> Iterator[h5py.File]:
        """Open the file and keep it open when the block ends without an error."""
        self.path, self.skipped = Path(path), ()
        with ExitStack() as stack:
            file = stack.enter_context(open_hdf5(self.path))
            self.attributes = dict(file.attrs)
            yield file
            self._stack = stack.pop_all()

    def _check_indices(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        return _check_indices(indices, len(self), f"{self.path}: ")


class FeaturePack(Pack):
    """A pack of segment embeddings.

    | dataset | type | content |
    | --- | --- | --- |
    | `x` | uint8 or float32 `(clips, segments, features)` | embeddings; zeros after the last segment of a clip |
    | `y` | bool `(clips, classes)`, gzip | labels |
    | `video_id_list` | bytes `(clips,)` | clip names |
    | `num_segments` | uint8 `(clips,)` | number of valid segments |

    The packs of the papers' authors have no `num_segments`: all their segments are valid.

    Args:
        path: Path of the HDF5 file.
        in_memory: Whether to read all embeddings now instead of reading rows on demand.
        skip_corrupt: Whether to skip rows with NaN or infinity and to list them in `skipped`, instead of refusing the
            pack.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not an HDF5 file, is truncated, empty or not a pack of embeddings, or has values that
            are not finite.

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
        with self._open(path) as file:
            check_feature_layout(self.path, file)
            stored = file["x"]
            self._stored_rows: np.ndarray | None = None  # rows of the file that are used; None for all of them
            if stored.dtype.kind == "f":
                self._skip_rows(_find_rows_not_finite(stored), len(stored), skip_corrupt)
            self.targets = self._select(_read_targets(self.path, file["y"]))
            self.ids = self._select(to_bytes_array(file["video_id_list"][:]))
            self.lengths = self._select(read_num_segments(self.path, file))
            self._x = self._select(stored[:]) if in_memory else stored
            self._direct_reader = None if in_memory else _DirectReader.create(self.path, stored)

    @property
    def x(self) -> np.ndarray | h5py.Dataset:
        """All embeddings: an array if they are in memory, else the HDF5 dataset.

        Raises:
            ValueError: The embeddings are not in memory and rows were skipped.
        """
        if self._stored_rows is not None and isinstance(self._x, h5py.Dataset):
            raise ValueError(f"{self.path}: rows were skipped, so that `x` cannot be the dataset; use `rows`")
        return self._x

    @property
    def x_shape(self) -> tuple[int, int, int]:
        return (len(self), *self._x.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        return self._x.dtype

    def rows(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        indices = self._check_indices(indices)
        return self._read_x(indices), self.lengths[indices], self.targets[indices]

    def close(self) -> None:
        super().close()
        self._direct_reader = None

    def _read_x(self, indices: np.ndarray) -> np.ndarray:
        if isinstance(self._x, np.ndarray):
            return self._x[indices]
        stored_rows = indices if self._stored_rows is None else self._stored_rows[indices]
        if self._direct_reader is not None:
            return self._direct_reader.read(stored_rows)
        unique, inverse = np.unique(stored_rows, return_inverse=True)
        return self._x[unique][inverse]

    def _select(self, array: np.ndarray) -> np.ndarray:
        return array if self._stored_rows is None else array[self._stored_rows]

    def _skip_rows(self, corrupt: np.ndarray, num_rows: int, skip_corrupt: bool) -> None:
        if not len(corrupt):
            return
        if not skip_corrupt:
            raise ValueError(
                f"{self.path}: key x, row {corrupt[0]}: NaN or infinity ({len(corrupt)} of {num_rows} rows have one)"
            )
        if len(corrupt) == num_rows:
            raise ValueError(f"{self.path}: key x: NaN or infinity in every one of its {num_rows} rows")
        self.skipped = tuple(corrupt.tolist())
        self._stored_rows = np.setdiff1d(np.arange(num_rows), corrupt)


class AudioPack(Pack):
    """A pack of 16-bit waveforms, in the layout of PANNs.

    | dataset | type | content |
    | --- | --- | --- |
    | `audio_name` | bytes `(clips,)` | clip names |
    | `waveform` | int16 `(clips, samples)` | 32,767 times the waveform, clipped; zeros after the end of a clip |
    | `target` | bool `(clips, classes)` | labels |
    | `num_samples` | int32 `(clips,)` | number of valid samples |

    PANNs' own packs have no `num_samples`: all their samples are valid.

    Args:
        path: Path of the HDF5 file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not an HDF5 file, is damaged, empty or not a pack of waveforms.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        with self._open(path) as file:
            _check_audio_layout(self.path, file)
            self.targets = file["target"][:].astype(bool)
            self.ids = file["audio_name"][:]
            self._waveforms = file["waveform"]
            clips, samples = self._waveforms.shape
            self.lengths = _read_lengths(self.path, file, "num_samples", clips, samples, np.int32)

    @property
    def sample_rate(self) -> int:
        """Sample rate, Hz; 32,000 if the file does not have the attribute."""
        return int(self.attributes.get("sample_rate", DEFAULT_SAMPLE_RATE))

    @property
    def x_shape(self) -> tuple[int, int]:
        return self._waveforms.shape

    @property
    def dtype(self) -> np.dtype:
        return self._waveforms.dtype

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

        Raises:
            IndexError: A row number is out of range.
        """
        indices = self._check_indices(indices)
        waveforms = np.zeros((len(indices), samples), np.int16)
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

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of all clips together."""
        return (len(self), *self.packs[0].x_shape[1:])

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

    @classmethod
    def create(cls, path: Path, dataset: h5py.Dataset) -> _DirectReader | None:
        """Return a reader, or None if the rows of the dataset are not contiguous in the file."""
        if dataset.compression or dataset.shuffle or dataset.fletcher32 or dataset.scaleoffset is not None:
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


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, and turn what HDF5 cannot read into an error of one line."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: not an HDF5 file, truncated or damaged ({str(error).splitlines()[0]})") from error


def check_feature_layout(path: Path, file: h5py.File) -> None:
    """Raise a ValueError unless the file has the layout of a pack of embeddings."""
    _check_keys(path, file, ("x", "y", "video_id_list"), "a pack")
    x, y = file["x"], file["y"]
    if x.ndim != 3 or x.dtype not in (np.uint8, np.float32):
        raise ValueError(
            f"{path}: key x: must be uint8 or float32 (clips, segments, features); received: {x.dtype} {x.shape}"
        )
    _check_clip_counts(path, file, "x", "y", "video_id_list")
    if 0 in x.shape or y.shape[1] == 0:
        raise ValueError(f"{path}: must hold at least one clip, segment, feature and class; received: {x.shape}")


def _check_audio_layout(path: Path, file: h5py.File) -> None:
    _check_keys(path, file, ("audio_name", "waveform", "target"), "a pack of waveforms")
    waveform, target = file["waveform"], file["target"]
    if waveform.ndim != 2 or waveform.dtype != np.int16:
        raise ValueError(
            f"{path}: key waveform: must be int16 (clips, samples); received: {waveform.dtype} {waveform.shape}"
        )
    _check_clip_counts(path, file, "waveform", "target", "audio_name")
    if 0 in waveform.shape or target.shape[1] == 0:
        raise ValueError(f"{path}: must hold at least one clip, sample and class; received: {waveform.shape}")


def _check_keys(path: Path, file: h5py.File, keys: Sequence[str], kind: str) -> None:
    missing = [key for key in keys if not isinstance(file.get(key), h5py.Dataset)]
    if missing:
        raise ValueError(f"{path}: key {missing[0]} is missing: not {kind} (its keys are: {', '.join(file) or 'none'})")


def _check_clip_counts(path: Path, file: h5py.File, x_key: str, target_key: str, id_key: str) -> None:
    clips, targets, ids = len(file[x_key]), file[target_key], file[id_key]
    if targets.ndim != 2 or len(targets) != clips:
        raise ValueError(f"{path}: key {target_key}: must be ({clips}, classes) as {x_key}; received: {targets.shape}")
    if ids.shape != (clips,):
        raise ValueError(f"{path}: key {id_key}: must have shape ({clips},) as {x_key}; received: {ids.shape}")


def _read_targets(path: Path, y: h5py.Dataset) -> np.ndarray:
    targets = np.empty(y.shape, bool)
    for start in range(0, len(y), SCAN_ROWS):
        block = y[start : start + SCAN_ROWS]
        if block.dtype != bool:
            is_binary = np.isin(block, (0, 1)).all(axis=1)
            if not is_binary.all():
                raise ValueError(f"{path}: key y, row {start + int(np.argmin(is_binary))}: labels must be 0 or 1")
        targets[start : start + SCAN_ROWS] = block
    return targets


def read_num_segments(path: Path, file: h5py.File) -> np.ndarray:
    """Read the number of valid segments of every clip of a pack of embeddings."""
    clips, segments = file["x"].shape[:2]
    return _read_lengths(path, file, "num_segments", clips, segments, np.uint8 if segments < 256 else np.int32)


def _read_lengths(path: Path, file: h5py.File, key: str, clips: int, longest: int, dtype: Any) -> np.ndarray:
    if key not in file:
        return np.full(clips, longest, dtype)
    lengths = file[key][:]
    if lengths.shape != (clips,):
        raise ValueError(f"{path}: key {key}: must have shape ({clips},); received: {lengths.shape}")
    if lengths.min() < 1 or lengths.max() > longest:
        row = int(np.argmax((lengths < 1) | (lengths > longest)))
        raise ValueError(f"{path}: key {key}, row {row}: must be in [1, {longest}]; received: {lengths[row]}")
    return lengths


def _find_rows_not_finite(x: h5py.Dataset) -> np.ndarray:
    rows = [
        start + np.flatnonzero(~np.isfinite(x[start : start + SCAN_ROWS]).all(axis=(1, 2)))
        for start in range(0, len(x), SCAN_ROWS)
    ]
    return np.concatenate(rows)


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
