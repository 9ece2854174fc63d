"""Why a recording has no tags, and what to do about it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Failure", "describe_failure"]


class Failure(NamedTuple):
    """A row of the table `failures`: where a recording failed, the kind of failure, and a reason with advice.

    `stage` is `list`, `read`, `decode` or `tag`.
    """

    stage: str
    kind: str
    reason: str


class ChangedFileError(OSError):
    """A file was changed after it was listed."""


_RETRY = "then run again with --retry-failures"
# Kind, part of the message of the error, and advice; the first part that the message contains decides.
_MESSAGES = (
    ("name", "its name is not UTF-8", "rename it and run again with --update"),
    ("missing", "no such file", "restore it, or run again with --update to drop it"),
    ("empty", "an empty file", "copy or record it again"),
    ("not_a_file", "must be a regular file", "leave it out"),
    ("no_audio", "no audio track", "leave it out, since it has no sound"),
    ("ffmpeg", "need the program ffmpeg", _RETRY),
    ("sample_rate", "sample rate must be", "check its header, or convert it to a usual sample rate"),
    ("samples", "samples must be", "convert it again from its source with samples in [-1, 1]"),
    ("channel", "`channel` must be", "use a channel that all recordings have, in another output folder"),
    ("no_samples", "no samples", "copy or record it again, since its header is all that it has"),
    ("no_samples", "must have at least one sample", "copy or record it again, since its header is all that it has"),
    ("damaged", "damaged before the first sample", "copy it again from its source"),
    ("not_audio", "must be audio", "copy it again if it should play, or leave it out"),
)
_KINDS = {
    "changed": "run again with --update",
    "permission": f"let this user read it, {_RETRY}",
    "unreadable": f"check the disk or the network, {_RETRY}",
    "memory": f"raise --memory-limit-mb or split the recording, {_RETRY}",
    "time": f"check whether it plays, or raise --time-limit, {_RETRY}",
    "crash": f"convert it to FLAC with another program, {_RETRY}",
    "unexpected": "report it with the recording, since the error is one of kerastag",
    "model": "report it with the recording, since the model should process every waveform",
}


def describe_failure(stage: str, error: BaseException, name: str = "") -> Failure:
    """Describe an error of a recording, whose `name` is left out of the reason.

    >>> from kerastag.archive.failures import describe_failure
    >>> describe_failure("read", FileNotFoundError("a.wav: no such file"), "a.wav")
    Failure(stage='read', kind='missing', reason='no such file; restore it, or run again with --update to drop it')
    """
    message = " ".join(str(getattr(error, "strerror", None) or error).split()).removeprefix(f"{name}: ")
    message = message or type(error).__name__
    if isinstance(error, ChangedFileError):
        kind = "changed"
    elif isinstance(error, PermissionError):
        kind = "permission"
    elif isinstance(error, MemoryError):
        kind, message = "memory", "it needs more memory than allowed"
    elif isinstance(error, FileNotFoundError):
        kind, message = "missing", "no such file"
    elif not isinstance(error, OSError | ValueError):
        kind, message = "unexpected", f"{type(error).__name__}: {message}"
    else:
        kind = "model" if stage == "tag" else "unreadable"
        kind = next((each for each, part, _ in _MESSAGES if part in message), kind)
    advice = _KINDS.get(kind) or next(text for each, _, text in _MESSAGES if each == kind)
    return Failure(stage, kind, f"{message}; {advice}")


def describe_lost_process(reason: str, *, timed_out: bool) -> Failure:
    """Describe a recording whose process crashed, was killed, or made no progress."""
    kind = "time" if timed_out else "crash"
    return Failure("decode" if timed_out else "tag", kind, f"{reason}; {_KINDS[kind]}")
