"""A network of fixed shape -> a TFLite file with builtin operations only."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kerastag.edge.head import SPLIT
from kerastag.export.graph import operations
from kerastag.export.serving import Served
from kerastag.export.split import halves

__all__ = ["Endpoints", "convert", "convert_functions", "for_tflite_runtime", "foreign_operations"]

Endpoints = dict[str, tuple[Callable[[Any], Any], str, tuple[int, ...]]]
"""Signature -> its function of one tensor, the name of its input, and that input's shape without the batch."""
_CAST = 53  # in TFLite's list of builtin operations
_OLD_VERSIONS = {_CAST: 1}  # from boolean to float: masks
_VERSION_FIELD = 8  # of an operator code, in the table's own list of offsets
_CUSTOM = re.compile(r"[Ff]lex\w+|custom op: \w+")


def convert(served: Served) -> bytes:
    """What is served -> the content of a float32 `.tflite` file, whose signature names input and outputs.

    Split, it has the two signatures of `kerastag.edge.head.SplitHead`.

    Raises:
        ValueError: the network needs an operation that TFLite's builtin ones do not cover, or cannot be split.
    """
    return convert_functions(_halves(served) if served.split else _whole(served))


def convert_functions(endpoints: Endpoints) -> bytes:
    """Functions of a batch of one -> the content of a float32 `.tflite` file with a signature for each.

    Args:
        endpoints: what each is called, its function, which gives a tensor or a dict of them, and its input.

    Raises:
        ValueError: a function needs an operation that TFLite's builtin ones do not cover.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        _write_frozen(Path(folder), endpoints)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(endpoints))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                content = converter.convert()
        except Exception as error:  # the converter's own class of error is private
            names = sorted(set(_CUSTOM.findall(str(error)))) or str(error).strip().splitlines()[:1]
            raise ValueError(f"the model needs operations outside TFLite's own: {', '.join(names)}") from None
    if foreign := foreign_operations(content):
        raise ValueError(f"the file would need operations outside TFLite's own: {', '.join(foreign)}")
    return content


def foreign_operations(content: bytes) -> list[str]:
    """The content of a `.tflite` file -> names of its operations that are not TFLite's own: Flex and custom ones."""
    return sorted({operation.custom for operation in operations(content) if operation.custom is not None})


def for_tflite_runtime(content: bytes) -> bytes:
    """The content of a `.tflite` file -> the same, with the versions of operations that tflite-runtime 2.14 knows.

    Today's converter gives an operation its newest version, whatever types it is used with; what kerastag's models do
    with those in `_OLD_VERSIONS` was there in that version already.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    lowered = bytearray(content)
    model = schema.Model.GetRootAs(lowered, 0)
    for index in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(index)
        old = _OLD_VERSIONS.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()))
        if old is not None and code.Version() > old:
            # The version is a number inside the table: it is written over, and nothing moves.
            struct.pack_into("<i", lowered, code._tab.Pos + code._tab.Offset(_VERSION_FIELD), old)
    return bytes(lowered)


def _whole(served: Served) -> Endpoints:
    network = served.network
    return {"serving_default": (lambda x: network(x, training=False), served.input, served.shape)}


def _halves(served: Served) -> Endpoints:
    cut = halves(served.network)
    segments, features = served.shape
    segment, bag = SPLIT
    return {
        segment: (lambda x: cut.segment(x, training=False), served.input, (1, features)),
        bag: (cut.bag, "values", (segments, sum(cut.widths))),
    }


def _write_frozen(folder: Path, endpoints: Endpoints) -> None:
    """A SavedModel whose weights are constants: to save variables and to read them back takes most of a conversion.

    The batch is always 1: with an open one, slices have six axes, which TFLite does not do.
    """
    import tensorflow as tf

    signatures = {
        name: _frozen(function, tf.TensorSpec((1, *shape), tf.float32, name=input))
        for name, (function, input, shape) in endpoints.items()
    }
    tf.saved_model.save(tf.Module(), str(folder), signatures=signatures)


def _frozen(function: Callable[[Any], Any], spec: Any) -> Any:
    """A function of a tensor -> the same as a `tf.function`, with the present values of its variables in it."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    traced = tf.function(function, input_signature=[spec], autograph=False).get_concrete_function()
    frozen = convert_variables_to_constants_v2(traced, lower_control_flow=False)
    structure = traced.structured_outputs
    return tf.function(
        lambda x: tf.nest.pack_sequence_as(structure, frozen(x)), input_signature=[spec], autograph=False
    )
