"""One shard of an archive: a pure function of its files, the model and the settings to one Parquet file per table.

The files of a shard are renamed into their folders one after the other. `shards/part-000012.json`, which is written
last, states that the shard is done and counts what it has.
"""

from __future__ import annotations

import pickle
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from kerastag.archive.analysis import Columns
from kerastag.archive.failures import Failure
from kerastag.archive.reading import ListedFile
from kerastag.archive.settings import ArchiveSettings, Job
from kerastag.archive.supervision import Worker
from kerastag.archive.tables import FORMAT, TableWriter, name_part
from kerastag.archive.worker import Done, Part, Ready
from kerastag.files import move_file, read_json, temporary_folder, write_json

__all__ = ["find_finished_shards", "get_record_path", "list_tables", "read_records", "write_shard"]

_RECORDS = "shards"
_SPOOL_BYTES = 1 << 22
_FILE_FIELDS = (
    "duration_seconds",
    "num_windows",
    "num_tags",
    "num_events",
    "top_probability",
    "empty_reason",
    "warning",
)

Report = Callable[[int, int, float, int], object]
"""Function that takes what was done since its last call: numbers of files and bytes, seconds of audio, and failures."""


def list_tables(settings: ArchiveSettings, has_classes: bool) -> list[str]:
    """List the tables of an archive."""
    optional = {"tags": has_classes, "events": settings.events, "embeddings": settings.embeddings}
    return ["files", *(table for table, is_written in optional.items() if is_written), "failures"]


def get_record_path(folder: Path, shard: int) -> Path:
    """Return the path of the file that states that a shard is done."""
    return folder / _RECORDS / Path(name_part(shard)).with_suffix(".json").name


def find_finished_shards(folder: Path) -> set[int]:
    """Find the shards of an archive that are done."""
    return {int(path.stem.removeprefix("part-")) for path in (folder / _RECORDS).glob("part-*.json")}


def read_records(folder: Path, shards: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Read what finished shards count; a ValueError names a damaged file."""
    for shard in shards:
        yield read_json(get_record_path(folder, shard))


def list_files(files: pa.Table) -> list[ListedFile]:
    """Return the rows of a slice of the manifest."""
    return [ListedFile(*row) for row in zip(*(files[name].to_pylist() for name in ListedFile._fields), strict=True)]


def write_shard(job: Job, shard: int, files: Sequence[ListedFile], worker: Worker, report: Report) -> None:
    """Process the files of a shard and write its tables.

    Args:
        job: Job of the archive.
        shard: Number of the shard.
        files: Files of the shard.
        worker: Worker of the same job.
        report: Function to call after each file, and a few times during a long one.

    Raises:
        ValueError: The model cannot be loaded, or does not fit the settings.
        OSError: A table cannot be written.
    """
    folder, ready = Path(job.folder), worker.ready
    with temporary_folder(folder / Path(name_part(shard)).stem) as temporary:
        with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as spool:
            tables = _Tables(temporary, job, files, ready, spool)
            number, reported_seconds = 0, 0.0
            for message in worker.process(files):
                if message is None:
                    tables.discard()
                    report(0, 0, -reported_seconds, 0)
                    reported_seconds = 0.0
                elif isinstance(message, Part):
                    tables.add_part(message.columns)
                    report(0, 0, message.seconds - reported_seconds, 0)
                    reported_seconds = message.seconds
                else:
                    seconds = tables.finish(number, message)
                    report(1, files[number].size or 0, seconds - reported_seconds, int(isinstance(message, Failure)))
                    number, reported_seconds = number + 1, 0.0
            record = tables.close()
        for table in tables.names:
            (folder / table).mkdir(parents=True, exist_ok=True)
            move_file(temporary / f"{table}.parquet", folder / table / name_part(shard))
    write_json(get_record_path(folder, shard), {"format": FORMAT, "shard": shard, **record})


class _Tables:
    """The tables of a shard, and counts for its record."""

    def __init__(self, folder: Path, job: Job, files: Sequence[ListedFile], ready: Ready, spool: IO[bytes]) -> None:
        labels = ready.card["labels"]
        names: list[str] = labels["names"] if labels else []
        self._mids: list[str] = labels["mids"] if labels else []
        texts = {
            "file": [file.path for file in files],
            "class": names,
            "mid": self._mids,
            "top_class": names,
            "top_mid": self._mids,
        }
        self.names = list_tables(job.settings, labels is not None)
        self._settings = job.settings
        self._writers = {}
        for table in self.names:
            writer = TableWriter(
                folder / f"{table}.parquet", table, texts, _describe(job, ready.card, table), ready.num_features
            )
            self._writers[table] = writer
        self._spool = spool
        self._counts: dict[str, Counter[str]] = {"failures": Counter(), "empty": Counter()}
        self._classes: dict[str, list[int]] = {}
        self._seconds, self._bytes, self._num_files = 0.0, sum(file.size or 0 for file in files), len(files)

    def add_part(self, columns: Columns) -> None:
        """Add rows of the current recording, which are kept apart until it is done."""
        pickle.dump(columns, self._spool)

    def discard(self) -> None:
        """Drop the rows of the current recording."""
        self._spool.seek(0)
        self._spool.truncate()

    def finish(self, number: int, end: Done | Failure) -> float:
        """Finish a recording and return its duration in seconds."""
        if isinstance(end, Failure):
            self._counts["failures"][end.kind] += 1
            self._writers["failures"].append(
                {"file": np.array([number]), **{name: [value] for name, value in end._asdict().items()}}
            )
            self.discard()
            return 0.0
        summary = end.summary
        size = self._spool.tell()
        self._spool.seek(0)
        while self._spool.tell() < size:
            for table, columns in pickle.load(self._spool).items():
                count = len(next(iter(columns.values())))
                row = {"file": np.full(count, number), **columns}
                self._writers[table].append({**row, "mid": columns["class"]} if "class" in columns else row)
        self.discard()
        top = summary["top_class"]
        index = [None] if top is None else np.array([top])
        values = {name: [summary[name]] for name in _FILE_FIELDS}
        self._writers["files"].append({"file": np.array([number]), "top_class": index, "top_mid": index, **values})
        if summary["empty_reason"] is not None:
            self._counts["empty"][summary["empty_reason"]] += 1
        for k, count in summary["tags_by_class"].items():
            counts = self._classes.setdefault(self._mids[k], [0, 0])
            counts[0], counts[1] = counts[0] + count, counts[1] + 1
        self._seconds += summary["duration_seconds"]
        return summary["duration_seconds"]

    def close(self) -> dict[str, Any]:
        """Write the ends of the tables, and return the counts."""
        for writer in self._writers.values():
            writer.close()
        return {
            "files": self._num_files,
            "bytes": self._bytes,
            "seconds": self._seconds,
            "rows": {table: writer.num_rows for table, writer in self._writers.items()},
            **{name: dict(sorted(counts.items())) for name, counts in self._counts.items()},
            "classes": {mid: {"tags": tags, "files": files} for mid, (tags, files) in sorted(self._classes.items())},
        }


def _describe(job: Job, card: Mapping[str, Any], table: str) -> dict[str, Any]:
    """Return the metadata of a table: settings, digest and card; the classes are only in the card of `tags`."""
    per_class = ("labels", "thresholds")
    values = {name: value for name, value in card.items() if table == "tags" or name not in per_class}
    return {"model": job.digest, "settings": job.settings.as_dict(), "card": values}
