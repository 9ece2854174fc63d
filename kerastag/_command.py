"""What every command of kerastag shares: errors as one line, option spelling, TensorFlow's environment."""

import io
import os
import re
import select
import signal
import sys
import threading
import warnings
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from kerastag._native_logs import silence_tensorflow

__all__ = [
    "escape_control_characters",
    "flush_or_discard",
    "hyphenate_options",
    "log_line",
    "mask_urls",
    "normalize_options",
    "prepare_tensorflow",
    "replace_unprintable",
    "run_command",
]

# Errors that a user can act on; the type of any other error is a part of its message.
_EXPECTED_ERRORS = (ValueError, OSError, ImportError, FloatingPointError)
_CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")


def run_command(name: str, function: Callable[[], int | None], debug: bool = False) -> int:
    r"""Run a command, `name` as it was typed, and return its exit status.

    An error of any type becomes one line on standard error and status 1, unless `debug` is true. `Ctrl+C` is status
    130, and `SIGTERM` ends the command in the same way with status 143. A warning of kerastag's own classes is one line
    too, which is written once. A reader of standard output that leaves early, such as `head`, ends the command with
    status 0.

    Characters that the encoding of standard output lacks are written as `\xe9`, and so are control characters where
    standard output is a terminal, and always on standard error.
    """
    prepare_tensorflow()
    with _prepare_streams():
        try:
            with _write_warnings_as_lines(name), _interrupt_on_sigterm():
                status = function() or 0
            print(end="", flush=True)
        except KeyboardInterrupt as interrupt:
            is_terminated = isinstance(interrupt, _Termination)
            message = "terminated" if is_terminated else "interrupted"
            print("; ".join([f"{name}: {message}", *getattr(interrupt, "__notes__", [])]), file=sys.stderr)
            flush_or_discard()
            return 128 + (signal.SIGTERM if is_terminated else signal.SIGINT)
        except Exception as error:
            has_reader_left = isinstance(error, BrokenPipeError) and _has_reader_left()
            is_flushed = flush_or_discard()
            if has_reader_left:
                return 0
            if debug:
                raise
            print(f"{name}: error: {_describe_error(error, is_flushed)}", file=sys.stderr)
            return 1
        return status


def escape_control_characters(text: str) -> str:
    r"""Escape the control characters of a text, except tabs and line ends, which could change a terminal.

    >>> print(escape_control_characters("\x1b[2Ja.wav"))
    \x1b[2Ja.wav
    """
    return _CONTROL_CHARACTERS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def replace_unprintable(text: str) -> str:
    """Replace the characters of a foreign name that cannot be printed on one line, line ends included."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def flush_or_discard() -> bool:
    """Flush standard output, which Python would do at exit, with a second message if it fails; return whether it did.

    What cannot be written is discarded.
    """
    try:
        print(end="", flush=True)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
        return False
    return True


def log_line(name: str, line: str) -> None:
    """Write one line to standard error at once, after the name of a command, since several threads write."""
    sys.stderr.write(f"{name}: {' '.join(line.split())}\n")
    sys.stderr.flush()


def mask_urls(text: str) -> str:
    """Replace the URLs of a text that have a user and a password, and the queries of others, which may be secrets.

    A password whose `/`, `#`, `?` or `@` is not percent-encoded is replaced too, and so is what lies between two URLs.

    >>> mask_urls("cannot open rtsp://me:pa/ss@word@camera/live?token=1 or http://radio/live?token=1")
    'cannot open rtsp://… or http://radio/live?…'
    """
    return re.sub(r"(://[^\s?#]*)\?\S*", r"\1?…", re.sub(r"://.*@\S*", "://…", text, flags=re.DOTALL))


def normalize_options(arguments: Iterable[str]) -> list[str]:
    """Spell the long options of a command line, up to a lone `--`, with hyphens, and leave their values as they are.

    >>> normalize_options(["--audio_dir", "my_sounds", "--labels=my_labels.csv", "--", "--my_file"])
    ['--audio-dir', 'my_sounds', '--labels=my_labels.csv', '--', '--my_file']
    """
    arguments = list(arguments)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return [*map(_normalize_option, arguments[:end]), *arguments[end:]]


def hyphenate_options(parser: ArgumentParser) -> None:
    """Spell the long options of a parser that has all of them with hyphens, in its help too.

    For parsers whose options come from the fields of a dataclass: the names of parsed values keep their underscores.
    """
    for action in parser._actions:
        action.option_strings = [_normalize_option(option) for option in action.option_strings]
        parser._option_string_actions.update(dict.fromkeys(action.option_strings, action))


def prepare_tensorflow() -> None:
    """Hide the log lines of TensorFlow, and set what it reads when it is imported, unless the user has set it.

    By default oneDNN's convolutions are enabled only on processors with AVX512-VNNI or better. With AVX2 they take 50
    to 80 % of the time of TensorFlow's own.
    """
    silence_tensorflow()
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


class _Termination(KeyboardInterrupt):
    """`SIGTERM`, which ends a command as `Ctrl+C` does: temporary files are removed."""


class _EscapingStream:
    """A text stream in which control characters are escaped; `stream` is the one below it."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        self.stream.write(escape_control_characters(text))
        return len(text)


@contextmanager
def _prepare_streams() -> Iterator[None]:
    """Make the standard streams take any text, and reserve the descriptors of those that are closed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # The next file to be opened, such as a model, would get the number of a standard stream.
            os.open(os.devnull, os.O_RDWR)
    streams = sys.stdout, sys.stderr
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")
    if sys.stdout is not None and sys.stdout.isatty():
        sys.stdout = _EscapingStream(sys.stdout)  # type: ignore[assignment]
    # With a closed standard error, `print` would write messages to standard output.
    sys.stderr = _EscapingStream(open(os.devnull, "w", encoding="utf-8") if sys.stderr is None else sys.stderr)  # type: ignore[assignment]  # noqa: PTH123, SIM115
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


@contextmanager
def _interrupt_on_sigterm() -> Iterator[None]:
    """Raise a `KeyboardInterrupt` at `SIGTERM` for a while, in this process and not in those that it forks."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    process = os.getpid()

    def interrupt(*_: object) -> None:
        if os.getpid() == process:
            raise _Termination
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _describe_error(error: Exception, is_flushed: bool) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        file = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else error.filename
        if file is None and not is_flushed:
            file = "standard output"
        text = error.strerror if file is None else f"{file}: {error.strerror}"
    text = mask_urls(" ".join(text.split()))
    return (
        text if isinstance(error, _EXPECTED_ERRORS) and text else ": ".join(filter(None, [type(error).__name__, text]))
    )


@contextmanager
def _write_warnings_as_lines(name: str) -> Iterator[None]:
    """Write each different warning of kerastag's classes as one line on standard error, others as Python does."""
    lines: set[str] = set()

    def write(message: Warning | str, category: type[Warning], *location: Any) -> None:
        line = f"{name}: warning: {' '.join(str(message).split())}"
        if not category.__module__.startswith("kerastag."):
            show_as_python(message, category, *location)
        elif line not in lines:
            lines.add(line)
            print(line, file=sys.stderr, flush=True)

    with warnings.catch_warnings():
        show_as_python = warnings.showwarning
        warnings.showwarning = cast(Any, write)
        yield


def _normalize_option(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    option, equals, value = argument.partition("=")
    return option.replace("_", "-") + equals + value


def _has_reader_left() -> bool:
    """Return whether standard output is a pipe that nobody reads any more."""
    if not hasattr(select, "poll"):  # Windows
        return True
    poll = select.poll()
    try:
        poll.register(sys.stdout, 0)
    except OSError:  # not a file
        return False
    return bool(poll.poll(0))
