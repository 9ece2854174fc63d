"""The layout of packs of either kind, and their datasets and attributes, checked before anything is allocated."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from kerastag._command import replace_unprintable
from kerastag.data.hdf5_files import TEXT_ROWS, check_texts, explain_damage
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
    largest = stored * (_MAX_COMPRESSION if count_filters(dataset) else 1)
    claimed = max(math.prod(dataset.shape), math.prod(dataset.chunks or ())) * dataset.id.get_type().get_size()
    if dataset.size and (claimed > largest or stored > Path(file.filename).stat().st_size):
        raise ValueError(
            f"{file.filename}: key {key}: truncated or damaged: {dataset.dtype} {dataset.shape} does not fit into the "
            f"{stored} bytes that are stored"
        )


def count_filters(dataset: h5py.Dataset) -> int:
    """Count the filters of a dataset, such as a compression."""
    return dataset.id.get_create_plist().get_nfilters()


def read_labels(path: str | os.PathLike[str], attributes: Mapping[str, Any], num_classes: int) -> LabelSet:
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


def read_sample_rate(path: Path, attributes: Mapping[str, Any]) -> int:
    """Return the sample rate of a file's attributes, Hz; 32,000 if it has none."""
    value = attributes.get("sample_rate", DEFAULT_SAMPLE_RATE)
    if np.ndim(value) or np.asarray(value).dtype.kind not in "iu" or not 0 < value < 2**31:
        raise ValueError(f"{path}: attribute sample_rate: must be an integer above 0 Hz; received: {value!r}")
    return int(value)


def read_targets(targets: h5py.Dataset) -> np.ndarray:
    """Read the labels of all clips, bool `(clips, classes)`."""
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
