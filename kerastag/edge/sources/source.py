"""The interface of a source of a stream, and the function that opens one."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Protocol

from kerastag.edge.blocks import Block
from kerastag.edge.sources.pcm import PcmFormat

__all__ = ["Source", "is_microphone", "open_source"]


class Source(Protocol):
    """An iterable of the blocks of a stream.

    Attributes:
        name: Name of the source in messages.
        live: Whether the source does not wait, so that audio that is not processed in time is lost.
    """

    name: str
    live: bool

    def __iter__(self) -> Iterator[Block]: ...

    def stop(self) -> None:
        """End the iteration soon; a signal handler or another thread may call this."""

    def close(self) -> None:
        """Release the device, and end all threads and processes."""


def is_microphone(source: str) -> bool:
    """Return whether the address of a source is that of a microphone."""
    return source == "mic" or source.startswith("mic:")


def open_source(
    source: str,
    sample_rate: int,
    *,
    realtime: bool = False,
    pcm: PcmFormat | None = None,
    microphone_rate: int | None = None,
    channels: int = 1,
    log: Callable[[str], None] = print,
) -> Source:
    """Open a source.

    Args:
        source: Address of the source: `mic`, `mic:NAME` or `mic:NUMBER`; `-` for standard input; a URL; or the path of
            a recording.
        sample_rate: Sample rate of the model, Hz: that of a recording, and the first one requested from a microphone.
        realtime: Whether a recording is played at its own speed, and standard input or a URL with an end is live.
        pcm: Format of standard input without a WAV header; None is 16 bits, 16 kHz, one channel.
        microphone_rate: Sample rate to request from a microphone instead of `sample_rate`, Hz.
        channels: Number of channels to request from a microphone, at least 1.
        log: Function that takes one line of text for the user, such as that the source is lost or back.

    Raises:
        ValueError: The source cannot be opened, or an argument is out of range.
        FileNotFoundError: The recording does not exist.
        ImportError: A package that the source needs is not installed.

    >>> open_source("mic:", 32_000)
    Traceback (most recent call last):
    ValueError: `source` must name a device after mic: (a name or a number); received: 'mic:'
    """
    # A module is only imported if it is needed, since memory is scarce on a device.
    if is_microphone(source):
        return _open_microphone(source, microphone_rate or sample_rate, channels, log)
    if source == "-":
        from kerastag.edge.sources.pipe import StandardInputSource

        return StandardInputSource(pcm or PcmFormat(), log, realtime=realtime)
    from kerastag.edge.sources.ffmpeg import FfmpegSession, is_live_url, is_url, remove_secrets

    if is_url(source):
        if not realtime and not is_live_url(source):
            return FfmpegSession(source)
        from kerastag.edge.sources.reopening import ReopeningSource

        return ReopeningSource(functools.partial(FfmpegSession, source, live=True), remove_secrets(source), log)
    from kerastag.edge.sources.recording import RecordingSource

    return RecordingSource(source, sample_rate, realtime=realtime)


def _open_microphone(source: str, sample_rate: int, channels: int, log: Callable[[str], None]) -> Source:
    from kerastag.edge.sources.microphone import MicrophoneSession
    from kerastag.edge.sources.reopening import ReopeningSource

    if channels < 1:
        raise ValueError(f"`channels` must be at least 1; received: {channels}")
    name = source.partition(":")[2].strip()
    if source != "mic" and not name:
        raise ValueError(f"`source` must name a device after mic: (a name or a number); received: {source!r}")
    device = int(name) if re.fullmatch(r"\d+", name) else name or None
    session = functools.partial(MicrophoneSession, device, sample_rate, channels, log)
    return ReopeningSource(session, "microphone" if device is None else f"microphone {device}", log)
