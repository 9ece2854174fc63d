"""Operations of a TFLite file, read from its flatbuffer."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

__all__ = ["PRODUCTS", "Operation", "find_output_products", "read_operations", "read_output_names"]

PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL")
"""Operations that multiply by weights."""


class Operation(NamedTuple):
    """One operation of a TFLite file.

    Args:
        kind: Name of the builtin operation.
        custom: Name of the operation in the file if it is a custom one, otherwise None.
        version: Version of the operation.
        inputs: Names of the input tensors.
        outputs: Names of the output tensors.
        weights: Number of values of the largest constant among the inputs, 0 without one.
    """

    kind: str
    custom: str | None
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: int


def read_operations(content: bytes) -> list[Operation]:
    """Read the operations of all subgraphs of a `.tflite` file, in order."""
    from tensorflow.lite.python import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    model = schema.ModelT.InitFromPackedBuf(content)
    operations = []
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            inputs = [graph.tensors[index] for index in operator.inputs if index >= 0]
            operations.append(
                Operation(
                    names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "?"),
                    None if code.customCode is None else _decode(code.customCode),
                    code.version,
                    tuple(_decode(tensor.name) for tensor in inputs),
                    tuple(_decode(graph.tensors[index].name) for index in operator.outputs),
                    max((_count_values(tensor) for tensor in inputs if _is_constant(model, tensor)), default=0),
                )
            )
    return operations


def read_output_names(content: bytes) -> set[str]:
    """Read the names of the tensors that a `.tflite` file outputs."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content)
    return {_decode(graph.tensors[index].name) for graph in model.subgraphs for index in graph.outputs}


def find_output_products(operations: list[Operation]) -> list[Operation]:
    """Find the last product before each sigmoid that is an output of the file."""
    producers = {name: operation for operation in operations for name in operation.outputs}
    inputs = {name for operation in operations for name in operation.inputs}
    products = []
    for operation in operations:
        if operation.kind == "LOGISTIC" and not inputs.intersection(operation.outputs):
            while operation.kind not in PRODUCTS and operation.inputs and operation.inputs[0] in producers:
                operation = producers[operation.inputs[0]]
            products.append(operation)
    return [operation for operation in products if operation.kind in PRODUCTS]


def _is_constant(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def _count_values(tensor: Any) -> int:
    return math.prod(int(size) for size in tensor.shape) if tensor.shape is not None else 1


def _decode(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
