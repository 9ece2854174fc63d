"""Conversion of a network with a fixed input shape to a TFLite file with builtin operations only."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kerastag.edge.head import SPLIT_SIGNATURES
from kerastag.export.graph import read_operations
from kerastag.export.preparation import PreparedModel
from kerastag.export.split import split_attention_head

__all__ = ["Endpoints", "convert_functions", "convert_model", "find_foreign_operations", "lower_operation_versions"]

Endpoints = dict[str, tuple[Callable[[Any], Any], str, tuple[int, ...]]]
"""For each signature: a function of one tensor, the name of its input, and the shape of the input without the batch."""
_CAST = 53  # number of the builtin operation
_OLD_VERSIONS = {_CAST: 1}  # from bool to float, for masks
_VERSION_FIELD = 8  # position of the version in the table of an operator code
_FOREIGN_OPERATION = re.compile(r"[Ff]lex\w+|custom op: \w+")


def convert_model(prepared: PreparedModel) -> bytes:
    """Convert a model to the content of a float32 `.tflite` file, whose signature names the input and the outputs.

    A split model has the two signatures of `kerastag.edge.head.SplitHead`.

    Raises:
        ValueError: The network needs an operation that is not a builtin operation of TFLite, or cannot be split.
    """
    return convert_functions(_get_split_endpoints(prepared) if prepared.split else _get_endpoints(prepared))


def convert_functions(endpoints: Endpoints) -> bytes:
    """Convert functions to the content of a float32 `.tflite` file with one signature for each.

    Args:
        endpoints: For each signature, a function from a batch of one to a tensor or a dictionary of tensors, the name
            of its input, and the shape of its input without the batch.

    Raises:
        ValueError: A function needs an operation that is not a builtin operation of TFLite.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        _write_frozen_model(Path(folder), endpoints)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(endpoints))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                content = converter.convert()
        except Exception as error:  # The class of the converter's errors is private.
            names = sorted(set(_FOREIGN_OPERATION.findall(str(error)))) or str(error).strip().splitlines()[:1]
            raise ValueError(f"the model needs operations that TFLite does not have: {', '.join(names)}") from None
    if names := find_foreign_operations(content):
        raise ValueError(f"the model needs operations that TFLite does not have: {', '.join(names)}")
    return content


def find_foreign_operations(content: bytes) -> list[str]:
    """Find the names of the operations of a `.tflite` file that are not builtin: Flex and custom operations."""
    return sorted({operation.custom for operation in read_operations(content) if operation.custom is not None})


def lower_operation_versions(content: bytes) -> bytes:
    """Lower the versions of operations in a `.tflite` file to those that tflite-runtime 2.14 supports.

    The current converter writes the newest version of an operation, whatever types it is used with. The operations in
    `_OLD_VERSIONS` are used in a way that the old version supports.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    lowered = bytearray(content)
    model = schema.Model.GetRootAs(lowered, 0)
    for index in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(index)
        old_version = _OLD_VERSIONS.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()))
        if old_version is not None and code.Version() > old_version:
            # The version is a number inside the table, which is overwritten in place.
            struct.pack_into("<i", lowered, code._tab.Pos + code._tab.Offset(_VERSION_FIELD), old_version)
    return bytes(lowered)


def _get_endpoints(prepared: PreparedModel) -> Endpoints:
    network = prepared.network
    return {"serving_default": (lambda x: network(x, training=False), prepared.input_name, prepared.input_shape)}


def _get_split_endpoints(prepared: PreparedModel) -> Endpoints:
    head = split_attention_head(prepared.network)
    num_segments, num_features = prepared.input_shape
    segment, bag = SPLIT_SIGNATURES
    return {
        segment: (lambda x: head.segment(x, training=False), prepared.input_name, (1, num_features)),
        bag: (head.pool, "values", (num_segments, sum(head.widths))),
    }


def _write_frozen_model(folder: Path, endpoints: Endpoints) -> None:
    """Write a SavedModel whose weights are constants; writing and reading variables would take most of the time.

    The batch is always 1: with a batch of any size, slices have six axes, which TFLite does not support.
    """
    import tensorflow as tf

    signatures = {
        name: _freeze(function, tf.TensorSpec((1, *shape), tf.float32, name=input_name))
        for name, (function, input_name, shape) in endpoints.items()
    }
    tf.saved_model.save(tf.Module(), str(folder), signatures=signatures)


def _freeze(function: Callable[[Any], Any], spec: Any) -> Any:
    """Trace a function of a tensor, with the present values of its variables as constants."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    traced = tf.function(function, input_signature=[spec], autograph=False).get_concrete_function()
    frozen = convert_variables_to_constants_v2(traced, lower_control_flow=False)
    structure = traced.structured_outputs
    return tf.function(
        lambda x: tf.nest.pack_sequence_as(structure, frozen(x)), input_signature=[spec], autograph=False
    )
