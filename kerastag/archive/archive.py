"""Writing an archive: list the files, cut them into shards, write the shards that are missing, and report."""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from kerastag._provenance import count_cores
from kerastag.archive.engines import ENGINES, Slice, run_local, run_ray
from kerastag.archive.listing import list_inputs
from kerastag.archive.manifest import Changes, Manifest
from kerastag.archive.plan import create_plan, read_plan, write_plan
from kerastag.archive.progress import Progress, ProgressDisplay
from kerastag.archive.report import create_report, format_report
from kerastag.archive.settings import ArchiveSettings, Job
from kerastag.archive.shards import find_finished_shards, get_record_path, read_records
from kerastag.archive.supervision import Worker
from kerastag.archive.tables import TABLES, name_part
from kerastag.card import Card
from kerastag.files import remove_stale_files, remove_temporary_folders, write_json, write_text
from kerastag.locks import hold_lock
from kerastag.tagger.engines import prepare_model
from kerastag.tagger.presets import find_tagger_weights

__all__ = ["write_archive"]

_LOCK = "archive"
_REPORT = "report"
# Many processes can share the shards of a small archive, and those of a large one are few files.
_NUM_SHARDS, _MIN_FILES, _MAX_FILES = 64, 16, 1_000


def write_archive(
    inputs: Sequence[str],
    output: str | os.PathLike[str],
    model: str | os.PathLike[str],
    settings: ArchiveSettings | None = None,
    *,
    engine: str = "local",
    jobs: int | None = None,
    address: str | None = None,
    shard: str | None = None,
    plan_only: bool = False,
    update: bool = False,
    retry_failures: bool = False,
    path_column: str | None = None,
    time_limit: float = 300.0,
    memory_limit_mb: int = 2_000,
    shard_files: int | None = None,
    shard_megabytes: int = 1_000,
    json_progress: bool = False,
) -> dict[str, Any]:
    """Tag many recordings and write the results as Parquet, or write what is missing of an archive.

    The first run lists the inputs into a manifest and cuts it into shards. A shard is a pure function of its files, the
    model and the settings: however often the run is interrupted, and whatever writes the shards, the files have the
    same bytes. A later run adds new files in new shards. At SIGTERM or Ctrl+C, the shards in hand are finished.

    Args:
        inputs: Audio files, folders, patterns, tables with a column of paths, or URLs, as in `list_inputs`.
        output: Folder of the archive.
        model: Path of a `.tflite` or `.keras` file with its card, or a preset, which is exported to LiteRT.
        settings: What decides the rows of the archive.
        engine: `"local"` for processes of this machine, or `"ray"` for tasks of a Ray cluster.
        jobs: Number of processes of the local engine; None is the number of cores.
        address: Address of the Ray cluster; None is `RAY_ADDRESS`, or the cluster of this machine.
        shard: `"I/N"` writes the I-th of N parts of the shards of a planned archive, for job arrays; `I` is from 1.
        plan_only: Whether to list the inputs and stop.
        update: Whether to process the shards of changed and removed files again.
        retry_failures: Whether to process the shards with failures again.
        path_column: Column of paths in tables.
        time_limit: Longest time in which a recording must make progress, above 0 s.
        memory_limit_mb: Memory that a recording may take besides the model, at least 100 MB; for Linux only.
        shard_files: Largest number of files of a new shard, at least 1; None makes 64 shards of 16 to 1,000 files, or
            more, for any number of processes.
        shard_megabytes: Largest size of the files of a new shard with several, at least 1 MB.
        json_progress: Whether to write the progress as JSON lines to standard output.

    Returns:
        The report, as in `report.json`; `stopped_by` is the number of the signal that ended the run, or None.

    Raises:
        ValueError: An argument is out of range; the archive has another model or other settings; or the model does not
            fit the settings.
        FileNotFoundError: An input or the model does not exist.
        BlockingIOError: Another run writes the archive.
        OSError: A folder or a table cannot be read or written.
    """
    _check_options(engine, jobs, shard, plan_only, time_limit, memory_limit_mb, shard_files, shard_megabytes)
    settings, folder = settings or ArchiveSettings(), Path(output)
    is_published = find_tagger_weights(os.fspath(model)) is not None
    path = prepare_model(model, "litert" if is_published else "auto").absolute()
    settings = settings.with_card_rules(Card.read(path).event_rules)
    plan = create_plan(path, settings, inputs)
    job = Job(
        os.fspath(folder.absolute()),
        plan["base"],
        os.fspath(path),
        plan["model"],
        settings,
        time_limit,
        memory_limit_mb,
    )
    if shard is not None:
        if not read_plan(folder, plan):
            raise FileNotFoundError(f"{folder}: must be a planned archive: run the same command with --plan-only first")
        manifest = Manifest(folder)
        index, count = map(int, shard.split("/"))
        slices = [(number, files) for number, files in manifest.get_slices() if number % count == index - 1]
        return _run(job, manifest, slices, engine, jobs, address, plan, json_progress, is_part=True)
    with hold_lock(folder / _LOCK):
        is_new = not read_plan(folder, plan)
        if is_new:
            with contextlib.closing(Worker(job)) as worker:
                _ = worker.ready  # raises where the model does not fit the settings
        listing = list_inputs(inputs, plan["base"], path_column)
        if is_new:
            write_plan(folder, plan)
        manifest = Manifest(folder)
        changes = manifest.compare(listing)
        if update:
            _update(folder, manifest, changes)
        else:
            _warn(folder, changes)
        max_files = shard_files or min(_MAX_FILES, max(_MIN_FILES, math.ceil(len(changes.added) / _NUM_SHARDS)))
        manifest.extend(changes.added, max_files, shard_megabytes * 1_000_000)
        if retry_failures:
            for record in read_records(folder, sorted(find_finished_shards(folder))):
                if record["failures"]:
                    get_record_path(folder, record["shard"]).unlink()
        slices = [] if plan_only else list(manifest.get_slices())
        return _run(job, manifest, slices, engine, jobs, address, plan, json_progress)


def _run(
    job: Job,
    manifest: Manifest,
    slices: list[Slice],
    engine: str,
    jobs: int | None,
    address: str | None,
    plan: dict[str, Any],
    json_progress: bool,
    *,
    is_part: bool = False,
) -> dict[str, Any]:
    """Write the shards of a run that are missing, and the report."""
    folder = Path(job.folder)
    finished = find_finished_shards(folder)
    slices = [(number, files) for number, files in slices if number not in finished]
    num_bytes = sum(pc.sum(files["size"]).as_py() or 0 for _, files in slices)
    progress = Progress(sum(len(files) for _, files in slices), num_bytes)
    display = ProgressDisplay(progress, as_json=json_progress)
    with _stop_at_signals() as stop:
        try:
            if not slices:
                pass
            elif engine == "ray":
                run_ray(job, slices, address, progress.add, display.update, stop)
            else:
                run_local(job, slices, jobs or count_cores(), progress.add, display.update, stop)
        finally:
            display.close()
    report = _report(folder, manifest, plan, progress, is_part=is_part)
    report["stopped_by"] = stop.signal
    return report


def _report(
    folder: Path, manifest: Manifest, plan: dict[str, Any], progress: Progress, *, is_part: bool
) -> dict[str, Any]:
    numbers = {number for number, _ in manifest.get_slices()}
    finished = sorted(find_finished_shards(folder) & numbers)
    labels = plan["card"]["labels"]
    report = create_report(read_records(folder, finished), labels, len(manifest.table), len(numbers))
    if progress.num_files:
        report["run"] = progress.as_dict()
    if report["is_complete"]:
        remove_temporary_folders(folder)
        remove_stale_files(folder)
    elif is_part:  # The other parts may be finished in the meantime.
        return report
    write_json(folder / f"{_REPORT}.json", report)
    write_text(folder / f"{_REPORT}.md", format_report(report))
    return report


def _update(folder: Path, manifest: Manifest, changes: Changes) -> None:
    """Make the shards of changed and removed files unfinished, and change the manifest."""
    shards = set(manifest.find_shards(changes))
    for shard in shards:
        get_record_path(folder, shard).unlink(missing_ok=True)
    manifest.update(changes)
    for shard in shards - {number for number, _ in manifest.get_slices()}:
        for table in TABLES:
            (folder / table / name_part(shard)).unlink(missing_ok=True)


def _warn(folder: Path, changes: Changes) -> None:
    num_changed, num_removed = len(changes.changed), len(changes.removed)
    if num_changed or num_removed:
        name = (changes.changed["path"] if num_changed else changes.removed)[0].as_py()
        print(
            f"kerastag archive: warning: {folder}: {num_changed:,} files were changed and {num_removed:,} removed "
            f"since the first run, such as {name}; --update processes their shards again",
            file=sys.stderr,
        )


class _Stop(threading.Event):
    """Whether a run should end, and the number of the signal that asked for it."""

    signal: int | None = None


@contextlib.contextmanager
def _stop_at_signals() -> Iterator[_Stop]:
    """Yield an event that SIGTERM or Ctrl+C sets; the second time, they end the process as usual."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    handlers: dict[int, Any] = {}

    def handle(number: int, _: object) -> None:
        stop.signal = number
        stop.set()
        restore()
        print("kerastag archive: finishing the shards in hand", file=sys.stderr, flush=True)

    def restore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    for number in (signal.SIGTERM, signal.SIGINT):
        handlers[number] = signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()


def _check_options(
    engine: str,
    jobs: int | None,
    shard: str | None,
    plan_only: bool,
    time_limit: float,
    memory_limit_mb: int,
    shard_files: int | None,
    shard_megabytes: int,
) -> None:
    if engine not in ENGINES:
        raise ValueError(f"`engine` must be one of {', '.join(ENGINES)}; received: {engine!r}")
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard or "1/1")
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"`shard` must be I/N with I from 1 to N; received: {shard!r}")
    if shard is not None and plan_only:
        raise ValueError("`plan_only` must not be given with `shard`, which uses a plan")
    if not 0 < time_limit < float("inf"):
        raise ValueError(f"`time_limit` must be above 0 s; received: {time_limit}")
    numbers = (
        ("jobs", 1 if jobs is None else jobs, 1),
        ("memory_limit_mb", memory_limit_mb, 100),
        ("shard_files", 1 if shard_files is None else shard_files, 1),
        ("shard_megabytes", shard_megabytes, 1),
    )
    for name, value, least in numbers:
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}; received: {value}")
