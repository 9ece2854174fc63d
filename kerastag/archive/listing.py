"""The recordings that inputs stand for: folders, patterns, tables with a column of paths, and URLs."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from kerastag.archive.remote import is_url, list_remote
from kerastag.audio.formats import AUDIO_EXTENSIONS, is_audio_name, resolve_listed_path, scan_files

__all__ = ["LISTING_SCHEMA", "list_inputs"]

LISTING_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("size", pa.int64()),
        pa.field("modified_ns", pa.int64()),
        pa.field("problem", pa.string()),
    ]
)
"""Columns of a listing. `problem` states why a file cannot be processed at all, and is null for all others."""

_TABLE_EXTENSIONS = (".csv", ".tsv", ".parquet")
_PATH_COLUMNS = ("path", "file", "file_path", "filepath", "filename", "file_name", "audio", "url")
_Row = tuple[str, int | None, int | None, str | None]


def list_inputs(inputs: Sequence[str], base: str | os.PathLike[str], path_column: str | None = None) -> pa.Table:
    """List the recordings of an archive, sorted by their paths, each once.

    A file that cannot be processed is listed with its problem. Paths are those of the inputs, joined with the names in
    a folder as they are on disk.

    Args:
        inputs: Audio files, folders with audio files in any depth, patterns such as `2024*/*.wav`, CSV, TSV or Parquet
            files with a column of paths relative to their folder, or URLs that fsspec supports.
        base: Folder to which relative inputs refer.
        path_column: Column of paths in a table; None takes the first of `path`, `file`, `filename` and the like.

    Returns:
        Table with the columns of `LISTING_SCHEMA`.

    Raises:
        FileNotFoundError: An input does not exist or no file matches a pattern.
        ValueError: A table has no column of paths, or there are no recordings.
        OSError: A folder that was given, a table or a URL cannot be read.
    """
    rows: list[_Row] = []
    for text in inputs:
        rows += _list_input(text, Path(base), path_column)
    if not rows:
        extensions = ", ".join(sorted(AUDIO_EXTENSIONS))
        raise ValueError(f"{', '.join(inputs)}: must have audio files ({extensions}); received: none")
    try:
        columns = _convert(rows)
    except UnicodeEncodeError:
        columns = _convert([_escape(*row) for row in rows])
    table = pa.table(columns, schema=LISTING_SCHEMA).sort_by("path")
    path = table["path"].combine_chunks()
    is_new = pc.not_equal(path[1:], path[:-1]) if len(path) > 1 else pa.array([], pa.bool_())
    return table.filter(pa.concat_arrays([pa.array([True]), is_new])).combine_chunks()


def _list_input(text: str, base: Path, path_column: str | None) -> Iterator[_Row]:
    if is_url(text):
        yield from ((*file, None) for file in list_remote(text))
        return
    path = base / text
    if path.is_dir():
        yield from _list_folder(text, path)
    elif path.suffix.lower() in _TABLE_EXTENSIONS and path.is_file():
        yield from _list_table(text, path, path_column)
    elif path.exists():
        yield _describe(text, path)
    elif glob.has_magic(text):
        matches = sorted(glob.glob(text, root_dir=base, recursive=True))  # noqa: PTH207 - keeps the form of the pattern
        if not matches:
            raise FileNotFoundError(f"{text}: no file matches")
        for match in matches:
            if (base / match).is_dir():
                yield from _list_folder(match, base / match)
            elif is_audio_name(match):
                yield _describe(match, base / match)
    else:
        raise FileNotFoundError(f"{path}: no such file or folder")


def _list_folder(name: str, folder: Path) -> Iterator[_Row]:
    prefix = "" if name in ("", ".") else name.rstrip("/") + "/"
    unreadable: list[OSError] = []
    os.scandir(folder).close()  # raises where the folder itself cannot be read
    for relative, entry in scan_files(folder, unreadable.append):
        if is_audio_name(relative):
            try:
                status = entry.stat()
            except OSError as error:
                yield prefix + relative, None, None, _describe_problem(error)
            else:
                yield prefix + relative, status.st_size, status.st_mtime_ns, None
    for problem in unreadable:
        relative = os.path.relpath(os.fspath(problem.filename), folder)
        yield prefix + relative, None, None, _describe_problem(problem)


def _list_table(name: str, path: Path, path_column: str | None) -> Iterator[_Row]:
    """List the files in a column of a table; relative paths refer to the folder of the table."""
    folder = name[: len(name) - len(path.name)]
    for text in _read_paths(path, path_column):
        if is_url(text):
            yield text, None, None, None
            continue
        row = _describe(text if Path(text).is_absolute() else folder + text, path.parent / text)
        if row[3] is not None and (resolved := resolve_listed_path(path.parent, text)).exists():
            relative = os.path.relpath(resolved, path.parent)
            row = _describe(os.fspath(resolved) if Path(text).is_absolute() else folder + relative, resolved)
        yield row


def _read_paths(path: Path, path_column: str | None) -> Iterable[str]:
    try:
        if path.suffix.lower() == ".parquet":
            column = _find_column(path, pq.read_schema(path).names, path_column)
            values = pq.read_table(path, columns=[column]).column(0).cast(pa.string())
        else:
            parse = csv.ParseOptions(delimiter="\t" if path.suffix.lower() == ".tsv" else ",", newlines_in_values=True)
            with csv.open_csv(path, parse_options=parse) as reader:
                column = _find_column(path, reader.schema.names, path_column)
            convert = csv.ConvertOptions(include_columns=[column], column_types={column: pa.string()})
            values = csv.read_csv(path, parse_options=parse, convert_options=convert).column(0)
    except pa.ArrowException as error:
        kind = "Parquet" if path.suffix.lower() == ".parquet" else "UTF-8 text"
        raise ValueError(f"{path}: must be a complete {kind} table with a column of paths ({error})") from error
    return [value for value in values.to_pylist() if value]


def _find_column(path: Path, names: Sequence[str], path_column: str | None) -> str:
    wanted = _PATH_COLUMNS if path_column is None else (path_column,)
    for name in wanted:
        if name in names:
            return name
    expected = " or ".join(wanted)
    raise ValueError(f"{path}: must have a column of paths, {expected}; received: {', '.join(names)[:200] or 'none'}")


def _describe(name: str, path: Path) -> _Row:
    try:
        status = path.stat()
    except OSError as error:
        return name, None, None, _describe_problem(error)
    return name, status.st_size, status.st_mtime_ns, None


def _describe_problem(error: OSError) -> str:
    return "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"


def _convert(rows: Sequence[_Row]) -> list[pa.Array]:
    return [pa.array([row[k] for row in rows], field.type) for k, field in enumerate(LISTING_SCHEMA)]


def _escape(path: str, size: int | None, modified_ns: int | None, problem: str | None) -> _Row:
    r"""Write the bytes of a path that are not UTF-8 as `\xff`, and make them its problem."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return text, size, modified_ns, "its name is not UTF-8, which Parquet needs" if text != path else problem
