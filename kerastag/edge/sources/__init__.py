"""Where a stream comes from: a microphone, a recording, standard input, or whatever ffmpeg opens."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Protocol

from kerastag.edge.blocks import Block
from kerastag.edge.sources.pcm import PcmFormat

__all__ = ["PcmFormat", "Source", "is_microphone", "open_source"]


class Source(Protocol):
    """Blocks of a stream, one after the other.

    `name` is what messages call it. `live` says that it does not wait: who is late loses audio.
    """

    name: str
    live: bool

    def __iter__(self) -> Iterator[Block]: ...

    def stop(self) -> None:
        """End the blocks soon; a signal handler or another thread may call it."""

    def close(self) -> None:
        """Give back the device, end threads and processes; nothing of it is left behind."""


def is_microphone(source: str) -> bool:
    """Whether the words after `--source` name a microphone."""
    return source == "mic" or source.startswith("mic:")


def open_source(
    source: str,
    sample_rate: int,
    *,
    realtime: bool = False,
    pcm: PcmFormat | None = None,
    microphone_rate: int | None = None,
    channels: int = 1,
    report: Callable[[str], None] = print,
) -> Source:
    """The words after `--source` -> an open source.

    Args:
        source: `mic`, `mic:NAME` or `mic:NUMBER`; `-` for standard input; a URL; or the path of a recording.
        sample_rate: The model's, Hz: a recording comes at it, a microphone is asked for it first.
        realtime: A recording comes at the speed at which it sounds; standard input or a URL with an end counts as live.
        pcm: Of standard input without a WAV header; None is 16 bit, 16 kHz, one channel.
        microphone_rate: Hz; asked of a microphone instead of `sample_rate`.
        channels: Of a microphone.
        report: Takes one line for people, whenever the source vanishes or comes back.

    Raises:
        ValueError: The source cannot be opened, or an argument is outside its range.
        FileNotFoundError: There is no such file.
        ImportError: What the source needs is not installed.

    >>> open_source("mic:", 32_000)
    Traceback (most recent call last):
    ValueError: `source` must name a device after mic: (a name or a number), received 'mic:'
    """
    from kerastag.edge.sources import ffmpeg  # each source is imported where it is opened: the device has little memory

    if is_microphone(source):
        return _microphone(source, microphone_rate or sample_rate, channels, report)
    if source == "-":
        from kerastag.edge.sources.standard_input import StandardInput

        return StandardInput(pcm or PcmFormat(), report, realtime=realtime)
    if ffmpeg.is_url(source):
        if not realtime and not ffmpeg.is_live_url(source):
            return ffmpeg.FfmpegSession(source)
        from kerastag.edge.sources.reopening import Reopening

        name = ffmpeg.without_secrets(source)
        return Reopening(functools.partial(ffmpeg.FfmpegSession, source, live=True), name, report)
    from kerastag.edge.sources.recording import Recording

    return Recording(source, sample_rate, realtime=realtime)


def _microphone(source: str, sample_rate: int, channels: int, report: Callable[[str], None]) -> Source:
    from kerastag.edge.sources.microphone import MicrophoneSession
    from kerastag.edge.sources.reopening import Reopening

    if channels < 1:
        raise ValueError(f"`channels` must be at least 1, received {channels}")
    name = source.partition(":")[2].strip()
    if source != "mic" and not name:
        raise ValueError(f"`source` must name a device after mic: (a name or a number), received {source!r}")
    device = int(name) if re.fullmatch(r"\d+", name) else name or None
    session = functools.partial(MicrophoneSession, device, sample_rate, channels, report)
    return Reopening(session, "microphone" if device is None else f"microphone {device}", report)
