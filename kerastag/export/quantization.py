"""A float32 TFLite file -> the same with fewer bits, the front end left in float32."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from kerastag.export.graph import PRODUCTS, Operation, last_products, operations, outputs
from kerastag.export.target import Target

__all__ = ["quantize"]

_BITS = 8
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
# What stands between convolutions and loses little in few bits. Sums, means and divisions of pooling and attention stay
# float: in 8 bits they cost an attention model more mAP than all its weights together. So does hard swish, which the
# interpreter has no fast kernel for in 8 bits.
_BETWEEN = ("ADD", "AVERAGE_POOL_2D", "MAX_POOL_2D", "PAD", "RESHAPE")
_BETWEEN_IN_8_BITS = ("RELU",)
_ACTIVATION_BITS = {"int8": 8, "int16x8": 16}


def quantize(content: bytes, target: Target, front_ends: Sequence[str], recordings: Iterable[np.ndarray] = ()) -> bytes:
    """The content of a float32 `.tflite` file -> that of a quantized one.

    Dense layers and convolutions are quantized by output channel. What the probabilities are taken from keeps its
    activations in float32 in every target: in 8 bits all rare classes would be equal. So does what reads an output,
    such as the layer after an embedding. With `"int8_dynamic"` the weights of convolutions are 8 bits too, but computed
    with in float32, which is faster and closer.

    Args:
        content: with one signature that has one input.
        target: says how.
        front_ends: names of layers that stay float32, beside what the target's `keep_float` matches.
        recordings: inputs (1, ...) for `"int8"` and `"int16x8"`, from which the ranges of the activations are taken.

    Raises:
        ImportError: ai-edge-quantizer is not installed.
        ValueError: the target needs recordings and there are none.
    """
    if target.quantization == "none":
        return content
    try:
        from ai_edge_quantizer import quantizer
    except ImportError as error:
        raise ImportError(f"target {target.name} needs ai-edge-quantizer: pip install 'kerastag[export]'") from error
    with _quiet():
        work = quantizer.Quantizer(bytearray(content))
        _Recipe(work, content, target).write(front_ends)
        ranges = None
        if work.need_calibration:
            key, name = _signature(content)
            samples = [{name: recording} for recording in recordings]
            if not samples:
                raise ValueError(f"target {target.name} needs `representative`, a folder or a pack of recordings")
            ranges = work.calibrate({key: samples}, num_threads=1)
        return bytes(work.quantize(ranges, enable_progress_bar=False, enable_progress_report=False).quantized_model)


class _Recipe:
    """What the quantizer is told, rule after rule; a later rule counts where two match."""

    def __init__(self, work: Any, content: bytes, target: Target) -> None:
        from ai_edge_quantizer import qtyping
        from ai_edge_quantizer.algorithm_manager import AlgorithmName

        self._work, self._target, self._names = work, target, qtyping.TFLOperationName
        self._algorithms, self._granularity = AlgorithmName, qtyping.QuantGranularity
        given_out, self._operations = outputs(content), operations(content)
        self._products = [operation for operation in self._operations if operation.kind in PRODUCTS]
        # The quantizer gives out 8 bits where a quantized layer reads what the file gives out.
        of_outputs = [product for product in self._products if given_out.intersection(product.inputs)]
        self._in_float = [*last_products(self._operations), *of_outputs]

    def write(self, front_ends: Sequence[str]) -> None:
        """Everything as the target says, then what differs."""
        quantization = self._target.quantization
        if quantization == "float16":
            self._float16(".*")
        elif quantization == "int8_dynamic":
            self._dynamic(".*")
        else:
            bits = _ACTIVATION_BITS[quantization]
            for name in (*_WEIGHTED, *_BETWEEN, *(_BETWEEN_IN_8_BITS if bits == _BITS else ())):
                self._work.add_static_config(".*", getattr(self._names, name), bits, _BITS)
            for operation in self._in_float:
                self._keep(_scope(operation.outputs))
                self._dynamic(_scope(operation.outputs))
            for operation in self._apart():
                self._keep(_scope(operation.outputs))
        for operation in self._products:
            if operation.weights < self._target.smallest_weights:
                self._small(_scope(operation.outputs))
        for scope in [*(rf"(^|[/;]){re.escape(name)}(_\d+)?/" for name in front_ends), *self._target.keep_float]:
            self._keep(scope)

    def _apart(self) -> list[Operation]:
        """What would be quantized between layers that stay float: rounded for nothing."""
        large = [each for each in self._products if each.weights >= self._target.smallest_weights]
        of_large = {name for each in large for name in (*each.inputs, *each.outputs)}
        between = (*_BETWEEN, *_BETWEEN_IN_8_BITS)
        return [
            each
            for each in self._operations
            if each.kind in between and not of_large.intersection((*each.inputs, *each.outputs))
        ]

    def _dynamic(self, scope: str) -> None:
        # tflite-runtime 2.14 knows dense weights with one scale only.
        whole = self._target.runtime == "tflite_runtime"
        dense = self._granularity.TENSORWISE if whole else self._granularity.CHANNELWISE
        self._work.add_dynamic_config(scope, self._names.FULLY_CONNECTED, _BITS, dense)
        for kind in (getattr(self._names, name) for name in _WEIGHTED[:2]):
            self._work.add_weight_only_config(scope, kind, _BITS)

    def _small(self, scope: str) -> None:
        """Few weights gain nothing in 8 bits and lose much: early layers have few."""
        self._keep(scope)
        if self._target.quantization != "float16":
            self._float16(scope)

    def _float16(self, scope: str) -> None:
        for kind in (getattr(self._names, name) for name in _WEIGHTED):
            self._work.add_weight_only_config(scope, kind, 16, algorithm_key=self._algorithms.FLOAT_CASTING)

    def _keep(self, scope: str, kind: Any = None) -> None:
        kind = self._names.ALL_SUPPORTED if kind is None else kind
        self._work.update_quantization_recipe(scope, kind, algorithm_key=self._algorithms.NO_QUANTIZE)


def _scope(outputs: Sequence[str]) -> str:
    """Names of an operation's outputs -> the expression that matches this operation alone."""
    return f"^{re.escape(';'.join(outputs))};"


def _signature(content: bytes) -> tuple[str, str]:
    from ai_edge_litert.interpreter import Interpreter

    ((key, names),) = Interpreter(model_content=content).get_signature_list().items()
    return key, names["inputs"][0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantizer's notes, which it prints, logs and warns of."""
    before = logging.root.manager.disable
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
        logging.disable(before)
