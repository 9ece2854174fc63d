"""TFLite Metadata for MediaPipe: what its `AudioClassifier` must know of a model, in the few tables that it reads."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import flatbuffers

from kerastag.card import Card

__all__ = ["AudioClassifier", "audio_classifier_metadata", "with_metadata"]

LABELS_FILE = "labels.txt"
_IDENTIFIER = b"M001"
_NAME = "TFLITE_METADATA"
_VERSION = "1.3.0"  # of the metadata's schema, the first one with AudioProperties
# Fields by their place in the tables of metadata_schema.fbs.
_MODEL = {"name": 0, "description": 1, "subgraphs": 3, "min_parser_version": 7}
_SUBGRAPH = {"inputs": 2, "outputs": 3}
_TENSOR = {"name": 0, "description": 1, "content": 3, "files": 6}
_CONTENT = {"kind": 0, "properties": 1}
_AUDIO = {"sample_rate": 0, "channels": 1}
_FILE = {"name": 0, "description": 1, "type": 2}
_AUDIO_PROPERTIES = 4
_TENSOR_AXIS_LABELS = 2


class AudioClassifier(NamedTuple):
    """What the metadata says: the model's name and text, and the waveform's sample rate in Hz."""

    name: str
    description: str
    sample_rate: int


def audio_classifier_metadata(model: AudioClassifier) -> bytes:
    """What there is to say -> the flatbuffer: one mono waveform in, one row of probabilities with labels out."""
    builder = flatbuffers.Builder(1024)
    audio = _table(
        builder, 2, {_AUDIO["sample_rate"]: ("Uint32", model.sample_rate), _AUDIO["channels"]: ("Uint32", 1)}
    )
    kind: dict[int, int | tuple[str, int]] = {
        _CONTENT["kind"]: ("Uint8", _AUDIO_PROPERTIES),
        _CONTENT["properties"]: audio,
    }
    content = _table(builder, 3, kind)
    heard = _tensor(builder, "waveform", "samples in [-1, 1]", {_TENSOR["content"]: content})
    text = {_FILE["name"]: builder.CreateString(LABELS_FILE), _FILE["description"]: builder.CreateString("classes")}
    file = _table(builder, 5, {**text, _FILE["type"]: ("Int8", _TENSOR_AXIS_LABELS)})
    files = {_TENSOR["files"]: _vector(builder, [file])}
    said = _tensor(builder, "clipwise", "probability of each class", files)
    sides = {_SUBGRAPH["inputs"]: _vector(builder, [heard]), _SUBGRAPH["outputs"]: _vector(builder, [said])}
    subgraphs = _vector(builder, [_table(builder, 10, sides)])
    texts = {"name": model.name, "description": model.description, "min_parser_version": _VERSION}
    fields = {_MODEL[field]: builder.CreateString(value) for field, value in texts.items()}
    builder.Finish(_table(builder, 8, {**fields, _MODEL["subgraphs"]: subgraphs}), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def with_metadata(content: bytes, card: Card, name: str) -> bytes:
    """The content of a `.tflite` file and its card -> the same with metadata, and the labels in a zip at its end.

    Args:
        content: with one waveform as input and one output.
        card: with labels.
        name: of the model.

    Raises:
        ValueError: the card has no labels.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    if card.labels is None:
        raise ValueError("`metadata` needs a model with classes: this one only embeds")
    said = audio_classifier_metadata(AudioClassifier(name, card.origin, card.sample_rate))
    model = schema.ModelT.InitFromPackedBuf(content)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = said
    entry.name, entry.buffer = _NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content) + len(said))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output()) + _zip_of(LABELS_FILE, "".join(f"{label}\n" for label in card.labels.names))


def _tensor(builder: flatbuffers.Builder, name: str, text: str, fields: dict[int, int]) -> int:
    texts = {_TENSOR["name"]: builder.CreateString(name), _TENSOR["description"]: builder.CreateString(text)}
    return _table(builder, 7, {**texts, **fields})


def _table(builder: flatbuffers.Builder, slots: int, fields: Mapping[int, int | tuple[str, int]]) -> int:
    """Field number -> the offset of what it holds, or (type, value) of a plain number."""
    builder.StartObject(slots)
    for slot, value in fields.items():
        if isinstance(value, tuple):
            getattr(builder, f"Prepend{value[0]}Slot")(slot, value[1], 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return builder.EndObject()


def _vector(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _zip_of(name: str, text: str) -> bytes:
    """Stored, not compressed: MediaPipe maps it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), text)
    return file.getvalue()
