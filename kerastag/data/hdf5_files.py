"""HDF5 files of other people: damage of any kind is one clear error, and HDF5 neither loops nor crashes on text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from kerastag._command import replace_unprintable
from kerastag._hdf5 import HeapCheckedFile

__all__ = ["TEXT_ROWS", "check_texts", "explain_damage", "open_hdf5", "read_attributes"]

TEXT_ROWS = 64  # names of variable length read at a time, as the file can repeat one of any length
# HDF5 crashes on others, such as a damaged type of variable length. An enumeration is a boolean.
_READABLE_CLASSES = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM, h5py.h5t.STRING)
_PACK_ATTRIBUTES = ("class_names", "class_mids", "sample_rate", "digest")


@contextmanager
def open_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, and turn what HDF5 cannot read into an error of one line."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with explain_damage(path), h5py.File(path, "r") as file:
        yield file


@contextmanager
def explain_damage(path: str | os.PathLike[str], place: str = "") -> Iterator[None]:
    """Turn any error of h5py, whose type depends on the damaged byte, into a ValueError with the path and the place."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(f"{path}: "):
            raise
        lines = str(error.args[0] if error.args else "").splitlines() or [type(error).__name__]
        raise ValueError(
            f"{path}: not an HDF5 file, truncated or damaged ({place}{replace_unprintable(lines[0])})"
        ) from error


def read_attributes(file: h5py.File) -> dict[str, Any]:
    """Read the attributes of a file that are numbers or text, after `check_texts`, and leave out others.

    Raises:
        ValueError: An attribute that packs have is of another type.
    """
    attributes = {}
    for name in file.attrs:
        type_id = file.attrs.get_id(name).get_type()
        if type_id.get_class() in _READABLE_CLASSES:
            attributes[name] = file.attrs[name]
        elif name in _PACK_ATTRIBUTES:
            raise ValueError(f"attribute {name}: must be text or a number; received: {type(type_id).__name__}")
    return attributes


def check_texts(path: str | os.PathLike[str], key: str) -> None:
    """Raise a ValueError if HDF5 would not return from reading the attributes or the texts of a dataset of a file."""
    with explain_damage(path), Path(path).open("rb") as raw, h5py.File(HeapCheckedFile(raw), "r") as file:
        if file.id.get_create_plist().get_sizes() != (8, 8):
            raise ValueError("offsets and lengths must have eight bytes")
        read_attributes(file)
        texts = file[key]
        if h5py.check_string_dtype(texts.dtype).length is None:
            for start in range(0, len(texts), TEXT_ROWS):
                texts[start : start + TEXT_ROWS]
