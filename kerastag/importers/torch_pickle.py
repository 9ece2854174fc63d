"""The pickle inside a PyTorch file -> plain dictionaries, lists, numbers and tensor descriptions. No code is run.

A pickle is a program for a stack machine that may import and call anything. This module is such a machine of
its own: it imports nothing, and the only "calls" it knows are the ones that describe a tensor. Every other name
is refused, before anything is done with it.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

# Storage class -> NumPy type as it lies in the file, little-endian. bfloat16 is read as its 16 bits and widened.
STORAGE_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}


@dataclass(frozen=True)
class Storage:
    """A block of numbers elsewhere in the file: its key there, its type, and how many numbers it holds."""

    key: str
    dtype: str
    num_elements: int


@dataclass(frozen=True)
class Tensor:
    """A view into a storage: first element, shape, strides (both in elements)."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Name:
    """A name that the pickle asked for, never looked up."""

    module: str
    attribute: str


class _Skipped:
    """Where an object stood that nobody here needs (a NumPy array of the sampler's state beside the weights)."""


_MARK = object()


def read_pickle(stream: BinaryIO) -> Any:
    """One pickle at the stream's position -> plain objects in which every tensor is a `Tensor` description.

    Args:
        stream: Binary file, left just after the pickle.

    Raises:
        ValueError: The pickle is damaged, or asks for anything but plain data and tensors.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except (IndexError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"damaged pickle ({type(error).__name__}: {error})") from None
    raise ValueError("damaged pickle (no end)")


@dataclass
class _Machine:
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def step(self, opcode: str, argument: Any) -> None:
        if opcode in _IGNORED:
            return
        if opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode]())
        elif opcode in _LITERALS:
            self.stack.append(argument)
        elif opcode in _ACTIONS:
            _ACTIONS[opcode](self, argument)
        else:
            raise ValueError(f"pickle instruction {opcode} is not allowed in a file of weights")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("damaged pickle (a mark where a value was expected)")
        return value

    def pop_to_mark(self) -> list[Any]:
        items: list[Any] = []
        while (value := self.stack.pop()) is not _MARK:
            items.append(value)
        return items[::-1]

    def push_tuple(self, length: int) -> None:
        items = [self.pop() for _ in range(length)]
        self.stack.append(tuple(items[::-1]))

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, _Skipped):
            return
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("damaged pickle (items set on what is no dictionary)")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Only flat keys: hashing a deeply nested tuple would overflow the C stack.
            if not isinstance(key, str | int | float | bytes | None):
                raise ValueError(f"a dictionary key of type {type(key).__name__} is not allowed in a file of weights")
            target[key] = value

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, _Skipped):
            return
        if not isinstance(target, list):
            raise ValueError("damaged pickle (items appended to what is no list)")
        target.extend(items)

    def find(self, module: Any, attribute: Any) -> None:
        name = _Name(str(module), str(attribute))
        if name not in _CALLS and name not in _SKIPPED and not _is_storage(name):
            raise ValueError(f"refused: the file asks for `{name.module}.{name.attribute}`, which is no tensor")
        self.stack.append(name)

    def call(self) -> None:
        arguments, name = self.pop(), self.pop()
        if not isinstance(arguments, tuple) or not isinstance(name, _Name):
            raise ValueError("damaged pickle (a call of what is no name)")
        if name in _SKIPPED:
            self.stack.append(_Skipped())
        elif name in _CALLS:
            self.stack.append(_CALLS[name](*arguments))
        else:
            raise ValueError(f"refused: the file calls `{name.module}.{name.attribute}`")

    def build(self) -> None:
        # An OrderedDict of weights carries `_metadata` (version numbers of torch's modules): not needed here.
        self.pop()
        if not isinstance(self.stack[-1], dict | _Skipped):
            raise ValueError("refused: the file sets the state of what is no dictionary")

    def load_storage(self) -> None:
        identity = self.pop()
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] not in ("storage", b"storage"):
            raise ValueError("damaged pickle (a storage without its description)")
        _, kind, key, _, num_elements = identity[:5]
        if not isinstance(kind, _Name) or not _is_storage(kind):
            raise ValueError("damaged pickle (a storage of unknown type)")
        if len(identity) == 6 and identity[5] is not None:
            raise ValueError("storages that are views of others (written before PyTorch 0.4) are not supported")
        if not isinstance(key, str | int) or not _is_count(num_elements):
            raise ValueError("damaged pickle (a storage without key or length)")
        self.stack.append(Storage(str(key), STORAGE_DTYPES[kind.attribute], num_elements))


def _is_storage(name: _Name) -> bool:
    return name.module == "torch" and name.attribute in STORAGE_DTYPES


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def _describe_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    sizes = (*shape, *strides) if isinstance(shape, tuple) and isinstance(strides, tuple) else (None,)
    valid = isinstance(storage, Storage) and _is_count(offset) and all(map(_is_count, sizes))
    if not valid or len(shape) != len(strides) or len(shape) > 8:
        raise ValueError("damaged pickle (a tensor with an impossible shape)")
    return Tensor(storage, offset, shape, strides)


def _describe_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _ordered_dict(*arguments: Any) -> dict[Any, Any]:
    if arguments not in ((), ([],)):
        raise ValueError("damaged pickle (an OrderedDict with arguments)")
    return {}


_CALLS: dict[_Name, Callable[..., Any]] = {
    _Name("collections", "OrderedDict"): _ordered_dict,
    _Name("torch._utils", "_rebuild_tensor_v2"): _describe_tensor,
    _Name("torch._utils", "_rebuild_parameter"): _describe_parameter,
}

# PANNs' training state holds NumPy arrays beside the weights. They are passed over, never built.
_SKIPPED = {
    _Name("_codecs", "encode"),
    _Name("numpy", "dtype"),
    _Name("numpy", "ndarray"),
    *(
        _Name(f"numpy.{core}.multiarray", attribute)
        for core in ("core", "_core")
        for attribute in ("_reconstruct", "scalar")
    ),
}

_IGNORED = {"PROTO", "FRAME"}

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
    "PUT": lambda machine, index: machine.put(int(index)),
    "BINPUT": lambda machine, index: machine.put(index),
    "LONG_BINPUT": lambda machine, index: machine.put(index),
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    "GET": lambda machine, index: machine.stack.append(machine.memo[int(index)]),
    "BINGET": lambda machine, index: machine.stack.append(machine.memo[index]),
    "LONG_BINGET": lambda machine, index: machine.stack.append(machine.memo[index]),
    "SETITEM": lambda machine, _: machine.set_items([machine.stack.pop(-2), machine.pop()]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "GLOBAL": lambda machine, name: machine.find(*name.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.find(machine.stack.pop(-2), machine.pop()),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.load_storage(),
}
