"""Tags of many recordings, in several formats; a recording that cannot be read does not end the others."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from kerastag.audio.channels import parse_channel
from kerastag.audio.formats import AUDIO_EXTENSIONS, find_audio_files
from kerastag.bundled import BUNDLED_MODEL
from kerastag.tagger.clips import CLIP_FORMATS
from kerastag.tagger.engines import prepare_model
from kerastag.tagger.formats import FORMATS
from kerastag.tagger.plot import check_plot_path
from kerastag.tagger.results import POOLINGS, check_tag_limits
from kerastag.tagger.terminal import PREFIX, STANDARD_INPUT, Terminal, can_print, format_error, name_recording
from kerastag.tagger.workers import Task, Worker, WorkerOptions, run_in_processes

__all__ = ["find_recordings", "tag_recordings"]

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
    smoothing_seconds: float | None = None,
    min_seconds: float | None = None,
    max_gap_seconds: float | None = None,
    refractory_seconds: float | None = None,
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
        off_threshold: Probability below which an event ends; None is the share of the threshold of its class that the
            model has, by default half.
        smoothing_seconds: Length of the median filter over the probabilities, seconds. None is that of the model, by
            default 0, like that of the following three.
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
    if jobs > 1 and STANDARD_INPUT in paths:
        raise ValueError(f"`jobs` must be 1 for standard input; received: {jobs}")
    for folder in (path for path in paths if clips is not None and Path(path).is_dir()):
        if Path(clips or "").resolve().is_relative_to(Path(folder).resolve()):
            raise ValueError(f"`clips` must be outside of the folders to tag; received: {clips!r} in {folder!r}")
    tasks = _create_tasks(recordings, output_dir, FORMATS[format].extension, overwrite)
    if num_skipped := len(recordings) - len(tasks):
        print(f"{PREFIX}{num_skipped} of {count} recordings skipped: they have a file in {output_dir}", file=sys.stderr)
    options = WorkerOptions(
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
        unicode=output_dir is not None or can_print("▁"),
    )
    model = os.fspath(prepare_model(model, engine))
    worker = Worker(model, options)
    with Terminal(len(tasks)) as output, tempfile.TemporaryDirectory() as folder:
        results = worker.run_all(tasks) if jobs == 1 else run_in_processes(model, options, tasks, jobs, Path(folder))
        separator = ""
        if output_dir is None:
            output.write([FORMATS[format].opening, FORMATS[format].header(events, timeline)])
        try:
            for task, result in results:
                output.write([line + "\n" for line in result.messages], sys.stderr)
                if result.text is None:
                    failed.append(name_recording(task.path))
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
        print(f"{PREFIX}{len(failed)} of {count} recordings failed: {names}", file=sys.stderr)
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


def _find_all_recordings(paths: Iterable[str]) -> tuple[list[Task], list[str]]:
    recordings: list[Task] = []
    failed = []
    for path in paths:
        try:
            recordings += _list_recordings(path)
        except (ValueError, OSError) as error:
            print(format_error(path, error), file=sys.stderr)
            failed.append(name_recording(path))
    return recordings, failed


def _list_recordings(path: str) -> list[Task]:
    if path == STANDARD_INPUT:
        return [Task(path, Path("standard_input"))]
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not Path(path).is_dir():
        return [Task(path, Path(Path(path).name))]
    recordings = [Task(os.fspath(Path(path) / name), Path(name)) for name in find_audio_files(path)]
    if not recordings:
        extensions = ", ".join(sorted(AUDIO_EXTENSIONS))
        raise ValueError(f"{path}: must have audio files ({extensions}); received: none")
    return recordings


def _create_tasks(recordings: list[Task], folder: str | None, extension: str, overwrite: bool) -> list[Task]:
    """Assign each recording its file in a folder, and leave out those whose file exists already."""
    if folder is None:
        return recordings
    tasks: dict[Path, Task] = {}
    for task in recordings:
        target = Path(folder) / f"{task.relative_name}{extension}"
        if (path := tasks.setdefault(target, task._replace(target=target)).path) != task.path:
            raise ValueError(f"recordings must differ in their names; received: {path} and {task.path}")
    return [task for target, task in tasks.items() if overwrite or not target.exists()]
