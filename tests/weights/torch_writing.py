"""Writes a PyTorch zip file of float32 and int64 arrays as `torch.save` does, without PyTorch."""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


class _Call:
    def __init__(self, module: str, name: str, arguments: tuple):
        self.module, self.name, self.arguments = module, name, arguments


class _Tensor(_Call):
    def __init__(self, key: str, array: np.ndarray):
        kind = {"float32": "FloatStorage", "int64": "LongStorage"}[str(array.dtype)]
        strides = tuple(step // array.itemsize for step in array.strides)
        self.storage = (kind, key, array.size)
        super().__init__("torch._utils", "_rebuild_tensor_v2", (0, array.shape, strides, False, OrderedDict()))


class _Pickler(pickle._Pickler):
    """The pure-Python pickler, taught to write names that are not importable here."""

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, _Tensor):
            kind, key, count = obj.storage
            self._name(obj.module, obj.name)
            self.write(pickle.MARK + pickle.MARK)
            self.save("storage")
            self._name("torch", kind)
            for value in (key, "cpu", count):
                self.save(value)
            self.write(pickle.TUPLE + pickle.BINPERSID)
            for value in obj.arguments:
                self.save(value)
            self.write(pickle.TUPLE + pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)

    def _name(self, module: str, name: str) -> None:
        self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())


def write_torch_zip(path: Path, arrays: Mapping[str, np.ndarray], entry: str | None = None, **others: Any) -> Path:
    """Arrays -> a file that `torch.load` reads; under `entry`, beside `others`, where one is named."""
    arrays = {name: np.ascontiguousarray(array) if array.ndim else array for name, array in arrays.items()}
    tensors = OrderedDict((name, _Tensor(str(key), array)) for key, (name, array) in enumerate(arrays.items()))
    stream = io.BytesIO()
    _Pickler(stream, protocol=2).dump(tensors if entry is None else {**others, entry: tensors})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", stream.getvalue())
        for key, array in enumerate(arrays.values()):
            archive.writestr(f"archive/data/{key}", array.tobytes())
        archive.writestr("archive/version", "3\n")
    return path
