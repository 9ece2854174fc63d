"""What every command of kerastag shares: errors as one line, option spelling, TensorFlow's environment."""

import os
import re
import select
import sys
import warnings
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["hyphenate_options", "mask_urls", "normalize_options", "prepare_tensorflow", "run_command"]

# Errors that a user can act on; the type of any other error is a part of its message.
_EXPECTED_ERRORS = (ValueError, OSError, ImportError, FloatingPointError)


def run_command(name: str, function: Callable[[], int | None], debug: bool = False) -> int:
    """Run a command, `name` as it was typed, and return its exit status, or 1 after an error, 130 after an interrupt.

    An error becomes one line on standard error, unless `debug` is true, and so does a warning of kerastag's own
    classes, which is written once. A reader of standard output that leaves early, such as `head`, ends the command with
    status 0.
    """
    prepare_tensorflow()
    try:
        with _write_warnings_as_lines(name):
            status = function() or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        has_reader_left = isinstance(error, BrokenPipeError) and _has_reader_left()
        _flush_or_discard()
        if has_reader_left:
            return 0
        if debug:
            raise
        message = mask_urls(" ".join(str(error).split()))
        if not isinstance(error, _EXPECTED_ERRORS) or not message:
            message = ": ".join(filter(None, [type(error).__name__, message]))
        print(f"{name}: error: {message}", file=sys.stderr)
        return 1
    return status


def mask_urls(text: str) -> str:
    """Replace what may be a secret in the URLs of a text: user and password, to the last `@`, and queries.

    A password whose `/`, `#`, `?` or `@` is not percent-encoded is replaced too, and so is what lies between two URLs.

    >>> mask_urls("cannot open rtsp://me:pa/ss@word@camera/live?token=1")
    'cannot open rtsp://…@camera/live?…'
    """
    return re.sub(r"(://[^\s?#]*)\?\S*", r"\1?…", re.sub(r"://.*@", "://…@", text, flags=re.DOTALL))


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
    """Set the environment variables that TensorFlow reads when it is imported, unless the user has set them.

    By default oneDNN's convolutions are enabled only on processors with AVX512-VNNI or better. With AVX2 they take 50
    to 80 % of the time of TensorFlow's own.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


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
        show_as_python, warnings.showwarning = warnings.showwarning, write
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


def _flush_or_discard() -> None:
    """Flush standard output, which Python would do at exit, with a second message if it fails."""
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
