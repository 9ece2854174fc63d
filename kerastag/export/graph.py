"""The content of a TFLite file -> its operations, read from the flatbuffer."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

__all__ = ["PRODUCTS", "Operation", "last_products", "operations", "outputs"]

PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL")
"""Operations that multiply by weights."""


class Operation(NamedTuple):
    """One operation: builtin name, the file's own name where it is a custom one, version, tensors and weights.

    `inputs` and `outputs` are names of tensors; `weights` counts the values of the largest constant, 0 without one.
    """

    kind: str
    custom: str | None
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: int


def operations(content: bytes) -> list[Operation]:
    """The content of a `.tflite` file -> the operations of all its subgraphs, in order."""
    from tensorflow.lite.python import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    model = schema.ModelT.InitFromPackedBuf(content)
    found = []
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            inputs = [graph.tensors[index] for index in operator.inputs if index >= 0]
            found.append(
                Operation(
                    names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "?"),
                    None if code.customCode is None else _text(code.customCode),
                    code.version,
                    tuple(_text(tensor.name) for tensor in inputs),
                    tuple(_text(graph.tensors[index].name) for index in operator.outputs),
                    max((_size(tensor) for tensor in inputs if _is_constant(model, tensor)), default=0),
                )
            )
    return found


def outputs(content: bytes) -> set[str]:
    """The content of a `.tflite` file -> names of the tensors that it gives out."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content)
    return {_text(graph.tensors[index].name) for graph in model.subgraphs for index in graph.outputs}


def last_products(found: list[Operation]) -> list[Operation]:
    """Operations -> of each sigmoid that ends in an output of the file, the product that it is taken from."""
    maker = {name: operation for operation in found for name in operation.outputs}
    read = {name for operation in found for name in operation.inputs}
    last = []
    for operation in found:
        if operation.kind == "LOGISTIC" and not read.intersection(operation.outputs):
            while operation.kind not in PRODUCTS and operation.inputs and operation.inputs[0] in maker:
                operation = maker[operation.inputs[0]]
            last.append(operation)
    return [operation for operation in last if operation.kind in PRODUCTS]


def _is_constant(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def _size(tensor: Any) -> int:
    return math.prod(int(size) for size in tensor.shape) if tensor.shape is not None else 1


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
