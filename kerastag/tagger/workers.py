"""Tagging of recordings one after the other, or in several processes with the order kept."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kerastag import audio
from kerastag._native_logs import hide_native_logs
from kerastag.dsp import FrontEnd
from kerastag.files import atomic_path
from kerastag.labels import LabelSet
from kerastag.tagger.clips import write_clips
from kerastag.tagger.formats import FORMATS
from kerastag.tagger.plot import compute_log_mel_overview, plot_timeline
from kerastag.tagger.results import Timeline
from kerastag.tagger.start_times import read_start_time
from kerastag.tagger.tagged_recording import RecordingTagger, TaggedRecording
from kerastag.tagger.tagger import Tagger
from kerastag.tagger.terminal import PREFIX, STANDARD_INPUT, format_error, format_line, make_printable

__all__ = ["Result", "Task", "Worker", "WorkerOptions", "run_in_processes"]


class Task(NamedTuple):
    """A recording, its name relative to the folder that was given, and the file of its result, if it has one."""

    path: str
    relative_name: Path
    target: Path | None = None


class Result(NamedTuple):
    """The text of a recording, None if it failed, and lines for standard error."""

    text: Iterable[str] | None
    messages: list[str]


@dataclass(frozen=True)
class WorkerOptions:
    """What a process needs besides the model."""

    rules: Mapping[str, Any]
    format: str
    timeline: bool
    events: bool
    plot: str | None
    clips: Path | None
    clip_format: str
    unicode: bool


class Worker:
    """A model with its options, which tags recordings in one process."""

    def __init__(self, model: str, options: WorkerOptions) -> None:
        self._options = options
        self._tagger = Tagger.load(model)
        self._recording_tagger = RecordingTagger(self._tagger, **options.rules)
        if options.events or options.timeline or options.plot is not None:
            _ = self._tagger.seconds_per_frame  # raises where there are no output frames

    def run_all(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Result]]:
        for task in tasks:
            yield task, self.run(task)

    def run(self, task: Task, spool: Path | None = None) -> Result:
        """Tag one recording, and write its text to its own file or to `spool` if there is one."""
        with warnings.catch_warnings(record=True) as audio_warnings:
            warnings.simplefilter("always", audio.AudioWarning)
            messages = []
            text: Iterable[str] | None = None
            try:
                text = self._tag(task)
                if task.target is not None:
                    header = FORMATS[self._options.format].header(self._options.events, self._options.timeline)
                    _write_text(task.target, itertools.chain([header], text))
                elif spool is not None:
                    _write_text(spool, text)
            except Exception as error:  # One recording never ends the others.
                text = None
                messages.append(format_error(task.path, error))
        messages += dict.fromkeys(f"{PREFIX}warning: {format_line(warning.message)}" for warning in audio_warnings)
        return Result(text, messages)

    def _tag(self, task: Task) -> Iterable[str]:
        options, tagger = self._options, self._tagger
        is_stream, channel = task.path == STANDARD_INPUT, options.rules["channel"]
        with audio.spool_stream(sys.stdin) if is_stream else contextlib.nullcontext(task.path) as source:
            recording = self._recording_tagger.process(
                source,
                make_printable(task.path),
                started_at=None if is_stream else read_start_time(task.path),
                events=options.events,
                timeline=options.timeline or options.plot is not None,
            )
            if options.plot is not None:
                _plot(tagger, source, recording, options.plot, channel)
            if options.clips is not None:
                prefix, clip_format = options.clips / task.relative_name, options.clip_format
                write_clips(source, recording.events or [], prefix, tagger.card.sample_rate, clip_format, channel)
        if not options.timeline:
            recording = dataclasses.replace(recording, frames=None)
        return FORMATS[options.format].format(recording, tagger.card.sample_rate / 2, options.unicode)


_worker: Worker  # of a process of `run_in_processes`


def run_in_processes(
    model: str, options: WorkerOptions, tasks: Sequence[Task], jobs: int, folder: Path
) -> Iterator[tuple[Task, Result]]:
    """Run tasks in several processes, in order; a process that dies costs only the recording that it was tagging."""
    waiting, running = deque(enumerate(tasks)), deque[tuple[int, Task, Future[Result]]]()

    def create_pool(size: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(size, get_context("spawn"), _start_worker, (model, options))

    def submit(pool: ProcessPoolExecutor, number: int, task: Task) -> Future[Result]:
        # A process that starts inherits that the signal is ignored, and so writes no traceback at Ctrl+C.
        with _ignore_interrupts():
            return pool.submit(_run_in_worker, task, folder / str(number))

    pool = create_pool(min(jobs, len(tasks) or 1))
    try:
        while waiting or running:
            while waiting and len(running) < 2 * jobs:
                number, task = waiting.popleft()
                running.append((number, task, submit(pool, number, task)))
            number, task, future = running.popleft()
            try:
                result = future.result()
            except BrokenProcessPool:
                pool.shutdown()
                with create_pool(1) as single:
                    try:
                        result = submit(single, number, task).result()
                    except BrokenProcessPool:
                        error = RuntimeError("the process that tagged it was killed or crashed")
                        result = Result(None, [format_error(task.path, error)])
                pool = create_pool(jobs)
                lost = [each for each in running if not each[2].done() or each[2].exception()]
                running = deque(
                    (k, each, submit(pool, k, each)) if (k, each, old) in lost else (k, each, old)
                    for k, each, old in running
                )
            spool = folder / str(number)
            if result.text is not None and task.target is None:
                result = result._replace(text=_read_text(spool))
            yield task, result
            spool.unlink(missing_ok=True)
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _ignore_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _start_worker(model: str, options: WorkerOptions) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl+C ends the process without a traceback.
    with hide_native_logs():
        _worker = Worker(model, options)


def _run_in_worker(task: Task, spool: Path) -> Result:
    result = _worker.run(task, spool)
    return result if result.text is None else result._replace(text=())  # The text is in a file.


def _write_text(path: Path, parts: Iterable[str]) -> None:
    with atomic_path(path) as temporary_path, temporary_path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(parts)


def _read_text(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="") as file:
        while part := file.read(1 << 16):
            yield part


def _plot(
    tagger: Tagger, source: str | os.PathLike[str], recording: TaggedRecording, output: str, channel: str | int
) -> None:
    front_end = FrontEnd.from_dict(dict(tagger.card.front_end))
    blocks = audio.read_blocks(source, front_end.sample_rate, channel=channel)
    log_mel = compute_log_mel_overview(blocks, front_end, recording.duration_seconds)
    assert recording.frames is not None  # for the type checker: it was requested
    indices = [tagger.labels.index(mid) for mid in recording.frame_mids]
    labels = LabelSet(tuple(recording.frame_mids), tuple(tagger.labels.names[k] for k in indices))
    clipwise = recording.clipwise[indices]
    probabilities = np.concatenate(list(recording.frames.read_blocks(range(len(indices)))))
    seconds = recording.seconds_per_frame * np.arange(len(probabilities))
    timeline = Timeline(seconds, probabilities, clipwise, labels, recording.duration_seconds, probabilities)
    classes = [labels.index(tag.mid) for tag in recording.tags] or [int(clipwise.argmax())]
    title = "standard input" if recording.name == STANDARD_INPUT else Path(recording.name).name
    plot_timeline(timeline, classes, log_mel, front_end, output, title)
