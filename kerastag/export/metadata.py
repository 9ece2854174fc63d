"""TFLite Metadata for MediaPipe: the few tables that its `AudioClassifier` reads."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

import flatbuffers

from kerastag.card import Card

__all__ = ["add_metadata"]

_LABELS_FILE = "labels.txt"
_IDENTIFIER = b"M001"
_NAME = "TFLITE_METADATA"
_VERSION = "1.3.0"  # of the schema of the metadata, the first one with AudioProperties
# Positions of the fields in the tables of metadata_schema.fbs.
_MODEL = {"name": 0, "description": 1, "subgraphs": 3, "min_parser_version": 7}
_SUBGRAPH = {"inputs": 2, "outputs": 3}
_TENSOR = {"name": 0, "description": 1, "content": 3, "files": 6}
_CONTENT = {"kind": 0, "properties": 1}
_AUDIO = {"sample_rate": 0, "channels": 1}
_FILE = {"name": 0, "description": 1, "type": 2}
_AUDIO_PROPERTIES = 4
_TENSOR_AXIS_LABELS = 2


def add_metadata(content: bytes, card: Card, name: str) -> bytes:
    """Add metadata to a `.tflite` file, and the class names in a zip archive at its end.

    Args:
        content: Content of a file with one waveform as input and one output.
        card: Card of the model.
        name: Name of the model.

    Returns:
        The content of the new file.

    Raises:
        ValueError: The card has no classes.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    if card.labels is None:
        raise ValueError("`metadata` needs a model with classes; received: an embedder")
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = _build_metadata(name, card.origin, card.sample_rate)
    model = schema.ModelT.InitFromPackedBuf(content)
    entry.name, entry.buffer = _NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content) + len(buffer.data))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output()) + _zip_labels(card.labels.names)


def _build_metadata(name: str, description: str, sample_rate: int) -> bytes:
    """Build the flatbuffer of a model with one mono waveform as input and labeled probabilities as output."""
    builder = flatbuffers.Builder(1024)
    audio = _add_table(builder, 2, {_AUDIO["sample_rate"]: ("Uint32", sample_rate), _AUDIO["channels"]: ("Uint32", 1)})
    kind: dict[int, int | tuple[str, int]] = {
        _CONTENT["kind"]: ("Uint8", _AUDIO_PROPERTIES),
        _CONTENT["properties"]: audio,
    }
    content = _add_table(builder, 3, kind)
    waveform = _add_tensor(builder, "waveform", "samples in [-1, 1]", {_TENSOR["content"]: content})
    texts = {_FILE["name"]: builder.CreateString(_LABELS_FILE), _FILE["description"]: builder.CreateString("classes")}
    file = _add_table(builder, 5, {**texts, _FILE["type"]: ("Int8", _TENSOR_AXIS_LABELS)})
    files = {_TENSOR["files"]: _add_vector(builder, [file])}
    clipwise = _add_tensor(builder, "clipwise", "probability of each class", files)
    tensors = {
        _SUBGRAPH["inputs"]: _add_vector(builder, [waveform]),
        _SUBGRAPH["outputs"]: _add_vector(builder, [clipwise]),
    }
    subgraphs = _add_vector(builder, [_add_table(builder, 10, tensors)])
    values = {"name": name, "description": description, "min_parser_version": _VERSION}
    fields = {_MODEL[field]: builder.CreateString(value) for field, value in values.items()}
    builder.Finish(_add_table(builder, 8, {**fields, _MODEL["subgraphs"]: subgraphs}), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _add_tensor(builder: flatbuffers.Builder, name: str, text: str, fields: dict[int, int]) -> int:
    texts = {_TENSOR["name"]: builder.CreateString(name), _TENSOR["description"]: builder.CreateString(text)}
    return _add_table(builder, 7, {**texts, **fields})


def _add_table(builder: flatbuffers.Builder, num_slots: int, fields: Mapping[int, int | tuple[str, int]]) -> int:
    """Add a table; each field, by its position, is an offset or the type and value of a number."""
    builder.StartObject(num_slots)
    for slot, value in fields.items():
        if isinstance(value, tuple):
            getattr(builder, f"Prepend{value[0]}Slot")(slot, value[1], 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return builder.EndObject()


def _add_vector(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _zip_labels(names: Sequence[str]) -> bytes:
    """Write the class names to a zip archive without compression, because MediaPipe maps it into memory."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_LABELS_FILE), "".join(f"{name}\n" for name in names))
    return file.getvalue()
