"""Recordings, checkpoints, cards, models and arrays with changed bytes, and some that are made to mislead.

A file must be read, or refused by a ValueError that names it, in seconds and without much memory. A model whose card
has a digest must be refused whatever byte of it changes.
"""

import dataclasses
import json
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from _tries import change_bytes, report, try_files
from importers.test_torch_file import NESTED_LISTS
from importers.torch_writing import finish_pickle, write_torch_stream, write_torch_zip

from kerastag import audio
from kerastag.bundled import BUNDLED_MODEL, resolve_model_path
from kerastag.card import MEMBER, Card, write_card
from kerastag.dsp import FRONT_ENDS
from kerastag.edge.runtime import LiteRTModel
from kerastag.files import read_arrays, read_json
from kerastag.importers import TorchFile
from kerastag.labels import LabelSet

_CARD = Card(LabelSet.from_names(["Bark", "Rain"]), 32_000, 10.0, 0.32, front_end=FRONT_ENDS["efficientat"].as_dict())
_RECORDINGS = {
    **{f"wav {subtype}": ("wav", subtype) for subtype in ("PCM_16", "PCM_24", "FLOAT", "IMA_ADPCM", "ULAW")},
    **{name: (name, None) for name in ("flac", "ogg", "mp3", "aiff", "caf", "w64", "au")},
}
_HOSTILE_VALUES = (
    *(None, True, -1, 0, 2**64, 10**400, 1e308, 1e-308, float("nan"), float("inf"), "", "x", "\x1b[2J", "\udcff"),
    *([], {}, [[]], [None], [1e308] * 2, ["a", "a"], {"a": {}}, "x" * 100_000),
)


def run(quick: bool) -> Iterator[tuple[str, int, int, str]]:
    """Read every kind of file; `quick` makes fewer tries."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            *((f"a recording, {kind}", 400, path, _read_audio) for kind, path in _write_recordings(folder)),
            ("a checkpoint of PyTorch, zip", 2_000, _write_checkpoint(folder / "zip.pt", write_torch_zip), _read_torch),
            (
                "a checkpoint of PyTorch, stream",
                1_000,
                _write_checkpoint(folder / "s.pt", write_torch_stream),
                _read_torch,
            ),
            ("a card, stored", 1_400, _write_model(folder / "stored.tflite"), Card.read),
            ("a card, deflated", 800, _write_model(folder / "deflated.tflite", zipfile.ZIP_DEFLATED), Card.read),
            ("arrays, stored", 400, _write_arrays(folder / "stored.npz", np.savez), read_arrays),
            ("arrays, deflated", 400, _write_arrays(folder / "deflated.npz", np.savez_compressed), read_arrays),
            ("a list of classes", 400, _write_classes(folder / "classes.csv"), LabelSet.from_csv),
            ("the card of a SavedModel", 400, _write_saved_card(folder / "saved.json"), _read_saved_card),
            ("a JSON file", 400, _write_json(folder / "config.json"), read_json),
        ]
        for kind, tries, path, read in rows:
            yield change_bytes(kind, path, read, tries // 20 if quick else tries)
        yield _change_model(folder / "model.tflite", 20 if quick else 1_000)
        models = (_write_model(folder / "card.tflite", content=card) for card in _make_hostile_cards())
        yield report("cards with wrong values", try_files(models, Card.read, must_fail=False))
        cards = (_write_saved_card(folder / "card.json", content=card) for card in _make_hostile_cards())
        yield report("cards of a SavedModel with wrong values", try_files(cards, _read_saved_card, must_fail=False))
        methods = (zipfile.ZIP_DEFLATED,) if quick else (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
        yield report("cards that unpack to hundreds of megabytes", try_files(_make_bombs(folder, methods), Card.read))
        yield report("pickles that are made to take memory", try_files(_make_pickles(folder), _read_torch))


def _change_model(path: Path, tries: int) -> tuple[str, int, int, str]:
    path.write_bytes(Path(resolve_model_path(BUNDLED_MODEL)).read_bytes())
    write_card(path, Card.read(path))
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        size = min(member.header_offset for member in archive.infolist())

    def make_files() -> Iterator[Path]:
        random = np.random.default_rng(0)
        for position in random.integers(0, size, tries):
            changed = bytearray(content)
            changed[position] ^= random.integers(1, 256)
            path.write_bytes(changed)
            yield path

    return report("a .tflite model, with a changed byte", try_files(make_files(), LiteRTModel))


def _read_audio(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        audio.load(path, 16_000)


def _read_torch(path: Path) -> None:
    with TorchFile(path) as file:
        for tensor in file.list_tensors().values():
            file.read(tensor)


def _read_saved_card(path: Path) -> Card:
    """Read the card of the SavedModel beside the file, with the bytes of the file."""
    folder = path.with_name("saved_model")
    (folder / "assets.extra").mkdir(parents=True, exist_ok=True)
    (folder / "assets.extra" / MEMBER).write_bytes(path.read_bytes())
    try:
        return Card.read(folder)
    except ValueError as error:
        raise ValueError(str(error).replace(str(folder), str(path))) from error


def _write_recordings(folder: Path) -> Iterator[tuple[str, Path]]:
    sound = 0.1 * np.random.default_rng(0).standard_normal(8_000)
    for kind, (extension, subtype) in _RECORDINGS.items():
        path = folder / f"{kind.replace(' ', '_')}.{extension}"
        soundfile.write(path, sound, 16_000, subtype=subtype)
        yield kind, path


def _write_checkpoint(path: Path, write: Callable[..., Path]) -> Path:
    random = np.random.default_rng(0)
    return write(path, {f"layer{i}.weight": random.random((4, i + 1)).astype("f4") for i in range(6)}, "model")


def _write_model(path: Path, method: int = zipfile.ZIP_STORED, content: Any = None) -> Path:
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(100))
    text = json.dumps(_CARD.as_dict()) if content is None else content
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr(MEMBER, text)
    return path


def _write_arrays(path: Path, write: Callable[..., None]) -> Path:
    write(path, a=np.arange(60.0).reshape(3, 20), b=np.array("text"), c=np.zeros((2, 0), np.int8))
    return path


def _write_classes(path: Path) -> Path:
    path.write_text('index,mid,display_name\n0,/m/1,"Dog, barking"\n1,/m/2,Rain\n' * 5, encoding="utf-8")
    return path


def _write_saved_card(path: Path, content: str | None = None) -> Path:
    path.write_text(json.dumps(_CARD.as_dict()) if content is None else content, encoding="utf-8")
    return path


def _write_json(path: Path) -> Path:
    path.write_text(json.dumps({"format": 1, "system": "es_min", "seeds": [1, 2.5, None]}), encoding="utf-8")
    return path


def _make_hostile_cards() -> Iterator[str]:
    """Yield cards in which each value, also those of the front end and of the labels, is a hostile one."""
    for field in (*(field.name for field in dataclasses.fields(Card)), "format", "sha256", "unknown"):
        for value in _HOSTILE_VALUES:
            yield json.dumps({**_CARD.as_dict(), field: value})
    for name in ("front_end", "labels"):
        for key in _CARD.as_dict()[name]:
            for value in _HOSTILE_VALUES:
                content = _CARD.as_dict()
                content[name] = {**content[name], key: value}
                yield json.dumps(content)


def _make_bombs(folder: Path, methods: Iterable[int]) -> Iterator[Path]:
    for method in methods:
        path = _write_model(folder / "bomb.tflite", content="")
        with zipfile.ZipFile(path, "w", method) as archive:
            with archive.open(MEMBER, "w") as file:
                for _ in range(300):
                    file.write(bytes(1_000_000))
            archive.getinfo(MEMBER).file_size = 1_000  # what it claims
        path.write_bytes(b"\x1c\x00\x00\x00TFL3" + path.read_bytes())
        yield path


def _make_pickles(folder: Path) -> Iterator[Path]:
    pickles = {
        "a list that holds itself": NESTED_LISTS + b"X\x01\x00\x00\x00a\x93",
        "a long name": b"c" + b"a" * 1_000_000 + b"\nb\n",
        "a text beyond the file": b"\x8d" + (2**62).to_bytes(8, "little"),
        "an integer beyond the file": b"\x8b" + (2**31 - 1).to_bytes(4, "little"),
        "deep tuples": b")" + b"\x85" * 200_000,
        "a call": b"cos\nsystem\nX\x02\x00\x00\x00ls\x85R",
    }
    for content in pickles.values():
        path = folder / "bomb.pt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", finish_pickle(content))
        yield path
        path.write_bytes(finish_pickle(content))
        yield path
