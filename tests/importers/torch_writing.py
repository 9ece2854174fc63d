"""Writers of PyTorch files like those of `torch.save`, in the zip format and the stream format before it."""

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


def pickle_tensor(key: str, array: np.ndarray, legacy: bool = False) -> bytes:
    """Return the instructions that rebuild a tensor, without protocol and end."""
    strides = tuple(step // array.itemsize for step in array.strides)
    storage = [
        *(
            pickle_value("storage"),
            pickle_name("torch", KINDS[str(array.dtype)]),
            pickle_value(key),
            pickle_value("cpu"),
            pickle_value(array.size),
        ),
        *([pickle_value(None)] if legacy else []),
    ]
    arguments = [
        pickle.MARK + b"".join(storage) + pickle.TUPLE + pickle.BINPERSID,
        *map(pickle_value, (0, array.shape, strides, False)),
        pickle_name("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE,
    ]
    return (
        pickle_name("torch._utils", "_rebuild_tensor_v2")
        + pickle.MARK
        + b"".join(arguments)
        + pickle.TUPLE
        + pickle.REDUCE
    )


def pickle_dictionary(items: Mapping[str, bytes]) -> bytes:
    """Return the instructions that rebuild a dictionary, from those that rebuild its values."""
    pairs = b"".join(pickle_value(key) + value for key, value in items.items())
    return pickle.EMPTY_DICT + pickle.MARK + pairs + pickle.SETITEMS


def pickle_name(module: str, attribute: str) -> bytes:
    """Return the instruction that imports a name."""
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()


def pickle_value(value: Any) -> bytes:
    """Return the instructions that rebuild a plain value, without memo, protocol and end."""
    text = pickletools.optimize(pickle.dumps(value, protocol=2))
    return text[2:-1]


def finish_pickle(instructions: bytes) -> bytes:
    """Return a pickle of instructions, with its protocol and end."""
    return pickle.PROTO + b"\x02" + instructions + pickle.STOP


def pickle_content(arrays: Mapping[str, np.ndarray], entry: str | None, legacy: bool = False, **others: bytes) -> bytes:
    """Return the pickle of a state dict, or of a dictionary with it as `entry` beside `others`."""
    tensors = pickle_dictionary(
        {name: pickle_tensor(str(key), array, legacy) for key, (name, array) in enumerate(arrays.items())}
    )
    return finish_pickle(tensors if entry is None else pickle_dictionary({**others, entry: tensors}))


def write_torch_zip(path: Path, arrays: Mapping[str, np.ndarray], entry: str | None = None, **others: bytes) -> Path:
    """Write arrays in the format of PyTorch since 1.6."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle_content(arrays, entry, **others))
        for key, array in enumerate(arrays.values()):
            archive.writestr(f"archive/data/{key}", array.tobytes())
        archive.writestr("archive/version", "3\n")
    return path


def write_torch_stream(path: Path, arrays: Mapping[str, np.ndarray], entry: str | None = None, **others: bytes) -> Path:
    """Write arrays in the format of PyTorch before 1.6."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    pieces = [
        *(pickle.dumps(value, protocol=2) for value in (LEGACY_MAGIC, 1001, system)),
        pickle_content(arrays, entry, legacy=True, **others),
        pickle.dumps([str(key) for key in range(len(arrays))], protocol=2),
        *(struct.pack("<q", array.size) + array.tobytes() for array in arrays.values()),
    ]
    path.write_bytes(b"".join(pieces))
    return path


def make_random_state(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> OrderedDict[str, np.ndarray]:
    """Return a random state dict with variances above 0."""
    rng = np.random.default_rng(seed)
    state = OrderedDict()
    for tensor, shape in shapes.items():
        # This scale keeps activations of deep networks in range, so that the probabilities spread over (0, 1).
        values = rng.normal(size=shape) * (np.sqrt(0.8 / np.prod(shape[1:])) if len(shape) > 1 else 0.3)
        if tensor.endswith(("running_var", "bn1.weight", "bn2.weight", "bn0.weight", ".1.weight", ".2.weight")):
            values = rng.uniform(0.5, 1.5, shape) if len(shape) == 1 else values
        state[tensor] = values.astype(np.float32)
    return state
