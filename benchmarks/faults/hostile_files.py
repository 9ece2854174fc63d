"""Recordings, checkpoints, cards, models, arrays and lists with changed bytes, and some that are made to mislead.

A file must be read, or refused by a ValueError that names it, in seconds and without much memory. A model whose card
has a digest must be refused whatever byte of it changes.
"""

import dataclasses
import json
import resource
import signal
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from _kills import call_in_child
from importers.test_torch_file import NESTED_LISTS
from importers.torch_writing import finish_pickle, write_torch_stream, write_torch_zip

from kerastag import audio
from kerastag.bundled import BUNDLED_MODEL, resolve_model_path
from kerastag.card import MEMBER, Card, write_card
from kerastag.dsp import FRONT_ENDS
from kerastag.edge.runtime import LiteRTModel
from kerastag.files import read_arrays, read_json
from kerastag.importers import TorchFile
from kerastag.label_tables import read_label_table
from kerastag.labels import LabelSet

_MAX_BYTES = 1 << 28
_MAX_SECONDS = 60  # for the tries of one child process
_TRIES_PER_CHILD = 20
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
            ("a list of labels", 1_300, _write_list(folder / "list.csv"), _read_list),
            ("a JSON file", 400, _write_json(folder / "config.json"), read_json),
        ]
        for kind, tries, path, read in rows:
            yield _change_bytes(kind, path, read, tries // 20 if quick else tries)
        yield _change_model(folder / "model.tflite", 20 if quick else 1_000)
        yield _report("cards with wrong values", _try(_make_hostile_cards(folder), Card.read, must_fail=False))
        methods = (zipfile.ZIP_DEFLATED,) if quick else (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
        yield _report("cards that unpack to hundreds of megabytes", _try(_make_bombs(folder, methods), Card.read))
        yield _report("pickles that are made to take memory", _try(_make_pickles(folder), _read_torch))


def _change_bytes(kind: str, path: Path, read: Callable[[Path], Any], tries: int) -> tuple[str, int, int, str]:
    content = path.read_bytes()

    def make_files() -> Iterator[Path]:
        random = np.random.default_rng(0)
        for number in range(tries):
            changed = bytearray(content)
            for position in random.integers(0, len(content) if number % 2 else min(400, len(content)), 1 + number % 8):
                changed[position] = random.integers(0, 256)
            mutant = path.with_name(f"mutant{path.suffix}")
            mutant.write_bytes(changed[: random.integers(1, len(content))] if number % 10 == 9 else changed)
            yield mutant

    return _report(f"{kind}, with changed bytes", _try(make_files(), read, must_fail=False))


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

    return _report("a .tflite model, with a changed byte", _try(make_files(), LiteRTModel))


def _try(paths: Iterable[Path], read: Callable[[Path], Any], must_fail: bool = True) -> tuple[int, list[str]]:
    """Read files in child processes, and return the number of tries and the reasons of failures."""
    tries, reasons, files = 0, [], iter(paths)
    while batch := _take(files):
        with tempfile.NamedTemporaryFile("r+", encoding="utf-8") as log:
            status = call_in_child(lambda: _read_batch(batch, read, must_fail, Path(log.name)))
            reasons += log.read().splitlines()
        if status:
            reasons.append(f"a process ended with status {status}")
        tries += len(batch)
    return tries, reasons


def _take(files: Iterator[Path]) -> list[tuple[Path, bytes]]:
    batch = []
    for path in files:
        batch.append((path, path.read_bytes()))
        if len(batch) == _TRIES_PER_CHILD:
            break
    return batch


def _read_batch(batch: list[tuple[Path, bytes]], read: Callable[[Path], Any], must_fail: bool, log: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_get_address_space() + _MAX_BYTES, hard))
    signal.alarm(_MAX_SECONDS)
    reasons = []
    for path, content in batch:
        path.write_bytes(content)
        try:
            read(path)
            if must_fail:
                reasons.append("accepted")
        except ValueError as error:
            if str(path) not in str(error):
                reasons.append(f"no path: {error!r}")
        except Exception as error:
            reasons.append(repr(error))
    log.write_text("".join(f"{' '.join(reason.split())[:200]}\n" for reason in reasons), encoding="utf-8")


def _report(kind: str, result: tuple[int, list[str]]) -> tuple[str, int, int, str]:
    tries, reasons = result
    return kind, tries, len(reasons), "; ".join(dict.fromkeys(reasons[:3]))


def _get_address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    return pages * resource.getpagesize()


def _read_audio(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        audio.load(path, 16_000)


def _read_torch(path: Path) -> None:
    with TorchFile(path) as file:
        for tensor in file.list_tensors().values():
            file.read(tensor)


def _read_list(path: Path) -> None:
    read_label_table(path)
    LabelSet.from_csv(path)


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


def _write_list(path: Path) -> Path:
    path.write_text('path,labels,fold\na.wav,"dog,rain",1\nb.wav,"a ""cat""",2\n' * 5, encoding="utf-8")
    return path


def _write_json(path: Path) -> Path:
    path.write_text(json.dumps({"format": 1, "system": "es_min", "seeds": [1, 2.5, None]}), encoding="utf-8")
    return path


def _make_hostile_cards(folder: Path) -> Iterator[Path]:
    """Yield cards in which each value, also those of the front end and of the labels, is a hostile one."""
    for field in (*(field.name for field in dataclasses.fields(Card)), "format", "sha256", "unknown"):
        for value in _HOSTILE_VALUES:
            yield _write_model(folder / "card.tflite", content=json.dumps({**_CARD.as_dict(), field: value}))
    for name in ("front_end", "labels"):
        for key in _CARD.as_dict()[name]:
            for value in _HOSTILE_VALUES:
                content = _CARD.as_dict()
                content[name] = {**content[name], key: value}
                yield _write_model(folder / "card.tflite", content=json.dumps(content))


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
