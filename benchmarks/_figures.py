"""Figures that the documents print: each table of a benchmark, with the command, machine, versions and commit of it.

A benchmark calls `print_table` instead of printing `format_table`. With `--record`, the table is also written to
`benchmarks/figures/NAME.json`. `tests/test_figures.py` compares the documents with these files.
"""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from kerastag._provenance import PACKAGES, list_gpus, package_versions
from kerastag.files import read_json, write_json
from kerastag.markdown import format_table

FOLDER = Path(__file__).resolve().parent / "figures"
RUNTIME_PACKAGES = ("ai-edge-litert", "tflite-runtime", "ai-edge-quantizer", "pyarrow", "soundfile", "soxr", "uvicorn")
FLAG = "--record"
Table = tuple[Sequence[object], Sequence[Sequence[object]]]
"""Header and rows of a table."""


def describe_environment() -> str:
    """Describe the versions of the packages, the processor, the GPUs and the load of this machine."""
    versions = package_versions((*PACKAGES, *RUNTIME_PACKAGES))
    parts = [f"{name} {version}" for name, version in versions.items()]
    return " · ".join([*parts, *list_gpus(), f"load average {os.getloadavg()[0]:.1f}"])


def add_record_flag(parser: argparse.ArgumentParser) -> None:
    """Add the flag `--record` to the command line of a benchmark."""
    parser.add_argument(FLAG, action="store_true", help=f"Write the table to {FOLDER.parent.name}/{FOLDER.name}, too.")


def print_table(name: str, header: Sequence[object], rows: Iterable[Sequence[object]], is_recorded: bool) -> None:
    """Print a table as Markdown and, if `is_recorded`, write it to a file, too.

    Args:
        name: Name of the file without its extension, such as `serving_start`.
        header: Titles of the columns.
        rows: Cells of each row, as they are printed.
        is_recorded: Whether to record the table.
    """
    rows = list(rows)
    print(format_table(header, rows))
    if is_recorded:
        record(name, header, rows)


def record(name: str, header: Sequence[object], rows: Iterable[Sequence[object]], folder: Path = FOLDER) -> Path:
    """Write a table, and what it was measured with, to a file; the same command replaces what it wrote before.

    Args:
        name: Name of the file without its extension.
        header: Titles of the columns.
        rows: Cells of each row, as they are printed.
        folder: Folder of the file.

    Returns:
        Path of the file.
    """
    path = folder / f"{name}.json"
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *(a for a in sys.argv[1:] if a != FLAG)])
    versions = package_versions((*PACKAGES, *RUNTIME_PACKAGES))
    measurement = {
        "command": command,
        "machine": ", ".join([versions.pop("machine"), *list_gpus()]),
        "versions": versions,
        "commit": _read_commit(),
        "rows": [dict(zip(map(str, header), map(str, row), strict=True)) for row in rows],
    }
    measurements = read_measurements(path) if path.is_file() else []
    commands = [each["command"] for each in measurements]
    if command in commands:
        measurements[commands.index(command)] = measurement
    else:
        measurements.append(measurement)
    return write_json(path, {"format": 1, "measurements": measurements})


def read_measurements(path: Path) -> list[dict[str, Any]]:
    """Read the measurements of a file: `command`, `machine`, `versions`, `commit`, and `rows` by column.

    Raises:
        ValueError: The file has another format.
    """
    content = read_json(path)
    if content.get("format") != 1:
        raise ValueError(f"{path}: `format` must be 1; received: {content.get('format')!r}")
    return list(content["measurements"])


def read_rows(name: str) -> list[dict[str, str]]:
    """Read the rows of all measurements of a table."""
    return [row for each in read_measurements(FOLDER / f"{name}.json") for row in each["rows"]]


@cache
def _read_commit() -> str | None:
    """Return the commit of the checkout, with `-dirty` if files are changed, or None outside of a checkout.

    A process reads it once, since the tables that it records are changed files, too.
    """
    command = ["git", "-C", str(FOLDER.parent), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True, encoding="utf-8").stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
