"""The interface of a source, the function that opens one, recordings, and live sources that are reopened if lost."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from kerastag import audio
from kerastag.edge.blocks import Block
from kerastag.edge.clock import read_clock
from kerastag.edge.sources.pcm import BLOCK_SECONDS, PcmFormat, StandardInputSource

__all__ = ["RecordingSource", "ReopeningSource", "Source", "is_microphone", "open_source"]

LONGEST_PAUSE_SECONDS = 60.0


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
    channel: str | int = "mean",
    timeout_seconds: float = 10.0,
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
        channel: What to make of several channels of a recording, as in `kerastag.audio.load`.
        timeout_seconds: Time without audio after which a microphone or a URL is reopened, seconds, above 0.
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
        from kerastag.edge.sources.microphone import MicrophoneSession

        if channels < 1:
            raise ValueError(f"`channels` must be at least 1; received: {channels}")
        name = source.partition(":")[2].strip()
        if source != "mic" and not name:
            raise ValueError(f"`source` must name a device after mic: (a name or a number); received: {source!r}")
        device = int(name) if re.fullmatch(r"\d+", name) else name or None
        rate = microphone_rate or sample_rate
        session = functools.partial(MicrophoneSession, device, rate, channels, log, timeout_seconds)
        return ReopeningSource(session, log)
    if source == "-":
        return StandardInputSource(pcm or PcmFormat(), realtime=realtime)
    from kerastag.edge.sources.ffmpeg import FfmpegSession, is_live_url, is_url

    if not is_url(source):
        return RecordingSource(source, sample_rate, realtime=realtime, channel=channel)
    if realtime or is_live_url(source):
        return ReopeningSource(functools.partial(FfmpegSession, source, timeout_seconds, live=True), log)
    return FfmpegSession(source, timeout_seconds)


class RecordingSource:
    """A source that reads an audio file of any format, resampled as by `Tagger`, as fast as possible or in real time.

    While iterating, it raises the errors of `kerastag.audio.load`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        sample_rate: int,
        *,
        realtime: bool = False,
        channel: str | int = "mean",
    ) -> None:
        self.name = os.fspath(path)
        self.live = realtime
        self._rate, self._channel = sample_rate, channel
        self._stop = threading.Event()
        if not os.path.exists(path):  # noqa: PTH110
            raise FileNotFoundError(f"{self.name}: no such file")

    def __iter__(self) -> Iterator[Block]:
        start_time, samples_so_far = read_clock(), 0
        for samples in audio.read_blocks(self.name, self._rate, BLOCK_SECONDS, channel=self._channel):
            captured_at = start_time + samples_so_far / self._rate if self.live else None
            samples_so_far += len(samples)
            if self.live:
                self._stop.wait(max(0.0, start_time + samples_so_far / self._rate - read_clock()))
            if self._stop.is_set():
                return
            yield Block(samples, self._rate, captured_at)

    def stop(self) -> None:
        self._stop.set()

    def close(self) -> None:
        self._stop.set()


class ReopeningSource:
    """A source that is reopened whenever it is lost.

    The first attempt to open it must succeed, so that a wrong name is an error. Later, also if a server does not answer
    yet, attempts are repeated forever, with pauses that double from `first_pause_seconds` up to a minute. The first
    block of a new session has the number of lost samples. `open_session` raises ValueError or OSError if it cannot open
    the source; a session ends, or raises `SourceLostError`, when it is lost.
    """

    live = True

    def __init__(
        self, open_session: Callable[[], Source], log: Callable[[str], None], *, first_pause_seconds: float = 1.0
    ) -> None:
        self._open_session = open_session
        self._log = log
        self._first_pause = first_pause_seconds
        self._stop = threading.Event()
        self._session: Source | None = open_session()
        self.name = self._session.name
        self._last_block_time: float | None = None

    def __iter__(self) -> Iterator[Block]:
        pause, logged_reason = self._first_pause, ""
        while not self._stop.is_set():
            start_time = read_clock()
            try:
                if self._session is None:
                    self._session = self._open_session()
                for block in self._session:
                    if self._stop.is_set():
                        return
                    if logged_reason:
                        lost_seconds = read_clock() - (self._last_block_time or start_time)
                        self._log(f"{self.name}: is back after {lost_seconds:.0f} s")
                        block, logged_reason = self._count_gap(block), ""
                    self._last_block_time = read_clock()
                    yield block
                reason = "ended"
            except (ValueError, OSError) as error:
                reason = " ".join(str(error).split()).removeprefix(f"{self.name}: ")
            self._close_session()
            if read_clock() - start_time > LONGEST_PAUSE_SECONDS:
                pause = self._first_pause
            if reason != logged_reason and not self._stop.is_set():
                self._log(f"{self.name}: {reason}; it is reopened as soon as possible")
            logged_reason = reason
            self._stop.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _count_gap(self, block: Block) -> Block:
        """Return the block with the time since the last one, less its own duration, as lost samples."""
        if self._last_block_time is None:
            return block
        gap_seconds = read_clock() - self._last_block_time - block.seconds
        return block._replace(lost_samples=block.lost_samples + max(0, round(gap_seconds * block.sample_rate)))

    def stop(self) -> None:
        self._stop.set()
        with contextlib.suppress(AttributeError):  # There is no session at this moment.
            self._session.stop()  # type: ignore[union-attr]

    def close(self) -> None:
        self._stop.set()
        self._close_session()

    def _close_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
