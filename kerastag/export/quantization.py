"""Quantization of a float32 TFLite file, with the front end left in float32."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from kerastag.export.graph import PRODUCTS, Operation, find_output_products, read_operations, read_output_names
from kerastag.export.target import Target

__all__ = ["quantize"]

_BITS = 8
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
# Operations between convolutions that lose little in few bits. Sums, means and divisions of pooling and attention stay
# float: in 8 bits they cost an attention model more mAP than all its weights together. Hard swish stays float because
# the interpreter has no fast 8-bit kernel for it.
_BETWEEN = ("ADD", "AVERAGE_POOL_2D", "MAX_POOL_2D", "PAD", "RESHAPE")
_BETWEEN_IN_8_BITS = ("RELU",)
_ACTIVATION_BITS = {"int8": 8, "int16x8": 16}


def quantize(
    content: bytes, target: Target, front_end_layers: Sequence[str], recordings: Iterable[np.ndarray] = ()
) -> bytes:
    """Quantize a float32 `.tflite` file.

    Dense layers and convolutions are quantized per output channel. In every target the activations of the last product
    before a probability stay in float32, because in 8 bits all rare classes would be equal; so do the layers that take
    an output of the file, such as the layer after an embedding. With `"int8_dynamic"`, the weights of convolutions are
    stored in 8 bits but computed with in float32, which is faster and more accurate.

    Args:
        content: Content of a file that has one signature with one input.
        target: Target that selects the quantization.
        front_end_layers: Names of layers that stay in float32, in addition to `target.keep_float`.
        recordings: Inputs of the model, each a batch of one, from which `"int8"` and `"int16x8"` calibrate the ranges
            of the activations.

    Returns:
        The content of the quantized file.

    Raises:
        ImportError: ai-edge-quantizer is not installed.
        ValueError: The target needs recordings and there are none.
    """
    if target.quantization == "none":
        return content
    try:
        from ai_edge_quantizer import quantizer
    except ImportError as error:
        raise ImportError(f"target {target.name} needs ai-edge-quantizer: pip install 'kerastag[export]'") from error
    with _silence():
        edge_quantizer = quantizer.Quantizer(bytearray(content))
        _QuantizationRules(edge_quantizer, content, target).add_all(front_end_layers)
        ranges = None
        if edge_quantizer.need_calibration:
            signature, input_name = _read_signature(content)
            samples = [{input_name: recording} for recording in recordings]
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
        output_names, self._operations = read_output_names(content), read_operations(content)
        self._products = [operation for operation in self._operations if operation.kind in PRODUCTS]
        # If a quantized layer takes an output of the file, the quantizer turns that output into 8 bits.
        after_outputs = [product for product in self._products if output_names.intersection(product.inputs)]
        self._float_products = [*find_output_products(self._operations), *after_outputs]

    def add_all(self, front_end_layers: Sequence[str]) -> None:
        """Add the rules of the target, then the exceptions."""
        quantization = self._target.quantization
        if quantization == "float16":
            self._add_float16(".*")
        elif quantization == "int8_dynamic":
            self._add_dynamic(".*")
        else:
            bits = _ACTIVATION_BITS[quantization]
            for name in (*_WEIGHTED, *_BETWEEN, *(_BETWEEN_IN_8_BITS if bits == _BITS else ())):
                self._quantizer.add_static_config(".*", getattr(self._names, name), bits, _BITS)
            for operation in self._float_products:
                self._keep_float(_make_pattern(operation.outputs))
                self._add_dynamic(_make_pattern(operation.outputs))
            for operation in self._find_isolated():
                self._keep_float(_make_pattern(operation.outputs))
        for operation in self._products:
            if operation.weights < self._target.smallest_weights:
                self._add_small(_make_pattern(operation.outputs))
        front_end = [rf"(^|[/;]){re.escape(name)}(_\d+)?/" for name in front_end_layers]
        for pattern in [*front_end, *self._target.keep_float]:
            self._keep_float(pattern)

    def _find_isolated(self) -> list[Operation]:
        """Find the operations between layers that stay float, where quantization would gain nothing."""
        large = [each for each in self._products if each.weights >= self._target.smallest_weights]
        tensors = {name for each in large for name in (*each.inputs, *each.outputs)}
        between = (*_BETWEEN, *_BETWEEN_IN_8_BITS)
        return [
            each
            for each in self._operations
            if each.kind in between and not tensors.intersection((*each.inputs, *each.outputs))
        ]

    def _add_dynamic(self, pattern: str) -> None:
        # tflite-runtime 2.14 supports dense weights with a single scale only.
        is_old = self._target.runtime == "tflite_runtime"
        dense = self._granularity.TENSORWISE if is_old else self._granularity.CHANNELWISE
        self._quantizer.add_dynamic_config(pattern, self._names.FULLY_CONNECTED, _BITS, dense)
        for name in _WEIGHTED[:2]:
            self._quantizer.add_weight_only_config(pattern, getattr(self._names, name), _BITS)

    def _add_small(self, pattern: str) -> None:
        """Keep a layer of few weights out of 8 bits, which would save little and lose much."""
        self._keep_float(pattern)
        if self._target.quantization != "float16":
            self._add_float16(pattern)

    def _add_float16(self, pattern: str) -> None:
        for name in _WEIGHTED:
            self._quantizer.add_weight_only_config(
                pattern, getattr(self._names, name), 16, algorithm_key=self._algorithms.FLOAT_CASTING
            )

    def _keep_float(self, pattern: str) -> None:
        self._quantizer.update_quantization_recipe(
            pattern, self._names.ALL_SUPPORTED, algorithm_key=self._algorithms.NO_QUANTIZE
        )


def _make_pattern(outputs: Sequence[str]) -> str:
    """Make the regular expression that matches only the operation with these outputs."""
    return f"^{re.escape(';'.join(outputs))};"


def _read_signature(content: bytes) -> tuple[str, str]:
    from ai_edge_litert.interpreter import Interpreter

    ((signature, names),) = Interpreter(model_content=content).get_signature_list().items()
    return signature, names["inputs"][0]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Suppress what the quantizer prints, logs and warns."""
    previous_level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous_level)
