"""Reader of PyTorch files (`.pth`, `.pt`), in the zip format and the stream format before it, without PyTorch."""

import contextlib
import io
import math
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kerastag.importers.torch_pickle import Storage, Tensor, read_pickle

__all__ = ["TorchFile"]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_MAX_PICKLE_BYTES = 64 * 2**20
_MAX_NAME_LENGTH = 200


class TorchFile:
    """An open PyTorch file of weights, which reads its tensors one at a time.

    The description of the tensors is read when the file is opened, their numbers only by `read`. Nothing in the file is
    ever run; see `kerastag.importers.torch_pickle`. Every size in the file is checked against its bytes.

    Args:
        path: Path of a file that `torch.save` wrote, in the zip format since PyTorch 1.6 or the stream before it.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not a PyTorch file, is damaged, or holds other things than plain data and tensors.

    >>> from kerastag.importers import TorchFile
    >>> with TorchFile("mn04_as_mAP_432.pt") as file:  # doctest: +SKIP
    ...     file.read(file.list_tensors()["classifier.5.bias"]).shape
    (527,)
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: no such file")
        self._file = self.path.open("rb")
        try:
            with self._translate_errors():
                self._open()
        except ValueError:
            self._file.close()
            raise

    def __enter__(self) -> "TorchFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def list_tensors(self) -> dict[str, Tensor]:
        """Return the descriptions of the tensors by name, of the whole file or its entry `model` or `state_dict`.

        Raises:
            ValueError: The file holds no dictionary of tensors.
        """
        content = self._content
        if not isinstance(content, dict):
            received = f"an object of type {type(content).__name__}"
            raise ValueError(f"{self.path}: must hold a dictionary of tensors; received: {received}")
        entries = (content.get(entry) for entry in ("model", "state_dict"))
        content = next((entry for entry in entries if isinstance(entry, dict)), content)
        for name in content:
            if not isinstance(name, str) or len(name) > _MAX_NAME_LENGTH:
                received = f"a long name, {name[:40]}…" if isinstance(name, str) else f"a {type(name).__name__}"
                raise ValueError(f"{self.path}: names of tensors must be short text; received: {received}")
        tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
        others = [name for name in content if name not in tensors]
        if not tensors or others:
            received = f"other entries: {', '.join(others[:5])}" if others else "an empty dictionary"
            raise ValueError(f"{self.path}: must hold tensors only; received: {received}")
        return tensors

    def read(self, tensor: Tensor) -> np.ndarray:
        """Read a tensor as a new array; bfloat16 becomes float32.

        Raises:
            ValueError: The tensor extends beyond its storage, or the storage is not in the file.
        """
        with self._translate_errors():
            last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
            count = math.prod(tensor.shape)
            if count and (last >= tensor.storage.num_elements or count > tensor.storage.num_elements):
                raise ValueError(f"tensor of shape {tensor.shape} extends beyond its storage `{tensor.storage.key}`")
            numbers = self._read_storage(tensor.storage)
            strides = [step * numbers.itemsize for step in tensor.strides]
            start = numbers[tensor.offset :] if count else numbers[:0]
            return np.lib.stride_tricks.as_strided(start, tensor.shape, strides).copy()

    def _open(self) -> None:
        if zipfile.is_zipfile(self._file):
            self._archive: zipfile.ZipFile | None = zipfile.ZipFile(self._file)
            names = [name for name in self._archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"]
            if len(names) != 1:
                raise ValueError("must be a PyTorch file; received: a zip file without `data.pkl`")
            self._folder = names[0].removesuffix("data.pkl")
            has_order = f"{self._folder}byteorder" in self._archive.namelist()
            if has_order and self._read_member("byteorder", 16) != b"little":
                raise ValueError("must be little-endian; received: a big-endian file")
            self._content = read_pickle(io.BytesIO(self._read_member("data.pkl", _MAX_PICKLE_BYTES)))
        else:
            self._archive = None
            self._content, self._positions = _read_legacy(_BoundedFile(self._file))

    def _read_member(self, name: str, max_bytes: int) -> bytes:
        assert self._archive is not None
        info = self._archive.getinfo(self._folder + name)
        # PyTorch stores without compression, so that the size of the file bounds that of its members.
        is_stored = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
        if not is_stored or info.file_size > min(max_bytes, self.path.stat().st_size - info.header_offset):
            raise ValueError(f"member `{info.filename}` must be uncompressed and of a plausible size")
        return self._archive.read(info)

    def _read_storage(self, storage: Storage) -> np.ndarray:
        dtype = storage.stored_dtype
        if self._archive is not None:
            data = self._read_member(f"data/{storage.key}", sys.maxsize)
        else:
            self._file.seek(self._positions[storage.key][0])
            data = self._file.read(min(storage.num_elements, self._positions[storage.key][1]) * dtype.itemsize)
        stated = storage.num_elements * dtype.itemsize
        if len(data) != stated:
            raise ValueError(f"storage `{storage.key}` must have {stated} bytes; received: {len(data)}")
        numbers = np.frombuffer(data, dtype)
        return (numbers.astype(np.uint32) << 16).view(np.float32) if storage.dtype == "bfloat16" else numbers

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except KeyError as error:
            raise ValueError(f"{self.path}: damaged ({error.args[0]} is missing)") from None
        except (ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OverflowError) as error:
            raise ValueError(f"{self.path}: {error}") from None
        except (struct.error, IndexError, TypeError, OSError, MemoryError, RecursionError) as error:
            raise ValueError(f"{self.path}: damaged ({error})") from None


class _BoundedFile:
    """A binary file that is never asked for more bytes than it has, for which Python would allocate memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._size = file.seek(0, io.SEEK_END)
        self._file, self.readline, self.seek, self.tell = file, file.readline, file.seek, file.tell

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, self._size))


def _read_legacy(file: Any) -> tuple[Any, dict[str, tuple[int, int]]]:
    """Read a stream of PyTorch before 1.6; return its content, and byte position and elements of each storage."""
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    is_pickle = file.read(1) == b"\x80"
    file.seek(0)
    if not is_pickle or read_pickle(file) != _LEGACY_MAGIC:
        raise ValueError("must be a PyTorch file; received: another format")
    if read_pickle(file) != _LEGACY_PROTOCOL:
        raise ValueError(f"must be a PyTorch stream of version {_LEGACY_PROTOCOL}; received: another version")
    system = read_pickle(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("must be little-endian; received: a big-endian file")
    storages: dict[str, Storage] = {}
    content = read_pickle(file, storages)
    keys = read_pickle(file)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("damaged (its list of storages)")
    positions = {}
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        start = file.tell()
        if key not in storages or not 0 <= count <= (end - start) // storages[key].stored_dtype.itemsize:
            raise ValueError(f"damaged (storage `{key}`)")
        positions[key] = (start, count)
        file.seek(start + count * storages[key].stored_dtype.itemsize)
    return content, positions
