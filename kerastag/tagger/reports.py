"""Tags of many recordings as a table, JSON or CSV; a recording that cannot be read does not end the others."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from kerastag import audio
from kerastag.audio.formats import AUDIO_EXTENSIONS, find_audio_files
from kerastag.bundled import BUNDLED_MODEL
from kerastag.dsp import FrontEnd
from kerastag.files import format_csv
from kerastag.tagger.plot import check_plot_path, compute_log_mel_overview, plot_timeline
from kerastag.tagger.results import POOLINGS, Tag, Timeline, check_tag_limits
from kerastag.tagger.tagger import Tagger
from kerastag.tagger.windows import Recording

__all__ = ["find_recordings", "tag_recordings"]

_PREFIX = "kerastag tag: "
_STANDARD_INPUT = "-"
_NUM_BARS = 60
_BARS = " ▁▂▃▄▅▆▇█"
_ASCII_BARS = " .:-=+*#@"


def tag_recordings(
    paths: Sequence[str],
    model: str = BUNDLED_MODEL,
    *,
    top: int = 5,
    threshold: float = 0.0,
    format: str = "table",
    timeline: bool = False,
    plot: str | None = None,
    pooling: str = "max",
) -> int:
    """Tag recordings and write the tags to standard output, in the order of `find_recordings`.

    A recording that cannot be tagged is one line on standard error. Where standard error is a terminal, it shows the
    progress over several recordings.

    Args:
        paths: Audio files, folders with audio files in any depth, or `-` for standard input.
        model: Model as in `Tagger.load`.
        top: Largest number of tags per recording, at least 1.
        threshold: Least probability of a tag, in [0, 1].
        format: `"table"`, `"json"` or `"csv"`.
        timeline: Whether to write the probabilities of the tags over time.
        plot: Path of a picture of log-mel and tags over time, for a single recording, as in `plot_timeline`.
        pooling: Pooling over the windows of a long recording, as in `Tagger.tag`.

    Returns:
        Number of recordings that could not be tagged.

    Raises:
        ValueError: An argument is out of range, or the file is not a model.
        OSError: The model cannot be read.
    """
    _check_options(top, threshold, format, plot, pooling)
    recordings, num_failed = _find_all_recordings(paths)
    if plot is not None and len(recordings) + num_failed != 1:
        raise ValueError(f"`plot` must be of one recording; received: {len(recordings) + num_failed}")
    tagger = Tagger.load(model)
    tag = partial(_tag_recording, tagger, top=top, threshold=threshold, timeline=timeline, plot=plot, pooling=pooling)
    with _Terminal(len(recordings)) as output:
        separator = "\n" if format == "json" else ""
        if format == "json":
            output.write("[")
        elif format == "csv":
            output.write(format_csv([["file", *(["seconds"] if timeline else []), "mid", "name", "probability"]]))
        try:
            for path in recordings:
                result = _try_to_tag(tag, path, output)
                if result is None:
                    num_failed += 1
                else:
                    output.write(separator + _FORMATTERS[format](result))
                    separator = ",\n" if format == "json" else ""
                output.advance()
        finally:
            output.write("\n]\n" if format == "json" else "")
    return num_failed


def find_recordings(path: str) -> list[str]:
    """List the recordings that a path stands for: the path itself, or the sorted audio files in a folder and below it.

    Args:
        path: Path of a file of any extension, of a folder, whose hidden files are skipped, or `-` for standard input.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: The folder has no audio files.
    """
    if path != _STANDARD_INPUT and not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path == _STANDARD_INPUT or not Path(path).is_dir():
        return [path]
    recordings = [os.fspath(Path(path) / name) for name in find_audio_files(path)]
    if not recordings:
        extensions = ", ".join(sorted(AUDIO_EXTENSIONS))
        raise ValueError(f"{path}: must have audio files ({extensions}); received: none")
    return recordings


class _TaggedRecording(NamedTuple):
    """Tags of one recording, and its probabilities over time if they are to be written."""

    name: str
    tags: list[Tag]
    timeline: Timeline | None


def _check_options(top: int, threshold: float, format: str, plot: str | None, pooling: str) -> None:
    if sys.stdout is None:
        raise ValueError("standard output must be open; received: a closed descriptor")
    check_tag_limits(top, threshold)
    for name, value, choices in (("format", format, _FORMATTERS), ("pooling", pooling, POOLINGS)):
        if value not in choices:
            raise ValueError(f"`{name}` must be one of {', '.join(choices)}; received: {value!r}")
    if plot is not None:
        check_plot_path(plot)


def _find_all_recordings(paths: Iterable[str]) -> tuple[list[str], int]:
    recordings: list[str] = []
    num_failed = 0
    for path in paths:
        try:
            recordings += find_recordings(path)
        except (ValueError, OSError) as error:
            print(_format_error(path, error), file=sys.stderr)
            num_failed += 1
    return recordings, num_failed


def _try_to_tag(tag: Callable[[str], _TaggedRecording], path: str, output: _Terminal) -> _TaggedRecording | None:
    """Tag one recording; if that fails, return None after a line on standard error."""
    with warnings.catch_warnings(record=True) as audio_warnings:
        warnings.simplefilter("always", audio.AudioWarning)
        try:
            result = tag(path)
        except (ValueError, OSError, MemoryError) as error:
            result = None
            output.write(_format_error(path, error) + "\n", sys.stderr)
    for warning in audio_warnings:
        output.write(f"{_PREFIX}{_format_line(warning.message)}\n", sys.stderr)
    return result


def _tag_recording(
    tagger: Tagger, path: str, *, top: int, threshold: float, timeline: bool, plot: str | None, pooling: str
) -> _TaggedRecording:
    sample_rate = tagger.card.sample_rate if path == _STANDARD_INPUT else None
    source: Recording = path if sample_rate is None else audio.read_stream(sys.stdin, sample_rate)
    name = _make_printable(path)
    if not timeline and plot is None:
        tags = tagger.tag(source, sample_rate=sample_rate, top=top, threshold=threshold, pooling=pooling)
        return _TaggedRecording(name, tags, None)
    course = tagger.predict_timeline(source, sample_rate=sample_rate, pooling=pooling)
    tags = tagger.select_tags(course.clipwise, top, threshold)
    if plot is not None:
        _plot(tagger, source, course, tags, "standard input" if path == _STANDARD_INPUT else Path(name).name, plot)
    return _TaggedRecording(name, tags, course if timeline else None)


def _plot(tagger: Tagger, source: Recording, timeline: Timeline, tags: Sequence[Tag], title: str, output: str) -> None:
    front_end = FrontEnd.from_dict(dict(tagger.card.front_end))
    blocks = [source] if isinstance(source, np.ndarray) else audio.read_blocks(source, front_end.sample_rate)
    log_mel = compute_log_mel_overview(blocks, front_end, timeline.duration_seconds)
    classes = [tagger.labels.index(tag.mid) for tag in tags] or [int(timeline.clipwise.argmax())]
    plot_timeline(timeline, classes, log_mel, front_end, output, title)


def _format_as_table(result: _TaggedRecording) -> str:
    """Format the name of a recording and a line for each tag, with its probabilities over time as a row of bars."""
    name, tags, timeline = result
    lines = [name if timeline is None else f"{name}  ({timeline.duration_seconds:.2f} s)"]
    width = 0 if timeline is None else max((len(tag.name) for tag in tags), default=0)
    for tag in tags:
        bars = "" if timeline is None else f"  |{_draw_bars(timeline, tag)}|"
        lines.append(f"  {tag.probability:.3f}  {tag.name:{width}}{bars}")
    if not tags:
        lines.append("  nothing above the threshold")
    return "\n".join(lines) + "\n"


def _draw_bars(timeline: Timeline, tag: Tag) -> str:
    """Draw probabilities as characters of rising height, each for the maximum of its frames."""
    probabilities = timeline.probabilities[:, timeline.labels.index(tag.mid)]
    parts = np.array_split(probabilities, min(len(probabilities), _NUM_BARS))
    bars = _BARS if _can_print(_BARS) else _ASCII_BARS
    return "".join(bars[round(float(part.max()) * (len(bars) - 1))] for part in parts)


def _format_as_json(result: _TaggedRecording) -> str:
    name, tags, timeline = result
    values: dict[str, Any] = {"file": name, "tags": [tag._asdict() for tag in _round_tags(tags)]}
    if timeline is not None:
        values["duration_seconds"] = round(timeline.duration_seconds, 4)
        values["seconds"] = [round(float(second), 4) for second in timeline.seconds]
        values["timeline"] = {tag.name: _round_course(timeline, tag) for tag in tags}
    return json.dumps(values, ensure_ascii=not _can_print(_BARS))


def _format_as_csv(result: _TaggedRecording) -> str:
    """Format one row per tag, or per output frame and tag."""
    name, tags, timeline = result
    if timeline is None:
        return format_csv([name, tag.mid, tag.name, tag.probability] for tag in _round_tags(tags))
    courses = [_round_course(timeline, tag) for tag in tags]
    return format_csv(
        [name, round(float(second), 4), tag.mid, tag.name, course[frame]]
        for frame, second in enumerate(timeline.seconds)
        for tag, course in zip(tags, courses, strict=True)
    )


_FORMATTERS = {"table": _format_as_table, "json": _format_as_json, "csv": _format_as_csv}


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

    def write(self, text: str, stream: TextIO | None = None) -> None:
        stream = stream or sys.stdout
        if self._bar is None:
            stream.write(text)
            stream.flush()
        else:
            self._bar.write(text, file=stream, end="")


def _round_tags(tags: Iterable[Tag]) -> Iterator[Tag]:
    return (tag._replace(probability=round(tag.probability, 6)) for tag in tags)


def _round_course(timeline: Timeline, tag: Tag) -> list[float]:
    probabilities = timeline.probabilities[:, timeline.labels.index(tag.mid)]
    return [round(float(probability), 6) for probability in probabilities]


def _format_error(path: str, error: BaseException) -> str:
    message = _format_line(error) or type(error).__name__
    name = path if path != _STANDARD_INPUT else "standard input"
    return _PREFIX + (message if name in message else f"{_make_printable(name)}: {message}")


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
