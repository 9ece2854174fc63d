"""Quantization of a float32 TFLite file, with the front end left in float32."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from kerastag.export.target import Target

__all__ = ["PRODUCTS", "Operation", "quantize", "read_operations"]

PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL")
"""Operations that multiply by weights."""
_BITS = 8
_CONVOLUTIONS, _WEIGHTED = PRODUCTS[:2], PRODUCTS[:3]
# Operations between convolutions that lose little in few bits. Sums, means and divisions of pooling and attention stay
# float: in 8 bits they cost an attention model more mAP than all its weights together. Hard swish stays float because
# the interpreter has no fast 8-bit kernel for it.
_BETWEEN = ("ADD", "AVERAGE_POOL_2D", "MAX_POOL_2D", "PAD", "RESHAPE")
_BETWEEN_IN_8_BITS = ("RELU",)
_ACTIVATION_BITS = {"int8": 8, "int16x8": 16}


class Operation(NamedTuple):
    """One operation of a TFLite file.

    Args:
        kind: Name of the builtin operation.
        version: Version of the operation.
        inputs: Names of the input tensors.
        outputs: Names of the output tensors.
        weights: Number of values of the largest constant among the inputs, 0 without one.
        is_output: Whether an output tensor is an output of the file.
    """

    kind: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: int
    is_output: bool

    @property
    def pattern(self) -> str:
        """Regular expression that only the outputs of this operation match, as the quantizer joins them."""
        return f"^{re.escape(';'.join(self.outputs))};"


def read_operations(content: bytes) -> list[Operation]:
    """Read the operations of all subgraphs of a `.tflite` file, in order."""
    from tensorflow.lite.python import schema_py_generated as schema

    kinds = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    model = schema.ModelT.InitFromPackedBuf(content)
    constants = {index for index, each in enumerate(model.buffers) if each.data is not None and len(each.data)}
    operations = []
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            inputs = [graph.tensors[index] for index in operator.inputs if index >= 0]
            shapes = [() if each.shape is None else each.shape for each in inputs if each.buffer in constants]
            operations.append(
                Operation(
                    kinds[max(code.builtinCode, code.deprecatedBuiltinCode)],
                    code.version,
                    tuple(tensor.name.decode() for tensor in inputs),
                    tuple(graph.tensors[index].name.decode() for index in operator.outputs),
                    max((math.prod(map(int, shape)) for shape in shapes), default=0),
                    any(index in graph.outputs for index in operator.outputs),
                )
            )
    return operations


def quantize(
    content: bytes, target: Target, front_end_layers: Sequence[str], recordings: Iterable[np.ndarray] = ()
) -> bytes:
    """Quantize a float32 `.tflite` file.

    Dense layers and convolutions are quantized per output channel. In every target the activations of the last product
    before a probability stay in float32, because in 8 bits all rare classes would be equal; so do the layers that take
    an output of the file, such as the layer after an embedding. With `"int8_dynamic"`, the weights of convolutions are
    stored in 8 bits but computed with in float32, which is faster and more accurate. The layers `front_end_layers` stay
    in float32, too. `"int8"` and `"int16x8"` calibrate the ranges of the activations on `recordings`, inputs of the
    only signature of the file, each a batch of one.

    Raises:
        ImportError: ai-edge-quantizer is not installed.
        ValueError: The target needs recordings and there are none.
    """
    if target.quantization == "none":
        return content
    try:
        from ai_edge_litert.interpreter import Interpreter
        from ai_edge_quantizer import quantizer
    except ImportError as error:
        raise ImportError(f"target {target.name} needs ai-edge-quantizer: pip install 'kerastag[export]'") from error
    with _silence():
        edge_quantizer = quantizer.Quantizer(bytearray(content))
        _QuantizationRules(edge_quantizer, content, target).add_all(front_end_layers)
        ranges = None
        if edge_quantizer.need_calibration:
            ((signature, names),) = Interpreter(model_content=content).get_signature_list().items()
            samples = [{names["inputs"][0]: recording} for recording in recordings]
            if not samples:
                raise ValueError(f"target {target.name} needs `representative`, a folder or a pack of recordings")
            ranges = edge_quantizer.calibrate({signature: samples}, num_threads=1)
        result = edge_quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
        return bytes(result.quantized_model)


class _QuantizationRules:
    """Rules for the quantizer, each for the operations whose names match; a later rule overrides an earlier one."""

    def __init__(self, edge_quantizer: Any, content: bytes, target: Target) -> None:
        from ai_edge_quantizer import qtyping
        from ai_edge_quantizer.algorithm_manager import AlgorithmName

        self._quantizer, self._target, self._names = edge_quantizer, target, qtyping.TFLOperationName
        self._algorithms, self._granularity = AlgorithmName, qtyping.QuantGranularity
        self._operations = read_operations(content)
        self._products = [operation for operation in self._operations if operation.kind in PRODUCTS]
        # If a quantized layer takes an output of the file, the quantizer turns that output into 8 bits.
        output_names = {name for each in self._operations if each.is_output for name in each.outputs}
        after_outputs = [product for product in self._products if output_names.intersection(product.inputs)]
        self._float_products = [*_find_output_products(self._operations), *after_outputs]

    def add_all(self, front_end_layers: Sequence[str]) -> None:
        """Add the rules of the target, then the exceptions."""
        target = self._target
        if target.quantization == "float16":
            self._add_float16(".*")
        elif target.quantization == "int8_dynamic":
            self._add_dynamic(".*")
        else:
            self._add_static(_ACTIVATION_BITS[target.quantization])
        for operation in self._products:
            if operation.weights < target.smallest_weights:  # in 8 bits, it would save little and lose much
                self._keep_float(operation.pattern)
                if target.quantization != "float16":
                    self._add_float16(operation.pattern)
        front_end = [rf"(^|[/;]){re.escape(name)}(_\d+)?/" for name in front_end_layers]
        for pattern in [*front_end, *target.keep_float]:
            self._keep_float(pattern)

    def _add_static(self, bits: int) -> None:
        for name in (*_WEIGHTED, *_BETWEEN, *(_BETWEEN_IN_8_BITS if bits == _BITS else ())):
            self._quantizer.add_static_config(".*", getattr(self._names, name), bits, _BITS)
        for operation in self._float_products:
            self._keep_float(operation.pattern)
            self._add_dynamic(operation.pattern)
        # Between layers that stay float, quantization would gain nothing.
        large = [each for each in self._products if each.weights >= self._target.smallest_weights]
        tensors = {name for each in large for name in (*each.inputs, *each.outputs)}
        for each in self._operations:
            is_between = each.kind in (*_BETWEEN, *_BETWEEN_IN_8_BITS)
            if is_between and not tensors.intersection((*each.inputs, *each.outputs)):
                self._keep_float(each.pattern)

    def _add_dynamic(self, pattern: str) -> None:
        # tflite-runtime 2.14 supports dense weights with a single scale only.
        is_old = self._target.runtime == "tflite_runtime"
        dense = self._granularity.TENSORWISE if is_old else self._granularity.CHANNELWISE
        self._quantizer.add_dynamic_config(pattern, self._names.FULLY_CONNECTED, _BITS, dense)
        for name in _CONVOLUTIONS:
            self._quantizer.add_weight_only_config(pattern, getattr(self._names, name), _BITS)

    def _add_float16(self, pattern: str) -> None:
        for name in _WEIGHTED:
            self._quantizer.add_weight_only_config(
                pattern, getattr(self._names, name), 16, algorithm_key=self._algorithms.FLOAT_CASTING
            )

    def _keep_float(self, pattern: str) -> None:
        self._quantizer.update_quantization_recipe(
            pattern, self._names.ALL_SUPPORTED, algorithm_key=self._algorithms.NO_QUANTIZE
        )


def _find_output_products(operations: list[Operation]) -> list[Operation]:
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


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Suppress what the quantizer prints, logs and warns."""
    previous_level, output = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous_level)
