"""Tables of labels of every format: with changed bytes, in other encodings, huge, or of another kind of file.

A table must be read, or refused by a ValueError that names it, in seconds and without much memory.
"""

import json
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _tries import change_bytes, report, try_files

from kerastag._csv import TextWarning
from kerastag.label_tables import LabelTable, read_label_table

_TABLES = {
    "any table": 'path,labels,fold\na.wav,"dog,rain",1\nb.wav,"a ""cat""",2\nMöwe.wav,Vogel – Ruf,3\n' * 5,
    "ESC-50": "filename,fold,target,category\n1-100032-A-0.wav,1,0,dog\n" * 5,
    "DCASE": "filename\tonset\toffset\tevent_label\na.wav\t0.5\t2.0\tRain\nb.wav\t1\t9,5\tDog\n" * 5,
    "Raven": "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tBegin File\tSpecies\n1\tS\t1\t0\t2\ta.wav\tDog\n",
    "Audacity": "0.5\t2.25\tDog\n\\\t100.0\t900.0\n3.0\t3.0\tRain; Dog\n" * 5,
    "AudioSet": '# Segments csv\n--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"\n' * 5,
    "Whombat": json.dumps(
        {
            "data": {
                "tags": [{"id": 0, "key": "species", "value": "Dog"}],
                "recordings": [{"uuid": "r", "path": "a.wav", "time_expansion": 1.0, "tags": [0]}],
                "clips": [{"uuid": "c", "recording": "r", "start_time": 0, "end_time": 3}],
                "clip_annotations": [{"clip": "c", "tags": [0]}],
                "sound_events": [
                    {"uuid": "e", "recording": "r", "geometry": {"type": "TimeInterval", "coordinates": [0.5, 2.0]}}
                ],
                "sound_event_annotations": [{"sound_event": "e", "tags": [0]}],
            }
        }
    ),
}
_ENCODINGS = (
    "utf-16-le",
    "utf-16-be",
    "utf-32",
    "latin-1",
    "cp1252",
    "cp437",
    "koi8-r",
    "shift-jis",
    "gb18030",
    "cp500",
)


def run(quick: bool) -> Iterator[tuple[str, int, int, str]]:
    """Read every kind of table; `quick` changes fewer bytes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, text in _TABLES.items():
            path = folder / f"{kind}.csv"
            path.write_text(text, encoding="utf-8")
            yield change_bytes(f"a table of labels, {kind}", path, _read, 40 if quick else 800)
        encoded = _write_all(folder, (text.encode(name, "replace") for name in _ENCODINGS for text in _TABLES.values()))
        yield report("tables of labels in ten other encodings", try_files(encoded, _read, must_fail=False))
        yield report(
            "tables of labels that are huge", try_files(_write_all(folder, _make_huge()), _read, must_fail=False)
        )
        yield report("files of other kinds as tables of labels", try_files(_write_all(folder, _make_binary()), _read))


def _read(path: Path) -> LabelTable:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TextWarning)
        return read_label_table(path)


def _write_all(folder: Path, contents: Iterator[bytes]) -> Iterator[Path]:
    path = folder / "list.csv"
    for content in contents:
        path.write_bytes(content)
        yield path


def _make_huge() -> Iterator[bytes]:
    head = b"path,labels\n"
    yield b"path,labels" + b",x" * 2_000_000
    yield head + b"a" * 10_000_000 + b".wav,dog\n"
    yield head + b'a.wav,"' + b"dog;" * 30_000 + b'dog"\n'
    yield head + b"a.wav,dog\n" * 200_000
    yield head + b'"' * 2_000_001
    yield head + b"\n" * 5_000_000
    yield b"#" * 5_000_000
    yield b"sep=" + b";" * 5_000_000
    yield b"1\t" * 2_000_000
    yield b"9" * 1_000_000 + b"\t1\tdog\n"
    yield b'{"data": ' + b"[" * 1_000_000
    yield b'{"data": {"tags": [{"id": ' + b"9" * 100_000 + b"}]}}"
    yield json.dumps({"data": {"recordings": [{"uuid": k, "path": "a.wav"} for k in range(20_000)]}}).encode()


def _make_binary() -> Iterator[bytes]:
    random = np.random.default_rng(0)
    yield from (random.integers(0, 256, size).astype(np.uint8).tobytes() for size in (1, 100, 10_000, 1_000_000))
    yield b""
    yield bytes(1_000)
    yield b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0" + struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16) + b"data\0\0\0\0"
    yield b"\x89PNG\r\n\x1a\n" + zlib.compress(b"path,labels\na.wav,dog\n" * 1_000)
    yield b"PK\x03\x04" + bytes(26) + b"path,labels\na.wav,dog\n"  # a workbook of Excel
    yield b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)
    yield b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
    yield b"<html><body>Not found</body></html>\n"
