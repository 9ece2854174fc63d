"""Conversion of a network to a TFLite file with builtin operations only."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import struct
import tempfile
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kerastag.edge.head import SPLIT_SIGNATURES
from kerastag.export.preparation import PreparedModel
from kerastag.layers.attention_pooling import AttentionPooling
from kerastag.layers.segment_pooling import SegmentPooling

__all__ = ["Endpoints", "convert_functions", "convert_model", "lower_operation_versions"]

Endpoints = dict[str, tuple[Callable[[Any], Any], str, tuple[int | None, ...]]]
"""For each signature: a function of one tensor, the name of its input, and the shape of the input without the batch."""
_NUM_AXES = 3  # batch, segments, values
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
    network, name, shape = prepared.network, prepared.input_name, prepared.input_shape
    if not prepared.split:
        sizes = (None,) if prepared.any_length else shape
        return convert_functions({"serving_default": (lambda x: network(x, training=False), name, sizes)})
    head, pool, num_values = _split_attention_head(network)
    segment, bag = SPLIT_SIGNATURES
    return convert_functions(
        {
            segment: (lambda x: head(x, training=False), name, (1, shape[1])),
            bag: (pool, "values", (shape[0], num_values)),
        }
    )


def convert_functions(endpoints: Endpoints) -> bytes:
    """Convert functions to the content of a float32 `.tflite` file with one signature for each.

    The functions take a batch of one, and return a tensor or a dictionary of tensors. With a batch of any size, slices
    would have six axes, which TFLite does not support.

    Raises:
        ValueError: A function needs an operation that is not a builtin operation of TFLite.
    """
    import tensorflow as tf

    signatures = {
        name: _freeze(function, tf.TensorSpec((1, *shape), tf.float32, name=input_name))
        for name, (function, input_name, shape) in endpoints.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(tf.Module(), folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(endpoints))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                return converter.convert()
        except Exception as error:  # The class of the converter's errors is private.
            names = sorted(set(_FOREIGN_OPERATION.findall(str(error)))) or str(error).strip().splitlines()[:1]
            raise ValueError(f"the model needs operations that TFLite does not have: {', '.join(names)}") from None


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


def _freeze(function: Callable[[Any], Any], spec: Any) -> Any:
    """Trace a function with its variables as constants; writing and reading them would take most of the time."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    traced = tf.function(function, input_signature=[spec], autograph=False).get_concrete_function()
    frozen = convert_variables_to_constants_v2(traced, lower_control_flow=False)
    structure = traced.structured_outputs
    return tf.function(
        lambda x: tf.nest.pack_sequence_as(structure, frozen(x)), input_signature=[spec], autograph=False
    )


def _split_attention_head(network: keras.Model) -> tuple[keras.Model, Callable[[Any], dict[str, Any]], int]:
    """Divide a network from `embedding` to `clipwise` before its pooling layers.

    Returns:
        The network from `embedding` `(batch, segments, features)` to `values` `(batch, segments, values)`, the
        concatenated inputs of the pooling layers; a function from `values`, in which segments of zeros are padding, to
        `clipwise`; and the number of values.

    Raises:
        ValueError: No layer with weights comes before a pooling over segments, or a layer bypasses the pooling.
    """
    poolings = [layer for layer in network.layers if isinstance(layer, AttentionPooling | SegmentPooling)]
    inputs = {id(tensor): tensor for layer in poolings for tensor in keras.tree.flatten(layer.input)}
    tensors = [tensor for tensor in inputs.values() if len(tensor.shape) == _NUM_AXES]
    masks = [tensor for tensor in inputs.values() if len(tensor.shape) < _NUM_AXES]  # of layers with one input
    message = f"`split` needs a model with layers that process each segment before a pooling; received: {network.name}"
    if network.inputs[0].name != "embedding" or "clipwise" not in network.output or not tensors:
        raise ValueError(message)
    values = tensors[0] if len(tensors) == 1 else ops.concatenate([ops.cast(x, "float32") for x in tensors], axis=-1)
    segment = keras.Model(network.input, {"values": values}, name=f"{network.name}_segment")
    if not any(isinstance(layer, keras.layers.Dense) for layer in segment.layers):
        raise ValueError(message)
    try:
        pooling = keras.Model([*tensors, *masks], network.output["clipwise"], name=f"{network.name}_bag")
    except ValueError:  # the graph is not connected
        message = f"`split` needs a model in which no layer bypasses the pooling; received: {network.name}"
        raise ValueError(message) from None
    pooling.supports_masking = True  # its first layers, the pooling layers, do
    ends = list(itertools.accumulate((int(tensor.shape[-1]) for tensor in tensors), initial=0))

    def pool(values: Any) -> dict[str, Any]:
        mask = ops.any(ops.not_equal(values, 0), axis=-1)
        parts = [values[..., start:end] for start, end in itertools.pairwise(ends)]
        pooling_masks = [mask] * len(parts) + [None] * len(masks)
        return {"clipwise": pooling([*parts, *[mask] * len(masks)], training=False, mask=pooling_masks)}

    return segment, pool, ends[-1]
