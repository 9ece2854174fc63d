"""A PyTorch file (`.pth`, `.pt`), zip or the older stream format -> its tensors as NumPy arrays, without PyTorch."""

import contextlib
import io
import math
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from kerastag.importers.torch_pickle import Storage, Tensor, read_pickle

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_LARGEST_PICKLE = 256 * 2**20


class TorchFile:
    """Opens a PyTorch file of weights and reads its tensors one at a time.

    The description of the tensors is read at once, the numbers only on `read`. Nothing in the file is ever run: see
    `kerastag.importers.torch_pickle`. Every size that the file states is checked against the bytes that are there.

    Args:
        path: A file that `torch.save` wrote: the zip format of PyTorch 1.6 and later, or the stream before it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no PyTorch file, is damaged, or holds more than plain data and tensors.

    >>> with TorchFile("mn04_as_mAP_432.pt") as file:  # doctest: +SKIP
    ...     file.read(file.tensors()["classifier.5.bias"]).shape
    (527,)
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"`path`: no such file: {self.path}")
        self._file = self.path.open("rb")
        try:
            with self._refusing():
                self._open()
        except ValueError:
            self._file.close()
            raise

    def __enter__(self) -> "TorchFile":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def tensors(self, entries: tuple[str, ...] = ("model", "state_dict")) -> dict[str, Tensor]:
        """Name -> tensor description of the state dict: the file's own dictionary, or the one under an entry of it.

        Raises:
            ValueError: There is no dictionary of tensors.
        """
        found = self._content
        for entry in entries:
            if isinstance(found, dict) and isinstance(found.get(entry), dict):
                found = found[entry]
                break
        if not isinstance(found, dict):
            raise ValueError(f"{self.path}: holds no dictionary of tensors")
        tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
        others = [str(name) for name in found if name not in tensors]
        if not tensors or others:
            raise ValueError(f"{self.path}: entries that are no tensors: {', '.join(others[:5]) or 'nothing inside'}")
        return tensors

    def read(self, tensor: Tensor) -> np.ndarray:
        """Tensor description -> a new array of its shape; bfloat16 becomes float32.

        Raises:
            ValueError: The tensor reaches beyond its storage, or the storage is not in the file.
        """
        with self._refusing():
            steps = zip(tensor.shape, tensor.strides, strict=True)
            last = tensor.offset + sum((size - 1) * step for size, step in steps)
            count = math.prod(tensor.shape)
            if count and (last >= tensor.storage.num_elements or count > tensor.storage.num_elements):
                raise ValueError(f"tensor of shape {tensor.shape} reaches beyond its storage `{tensor.storage.key}`")
            numbers = self._numbers(tensor.storage)
            strides = [step * numbers.itemsize for step in tensor.strides]
            start = numbers[tensor.offset :] if count else numbers[:0]
            return np.lib.stride_tricks.as_strided(start, tensor.shape, strides).copy()

    def _open(self) -> None:
        if zipfile.is_zipfile(self._file):
            self._archive: zipfile.ZipFile | None = zipfile.ZipFile(self._file)
            names = [name for name in self._archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"]
            if len(names) != 1:
                raise ValueError("a zip, but not one that PyTorch wrote (no `data.pkl` inside)")
            self._folder = names[0].removesuffix("data.pkl")
            if f"{self._folder}byteorder" in self._archive.namelist() and self._member("byteorder", 16) != b"little":
                raise ValueError("big-endian files are not supported")
            self._content = read_pickle(io.BytesIO(self._member("data.pkl", _LARGEST_PICKLE)))
        else:
            self._archive = None
            self._content, self._positions = _read_legacy(self._file)

    def _member(self, name: str, largest: int) -> bytes:
        assert self._archive is not None
        info = self._archive.getinfo(self._folder + name)
        # PyTorch stores without compression: what a member claims is then bounded by the file itself.
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.file_size > largest:
            raise ValueError(f"member `{info.filename}` is compressed or too large")
        return self._archive.read(info)

    def _numbers(self, storage: Storage) -> np.ndarray:
        dtype = np.dtype("<u2" if storage.dtype == "bfloat16" else storage.dtype)
        if self._archive is not None:
            data = self._member(f"data/{storage.key}", 2**40)
        else:
            self._file.seek(self._positions[storage.key][0])
            data = self._file.read(min(storage.num_elements, self._positions[storage.key][1]) * dtype.itemsize)
        stated = storage.num_elements * dtype.itemsize
        if len(data) != stated:
            raise ValueError(f"storage `{storage.key}` has {len(data)} bytes, not {stated}")
        numbers = np.frombuffer(data, dtype)
        return (numbers.astype(np.uint32) << 16).view(np.float32) if storage.dtype == "bfloat16" else numbers

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except KeyError as error:
            raise ValueError(f"{self.path}: damaged, {error.args[0]} is missing") from None
        except (ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OverflowError) as error:
            raise ValueError(f"{self.path}: {error}") from None
        except (struct.error, IndexError, TypeError, OSError) as error:
            raise ValueError(f"{self.path}: damaged ({error})") from None


def _read_legacy(file: BinaryIO) -> tuple[Any, dict[str, tuple[int, int]]]:
    """The stream that PyTorch wrote before 1.6 -> its content, and where each storage lies: (byte, elements)."""
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    if file.read(1) != b"\x80":
        raise ValueError("is no PyTorch file")
    file.seek(0)
    if read_pickle(file) != _LEGACY_MAGIC:
        raise ValueError("is no PyTorch file")
    if read_pickle(file) != _LEGACY_PROTOCOL:
        raise ValueError("is a PyTorch stream of an unknown version")
    system = read_pickle(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("is a big-endian PyTorch stream, which is not supported")
    content = read_pickle(file)
    keys = read_pickle(file)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("damaged (its list of storages)")
    item_sizes = _item_sizes(content)
    positions = {}
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        start = file.tell()
        if key not in item_sizes or not 0 <= count <= (end - start) // item_sizes[key]:
            raise ValueError(f"damaged (storage `{key}`)")
        positions[key] = (start, count)
        file.seek(start + count * item_sizes[key])
    return content, positions


def _item_sizes(content: Any) -> dict[str, int]:
    """Bytes an element of every storage that the content mentions; each object is visited once."""
    sizes: dict[str, int] = {}
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            dtype = item.storage.dtype
            sizes[item.storage.key] = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
        elif isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list | tuple):
            waiting.extend(item)
    return sizes
