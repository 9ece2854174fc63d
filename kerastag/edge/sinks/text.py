"""Results and events as lines of text: JSON Lines and CSV, to standard output or to files of limited size."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from kerastag.edge.sinks.sink import EventReport, ResultReport, Sink, SourceReport
from kerastag.files import format_csv

__all__ = ["CSV_COLUMNS", "CsvSink", "JsonSink", "RotatingFile"]

CSV_COLUMNS = ("type", "time", "start_seconds", "end_seconds", "name", "mid", "probability")
"""Columns of a CSV file."""
_MAX_MEGABYTES, _KEPT_FILES = 10.0, 5
_LARGEST_MEGABYTES, _MOST_KEPT_FILES = 1e6, 1_000


class RotatingFile:
    """A text file of limited size to which lines are appended.

    Beyond the maximum size the file is renamed to `NAME.1`, `NAME.1` to `NAME.2` and so on, and the last one is
    deleted. The file never holds a part of a line: one that does not fit on the disk is removed again. The folder is
    created if it does not exist.

    Args:
        path: Path of the file.
        header: First line of a new file.
        max_megabytes: Maximum size of a file, megabytes, above 0, at most a million.
        kept_files: Number of older files to keep, 0 to 1,000.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        header: str = "",
        *,
        max_megabytes: float = _MAX_MEGABYTES,
        kept_files: int = _KEPT_FILES,
    ) -> None:
        if not 0 < max_megabytes <= _LARGEST_MEGABYTES:
            allowed = f"above 0, at most {_LARGEST_MEGABYTES:g}"
            raise ValueError(f"`max_megabytes` must be {allowed}; received: {max_megabytes!r}")
        if not 0 <= kept_files <= _MOST_KEPT_FILES:
            raise ValueError(f"`kept_files` must be from 0 to {_MOST_KEPT_FILES}; received: {kept_files!r}")
        self.name = os.fspath(path)
        self._path = Path(path)
        self._header = header
        self._max_bytes = round(max_megabytes * 1e6)
        self._kept_files = kept_files
        self._descriptor = -1
        self._open()

    def write(self, line: str) -> None:
        """Write a line, given without its end."""
        data = line.encode() + b"\n"
        if self._descriptor < 0:
            self._open()
        if self._size and self._size + len(data) > self._max_bytes:
            self._rotate()
        self._append(data)

    def reopen(self) -> None:
        """Close the file, and open the one that now has its name."""
        self.close()
        self._open()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        self._size = os.fstat(self._descriptor).st_size
        if not self._size and self._header:
            self._append(self._header.encode() + b"\n")

    def _append(self, data: bytes) -> None:
        try:
            written = os.write(self._descriptor, data)
            while written < len(data):  # A disk that is nearly full takes a part first.
                written += os.write(self._descriptor, data[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise OSError(error.errno, f"{self.name}: {error.strerror}") from None
        self._size += len(data)

    def _rotate(self) -> None:
        self.close()
        paths = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, self._kept_files + 1))]
        for old, new in zip(reversed(paths[:-1]), reversed(paths[1:]), strict=True):
            with contextlib.suppress(FileNotFoundError):
                os.replace(old, new)
        if not self._kept_files:
            self._path.unlink()
        self._open()


class _TextSink(Sink):
    """A sink that writes lines of text to a file, or to standard output if the target is `-`."""

    _header = ""

    def __init__(self, target: str, *, max_megabytes: float = _MAX_MEGABYTES, kept_files: int = _KEPT_FILES) -> None:
        if not target:
            raise ValueError("`output` must name a file after the colon, or - for standard output; received: none")
        self.name = "standard output" if target == "-" else target
        self._file: RotatingFile | None = None
        if target != "-":
            self._file = RotatingFile(target, self._header, max_megabytes=max_megabytes, kept_files=kept_files)
        elif sys.stdout is None:
            raise ValueError("`output` must be a file, as standard output is closed; received: -")
        elif self._header:
            self._write(self._header)

    def _write(self, line: str) -> None:
        if self._file is not None:
            self._file.write(line)
        else:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def reopen(self) -> None:
        if self._file is not None:
            self._file.reopen()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class JsonSink(_TextSink):
    """A sink that writes each result, event and change of the source as a JSON object on one line.

    An event looks like `{"type": "event", "state": "begin", "name": "Bark", ...}`, a source that is lost like
    `{"type": "source", "state": "lost", ...}`. The arguments are those of `RotatingFile`.
    """

    def write_result(self, report: ResultReport) -> None:
        self._write(json.dumps(report.as_dict(), ensure_ascii=False))

    def write_event(self, report: EventReport) -> None:
        self._write(json.dumps(report.as_dict(), ensure_ascii=False))

    def write_source(self, report: SourceReport) -> None:
        self._write(json.dumps(report.as_dict(), ensure_ascii=False))


class CsvSink(_TextSink):
    """A sink that writes each tag of a result and each event as one row with the columns `CSV_COLUMNS`.

    The type is `result`, `begin` or `end`. The probability of an event is its maximum; the end of an event that goes
    on is empty. A row of a change of the source has the type `listening`, `lost` or `silent`, and no name. The
    arguments are those of `RotatingFile`.
    """

    _header = ",".join(CSV_COLUMNS)

    def write_result(self, report: ResultReport) -> None:
        values = report.as_dict()
        for tag in values["tags"]:
            self._write_row({**values, **tag})

    def write_event(self, report: EventReport) -> None:
        values = report.as_dict()
        self._write_row(
            {
                **values,
                "type": report.state,
                "start_seconds": values["onset_seconds"],
                "end_seconds": values.get("offset_seconds"),
                "probability": values["peak_probability"],
            }
        )

    def write_source(self, report: SourceReport) -> None:
        values = report.as_dict()
        self._write_row({"type": report.state, "time": values.get("time"), "start_seconds": values["seconds"]})

    def _write_row(self, values: dict[str, Any]) -> None:
        self._write(format_csv([[values.get(column) for column in CSV_COLUMNS]]).removesuffix("\n"))
