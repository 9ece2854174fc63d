"""Packs: HDF5 files with the clips of a split and their labels, read by row number."""

from __future__ import annotations

import abc
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from kerastag.data.direct_reader import DirectReader
from kerastag.data.hdf5_files import explain_damage, open_hdf5, read_attributes
from kerastag.data.pack_layout import (
    AUDIO,
    FEATURES,
    SCAN_ROWS,
    Layout,
    check_layout,
    read_labels,
    read_lengths,
    read_names,
    read_sample_rate,
    read_targets,
)
from kerastag.labels import LabelSet


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
            self._labels = read_labels(path, self.attributes, file[layout.targets].shape[1])
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
            self.targets = self._select(read_targets(file["y"]))
            self.ids = self._select(read_names(file["video_id_list"]))
            self.lengths = self._select(read_lengths(file, FEATURES))
            self.x_shape, self.dtype = (len(self), *stored.shape[1:]), stored.dtype
            self._x = self._select(stored[:]) if in_memory else stored
            self._direct_reader = None if in_memory else DirectReader.create(self.path, stored)
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
            self.targets = read_targets(file["target"])
            self.ids = read_names(file["audio_name"])
            self._sample_rate = read_sample_rate(self.path, self.attributes)
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
