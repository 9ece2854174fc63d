"""The process that decodes and tags.

`main` takes a `Job` and then `Request`s from standard input, and writes messages to standard output, all pickled:
`Ready` or `Refused` once, and for each file of a request any number of `Part`s and then a `Done` or a `Failure`.
"""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from kerastag._native_logs import hide_native_logs
from kerastag.archive.analysis import Columns, RecordingAnalyzer
from kerastag.archive.failures import Failure, describe_failure
from kerastag.archive.reading import (
    DecodingEnd,
    DecodingError,
    Item,
    ListedFile,
    PassEnd,
    prefetch,
    read_recordings,
)
from kerastag.archive.settings import Job
from kerastag.files import compute_digest
from kerastag.tagger import Tagger

__all__ = ["NUM_AHEAD", "Done", "Part", "Ready", "Refused", "Request", "main"]

_NUM_BLOCKS = 2
NUM_AHEAD = _NUM_BLOCKS + 1
"""Largest number of recordings after the current one that may be in the process, while it decodes ahead."""


class Request(NamedTuple):
    """Recordings to process; the first `num_alone` of them one by one, without decoding ahead."""

    files: list[ListedFile]
    num_alone: int


class Ready(NamedTuple):
    """The model is loaded. `card` is its card as JSON values."""

    card: dict[str, Any]
    num_features: int


class Refused(NamedTuple):
    """The model cannot be loaded, or does not fit the settings."""

    error: Exception


class Part(NamedTuple):
    """Rows of the current recording, of which the first `seconds` were processed."""

    columns: Columns
    seconds: float


class Done(NamedTuple):
    """The end of a recording, with the result of `RecordingAnalyzer.analyze` and further values of its row."""

    summary: dict[str, Any]


def main() -> None:
    """Process requests until standard input ends."""
    # The messages have a descriptor of their own: whatever a library prints goes to standard error.
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # The process that sends requests decides when this one ends.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    job: Job = pickle.load(source)
    try:
        if (digest := compute_digest(job.model)) != job.digest:
            raise ValueError(
                f"{job.model}: must be the model of the archive, {job.digest[:12]}…; received: {digest[:12]}…"
            )
        with hide_native_logs():
            tagger = Tagger.load(job.model, num_threads=1)
            analyzer = RecordingAnalyzer(tagger, job.settings)
    except Exception as error:
        _send(target, Refused(type(error)(*error.args)))
        return
    _send(target, Ready(tagger.card.as_dict(), analyzer.num_features))
    _limit_memory(job.memory_limit_mb)
    while True:
        try:
            request: Request = pickle.load(source)
        except EOFError:
            return
        _process(request.files[: request.num_alone], job, tagger, analyzer, target, alone=True)
        _process(request.files[request.num_alone :], job, tagger, analyzer, target, alone=False)


def _process(
    files: list[ListedFile], job: Job, tagger: Tagger, analyzer: RecordingAnalyzer, target: BinaryIO, *, alone: bool
) -> None:
    model_rate = tagger.card.sample_rate
    items = read_recordings(files, job.base, model_rate, job.settings.channel, analyzer.num_passes)
    for number, group in itertools.groupby(items if alone else prefetch(items, _NUM_BLOCKS), key=lambda item: item[0]):
        parts = (item for _, item in group)
        try:
            summary = analyzer.analyze(partial(_read_pass, parts), lambda *part: _send(target, Part(*part)))
            end = next(parts)
            if not isinstance(end, DecodingEnd):
                raise _ReadingError(end)
            summary["empty_reason"] = _explain_no_tags(summary, end.sample_rate, model_rate)
            summary["warning"] = "; ".join(end.warnings) or None
            message: Any = Done(summary)
        except MemoryError as error:
            message = _describe_or_exit("tag", error, alone)
        except _ReadingError as error:
            stage, cause = error.args[0]
            if isinstance(cause, MemoryError):
                message = _describe_or_exit(stage, cause, alone)
            else:
                message = describe_failure(stage, cause, files[number].path)
        except Exception as error:
            message = describe_failure("tag", error, files[number].path)
        _send(target, message)


class _ReadingError(Exception):
    """A `DecodingError`, on its way to the recording that it belongs to."""


def _read_pass(parts: Iterator[Item]) -> Iterator[np.ndarray]:
    for item in parts:
        if isinstance(item, PassEnd):
            return
        if isinstance(item, DecodingError):
            raise _ReadingError(item)
        assert isinstance(item, np.ndarray)  # for the type checker: a `DecodingEnd` follows the last pass
        yield item


def _describe_or_exit(stage: str, error: MemoryError, alone: bool) -> Failure:
    """Describe a lack of memory, or exit if it may be due to a recording that was decoded ahead."""
    if not alone:
        os._exit(1)
    return describe_failure(stage, error)


def _explain_no_tags(summary: dict[str, Any], sample_rate: int, model_rate: int) -> str | None:
    if summary["num_tags"] or summary["num_events"] or summary["top_class"] is None:
        return None
    if summary["is_silent"]:
        return "silence"
    return "sample_rate" if 0 < 2 * sample_rate <= model_rate else "threshold"


def _send(target: BinaryIO, message: Any) -> None:
    try:
        pickle.dump(message, target, pickle.HIGHEST_PROTOCOL)
        target.flush()
    except BrokenPipeError:  # Nobody waits for the result any more.
        os._exit(0)


def _limit_memory(megabytes: int) -> None:
    """Limit the memory that this process may take beyond what it has, where the system can."""
    try:
        import resource

        status = Path("/proc/self/status").read_text(encoding="ascii")
    except (ImportError, OSError):  # only Linux
        return
    used_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData:"))
    limit = used_kb * 1024 + megabytes * 1_000_000
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
