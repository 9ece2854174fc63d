"""Safe reader of the pickle in a PyTorch file: plain dictionaries, lists, numbers and descriptions of tensors.

A pickle is a program for a stack machine, which may import and call anything. This module is a stack machine of its
own. It imports nothing, and supports no calls except those that describe a tensor. Every other name is rejected before
anything is done with it.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

__all__ = ["Storage", "Tensor", "read_pickle"]

# NumPy type of each storage class in a little-endian file. NumPy has no bfloat16; its 16 bits are widened.
_STORAGE_DTYPES = {
    "torch.FloatStorage": "<f4",
    "torch.DoubleStorage": "<f8",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "|i1",
    "torch.ByteStorage": "|u1",
    "torch.BoolStorage": "|b1",
}


@dataclass(frozen=True)
class Storage:
    """A block of numbers elsewhere in the file; `dtype` is a NumPy type or `"bfloat16"`."""

    key: str
    dtype: str
    num_elements: int

    @property
    def stored_dtype(self) -> np.dtype:
        """NumPy type of the bytes in the file."""
        return np.dtype("<u2" if self.dtype == "bfloat16" else self.dtype)


@dataclass(frozen=True)
class Tensor:
    """A view into a storage; `offset` and `strides` count its elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _GlobalName(str):
    """A name that the pickle refers to, with its module; it is never looked up."""


class _Skipped:
    """Placeholder of an object that is not needed, such as a NumPy array in the state of a sampler."""


_MARK = object()
_MAX_NAME_LENGTH = 200


def read_pickle(stream: BinaryIO, storages: dict[str, Storage] | None = None) -> Any:
    """Read one pickle of a binary file as plain objects, in which every tensor is a `Tensor`.

    The storages to which the pickle refers are added to `storages` by their keys.

    Raises:
        ValueError: The pickle is damaged, or refers to other things than plain data and tensors.
    """
    machine = _Machine({} if storages is None else storages)
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except (IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise ValueError(f"damaged pickle ({type(error).__name__}: {str(error)[:80]})") from None
    raise ValueError("damaged pickle (no end)")


@dataclass
class _Machine:
    storages: dict[str, Storage]
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def step(self, opcode: str, argument: Any) -> None:
        if opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode]())
        elif opcode in _LITERALS:
            self.stack.append(argument)
        elif opcode in _ACTIONS:
            _ACTIONS[opcode](self, argument)
        elif opcode not in ("PROTO", "FRAME"):
            raise ValueError(f"pickle instruction {opcode} is not allowed in a file of weights")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("damaged pickle (a mark in place of a value)")
        return value

    def pop_to_mark(self) -> list[Any]:
        items: list[Any] = []
        while (value := self.stack.pop()) is not _MARK:
            items.append(value)
        return items[::-1]

    def push_tuple(self, length: int) -> None:
        items = [self.pop() for _ in range(length)]
        self.stack.append(tuple(items[::-1]))

    def memoize(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, _Skipped):
            return
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("damaged pickle (items set on an object that is not a dictionary)")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Keys must be flat: hashing a deeply nested tuple would overflow the C stack.
            if not isinstance(key, str | int | float | bytes | None):
                raise ValueError(f"a dictionary key of type {type(key).__name__} is not allowed in a file of weights")
            target[key] = value

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, _Skipped):
            return
        if not isinstance(target, list):
            raise ValueError("damaged pickle (items appended to an object that is not a list)")
        target.extend(items)

    def push_name(self, module: Any, attribute: Any) -> None:
        # Formatting another object, such as a list that holds a list twice, and so on, could take forever.
        is_name = isinstance(module, str) and isinstance(attribute, str)
        if not is_name or len(module) + len(attribute) > _MAX_NAME_LENGTH:
            raise ValueError("damaged pickle (a name that is not a short text)")
        name = _GlobalName(f"{module}.{attribute}")
        if name not in _CALLS and name not in _SKIPPED and name not in _STORAGE_DTYPES:
            raise ValueError(f"must hold plain data and tensors only; received: `{name}`")
        self.stack.append(name)

    def call(self) -> None:
        arguments, name = self.pop(), self.pop()
        if not isinstance(arguments, tuple) or not isinstance(name, _GlobalName):
            raise ValueError("damaged pickle (a call of an object that is not a name)")
        if name in _SKIPPED:
            self.stack.append(_Skipped())
        elif name in _CALLS:
            self.stack.append(_CALLS[name](*arguments))
        else:
            raise ValueError(f"must hold plain data and tensors only; received: a call of `{name}`")

    def build(self) -> None:
        # The state of an OrderedDict of weights is `_metadata`, version numbers of PyTorch's modules: not needed.
        self.pop()
        if not isinstance(self.stack[-1], dict | _Skipped):
            raise ValueError(
                "must hold plain data and tensors only; received: the state of an object that is not a dictionary"
            )

    def load_storage(self) -> None:
        identity = self.pop()
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] not in ("storage", b"storage"):
            raise ValueError("damaged pickle (a storage without its description)")
        _, kind, key, _, num_elements = identity[:5]
        if not isinstance(kind, _GlobalName) or kind not in _STORAGE_DTYPES:
            raise ValueError("damaged pickle (a storage of unknown type)")
        if len(identity) == 6 and identity[5] is not None:
            raise ValueError("must be written by PyTorch 0.4 or later; received: a storage that is a view of another")
        if not isinstance(key, str | int) or not _is_count(num_elements):
            raise ValueError("damaged pickle (a storage without key or length)")
        storage = Storage(str(key), _STORAGE_DTYPES[kind], num_elements)
        self.storages[storage.key] = storage
        self.stack.append(storage)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def _describe_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    sizes = (*shape, *strides) if isinstance(shape, tuple) and isinstance(strides, tuple) else (None,)
    valid = isinstance(storage, Storage) and _is_count(offset) and all(map(_is_count, sizes))
    if not valid or len(shape) != len(strides) or len(shape) > 8:
        raise ValueError("damaged pickle (a tensor with an impossible shape)")
    return Tensor(storage, offset, shape, strides)


def _make_ordered_dict(*arguments: Any) -> dict[Any, Any]:
    if arguments not in ((), ([],)):
        raise ValueError("damaged pickle (an OrderedDict with arguments)")
    return {}


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _make_ordered_dict,
    "torch._utils._rebuild_tensor_v2": _describe_tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
}

# The training state of PANNs has NumPy arrays beside the weights. They are skipped, never built.
_SKIPPED = {
    *("_codecs.encode", "numpy.dtype", "numpy.ndarray"),
    *("numpy.core.multiarray._reconstruct", "numpy.core.multiarray.scalar"),
    *("numpy._core.multiarray._reconstruct", "numpy._core.multiarray.scalar"),
}

_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
}

_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}

_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "POP": lambda machine, _: machine.stack.pop() and None,
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, _: machine.push_tuple(1),
    "TUPLE2": lambda machine, _: machine.push_tuple(2),
    "TUPLE3": lambda machine, _: machine.push_tuple(3),
    "LIST": lambda machine, _: machine.stack.append(machine.pop_to_mark()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.memoize),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.recall),
    "MEMOIZE": lambda machine, _: machine.memoize(len(machine.memo)),
    "SETITEM": lambda machine, _: machine.set_items([machine.stack.pop(-2), machine.pop()]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "GLOBAL": lambda machine, name: machine.push_name(*name.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.push_name(machine.stack.pop(-2), machine.pop()),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.load_storage(),
}
