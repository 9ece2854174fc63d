"""A network of fixed shape -> a TFLite file with builtin operations only."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import tempfile
from pathlib import Path

import keras

from kerastag.export.graph import operations
from kerastag.export.serving import Served

__all__ = ["convert", "for_tflite_runtime", "foreign_operations"]

_CAST = 53  # in TFLite's list of builtin operations
_OLD_VERSIONS = {_CAST: 1}  # from boolean to float: masks
_VERSION_FIELD = 8  # of an operator code, in the table's own list of offsets
_CUSTOM = re.compile(r"[Ff]lex\w+|custom op: \w+")


def convert(served: Served) -> bytes:
    """What is served -> the content of a float32 `.tflite` file, with one signature that names input and outputs.

    Raises:
        ValueError: the network needs an operation that TFLite's builtin ones do not cover.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        _write_saved_model(served, Path(folder))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
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


def _write_saved_model(served: Served, folder: Path) -> None:
    """A static batch of 1: with an open one, slices have six axes, which TFLite does not do."""
    import tensorflow as tf

    network = served.network
    archive = keras.export.ExportArchive()
    archive.add_endpoint(
        "serve",
        lambda x: network(x, training=False),
        input_signature=[tf.TensorSpec((1, *served.shape), tf.float32, name=served.input)],
    )
    archive.write_out(str(folder), verbose=False)
