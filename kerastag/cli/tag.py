"""What `kerastag tag` does: many recordings, one after the other, as a table, JSON or CSV; a bad one stops nothing."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TextIO

import numpy as np

from kerastag import audio
from kerastag.tagger import Tag, Tagger, Timeline

__all__ = ["ENDINGS", "FORMATS", "Options", "recordings", "tag_recordings"]

FORMATS = ("table", "json", "csv")
STDIN = "-"
# What a folder is searched for; a file that is named is tried whatever its ending.
_LISTENED = "wav", "wave", "flac", "ogg", "oga", "opus", "mp3", "aif", "aiff", "aifc", "au", "caf", "w64", "rf64"
_THROUGH_FFMPEG = "m4a", "aac", "mp4", "m4v", "mov", "mkv", "webm", "avi", "wma", "amr", "3gp"
ENDINGS = frozenset(f".{ending}" for ending in (*_LISTENED, *_THROUGH_FFMPEG))
_BAR_COLUMNS = 60
_BARS = " ▁▂▃▄▅▆▇█"


@dataclasses.dataclass(frozen=True)
class Options:
    """What to say of each recording.

    Args:
        top: How many tags at most, at least 1.
        threshold: The least probability of a tag, in [0, 1].
        format: `"table"`, `"json"` or `"csv"`.
        timeline: Whether to say when each tag sounds.
        plot: Path of a picture, for one recording.
        pooling: As of `Tagger.tag`.
    """

    top: int = 5
    threshold: float = 0.0
    format: str = "table"
    timeline: bool = False
    plot: str | None = None
    pooling: str = "max"


class Heard(NamedTuple):
    """One recording: the name it was given, its tags, and its probabilities over time where they were asked for."""

    name: str
    tags: list[Tag]
    timeline: Timeline | None


def tag_recordings(paths: Sequence[str], model: str, options: Options) -> int:
    """Recordings -> their tags on standard output -> how many recordings could not be tagged.

    Each of those is one line on standard error. The order is that of the arguments, within a folder that of its
    sorted paths; a progress bar stands on standard error where that is a terminal and there are several recordings.

    Args:
        paths: Audio files, folders (searched with all they hold), `-` for standard input.
        model: As of `Tagger.load`.
        options: What to say.

    Raises:
        ValueError: An option is outside its range; the model is none; a picture of several recordings was asked for.
        OSError: The model is not there.
    """
    _check(options)
    found, failed = _all_recordings(paths)
    if options.plot is not None and len(found) + failed != 1:
        raise ValueError(f"`--plot` draws one recording, received {len(found) + failed}")
    tagger = Tagger.load(model)
    writer = _WRITERS[options.format](options)
    with _Bar(len(found)) as bar:
        bar.write(writer.begin())
        try:
            for path in found:
                heard = _heard(tagger, path, options, bar)
                failed += heard is None
                if heard is not None:
                    bar.write(writer.recording(heard))
                bar.advance()
        finally:
            bar.write(writer.end())
    return failed


def recordings(path: str) -> list[str]:
    """A file, a folder or `-` -> the recordings it stands for, sorted; hidden files of a folder are none.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: The folder holds no recording.
    """
    if path == STDIN:
        return [path]
    if not Path(path).is_dir():
        if not Path(path).exists():
            raise FileNotFoundError(f"{path}: there is no such file")
        return [path]
    inside = Path(path).rglob("*")
    found = sorted(file for file in inside if file.suffix.lower() in ENDINGS and not file.name.startswith("."))
    if not found:
        raise ValueError(f"{path}: must hold recordings ({', '.join(sorted(ENDINGS))}). Received: none")
    return [os.fspath(file) for file in found if not file.is_dir()]


def _check(options: Options) -> None:
    if options.format not in FORMATS:
        raise ValueError(f"`--format` must be one of {', '.join(FORMATS)}, received {options.format!r}")
    if options.top < 1:
        raise ValueError(f"`--top` must be at least 1, received {options.top}")
    if not 0 <= options.threshold <= 1:
        raise ValueError(f"`--threshold` must lie in [0, 1], received {options.threshold:g}")
    if options.plot is not None:
        from kerastag.tagger.plot import check_picture

        check_picture(options.plot)


def _all_recordings(paths: Iterable[str]) -> tuple[list[str], int]:
    found: list[str] = []
    failed = 0
    for path in paths:
        try:
            found += recordings(path)
        except (ValueError, OSError) as error:
            print(_complaint(path, error), file=sys.stderr)
            failed += 1
    return found, failed


def _heard(tagger: Tagger, path: str, options: Options, bar: _Bar) -> Heard | None:
    """One recording, tagged; None, and a line on standard error, where it cannot be."""
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always", audio.AudioWarning)
        try:
            heard = _listen(tagger, path, options)
        except (ValueError, OSError, MemoryError) as error:
            heard = None
            bar.write(_complaint(path, error) + "\n", sys.stderr)
    for remark in remarks:
        bar.write(f"kerastag tag: {_one_line(remark.message)}\n", sys.stderr)
    return heard


def _listen(tagger: Tagger, path: str, options: Options) -> Heard:
    source, rate = _source(path, tagger.card.sample_rate)
    if not options.timeline and options.plot is None:
        tags = tagger.tag(
            source, sample_rate=rate, top=options.top, threshold=options.threshold, pooling=options.pooling
        )
        return Heard(_printable(path), tags, None)
    timeline = tagger.timeline(source, sample_rate=rate, pooling=options.pooling)
    tags = tagger.best(timeline.clipwise, options.top, options.threshold)
    heard = Heard(_printable(path), tags, timeline if options.timeline else None)
    if options.plot is not None:
        _plot(tagger, source, timeline, heard, options.plot)
    return heard


def _source(path: str, sample_rate: int) -> tuple[str | np.ndarray, int | None]:
    return (audio.read_stream(sys.stdin, sample_rate), sample_rate) if path == STDIN else (path, None)


def _plot(tagger: Tagger, source: str | np.ndarray, timeline: Timeline, heard: Heard, output: str) -> None:
    from kerastag.dsp import FrontEnd
    from kerastag.tagger.plot import log_mel_picture, plot_timeline

    front_end = FrontEnd.from_dict(dict(tagger.card.front_end))
    blocks = [source] if isinstance(source, np.ndarray) else audio.blocks(source, front_end.sample_rate)
    log_mel = log_mel_picture(blocks, front_end, timeline.duration_seconds)
    shown = [tagger.labels.index(tag.mid) for tag in heard.tags] or [int(timeline.clipwise.argmax())]
    title = "standard input" if heard.name == STDIN else Path(heard.name).name
    plot_timeline(timeline, shown, log_mel, front_end, output, title)


class _Writer(Protocol):
    """One recording after the other -> text for standard output."""

    def __init__(self, options: Options) -> None: ...
    def begin(self) -> str: ...
    def recording(self, heard: Heard) -> str: ...
    def end(self) -> str: ...


class _Table:
    """The name, and under it a line for each tag; with a timeline, its course as a row of bars."""

    def __init__(self, options: Options) -> None:
        self._bars = _BARS if _can_print(_BARS) else " .:-=+*#@"

    def begin(self) -> str:
        return ""

    def recording(self, heard: Heard) -> str:
        width = max((len(tag.name) for tag in heard.tags), default=0)
        lines = [heard.name]
        if heard.timeline is not None:
            lines[0] += f"  ({heard.timeline.duration_seconds:.2f} s)"
        for tag in heard.tags:
            course = "" if heard.timeline is None else f"  |{self._course(heard.timeline, tag)}|"
            lines.append(f"  {tag.probability:.3f}  {tag.name:{width if course else 0}}{course}")
        if not heard.tags:
            lines.append("  nothing above the threshold")
        return "\n".join(lines) + "\n"

    def end(self) -> str:
        return ""

    def _course(self, timeline: Timeline, tag: Tag) -> str:
        """Probability over time as characters of rising height, each the maximum of its frames."""
        values = timeline.probabilities[:, timeline.labels.index(tag.mid)]
        columns = np.array_split(values, min(len(values), _BAR_COLUMNS))
        highest = len(self._bars) - 1
        return "".join(self._bars[round(float(column.max()) * highest)] for column in columns)


class _Json:
    """One array, a recording a line; the probabilities over time are those of the tags."""

    def __init__(self, options: Options) -> None:
        self._separator = "\n"

    def begin(self) -> str:
        return "["

    def recording(self, heard: Heard) -> str:
        values: dict[str, Any] = {"file": heard.name, "tags": [tag._asdict() for tag in _rounded(heard.tags)]}
        if heard.timeline is not None:
            timeline = heard.timeline
            values["duration_seconds"] = round(timeline.duration_seconds, 4)
            values["seconds"] = [round(float(second), 4) for second in timeline.seconds]
            values["timeline"] = {tag.name: _over_time(timeline, tag) for tag in heard.tags}
        text = self._separator + json.dumps(values, ensure_ascii=not _can_print(_BARS))
        self._separator = ",\n"
        return text

    def end(self) -> str:
        return "\n]\n"


class _Csv:
    """A row for each tag, or for each tag in each output frame."""

    def __init__(self, options: Options) -> None:
        self._columns = ("file", "seconds", "mid", "name", "probability")
        self._timeline = options.timeline

    def begin(self) -> str:
        return self._text([[c for c in self._columns if c != "seconds" or self._timeline]])

    def recording(self, heard: Heard) -> str:
        if heard.timeline is None:
            return self._text([heard.name, tag.mid, tag.name, tag.probability] for tag in _rounded(heard.tags))
        return self._text(self._frames(heard.name, heard.tags, heard.timeline))

    def end(self) -> str:
        return ""

    @staticmethod
    def _frames(name: str, tags: list[Tag], timeline: Timeline) -> Iterator[list[Any]]:
        courses = [_over_time(timeline, tag) for tag in tags]
        for frame, second in enumerate(timeline.seconds):
            for tag, course in zip(tags, courses, strict=True):
                yield [name, round(float(second), 4), tag.mid, tag.name, course[frame]]

    @staticmethod
    def _text(rows: Iterable[Sequence[Any]]) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue()


_WRITERS: dict[str, type[_Writer]] = {"table": _Table, "json": _Json, "csv": _Csv}


class _Bar:
    """How far the command is, where someone looks at it; text passes above the bar."""

    def __init__(self, total: int) -> None:
        self._bar: Any = None
        if total < 2 or not sys.stderr.isatty():
            return
        try:
            from tqdm import tqdm
        except ImportError:
            return
        self._bar = tqdm(total=total, unit="file", file=sys.stderr)

    def __enter__(self) -> _Bar:
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


def _rounded(tags: Iterable[Tag]) -> Iterator[Tag]:
    return (tag._replace(probability=round(tag.probability, 6)) for tag in tags)


def _over_time(timeline: Timeline, tag: Tag) -> list[float]:
    column = timeline.probabilities[:, timeline.labels.index(tag.mid)]
    return [round(float(value), 6) for value in column]


def _complaint(path: str, error: BaseException) -> str:
    text = _one_line(error) or type(error).__name__
    named = path if path != STDIN else "standard input"
    return f"kerastag tag: {text if named in text else f'{_printable(named)}: {text}'}"


def _one_line(message: object) -> str:
    return _printable(" ".join(str(message).split()))


def _printable(text: str) -> str:
    """A file's name may hold bytes that are no text."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
