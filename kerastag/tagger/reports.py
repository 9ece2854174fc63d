"""Tags of many recordings, in several formats; a recording that cannot be read does not end the others."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from kerastag import audio
from kerastag._native_logs import hide_native_logs
from kerastag.audio.channels import parse_channel
from kerastag.audio.formats import AUDIO_EXTENSIONS, find_audio_files
from kerastag.bundled import BUNDLED_MODEL
from kerastag.dsp import FrontEnd
from kerastag.files import atomic_path
from kerastag.labels import LabelSet
from kerastag.tagger.clips import CLIP_FORMATS, write_clips
from kerastag.tagger.engines import prepare_model
from kerastag.tagger.formats import FORMATS
from kerastag.tagger.plot import check_plot_path, compute_log_mel_overview, plot_timeline
from kerastag.tagger.results import POOLINGS, Timeline, check_tag_limits
from kerastag.tagger.start_times import read_start_time
from kerastag.tagger.tagged_recording import RecordingTagger, TaggedRecording
from kerastag.tagger.tagger import Tagger

__all__ = ["find_recordings", "tag_recordings"]

_PREFIX = "kerastag tag: "
_STANDARD_INPUT = "-"
_MAX_NAMES = 10


def tag_recordings(
    paths: Sequence[str],
    model: str = BUNDLED_MODEL,
    *,
    engine: str = "auto",
    top: int = 5,
    threshold: float | None = None,
    thresholds: str | None = None,
    classes: Sequence[str] = (),
    format: str = "table",
    timeline: bool = False,
    events: bool = False,
    plot: str | None = None,
    pooling: str = "max",
    channel: str | int = "mean",
    off_threshold: float | None = None,
    smoothing_seconds: float = 0.0,
    min_seconds: float = 0.0,
    max_gap_seconds: float = 0.0,
    refractory_seconds: float = 0.0,
    output_dir: str | None = None,
    overwrite: bool = False,
    clips: str | None = None,
    clip_format: str = "flac",
    jobs: int = 1,
) -> int:
    """Tag recordings and write the tags to standard output or to files, in the order of `find_recordings`.

    A recording that cannot be tagged is one line on standard error, and all of them are named again at the end. Where
    standard error is a terminal, it shows the progress over several recordings.

    Args:
        paths: Audio files, folders with audio files in any depth, or `-` for standard input.
        model: Model as in `Tagger.load`.
        engine: What runs published weights, as in `Tagger.load`.
        top: Largest number of tags per recording, at least 1.
        threshold: Least probability of a tag, and probability at which an event begins, in [0, 1]; None takes 0 for
            tags and the thresholds of the model for events.
        thresholds: `"card"` takes the thresholds of the model for tags too.
        classes: Names or identifiers of the only classes to use; none selects all.
        format: `"table"`, `"json"`, `"jsonl"`, `"csv"`, `"raven"` or `"audacity"`. The last two describe a single
            recording: several need `output_dir`.
        timeline: Whether to write the probabilities of the tags over time.
        events: Whether to write when each class begins and ends, by the rules of `kerastag.events.EventRules`.
        plot: Path of a picture of log-mel and tags over time, for a single recording, as in `plot_timeline`.
        pooling: Pooling over the windows of a long recording, as in `Tagger.tag`.
        channel: What to make of several channels, as in `kerastag.audio.load`.
        off_threshold: Probability below which an event ends; None is half of the threshold of its class.
        smoothing_seconds: Length of the median filter over the probabilities, seconds.
        min_seconds: Shortest duration of an event, seconds.
        max_gap_seconds: Longest pause inside an event, seconds.
        refractory_seconds: Shortest time between two events of a class, seconds.
        output_dir: Folder for one file per recording, with the path of the recording in its folder and another
            extension added, `below/a.wav.csv`. None writes to standard output.
        overwrite: Whether to replace files in `output_dir`. Otherwise recordings with a file there are skipped.
        clips: Folder for the part of the recording of each event, as in `write_clips`.
        clip_format: `"flac"` or `"wav"`.
        jobs: Number of processes, at least 1.

    Returns:
        Number of recordings that could not be tagged.

    Raises:
        ValueError: An argument is out of range, or the file is not a model.
        OSError: The model cannot be read.
    """
    if sys.stdout is None:
        raise ValueError("standard output must be open; received: a closed descriptor")
    check_tag_limits(top, 0.0 if threshold is None else threshold)
    parse_channel(channel)
    _check_options(format, pooling, timeline, events, clips, clip_format, jobs, threshold, thresholds, plot)
    recordings, failed = _find_all_recordings(paths)
    count = len(recordings) + len(failed)
    if count != 1 and (plot is not None or (FORMATS[format].is_of_one_recording and output_dir is None)):
        name = "plot" if plot is not None else f"format` {format} without `output_dir"
        raise ValueError(f"`{name}` must be of one recording; received: {count}")
    if jobs > 1 and _STANDARD_INPUT in paths:
        raise ValueError(f"`jobs` must be 1 for standard input; received: {jobs}")
    for folder in (path for path in paths if clips is not None and Path(path).is_dir()):
        if Path(clips or "").resolve().is_relative_to(Path(folder).resolve()):
            raise ValueError(f"`clips` must be outside of the folders to tag; received: {clips!r} in {folder!r}")
    tasks = _create_tasks(recordings, output_dir, FORMATS[format].extension, overwrite)
    if num_skipped := len(recordings) - len(tasks):
        print(
            f"{_PREFIX}{num_skipped} of {count} recordings skipped: they have a file in {output_dir}", file=sys.stderr
        )
    options = _Options(
        rules={
            "top": top,
            "threshold": threshold,
            "use_card_thresholds": thresholds == "card",
            "classes": tuple(classes),
            "pooling": pooling,
            "channel": channel,
            "off_threshold": off_threshold,
            "smoothing_seconds": smoothing_seconds,
            "min_seconds": min_seconds,
            "max_gap_seconds": max_gap_seconds,
            "refractory_seconds": refractory_seconds,
        },
        format=format,
        timeline=timeline,
        events=events,
        plot=plot,
        clips=None if clips is None else Path(clips),
        clip_format=clip_format,
        unicode=output_dir is not None or _can_print("▁"),
    )
    model = os.fspath(prepare_model(model, engine))
    worker = _Worker(model, options)
    with _Terminal(len(tasks)) as output, tempfile.TemporaryDirectory() as folder:
        results = worker.run_all(tasks) if jobs == 1 else _run_in_processes(model, options, tasks, jobs, Path(folder))
        separator = ""
        if output_dir is None:
            output.write([FORMATS[format].opening, FORMATS[format].header(events, timeline)])
        try:
            for task, result in results:
                output.write([line + "\n" for line in result.messages], sys.stderr)
                if result.text is None:
                    failed.append(_name_recording(task.path))
                elif task.target is None:
                    output.write([separator])
                    output.write(result.text)
                    separator = FORMATS[format].separator
                output.advance()
        finally:
            if output_dir is None:
                output.write([FORMATS[format].closing])
    if failed and count > 1:
        names = ", ".join([*failed[:_MAX_NAMES], *(["…"] if len(failed) > _MAX_NAMES else [])])
        print(f"{_PREFIX}{len(failed)} of {count} recordings failed: {names}", file=sys.stderr)
    return len(failed)


def find_recordings(path: str) -> list[str]:
    """List the recordings that a path stands for: the path itself, or the sorted audio files in a folder and below it.

    Args:
        path: Path of a file of any extension, of a folder, whose hidden files are skipped, or `-` for standard input.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: The folder has no audio files.
    """
    return [os.fspath(task.path) for task in _list_recordings(path)]


class _Task(NamedTuple):
    """A recording, its name relative to the folder that was given, and the file of its result, if it has one."""

    path: str
    relative_name: Path
    target: Path | None = None


class _Result(NamedTuple):
    """The text of a recording, None if it failed, and lines for standard error."""

    text: Iterable[str] | None
    messages: list[str]


@dataclass(frozen=True)
class _Options:
    """What a process needs besides the model."""

    rules: Mapping[str, Any]
    format: str
    timeline: bool
    events: bool
    plot: str | None
    clips: Path | None
    clip_format: str
    unicode: bool


class _Worker:
    """A model with its options, which tags recordings in one process."""

    def __init__(self, model: str, options: _Options) -> None:
        self._options = options
        self._tagger = Tagger.load(model)
        self._recording_tagger = RecordingTagger(self._tagger, **options.rules)
        if options.events or options.timeline or options.plot is not None:
            _ = self._tagger.seconds_per_frame  # raises where there are no output frames

    def run_all(self, tasks: Iterable[_Task]) -> Iterator[tuple[_Task, _Result]]:
        for task in tasks:
            yield task, self.run(task)

    def run(self, task: _Task, spool: Path | None = None) -> _Result:
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
                messages.append(_format_error(task.path, error))
        messages += dict.fromkeys(f"{_PREFIX}warning: {_format_line(warning.message)}" for warning in audio_warnings)
        return _Result(text, messages)

    def _tag(self, task: _Task) -> Iterable[str]:
        options, tagger = self._options, self._tagger
        is_stream, channel = task.path == _STANDARD_INPUT, options.rules["channel"]
        with audio.spool_stream(sys.stdin) if is_stream else contextlib.nullcontext(task.path) as source:
            recording = self._recording_tagger.process(
                source,
                _make_printable(task.path),
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


def _check_options(
    format: str,
    pooling: str,
    timeline: bool,
    events: bool,
    clips: str | None,
    clip_format: str,
    jobs: int,
    threshold: float | None,
    thresholds: str | None,
    plot: str | None,
) -> None:
    choices = (
        ("format", format, FORMATS),
        ("pooling", pooling, POOLINGS),
        ("clip_format", clip_format, CLIP_FORMATS),
        ("thresholds", thresholds, (None, "card")),
    )
    for name, value, allowed in choices:
        if value not in allowed:
            expected = ", ".join(str(each) for each in allowed if each is not None)
            raise ValueError(f"`{name}` must be one of {expected}; received: {value!r}")
    if timeline and not FORMATS[format].has_timeline:
        raise ValueError(f"`timeline` must be false with `format` {format}; received: true")
    if timeline and events and format == "csv":
        raise ValueError("`timeline` must be false with `events` in CSV, which has one row per event; received: true")
    if clips is not None and not events:
        raise ValueError("`clips` needs `events`, which begin and end")
    if threshold is not None and thresholds is not None:
        raise ValueError("`thresholds` must not be given with `threshold`")
    if jobs < 1:
        raise ValueError(f"`jobs` must be at least 1; received: {jobs}")
    if plot is not None:
        check_plot_path(plot)


def _find_all_recordings(paths: Iterable[str]) -> tuple[list[_Task], list[str]]:
    recordings: list[_Task] = []
    failed = []
    for path in paths:
        try:
            recordings += _list_recordings(path)
        except (ValueError, OSError) as error:
            print(_format_error(path, error), file=sys.stderr)
            failed.append(_name_recording(path))
    return recordings, failed


def _list_recordings(path: str) -> list[_Task]:
    if path == _STANDARD_INPUT:
        return [_Task(path, Path("standard_input"))]
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not Path(path).is_dir():
        return [_Task(path, Path(Path(path).name))]
    recordings = [_Task(os.fspath(Path(path) / name), Path(name)) for name in find_audio_files(path)]
    if not recordings:
        extensions = ", ".join(sorted(AUDIO_EXTENSIONS))
        raise ValueError(f"{path}: must have audio files ({extensions}); received: none")
    return recordings


def _create_tasks(recordings: list[_Task], folder: str | None, extension: str, overwrite: bool) -> list[_Task]:
    """Assign each recording its file in a folder, and leave out those whose file exists already."""
    if folder is None:
        return recordings
    tasks: dict[Path, _Task] = {}
    for task in recordings:
        target = Path(folder) / f"{task.relative_name}{extension}"
        if (path := tasks.setdefault(target, task._replace(target=target)).path) != task.path:
            raise ValueError(f"recordings must differ in their names; received: {path} and {task.path}")
    return [task for target, task in tasks.items() if overwrite or not target.exists()]


_worker: _Worker  # of a process of `_run_in_processes`


def _run_in_processes(
    model: str, options: _Options, tasks: Sequence[_Task], jobs: int, folder: Path
) -> Iterator[tuple[_Task, _Result]]:
    """Run tasks in several processes, in order; a process that dies costs only the recording that it was tagging."""
    waiting, running = deque(enumerate(tasks)), deque[tuple[int, _Task, Future[_Result]]]()

    def create_pool(size: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(size, get_context("spawn"), _start_worker, (model, options))

    def submit(pool: ProcessPoolExecutor, number: int, task: _Task) -> Future[_Result]:
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
                        result = _Result(None, [_format_error(task.path, error)])
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


def _start_worker(model: str, options: _Options) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl+C ends the process without a traceback.
    with hide_native_logs():
        _worker = _Worker(model, options)


def _run_in_worker(task: _Task, spool: Path) -> _Result:
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
    title = "standard input" if recording.name == _STANDARD_INPUT else Path(recording.name).name
    plot_timeline(timeline, classes, log_mel, front_end, output, title)


class _Terminal:
    """Standard output and error, with a progress bar below them where standard error is a terminal."""

    def __init__(self, num_recordings: int) -> None:
        self._bar: Any = None
        if num_recordings > 1 and sys.stderr.isatty():
            with contextlib.suppress(ImportError):
                from tqdm import tqdm

                self._bar = tqdm(total=num_recordings, unit="file", file=sys.stderr)

    def __enter__(self) -> _Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self) -> None:
        if self._bar is not None:
            self._bar.update()

    def write(self, parts: Iterable[str], stream: TextIO | None = None) -> None:
        stream = stream or sys.stdout
        hidden = contextlib.nullcontext() if self._bar is None else self._bar.external_write_mode(stream)
        with hidden:
            for part in parts:
                stream.write(part)
            stream.flush()


def _name_recording(path: str) -> str:
    return _make_printable(path) if path != _STANDARD_INPUT else "standard input"


def _format_error(path: str, error: BaseException) -> str:
    message = _format_line(error)
    if not message or not isinstance(error, ValueError | OSError | ImportError | RuntimeError):
        message = ": ".join(filter(None, [type(error).__name__, message]))
    name = _name_recording(path)
    return _PREFIX + (message if name in message else f"{name}: {message}")


def _format_line(message: object) -> str:
    return _make_printable(" ".join(str(message).split()))


def _make_printable(text: str) -> str:
    """Replace the bytes of a file name that are not text."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
