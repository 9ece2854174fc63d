"""Writes PyTorch files as `torch.save` does, in the zip format and in the stream before it, without PyTorch."""

import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

KINDS = {"float32": "FloatStorage", "float64": "DoubleStorage", "float16": "HalfStorage", "int64": "LongStorage"}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def tensor_pickle(key: str, array: np.ndarray, legacy: bool = False) -> bytes:
    """The instructions that rebuild one tensor, without protocol or end."""
    strides = tuple(step // array.itemsize for step in array.strides)
    storage = [
        *(plain("storage"), name("torch", KINDS[str(array.dtype)]), plain(key), plain("cpu"), plain(array.size)),
        *([plain(None)] if legacy else []),
    ]
    arguments = [
        pickle.MARK + b"".join(storage) + pickle.TUPLE + pickle.BINPERSID,
        *map(plain, (0, array.shape, strides, False)),
        name("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE,
    ]
    return name("torch._utils", "_rebuild_tensor_v2") + pickle.MARK + b"".join(arguments) + pickle.TUPLE + pickle.REDUCE


def dictionary_pickle(items: Mapping[str, bytes]) -> bytes:
    """The instructions that rebuild a dictionary of what others rebuild."""
    pairs = b"".join(plain(key) + value for key, value in items.items())
    return pickle.EMPTY_DICT + pickle.MARK + pairs + pickle.SETITEMS


def name(module: str, attribute: str) -> bytes:
    """The instruction that imports a name."""
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()


def plain(value: Any) -> bytes:
    """The instructions that rebuild a plain value, without memo, protocol or end."""
    text = pickletools.optimize(pickle.dumps(value, protocol=2))
    return text[2:-1]


def whole(instructions: bytes) -> bytes:
    """Instructions -> a pickle with its protocol and its end."""
    return pickle.PROTO + b"\x02" + instructions + pickle.STOP


def content_pickle(arrays: Mapping[str, np.ndarray], entry: str | None, legacy: bool = False, **others: bytes) -> bytes:
    """State dict, or a dictionary with it under `entry` beside `others` -> a pickle."""
    tensors = dictionary_pickle(
        {name: tensor_pickle(str(key), array, legacy) for key, (name, array) in enumerate(arrays.items())}
    )
    return whole(tensors if entry is None else dictionary_pickle({**others, entry: tensors}))


def write_torch_zip(path: Path, arrays: Mapping[str, np.ndarray], entry: str | None = None, **others: bytes) -> Path:
    """Arrays -> a file as PyTorch writes it since 1.6."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content_pickle(arrays, entry, **others))
        for key, array in enumerate(arrays.values()):
            archive.writestr(f"archive/data/{key}", array.tobytes())
        archive.writestr("archive/version", "3\n")
    return path


def write_torch_stream(path: Path, arrays: Mapping[str, np.ndarray], entry: str | None = None, **others: bytes) -> Path:
    """Arrays -> a file as PyTorch wrote it before 1.6."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    pieces = [
        *(pickle.dumps(value, protocol=2) for value in (LEGACY_MAGIC, 1001, system)),
        content_pickle(arrays, entry, legacy=True, **others),
        pickle.dumps([str(key) for key in range(len(arrays))], protocol=2),
        *(struct.pack("<q", array.size) + array.tobytes() for array in arrays.values()),
    ]
    path.write_bytes(b"".join(pieces))
    return path


def random_state(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> OrderedDict[str, np.ndarray]:
    """Names and shapes -> a state dict that no two tensors share, with variances above zero."""
    rng = np.random.default_rng(seed)
    state = OrderedDict()
    for tensor, shape in shapes.items():
        # Deep networks on random weights neither explode nor die, so that probabilities spread over (0, 1).
        values = rng.normal(size=shape) * (np.sqrt(0.8 / np.prod(shape[1:])) if len(shape) > 1 else 0.3)
        if tensor.endswith(("running_var", "bn1.weight", "bn2.weight", "bn0.weight", ".1.weight", ".2.weight")):
            values = rng.uniform(0.5, 1.5, shape) if len(shape) == 1 else values
        state[tensor] = values.astype(np.float32)
    return state
