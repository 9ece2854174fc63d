"""TFLite Metadata for MediaPipe: the few tables that its `AudioClassifier` reads."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import flatbuffers

from kerastag.card import Card

__all__ = ["add_metadata"]

_LABELS_FILE = "labels.txt"
_NAME = "TFLITE_METADATA"
_IDENTIFIER = b"M001"
_VERSION = "1.3.0"  # of metadata_schema.fbs, the first one with AudioProperties
_AUDIO_PROPERTIES = 4
_TENSOR_AXIS_LABELS = 2


def add_metadata(content: bytes, card: Card, name: str) -> bytes:
    """Add metadata to a `.tflite` file from a waveform to one output, and the class names in a zip archive at its end.

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
    labels = io.BytesIO()
    with zipfile.ZipFile(labels, "w") as archive:  # without compression, because MediaPipe maps it into memory
        archive.writestr(zipfile.ZipInfo(_LABELS_FILE), "".join(f"{label}\n" for label in card.labels.names))
    return bytes(builder.Output()) + labels.getvalue()


def _build_metadata(name: str, description: str, sample_rate: int) -> bytes:
    """Build the flatbuffer of a model with one mono waveform as input and labeled probabilities as output.

    The numbers of the slots of each table, and of those that are set, are those of metadata_schema.fbs.
    """
    builder = flatbuffers.Builder(1024)
    # AudioProperties: sample_rate, channels. Content: type and table of its properties.
    audio = _add_table(builder, 2, {0: ("Uint32", sample_rate), 1: ("Uint32", 1)})
    content = _add_table(builder, 3, {0: ("Uint8", _AUDIO_PROPERTIES), 1: audio})
    # TensorMetadata: name, description, content, associated_files. AssociatedFile: name, description, type.
    waveform = _add_table(builder, 7, {0: "waveform", 1: "samples in [-1, 1]", 3: content})
    file = _add_table(builder, 5, {0: _LABELS_FILE, 1: "classes", 2: ("Int8", _TENSOR_AXIS_LABELS)})
    files = _add_vector(builder, file)
    clipwise = _add_table(builder, 7, {0: "clipwise", 1: "probability of each class", 6: files})
    # SubGraphMetadata: input_tensor_metadata, output_tensor_metadata.
    subgraph = _add_table(builder, 10, {2: _add_vector(builder, waveform), 3: _add_vector(builder, clipwise)})
    subgraphs = _add_vector(builder, subgraph)
    # ModelMetadata: name, description, min_parser_version, subgraph_metadata.
    model = _add_table(builder, 8, {0: name, 1: description, 7: _VERSION, 3: subgraphs})
    builder.Finish(model, file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _add_table(builder: flatbuffers.Builder, num_slots: int, fields: Mapping[int, int | str | tuple[str, int]]) -> int:
    """Add a table; each field, by its slot, is an offset, a text, or the type and value of a number."""
    values = {slot: builder.CreateString(each) if isinstance(each, str) else each for slot, each in fields.items()}
    builder.StartObject(num_slots)
    for slot, value in values.items():
        if isinstance(value, tuple):
            getattr(builder, f"Prepend{value[0]}Slot")(slot, value[1], 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return builder.EndObject()


def _add_vector(builder: flatbuffers.Builder, offset: int) -> int:
    """Add a vector of one table."""
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()
